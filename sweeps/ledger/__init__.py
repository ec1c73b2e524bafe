"""The ledger of a study's trials: Optuna's study, and the database it lies in."""
