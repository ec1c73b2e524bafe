"""A trainer of one's own through the command line: every way in which its trials end, kill and resume, its code."""

import json
import os
import re
import signal
import sys

import pytest

from sweeps.execution import fork_server

TRAINER = """
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from sweeps import Run


@dataclass(frozen=True)
class Config:
    epochs: int = 4
    rate: float = 0.3
    how: Literal["well", "moves", "error", "missing", "early", "exit", "leave", "interrupt", "hang"] = "well"
    pause: float = 0.0
    seed: int = 0


def train(config: Config, run: Run) -> Iterator[dict[str, float]]:
    if config.how == "moves":
        os.chdir(run.folder)
    for epoch in run.epochs():
        time.sleep(config.pause)
        metrics = {"val_acc": 1 - (1 - config.rate) ** epoch, "f1": epoch / 10}
        if epoch == 2:
            match config.how:
                case "error":
                    raise ValueError("7 is even")
                case "missing":
                    del metrics["val_acc"]
                case "early":
                    return
                case "exit":
                    os._exit(3)
                case "leave":
                    raise SystemExit(3)
                case "interrupt":
                    raise KeyboardInterrupt
                case "hang":
                    time.sleep(3600)
        run.save({"epoch": epoch})
        yield metrics
"""
STUDY = """
name = "own"
[train]
trainer = "made_up:train"
[objective]
target = 0.6
"""
REASONS = {
    "moves": None,  # the next trial has the same process
    "well": None,
    "error": r"made_up.py, line \d+: ValueError: 7 is even",
    "missing": r"epoch 2 has no val_acc: expected it among its metrics.*; it has: f1",
    "early": r"its trainer ended after 1 of 4 epochs",
    "exit": r"its process was killed.*",
    "leave": r"the trainer ends the program: .*made_up.py, line \d+: SystemExit: 3",
    "interrupt": r"made_up.py, line \d+: KeyboardInterrupt",
    "hang": r"no epoch ended within 10 s \(resources.epoch_timeout\)",
}


def write(folder, tables="", train=""):
    """Write the trainer and its study file; return the file."""
    (folder / "made_up.py").write_text(TRAINER)
    file = folder / "own.toml"
    file.write_text(STUDY.replace("[objective]", f"{train}\n[objective]") + tables)
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("own")


@pytest.fixture(scope="module")
def ended(sweeps, folder, cluster):
    """The home of a study whose runs end in all ways; its code is gone afterwards."""
    runs = "".join(f'[[run]]\nname = "{name}"\nhow = "{name}"\n' for name in REASONS)
    file = write(folder, f"[search]\nretries = 0\n[resources]\nepoch_timeout = 10\n{runs}")
    sweeps("launch", file, "--home", folder / "home", on=cluster, code=3)
    (folder / "made_up.py").write_text("raise SystemExit('imported')\n")
    return folder / "home"


@pytest.mark.slow
@pytest.mark.parametrize("name", REASONS)
def test_each_way_to_end_has_its_reason(name, sweeps, ended):
    result = json.loads(sweeps("show", "own", name, "--home", ended, "--json").stdout)["result"]
    if REASONS[name] is None:
        assert result["stop_reason"] is None
    else:
        assert re.fullmatch(REASONS[name], result["stop_reason"]), result["stop_reason"]


