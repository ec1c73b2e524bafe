"""The ledger of a study's trials: Optuna, the database that holds its studies, and the drivers that share a study."""
