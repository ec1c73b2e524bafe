"""A study through ``sweeps launch``, and what can be read of it afterwards: here, in Optuna, in MLflow."""

import csv
import io
import math
import re
import subprocess
from collections import Counter

import pytest

from tests.e2e.conftest import environment

COLUMNS = [
    *("trial", "epoch", "val_acc", "acc", "epoch_best", "val_acc_best", "final_loss", "final_val_loss", "shift", "l2"),
    *("weight_decay", "lr_alpha", "lr", "decay", "schedule", "epochs_to_target", "epochs_to_target_sustained"),
    *("epochs_run", "outcome", "stop_reason"),
]
SHOWN = [name for name in COLUMNS if name != "l2"]  # it is the same in all trials
FINAL_METRICS = ("objective", "epochs_to_target", "best_val_acc", "best_epoch", "epochs_run", "final_loss")
OPTUNA = {"reached": "COMPLETE", "exhausted": "COMPLETE", "pruned": "PRUNED", "diverged": "PRUNED"}
MLFLOW = {"reached": "FINISHED", "exhausted": "FINISHED", "pruned": "KILLED", "diverged": "FAILED"}


@pytest.fixture(scope="module")
def table(sweeps, launched) -> dict[str, dict]:
    """The rows of ``sweeps table --json`` by trial."""
    rows = sweeps.json("table", launched.name, "--home", launched.home)
    assert all(list(row) == COLUMNS for row in rows)
    return {row["trial"]: row for row in rows}


def test_results_go_to_stdout_and_nothing_else_does(launched):
    lines = launched.done.stdout.splitlines()
    assert lines[0].split()[:3] == ["trial", "epochs_to_target", "val_acc_best"]
    assert [line.split(":")[0] for line in lines if re.match(r"\S.*:  ", line)] == ["Result", "Cost", "Next"]
    assert f"sweeps ui space --home {launched.home}" in lines[-1]
    assert not re.search(r"INFO|WARN|\bray\b|\bRay\b|alembic|mlflow|Deprecat|[╭╰│]", launched.done.stdout)


def test_progress_goes_to_stderr_and_nothing_else_does(launched, table):
    first, *lines = launched.done.stderr.splitlines()
    assert first == "starting Ray …"
    summary = r"\d{4}-\d\d-\d\dT\S+ · ended: "  # once a minute
    assert [line for line in lines if not re.match(rf"trial [0-5]: |{summary}", line)] == []
    epochs = Counter(line.split(":")[0] for line in lines if re.match(r"trial \d: epoch ", line))
    assert epochs == {f"trial {name}": row["epochs_run"] for name, row in table.items()}
    for name, row in table.items():
        assert any(line.startswith(f"trial {name}: {row['outcome']}") for line in lines)


def test_a_quiet_launch_prints_its_results_alone(sweeps, studies, home, cluster):
    done = sweeps("launch", studies.grid, "--quiet", "--home", home, on=cluster)
    assert done.stderr == ""
    assert " is best: " in done.stdout


def test_trials_end_as_they_must(table):
    assert set(table) == set("012345")
    assert [table[name]["outcome"] for name in "0123"] == ["reached", "pruned", "diverged", "exhausted"]
    assert table["0"]["epochs_run"] == 5  # the horizon: reaching the target does not end a trial
    assert re.fullmatch(
        r"stopped at epoch \d+: the best trial reached 0.2 at epoch \d, and 1 x \d epochs are used up",
        table["1"]["stop_reason"],
    )
    assert table["1"]["epochs_run"] < 28
    assert table["2"]["stop_reason"] == "stopped at epoch 1: the loss is nan at epoch 1"
    assert table["2"]["epochs_run"] == 1
    assert table["3"]["epochs_run"] == 5


def test_optuna_knows_every_trial(launched, table):
    trials = launched.store.optuna().get_trials()
    assert {str(trial.number): trial.state.name for trial in trials} == {
        name: OPTUNA[row["outcome"]] for name, row in table.items()
    }
    assert trials[0].params == {"lr": 5e-3, "weight_decay": 0.1, "decay": 1, "shift": 0.0}
    # Any trial that reached the target beats any that did not, and one that did not still has a value.
    assert trials[0].value <= 5 < trials[3].value
    assert trials[1].value is not None
    assert trials[2].value is None


