"""Curves that were recorded elsewhere, imported through the command line and looked at with every other command."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUN33 = ROOT / "docs/data/run33_h200.jsonl"


@pytest.fixture(scope="module")
def home(sweeps, tmp_path_factory):
    """The recorded runs, imported with what is known of them beside the file."""
    home = tmp_path_factory.mktemp("imported") / "home"
    done = sweeps("import", RUN33, "--name", "run33", "--study", "published/post5_run33", "--home", home)
    assert "trial 33: 26 epochs, reached, 0.92 at epoch 20, best val_acc 0.9250" in done.stdout
    assert "run33: imported: 8 trials from run33_h200.jsonl" in done.stderr
    return home


def test_the_table_has_the_epochs_to_target(sweeps, home):
    rows = sweeps.json("table", "run33", "--home", home)
    epochs = [row["epochs_to_target"] for row in rows]
    assert epochs == [20, 22, 22, 23, 25, None, None, None]
    assert {row["weight_decay"] for row in rows} == {0.18}
    said = sweeps("table", "run33", "--home", home).stdout
    assert said.count("Imported from run33_h200.jsonl: ") == 1
    assert "Reached by 5 of 8 trials, 3 ended below the target." in said


@pytest.mark.parametrize("view", ["statistics", "ladder", "noise", "cost", "transitions"])
def test_every_view_reads_it(sweeps, home, view):
    assert "Imported from run33_h200.jsonl" in sweeps("table", "run33", "--view", view, "--home", home).stdout


def test_where_it_stands(sweeps, home):
    row = next(row for row in sweeps.json("ls", "--home", home) if row["study"] == "run33")
    assert (row["state"], row["imported_from"]) == ("complete", "run33_h200.jsonl")
    assert "run33: imported from run33_h200.jsonl" in sweeps("status", "run33", "--home", home).stdout
    assert "imported: one run, exploratory" in sweeps("best", "run33", "--home", home).stdout
    assert len(sweeps.json("show", "run33", "5", "--home", home)["epochs"]) == 26
    assert "rules ended 0" in sweeps("stopping", "run33", "--home", home).stdout


def test_it_is_compared_reported_and_simulated(sweeps, home, tmp_path):
    compared = sweeps("compare", "run33", "run33:0", "--home", home).stdout
    assert "reached 0.92 in 5 of 8 runs" in compared
    sweeps("report", "run33", "--out", tmp_path / "run33.html", "--home", home)
    assert "Imported from run33_h200.jsonl" in (tmp_path / "run33.html").read_text()
    made = sweeps.json("simulate", "published/post5_run33", "--from", "run33", "--home", home, "--gpus", "2")
    assert (made["with_rules"]["trials"]["median"], made["with_rules"]["epochs"]["median"]) == (8, 8 * 26)


def test_it_cannot_be_run(sweeps, home):
    for arguments in (
        ("resume", "run33"),
        ("confirm", "run33"),
        ("launch", "published/post5_run33", "--name", "run33", "--yes"),
    ):
        said = sweeps(*arguments, "--home", home, code=2).stderr
        assert "study 'run33' was imported from run33_h200.jsonl: its trials ran elsewhere" in said


def test_an_export_comes_back(sweeps, home, tmp_path):
    sweeps("export", "run33", "--tensorboard", tmp_path / "events", "--home", home)
    sweeps("import", tmp_path / "events", "--name", "again", "--home", home)
    columns = ("trial", "epochs_to_target", "val_acc_best", "weight_decay", "shift", "l2", "schedule", "outcome")
    before, after = (
        [[row[column] for column in columns] for row in sweeps.json("table", name, "--home", home)]
        for name in ("run33", "again")
    )
    assert sorted(after, key=str) == sorted(before, key=str)


def test_what_is_wrong_is_said_and_nothing_is_made(sweeps, tmp_path):
    rows = [json.loads(line) for line in RUN33.read_text().splitlines()]
    path = tmp_path / "percent.jsonl"
    path.write_text("".join(json.dumps(row | {"val_acc": 100 * row["val_acc"]}) + "\n" for row in rows))
    home = tmp_path / "home"
    said = sweeps("import", path, "--name", "x", "--home", home, code=2).stderr
    assert said == (
        f"sweeps: {path}, line 1: val_acc = 58.8: expected a share in [0, 1]; --percent reads percent "
        "(207 more like it)\n"
    )
    for arguments, told in (
        (("--name", "../x"), 'name = "../x": expected'),
        (("--name", "x", "--metric", "accuracy=val_acc"), "--metric accuracy=val_acc: unknown name"),
        (("--name", "x", "--set", "shift=0.1"), "--set shift=0.1: expected train.shift=0.1"),
        (("--name", "x", "--set", "search.trials=3"), "expected a key of [train] or [objective], or description"),
        (("--name", "x", "--set", "train.shift=2"), "options: train.shift = 2: expected a share of the image"),
    ):
        assert told in sweeps("import", path, *arguments, "--home", home, code=2).stderr
    checked = sweeps.json("import", RUN33, "--name", "x", "--dry-run", "--home", home)
    assert (checked["state"], len(checked["trials"])) == ("would be imported", 8)
    assert not home.exists()
