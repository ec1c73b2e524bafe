"""MLflow: what is written to it, and when."""
