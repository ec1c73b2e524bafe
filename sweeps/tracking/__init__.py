"""MLflow: the runs of a study, and the thread that writes them."""
