"""A study with rules in shadow, and the table of what its rules saved and cost."""

import json

import pytest

pytestmark = pytest.mark.slow

# Trial 0 passes the low target; 1 and 2 never do. The cap is the one rule that may end a trial.
_STUDY = """
name = "shadowed"
[train]
model = "resnet11v2"
data = "digits"
image_size = 16
train_limit = 200
val_limit = 100
batch_size = 32
flip = false
schedule = "[5e-3, 0] lin[lr, 1] cos[1e-5, 6]"
[space]
lr = { choices = [5e-3, 1e-7] }
weight_decay = { choices = [0.1] }
[objective]
target = 0.2
[search]
trials = 3
sampler = "random"
first = [{ lr = 5e-3 }, { lr = 1e-7 }, { lr = 1e-7 }]
[stopping]
cap = { best = 1, slack = 1.0 }
asha = { reduction = 2, after = 0.3 }
patience = { epochs = 1, min_delta = 0.9 }
shadow = ["asha", "patience"]
"""
_COLUMNS = ["rule", "mode", "stopped", "epochs_saved", "hours_saved", "judged", "false_stops", "best_lost"]


@pytest.fixture(scope="module")
def home(sweeps, cluster, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shadowed")
    study = folder / "shadowed.toml"
    study.write_text(_STUDY)
    sweeps("launch", study, "--home", folder / "home", on=cluster)
    return folder / "home"


def test_the_table_has_a_row_for_every_rule_and_says_what_is_known(sweeps, home):
    rows = sweeps.json("stopping", "shadowed", "--home", home)
    assert all(list(row) == _COLUMNS for row in rows)
    assert [(row["rule"], row["mode"]) for row in rows] == [
        ("diverged", "active"),
        ("cap", "active"),
        ("asha", "shadow"),
        ("patience", "shadow"),
        ("all rules", "active"),
    ]
    patience = rows[3]
    assert patience["stopped"] == 3  # with so high a min_delta, every trial
    assert patience["judged"] >= 1
    shown = sweeps("stopping", "shadowed", "--home", home, "--format", "markdown").stdout
    assert shown.startswith("| rule | mode | stopped |")
    assert "In shadow, stopping nothing: asha, patience;" in shown


def test_rules_in_shadow_are_kept_in_the_store_and_ended_nothing(sweeps, home, store):
    runs = store(home, "shadowed").trials
    assert all("patience" in json.loads(run.data.tags["would_stop"]) for run in runs.values())
    assert {run.data.tags.get("stopped_by") for run in runs.values()} <= {None, "cap"}
    for run in runs.values():
        left = 6 - run.data.metrics["epochs_run"]
        assert run.data.metrics["epochs_saved"] == left
