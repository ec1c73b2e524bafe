"""A study while it runs: its trials, their outcomes, the rules that stop them. Knows no Ray, Optuna or MLflow."""
