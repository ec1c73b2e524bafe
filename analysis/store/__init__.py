"""Reads a study from MLflow's store into two data frames."""