def test_mlflow_has_a_parent_and_a_run_a_trial(launched, table):
    store = launched.store
    assert {found.name for found in store.client.search_experiments()} - {"Default"} == {"space"}
    (parent,) = store.launches
    assert parent.info.run_name == "space"
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["description"] == "How a ResNet11v2 comes to know a handful of digits"
    assert parent.data.tags["target"] == "0.2"
    runs = store.trials
    assert list(runs) == list("012345")
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    assert {name: run.info.status for name, run in runs.items()} == {
        name: MLFLOW[row["outcome"]] for name, row in table.items()
    }
    store.assert_whole(trials=6)


def test_mlflow_has_tags_that_identify_a_run(launched, table):
    runs = launched.store.trials
    (parent,) = launched.store.launches
    for number, (name, run) in enumerate(runs.items()):
        tags = run.data.tags
        assert tags["outcome"] == table[name]["outcome"]
        assert tags.get("stop_reason") == table[name]["stop_reason"]
        assert tags["seed"] == run.data.params["seed"] == str(18 + number)
        assert re.fullmatch(r"[0-9a-f]{12}", tags["study_hash"])
        assert tags["study_hash"] == parent.data.tags["study_hash"]
        assert tags["code_version"] == parent.data.tags["code_version"] != ""
        assert (tags["device"], tags["gpus"], tags["gpu_ids"], tags["threads"]) == ("cpu", "0", "", "1")
        assert tags["node"]
    assert {name: run.data.tags.get("stopped_by") for name, run in runs.items() if name in "0123"} == {
        "0": None,
        "1": "cap",
        "2": "diverged",
        "3": None,
    }


def test_mlflow_has_the_whole_configuration(launched):
    params = launched.store.trials["0"].data.params
    assert params["schedule"] == "[2.5e-3, 0] lin[5e-3, 4] cos[5e-4, 5]"
    assert (params["model"], params["data"], params["train_limit"]) == ("resnet11v2", "digits", "100")
    assert (params["lr_alpha"], params["horizon"]) == ("0.005", "5")
    assert (params["space.lr"], params["space.decay"], params["weight_decay"]) == ("0.005", "1", "0.1")


def test_mlflow_metrics_end_with_the_result(launched, table):
    for name, run in launched.store.trials.items():
        row, metrics = table[name], run.data.metrics
        assert metrics["epochs_run"] == row["epochs_run"]
        assert metrics["best_val_acc"] == row["val_acc_best"]
        assert metrics["best_epoch"] == row["epoch_best"]
        assert metrics.get("epochs_to_target") == row["epochs_to_target"]
        assert metrics.get("final_loss") == row["final_loss"]
    assert set(launched.store.trials["0"].data.metrics) >= set(FINAL_METRICS)
    assert "objective" not in launched.store.trials["2"].data.metrics


def test_the_curve_in_mlflow_is_the_curve_that_was_shown(launched):
    shown = re.findall(r"^trial 0: epoch \d/5 loss (\S+) acc (\S+) .* val_acc (\S+) lr", launched.done.stderr, re.M)
    curve = launched.store.curves()["0"]
    stored = zip(curve["loss"], curve["acc"], curve["val_acc"], strict=True)
    assert shown == [(f"{loss:.4f}", f"{acc:.4f}", f"{val_acc:.4f}") for loss, acc, val_acc in stored]
    assert all(math.isnan(loss) for loss in launched.store.curves()["2"]["loss"])


def test_table_as_json_has_null_where_there_is_no_value(table):
    reached, broken = table["0"], table["2"]
    assert reached["stop_reason"] is None
    assert reached["epoch"] == reached["epochs_to_target"]
    assert reached["val_acc"] >= 0.2
    assert broken["final_loss"] is None
    assert broken["epochs_to_target"] is broken["epochs_to_target_sustained"] is None
    assert table["3"]["epochs_to_target"] is None
    order = [(row["epochs_to_target"] or math.inf, -(row["val_acc_best"] or 0)) for row in table.values()]
    assert order == sorted(order)


