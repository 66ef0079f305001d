"""The life of a version: decisions and their journal, what an operator is shown, what is cleaned away."""
