"""The names in MLflow's store are those that earlier versions wrote."""

from dataclasses import fields

from resnet_core import schema
from sweeps.study.outcomes import Result


def test_the_names_are_those_of_0_1_0():
    """Whoever changes one makes existing stores unreadable."""
    names = {name: value for name, value in vars(schema).items() if name.isupper()}
    assert names == {
        "STUDY": "sweeps.study",
        "KIND": "sweeps.kind",
        "LAUNCH": "launch",
        "TRIAL": "trial",
        "STUDY_HASH": "study_hash",
        "CODE_VERSION": "code_version",
        "DRIVER": "sweeps.driver",
        "DESCRIPTION": "description",
        "NOTE": "mlflow.note.content",
        "TARGET": "target",
        "SUSTAINED": "sustained",
        "LONGEST_HORIZON": "longest_horizon",
        "STOPPING_RULES": "stopping_rules",
        "PHASE": "phase",
        "CONFIRMS": "confirms",
        "LENGTHENED": "lengthened",
        "SPACE": "space",
        "IMPORTED": "sweeps.imported",
        "IMPORTED_SHA256": "sweeps.imported_sha256",
        "IMPORTED_DIGEST": "sweeps.imported_digest",
        "PACKAGES": ("torch", "torchvision", "ray", "optuna", "mlflow"),
        "VERSIONS": ("python", "torch", "torchvision", "ray", "optuna", "mlflow"),
        "PARENT_RUN": "mlflow.parentRunId",
        "TRIAL_NUMBER": "sweeps.trial",
        "METRIC": "metric",
        "GOAL": "goal",
        "SEED": "seed",
        "FINALIST": "finalist",
        "THAWED": "thawed",
        "DEVICE": "device",
        "GPUS": "gpus",
        "GPU_IDS": "gpu_ids",
        "THREADS": "threads",
        "NODE": "node",
        "PLACE": ("device", "gpus", "gpu_ids", "threads", "node"),
        "OUTCOME": "outcome",
        "STOP_REASON": "stop_reason",
        "STOPPED_BY": "stopped_by",
        "WOULD_STOP": "would_stop",
        "END": ("outcome", "stop_reason", "stopped_by", "would_stop"),
        "LR_ALPHA": "lr_alpha",
        "HORIZON": "horizon",
        "DERIVED_PARAMS": ("lr_alpha", "horizon"),
        "SAMPLED": "space.",
        "LONGEST_PARAM": 6000,
        "FINAL_METRICS": (
            *("objective", "epochs_to_target", "epochs_to_target_sustained", "best_val_acc", "best_epoch"),
            *("epochs_run", "epochs_saved", "final_loss", "final_val_loss"),
        ),
    }


def test_the_final_metrics_are_fields_of_a_result():
    best = schema.best_metric("val_acc")  # Result.best_value, under the name of the metric
    assert set(schema.FINAL_METRICS) <= {field.name for field in fields(Result)} | {best}