def test_table_in_every_format(sweeps, launched, table):
    def said(*options: str) -> str:
        return sweeps("table", launched.name, "--home", launched.home, *options).stdout

    text = said()
    assert text.splitlines()[0].split() == SHOWN
    assert "The same in all trials: l2 = 0." in text
    assert "Reached by" in text
    markdown = said("--format", "markdown").splitlines()
    assert markdown[0] == "| " + " | ".join(SHOWN) + " |"
    assert sum(line.startswith("| ") for line in markdown) == 2 + 6
    rows = list(csv.DictReader(io.StringIO(said("--format", "csv"))))
    assert [row["trial"] for row in rows] == list(table)
    assert [float(row["val_acc_best"]) for row in rows] == [row["val_acc_best"] for row in table.values()]
    latex = said("--format", "latex")
    assert latex.startswith(r"\begin{tabular}")
    assert latex.count(r"\\") == 1 + 6


def test_table_at_another_target(sweeps, launched):
    rows = sweeps.json("table", launched.name, "--home", launched.home, "--target", "1.0")
    assert [row["epochs_to_target"] for row in rows] == [None] * 6
    assert {row["outcome"] for row in rows} >= {"reached", "pruned", "diverged", "exhausted"}


def test_table_draws_curves(sweeps, launched, tmp_path):
    picture = tmp_path / "curves.png"
    done = sweeps("table", launched.name, "--home", launched.home, "--plot", picture, "--trial", "0", "--trial", "3")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert str(picture) in done.stderr.replace("\n", "")
    assert done.stdout.splitlines()[0].split() == SHOWN


def test_table_of_what_it_cost(sweeps, launched, table):
    rows = sweeps.json("table", launched.name, "--home", launched.home, "--view", "cost")
    assert [row["trial"] for row in rows] == list("012345")
    for row in rows:
        assert row["hours"] > 0
        assert row["energy_wh"] is row["power_watts"] is row["gpu_util_percent"] is None  # there is no GPU
        assert row["epochs_run"] == table[row["trial"]]["epochs_run"]


def test_table_of_transitions(sweeps, launched, table):
    asked = ("table", launched.name, "--home", launched.home, "--view", "transitions", "--levels", "0.2,1")
    rows = {row["trial"]: row for row in sweeps.json(*asked)}
    assert table["0"]["epochs_to_target"] <= rows["0"]["0.2"] <= 5
    assert {row["1"] for row in rows.values()} == {None}
    said = sweeps(*asked).stdout
    assert said.splitlines()[0].split() == ["trial", "0.2", "1", "epochs_run", "outcome"]
    assert ">5" in said


def test_table_draws_a_comparison(sweeps, launched, tmp_path):
    picture = tmp_path / "comparison.svg"
    sweeps("table", launched.name, "--home", launched.home, "--plot", picture, "--compare", "--trial", "0")
    assert picture.read_text().startswith("<?xml")


def test_commands_agree_with_each_other(sweeps, launched, table):
    at = ("--home", launched.home)
    (listed,) = sweeps.json("ls", *at)
    status = sweeps.json("status", launched.name, *at)
    assert {key: status[key] for key in listed} == listed
    assert (status["study"], status["state"], status["process"]) == ("space", "complete", None)
    assert (status["trials"], status["begun"], status["running"]) == (6, 0, [])
    outcomes = Counter(row["outcome"] for row in table.values())
    assert {name: status[name] for name in (*OPTUNA, "crashed")} == {
        name: outcomes[name] for name in (*OPTUNA, "crashed")
    }
    best = sweeps.json("best", launched.name, *at)
    assert best["trial"] == status["best_trial"]
    assert best["result"]["epochs_to_target"] == status["best_epochs_to_target"]
    assert best["result"]["epochs_to_target"] == min(r["epochs_to_target"] or 99 for r in table.values())
    shown = sweeps.json("show", launched.name, best["trial"], *at)
    assert (best.pop("confirmed_by"), "lead" in best) == ({}, True)
    assert (best.pop("winner"), best.pop("run_again")) == (False, {"reached": 0, "runs": 0})
    del best["lead"], best["expected"]
    assert {key: shown[key] for key in best} == best
    assert len(shown["epochs"]) == shown["result"]["epochs_run"]
    assert shown["error"] is None


