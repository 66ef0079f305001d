"""Whether what is asked of a served model is still like what it learnt from."""
