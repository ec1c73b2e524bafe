"""The ledger of a study's trials: Optuna, the database in which its studies are, and the drivers that share one."""
