import json

import pytest

from analysis.tables.cost import build_cost, cost_footnotes
from analysis.tables.rendering import render

ON_GPU = {
    "val_accs": [0.5, 0.93, 0.91],
    "outcome": "reached",
    "batch_size": 128,
    "seconds": [40.0, 20.0, 30.0],
    "power_watts": [90.0, 120.0, 60.0],
    "gpu_util_percent": [45.0, 90.0, 60.0],
}
ON_CPU = {"val_accs": [0.4, 0.5], "outcome": "exhausted", "seconds": [100.0, 300.0]}
CRASHED = {"val_accs": [0.9], "outcome": "crashed"}


def test_the_columns_are_in_order(make_study):
    assert list(build_cost(make_study(ON_GPU)).columns) == [
        *("trial", "batch_size", "val_acc_best", "epoch_best", "gpu_util_percent", "power_watts"),
        *("seconds_per_epoch", "epochs_run", "hours", "energy_wh"),
    ]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("trial", "trial-0"),
        ("batch_size", 128),
        ("val_acc_best", 0.93),
        ("epoch_best", 2),
        pytest.param("gpu_util_percent", 60.0, id="load is a mean over time"),
        pytest.param("power_watts", 260 / 3, id="power is a mean over time"),
        pytest.param("seconds_per_epoch", 30.0, id="seconds are a median"),
        ("epochs_run", 3),
        ("hours", 0.025),
        pytest.param("energy_wh", 7800 / 3600, id="energy is watts times seconds"),
    ],
)
def test_a_row_says_what_a_trial_cost(make_study, column, value):
    assert build_cost(make_study(ON_GPU)).loc[0, column] == pytest.approx(value)


@pytest.mark.parametrize(("gpus", "share"), [(0.25, 0.25), (1, 1), (2, 1), (None, 1)])
def test_energy_is_that_of_the_share_of_the_gpu(make_study, gpus, share):
    row = build_cost(make_study(ON_GPU | {"gpus": gpus})).loc[0]
    assert row["energy_wh"] == pytest.approx(share * 7800 / 3600)
    assert row["power_watts"] == pytest.approx(260 / 3)


@pytest.mark.parametrize("column", ["gpu_util_percent", "power_watts", "energy_wh"])
def test_without_a_gpu_its_figures_are_missing(make_study, column):
    assert build_cost(make_study(ON_CPU, ON_GPU))[column].isna().tolist() == [True, False]


def test_time_is_told_without_a_gpu(make_study):
    row = build_cost(make_study(ON_CPU)).loc[0]
    assert row[["seconds_per_epoch", "hours"]].tolist() == pytest.approx([200.0, 400 / 3600])


def test_an_epoch_without_power_leaves_no_energy(make_study):
    trial = ON_GPU | {"power_watts": [90.0, None, 60.0]}
    assert build_cost(make_study(trial))["energy_wh"].isna().all()


def test_rows_come_by_number_without_crashed_ones(make_study):
    assert build_cost(make_study(ON_CPU, CRASHED, ON_GPU)).index.tolist() == [0, 2]


def test_a_trial_without_an_epoch_is_a_row(make_study):
    row = build_cost(make_study({"val_accs": []})).loc[0]
    assert (row["epochs_run"], row[["hours", "seconds_per_epoch", "energy_wh"]].isna().all()) == (0, True)


def test_json_has_null_without_a_gpu(make_study):
    (row,) = json.loads(render(build_cost(make_study(ON_CPU)), "json"))
    assert (row["energy_wh"], row["epochs_run"]) == (None, 2)


@pytest.mark.parametrize("style", ["text", "markdown", "csv", "latex"])
def test_it_is_rendered(make_study, style):
    text = render(build_cost(make_study(ON_GPU, ON_CPU)), style)
    assert "trial-1" in text


@pytest.mark.parametrize("width", [40, 80, 120])
def test_it_fits_a_terminal(make_study, width):
    text = render(build_cost(make_study(ON_GPU)), "text", width=width)
    assert max(map(len, text.split("\n\n")[0].splitlines())) <= width


def test_an_empty_study_is_an_empty_table(make_study):
    assert render(build_cost(make_study()), "json") == "[]\n"


def test_footnotes_say_that_power_is_the_whole_gpus(make_study):
    assert "also where trials share it" in " ".join(cost_footnotes(make_study(ON_GPU)))


@pytest.mark.parametrize("style", ["text", "markdown", "latex", "html"])
def test_people_see_times_in_the_unit_that_suits_them(make_study, style):
    shown = render(build_cost(make_study(ON_GPU)), style)
    assert "30 s" in shown
    assert "1.5 min" in shown
    assert "hours" not in shown


def test_programs_see_times_in_the_unit_of_their_name(make_study):
    (row,) = json.loads(render(build_cost(make_study(ON_GPU)), "json"))
    assert (row["hours"], row["seconds_per_epoch"]) == (0.025, 30.0)
