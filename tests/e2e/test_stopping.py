"""A study with rules in shadow, and the table of what its rules saved and cost."""

import json
import re

import pytest

from tests.e2e.conftest import run_script

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


# Frozen trials

# By what the trials show, trial 3 is ended after an epoch, and goes on once trial 4 has missed the target.
_FROZEN = """
name = "frozen"
[train]
model = "resnet11v2"
data = "digits"
image_size = 16
train_limit = 32
val_limit = 20
batch_size = 16
schedule = "[lr, 0] lin[1e-5, 6]"
[space]
lr = { low = 1e-4, high = 1e-2, log = true }
[search]
trials = 6
sampler = "random"
first = [{ lr = 4.8e-3 }, { lr = 3.3e-4 }, { lr = 9.1e-3 }, { lr = 2.8e-3 }, { lr = 8.3e-3 }, { lr = 4.8e-4 }]
[stopping]
diverged = false
forecast = { chance = 0.2, best = 1, trials = 3 }
freeze = true
"""
_SHOWN = """
import sys
from dataclasses import replace
from pathlib import Path
from rich.console import Console
from resnet_core.trainer import train
from search_spaces.study import load_study
from sweeps.home import Home
from sweeps.execution.launch import Launch
from sweeps.execution.trainable import TrialTrainable

REACHED_AT = {4.8e-3: 3, 3.3e-4: 9, 9.1e-3: 2, 2.8e-3: 6, 8.3e-3: 9, 4.8e-4: 4}

class Shown(TrialTrainable):
    def epochs(self, config, checkpoint, **more):
        # What it trains is real; which trials are fast is set by hand.
        lr = float(config.schedule.split(",")[0].strip("["))
        for record in train(config, checkpoint=checkpoint, **more):
            yield replace(record, val_acc=0.93 if record.epoch >= REACHED_AT[lr] else 0.5)

home, study, address = sys.argv[1:]
launch = Launch(Home(Path(home)), Path(home), address, Console(stderr=True), trainable=Shown)
print(launch.start(load_study(Path(study))).value)
"""


def test_a_frozen_trial_goes_on_when_it_is_likely_again(sweeps, cluster, store, tmp_path):
    home, study, script = tmp_path / "home", tmp_path / "frozen.toml", tmp_path / "shown.py"
    study.write_text(_FROZEN)
    script.write_text(_SHOWN)
    done = run_script(script, home, study, cluster.address)
    assert done.stdout.strip() == "finished", done.stderr
    assert re.search(r"trial 3: pruned: stopped at epoch 1: \d+% chance to be among the best", done.stderr)
    assert "trial 3: goes on after epoch 1: lr 0.0028" in done.stderr
    run = store(home, "frozen").trials["3"]
    assert (run.info.status, run.data.tags["outcome"], run.data.tags["thawed"]) == ("FINISHED", "reached", "1")
    assert run.data.metrics["epochs_run"] == 6
    assert "ended after epoch 1, and went on later" in sweeps("show", "frozen", "3", "--home", home).stdout
    assert list((home / "studies" / "frozen" / "checkpoints").iterdir()) == []
