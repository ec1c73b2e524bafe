"""The view of a study in MLflow's UI."""

import base64
import json
import zlib

from search_spaces.study import StudySpec
from sweeps.tracking.view import view


def state_of(**study) -> dict:
    found = json.loads(view(StudySpec.model_validate({"name": "s", **study}), 0))
    return json.loads(zlib.decompress(base64.b64decode(found["state"].removeprefix("deflate;"))))


def columns(**study) -> list[str]:
    return state_of(**study)["selectedColumns"]


def first_charts(**objective) -> tuple[str, list[tuple[str, str]]]:
    """The heading of the first charts, and the kind and the metric of each."""
    state = state_of(train={"schedule": "[1e-3, 0] lin[0, 4]"}, objective=objective)
    first, rest = state["compareRunSections"]
    assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} == {first["uuid"]} != {rest["uuid"]}
    return first["name"], [(chart["type"], chart["metricKey"]) for chart in state["compareRunCharts"]]


def test_the_first_charts_are_the_curves_and_where_they_reach_the_target():
    assert first_charts(target=0.95) == ("Target: val_acc 0.95", [("LINE", "val_acc"), ("BAR", "epochs_to_target")])


def test_without_a_target_the_first_chart_is_the_curves():
    assert first_charts(metric="val_loss", goal="min") == ("val_loss", [("LINE", "val_loss")])


def test_sampled_parameters_are_columns():
    shown = columns(
        train={"schedule": "[lr, 0] lin[lr, +warmup] cos[0, +4]"},
        space={"lr": {"low": 1e-3, "high": 2e-3}, "warmup": {"low": 1, "high": 3, "int": True}},
        search={"trials": 1},
    )
    assert {"params.`space.lr`", "params.`space.warmup`", "metrics.`epochs_to_target`", "tags.`outcome`"} <= set(shown)


def test_settings_in_which_listed_runs_differ_are_columns():
    runs = [{"name": "a", "batch_size": 32, "flip": True}, {"name": "b", "flip": True}]
    shown = columns(train={"schedule": "[1e-3, 0] lin[0, 4]"}, run=runs)
    assert ("params.`batch_size`" in shown, "params.`flip`" in shown) == (True, False)


def test_a_setting_that_every_table_has_is_there_once():
    shown = columns(
        train={"schedule": "[1e-3, 0] lin[0, 4]"},
        space={"weight_decay": {"low": 0.1, "high": 0.2}},
        search={"trials": 1},
    )
    assert shown.count("params.`weight_decay`") == 1
