"""The orchestrator: Ray Tune places trials, Optuna proposes and remembers them, MLflow is written to."""
