"""The view of a study in MLflow's UI: its trials, fastest first, with the columns that tell them apart."""

from __future__ import annotations

import base64
import json
import zlib

from resnet_core import schema

NAME = "epochs-to-target"
"""The view is in the UI's menu Views, and under viewStateShareKey=NAME in an address."""

TAG = f"mlflow.sharedViewState.{NAME}"
"""The tag of the experiment that holds the view."""

_COLUMNS = (
    *("metrics.`epochs_to_target`", "metrics.`best_val_acc`", "metrics.`epochs_run`", "tags.`outcome`"),
    *("params.`weight_decay`", "params.`shift`", "params.`lr_alpha`", "params.`schedule`", "tags.`stop_reason`"),
)


def view(now: int) -> str:
    """Return the value of TAG, in the form in which the UI keeps the views that people save.

    Args:
        now: milliseconds since 1970.
    """
    state = {
        "searchFilter": f"tags.`{schema.KIND}` = '{schema.TRIAL}'",
        "orderByKey": "metrics.`epochs_to_target`",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": _COLUMNS,
        "runsHiddenMode": "FIRST_10_RUNS",
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    return json.dumps({"name": "Epochs to target", "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"})