@pytest.mark.slow
def test_an_error_of_the_trainer_is_shown_without_frames_of_this_project(sweeps, ended):
    shown = sweeps("show", "own", "error", "--home", ended).stdout
    assert "ValueError: 7 is even" in shown
    assert "trainable.py" not in shown
    assert "resnet_core" not in shown


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ("table", "own"),
        ("table", "own", "--json"),
        ("table", "own", "--format", "latex"),
        ("table", "own", "--view", "statistics"),
        ("table", "own", "--view", "cost"),
        ("show", "own", "well"),
        ("best", "own"),
        ("status", "own"),
        ("ls",),
        ("stopping", "own"),
        ("report", "own", "--out", "report.html"),
        ("export", "own", "--tensorboard", "board"),
        ("export", "own", "--out", "curves.jsonl.gz"),
    ],
    ids=" ".join,
)
def test_commands_that_look_need_no_code(command, sweeps, ended, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [tmp_path / part if part in ("report.html", "board", "curves.jsonl.gz") else part for part in command]
    assert "imported" not in sweeps(*arguments, "--home", ended).stderr


@pytest.mark.slow
def test_it_is_told_that_the_trainer_has_given_no_network(sweeps, ended):
    assert "run.save_model" in sweeps("evaluate", "own", "--home", ended, code=2).stderr


@pytest.mark.slow
def test_every_field_is_a_parameter_in_mlflow(store, ended):
    params = store(ended, "own").trials["well"].data.params
    assert params == {"epochs": "4", "rate": "0.3", "how": "well", "pause": "0.0", "seed": "0", "horizon": "4"}


@pytest.mark.slow
def test_metrics_of_ones_own_are_shown(sweeps, ended):
    assert "f1 0.2" in sweeps("show", "own", "well", "--home", ended).stdout


@pytest.mark.slow
def test_changed_code_is_told_at_resume(sweeps, ended):
    refused = sweeps("resume", "own", "--home", ended, code=2).stderr
    assert "its code has changed since it began" in refused
    assert "made_up.py" in refused
    assert "--changed-code" in refused


@pytest.mark.slow
def test_after_a_kill_every_epoch_is_there_once(sweeps, store, cluster, tmp_path):
    file = write(tmp_path, "[search]\nseeds = [0, 1]\n", train="epochs = 6\npause = 0.5")
    home = tmp_path / "home"
    command = sweeps.start("launch", file, "--home", home, on=cluster)
    command.until(lambda running: len(running.epochs) >= 3)
    command.signal(signal.SIGKILL)
    command.wait()
    sweeps("resume", "own", "--home", home, on=cluster)
    kept = store(home, "own")
    for run in kept.trials.values():
        assert sorted(point.step for point in kept.history(run, "val_acc")) == list(range(1, 7))


def test_a_plan_shows_the_fields_and_the_files(sweeps, tmp_path):
    shown = sweeps("plan", write(tmp_path)).stdout
    assert f"runs made_up:train, the code of {tmp_path / 'made_up.py'} (sha256:" in shown
    assert 'epochs = 4, rate = 0.3, how = "well"' in shown


@pytest.mark.slow
def test_changed_code_goes_on_where_that_is_accepted(sweeps, cluster, tmp_path):
    file = write(tmp_path, "[space]\nrate = { low = 0.2, high = 0.4 }\n[search]\ntrials = 1\n")
    home = ("--home", tmp_path / "home")
    sweeps("launch", file, *home, on=cluster)
    with (tmp_path / "made_up.py").open("a") as code:
        code.write("\n# a comment\n")
    assert "code.versions.made_up:train" in sweeps("launch", file, *home, on=cluster, code=2).stderr
    sweeps("resume", "own", "--trials", "+1", *home, on=cluster, code=2)
    sweeps("resume", "own", "--trials", "+1", "--changed-code", *home, on=cluster)
    sweeps("resume", "own", *home, on=cluster)  # the changed code is the study's now


@pytest.mark.slow
def test_another_home_joins_by_the_study_file(sweeps, cluster, tmp_path):
    file = write(tmp_path)
    home = tmp_path / "home"
    said = sweeps("launch", file, "--home", home, on=cluster).stderr
    assert f"runs made_up:train, the code of {tmp_path / 'made_up.py'}" in said
    other = ("--home", tmp_path / "other", "--ledger", f"sqlite:///{home / 'optuna.db'}")
    other += ("--mlflow", f"sqlite:///{home / 'mlflow.db'}")
    refused = sweeps("resume", "own", *other, on=cluster, code=2).stderr
    assert "this home has not launched it from its study file" in refused
    sweeps("launch", file, *other, on=cluster)


NETWORK = """
import torch
from torch import nn


def two_layers(classes, channels, width: int = 16):
    return nn.Sequential(nn.Conv2d(channels, width, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
                         nn.Linear(4 * width, classes))


class SignSGD(torch.optim.Optimizer):
    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(p.grad.sign(), alpha=group["lr"])
"""


@pytest.mark.slow
def test_a_network_and_an_optimizer_of_ones_own_in_the_trainer_that_ships(sweeps, cluster, tmp_path):
    (tmp_path / "nets.py").write_text(NETWORK)
    file = tmp_path / "nets.toml"
    file.write_text(
        'name = "nets"\n[train]\nmodel = "nets:two_layers"\noptimizer = "nets:SignSGD"\ndata = "digits"\n'
        'image_size = 16\ntrain_limit = 64\nval_limit = 64\nschedule = "[lr, 0] lin[0, 2]"\n'
        "[space]\nlr = { low = 1e-3, high = 1e-2 }\nmodel_options.width = { choices = [4, 8] }\n[search]\ntrials = 2\n"
    )
    sweeps("launch", file, "--home", tmp_path / "home", on=cluster)
    (tmp_path / "nets.py").unlink()
    table = json.loads(sweeps("table", "nets", "--json", "--home", tmp_path / "home").stdout)
    assert [row["epochs_run"] for row in table] == [2, 2]
    assert {row["model_options.width"] for row in table} <= {4, 8}


@pytest.mark.parametrize("command", ["plan", "train"])
def test_what_a_trainer_prints_is_no_part_of_a_result(command, sweeps, tmp_path):
    file = write(tmp_path)
    talkative = TRAINER.replace("time.sleep(config.pause)", "print('an epoch')")
    talkative += "\nprint('imported')\n"
    (tmp_path / "made_up.py").write_text(talkative)
    done = sweeps(command, file, "--json")
    assert json.loads(done.stdout)
    assert "imported" in done.stderr
    assert "an epoch" in done.stderr


PARENT = """
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Config:
    epochs: int = 1
    seed: int = 0


def train(config: Config, run):
    parent = Path(f"/proc/{os.getppid()}/cmdline").read_text()
    for _ in run.epochs():
        yield {"val_acc": float("fork_server" in parent)}
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or any(map(os.path.exists, fork_server._GPUS)), reason="none is started")
@pytest.mark.parametrize(("tables", "forked"), [("", 1.0), ("[resources]\ncpus_per_trial = 2\n", 0.0)])
def test_trials_of_one_thread_train_in_forks(sweeps, home, tmp_path, tables, forked):
    file = write(tmp_path, tables)
    (tmp_path / "made_up.py").write_text(PARENT)
    sweeps("launch", file, "--home", home)
    (row,) = json.loads(sweeps("table", "own", "--home", home, "--json").stdout)
    assert row["val_acc_best"] == forked