def test_show_gives_a_broken_trial_as_json(sweeps, launched):
    shown = sweeps.json("show", launched.name, "2", "--home", launched.home)
    assert shown["result"]["outcome"] == "diverged"
    assert [epoch["loss"] for epoch in shown["epochs"]] == [None]
    text = sweeps("show", launched.name, "2", "--home", launched.home).stdout
    assert "outcome: diverged" in text


def test_what_people_read_of_a_study(sweeps, launched):
    at = ("--home", launched.home)
    assert sweeps("ls", *at).stdout.startswith("space: complete · 6 trials asked for · ended: ")
    assert sweeps("status", *at).stdout == sweeps("status", "space", *at).stdout
    best = sweeps("best", "space", *at)
    assert f"trial {best.stdout.split()[1]} is best: " in " ".join(launched.done.stdout.split())
    assert "no winner yet: one run may be luck" in best.stdout


def test_nothing_is_left_that_nobody_needs(launched):
    """Checkpoints go once the whole curve is in the store, and so does Ray's bookkeeping."""
    left = [path.relative_to(launched.home).as_posix() for path in launched.home.rglob("*") if path.is_file()]
    kept = {f"studies/space/logs/{number:05d}.txt" for number in range(6)} | {"studies/space/driver"}
    best = [path.stem for path in launched.home.glob("studies/space/models/*.safetensors")]
    assert len(best) == 3
    kept |= {f"studies/space/models/{name}{suffix}" for name in best for suffix in (".safetensors", ".json")}
    wanted = ("mlflow.db", "optuna.db", "artifacts/")
    assert {path for path in left if not path.startswith(wanted)} == {"studies/space/lock"} | kept


def test_launching_it_again_does_nothing(sweeps, store, launched, copied):
    again = sweeps("launch", launched.file, "--home", copied)
    assert again.stderr == ""
    assert again.stdout.replace(str(copied), str(launched.home)) == launched.done.stdout
    left = store(copied, "space")
    assert {name: run.info for name, run in left.trials.items()} == {
        name: run.info for name, run in launched.store.trials.items()
    }
    left.assert_whole(trials=6)


def test_a_listed_study_runs_each_run_with_each_seed(sweeps, listed):
    rows = sweeps.json("table", listed.name, "--home", listed.home)
    assert {row["trial"] for row in rows} == {"plain-s0", "plain-s1", "decayed-s0", "decayed-s1"}
    assert {row["trial"]: row["weight_decay"] for row in rows} == {
        **dict.fromkeys(("plain-s0", "plain-s1"), 0.0),
        **dict.fromkeys(("decayed-s0", "decayed-s1"), 0.1),
    }
    assert {row["epochs_run"] for row in rows} == {8}
    assert {name: run.data.params["seed"] for name, run in listed.store.trials.items()} == {
        **dict.fromkeys(("plain-s0", "decayed-s0"), "0"),
        **dict.fromkeys(("plain-s1", "decayed-s1"), "1"),
    }
    listed.store.assert_whole(trials=4)
    shown = sweeps.json("show", listed.name, "decayed-s1", "--home", listed.home)
    assert shown["config"]["shift"] == 0.05


def test_the_best_configuration_is_launched_from_a_pipe_and_trains_the_same(sweeps, listed, home, store, cluster):
    line = f"{sweeps.command} best listed --toml --home {listed.home} | "
    line += f"{sweeps.command} launch - --home {home} --address {cluster.address}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=300, env=environment(None))
    assert done.returncode == 0, done.stderr
    best = sweeps.json("best", "listed", "--home", listed.home)
    again = store(home, f"listed-{best['trial']}")
    (curves,) = again.curves().values()
    assert curves == listed.store.curves()[best["trial"]]


def test_table_of_statistics_has_a_row_for_each_configuration(sweeps, launched, table):
    rows = sweeps.json("table", launched.name, "--home", launched.home, "--view", "statistics")
    assert sum(row["runs"] for row in rows) == len(table)
    assert sum(row["reached"] for row in rows) == sum(row["epochs_to_target"] is not None for row in table.values())
