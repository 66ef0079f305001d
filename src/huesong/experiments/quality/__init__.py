"""Quality of composed pieces at many lengths, beside baselines, earlier models and real music."""
