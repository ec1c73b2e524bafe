"""Curves that were recorded elsewhere: read, checked, and written as a study that is read as any other."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

import analysis
from analysis.tables.comparison import compare_two, configuration_runs
from resnet_core.records import Outcome
from search_spaces.spec import StudySpec
from sweeps.errors import InputError, SweepError
from sweeps.home import Home
from sweeps.importing import write as writing
from sweeps.importing.sources import read
from sweeps.importing.trials import Options, schedule_of, trials_of
from sweeps.importing.write import NO_SCHEDULE, Import, prepare, write
from sweeps.inspection.report import build_report
from sweeps.inspection.status import describe_summary, study_summary
from sweeps.ledger.confirmations import confirmation
from sweeps.ledger.ledger import Ledger
from sweeps.simulation.curves import recorded_curves
from sweeps.tracking.runs import MlflowStudy
from sweeps.tracking.tensorboard import write_events

RUN33 = Path(__file__).parents[2] / "docs/data/run33_h200.jsonl"
SCHEDULE = "[1e-3, 0] cos[1e-5, 3]"
ROWS = [
    {"trial": trial, "epoch": epoch, "loss": 1 / epoch, "val_acc": round(0.8 + 0.05 * epoch + bonus, 4), "lr": 1e-3}
    for trial, bonus in (("a", 0.0), ("b", -0.1))
    for epoch in (1, 2, 3)
]


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def table(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(rows) + "\n")
    return path


def base(name: str = "made", target: float = 0.92, **train: Any) -> StudySpec:
    train = {"schedule": NO_SCHEDULE} | train
    return StudySpec.model_validate({"name": name, "train": train, "objective": {"target": target}})


def changed(row: int, **values: Any) -> list[dict[str, Any]]:
    """The rows with one of them changed; a value of None takes the key out."""
    rows = [dict(row) for row in ROWS]
    rows[row] = {key: value for key, value in (rows[row] | values).items() if value is not None}
    return rows


def found(path: Path, options: Options = Options(), **train: Any) -> list[Any]:  # noqa: B008
    return trials_of(read(path), train, options).trials


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Home:
    return Home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def run33(home) -> Import:
    made = prepare(RUN33, base("run33", seed=0, weight_decay=0.18, shift=0.07), Options())
    assert write(home, made)
    return made


@pytest.fixture
def refused(tmp_path):
    """Return what is said of rows, as JSON lines, that cannot be imported."""

    def refused(rows: list[dict[str, Any]], options: Options = Options()) -> str:  # noqa: B008
        with pytest.raises(InputError) as error:
            found(lines(tmp_path / "x.jsonl", rows), options)
        assert error.value.exit_code == 2
        return str(error.value).replace(f"{tmp_path}/", "")

    return refused


# Reading


def test_json_lines_with_a_config(tmp_path):
    rows = [row | {"config": {"weight_decay": 0.1, "schedule": SCHEDULE}} for row in ROWS]
    trial, other = found(lines(tmp_path / "x.jsonl", rows))
    assert (trial.name, other.name) == ("a", "b")
    assert (trial.config.weight_decay, trial.config.schedule) == (0.1, SCHEDULE)
    assert trial.given == {"weight_decay", "schedule"}
    assert [record.val_acc for record in trial.records] == [0.85, 0.9, 0.95]
    assert trial.records[0].val_loss is None


def test_a_seed_is_the_trial_where_there_is_no_other_name(tmp_path):
    rows = [{key: value for key, value in row.items() if key != "trial"} | {"seed": 7} for row in ROWS[:3]]
    (trial,) = found(lines(tmp_path / "x.jsonl", rows))
    assert (trial.name, trial.config.seed) == ("7", 7)


def test_csv_text_becomes_what_fields_are(tmp_path):
    path = table(
        tmp_path / "x.csv",
        "trial,epoch,val_acc,config.batch_size,flip,optimizer,schedule,weight_decay_schedule",
        f'1,1,0.5,64.0,False,sgd,"{SCHEDULE}",None',
    )
    (trial,) = found(path)
    assert (trial.config.batch_size, trial.config.flip, trial.config.optimizer) == (64, False, "sgd")
    assert trial.config.weight_decay_schedule is None
    assert trial.config.horizon == 3


def test_other_numbers_are_kept_and_other_text_is_not(tmp_path):
    path = lines(tmp_path / "x.jsonl", [row | {"grad/norm": 2.5, "note": "fine"} for row in ROWS])
    result = trials_of(read(path), {}, Options())
    assert result.trials[0].metrics[0]["grad/norm"] == 2.5
    assert result.left_out == {"note": "not numbers"}


def test_what_is_given_for_all_gives_way_to_the_file(tmp_path):
    rows = [row | {"shift": 0.05} if row["trial"] == "a" else row for row in ROWS]
    trial, other = found(lines(tmp_path / "x.jsonl", rows), shift=0.1)
    assert (trial.config.shift, other.config.shift) == (0.05, 0.1)


def test_columns_of_other_names_percent_and_epochs_from_zero(tmp_path):
    path = table(tmp_path / "x.csv", "run,n,top1,lr", "a,0,91.3,1e-3", "a,1,92.19,1e-3")
    names = {"trial": "run", "epoch": "n", "val_acc": "top1"}
    (trial,) = found(path, Options(names, percent=True, from_zero=True))
    assert [(record.epoch, record.val_acc) for record in trial.records] == [(1, 0.913), (2, 0.9219)]


def test_metric_histories_of_mlflow(tmp_path):
    path = table(
        tmp_path / "x.csv",
        "run_id,key,step,value,timestamp",
        *("r1,val_acc,1,0.5,9", "r1,val_acc,2,0.6,9", "r1,lr,1,1e-3,9", "r1,lr,2,1e-3,9", "r1,lr,2,2e-3,9"),
    )
    (trial,) = found(path)
    assert [record.val_acc for record in trial.records] == [0.5, 0.6]
    assert trial.records[1].lr == 2e-3  # the last one logged counts


@pytest.mark.parametrize("header", ["run_id,metrics.val_acc,params.lr", "Start Time,Duration,Run ID,Name"])
def test_a_table_of_mlflows_runs_has_no_curves(tmp_path, header):
    with pytest.raises(InputError, match=r"no curves; expected a line a value(.|\n)*get_metric_history"):
        read(table(tmp_path / "x.csv", header, ",".join("1" for _ in header.split(","))))


def test_a_chart_exported_from_wandb(tmp_path):
    path = table(
        tmp_path / "x.csv",
        '"Step","calm - sea-1 - val_acc","calm - sea-1 - val_acc__MIN","calm - sea-1 - val_acc__MAX","b - val_acc"',
        *('"1","0.5","0.5","0.5","0.4"', '"2","0.6","0.6","0.6",""'),
    )
    first, second = found(path, schedule=SCHEDULE)
    assert (first.source_name, first.name) == ("calm - sea-1", "calm-sea-1")
    assert [len(trial.records) for trial in (first, second)] == [2, 1]


def test_a_runs_history_from_wandb_is_one_trial(tmp_path):
    path = table(tmp_path / "eager.csv", ",_step,_runtime,epoch,val_acc,lr", "0,390,2.5,1,0.5,1e-3")
    result = trials_of(read(path), {}, Options())
    assert result.trials[0].name == "eager"
    assert set(result.left_out) == {"_step", "_runtime"}


def test_names_become_names_of_folders(tmp_path):
    rows = [row | {"trial": name} for row in ROWS[:3] for name in ("lr=1/a", "lr 1 a", "../..")]
    assert [trial.name for trial in found(lines(tmp_path / "x.jsonl", rows))] == ["lr-1-a", "lr-1-a-2", "trial"]


# Schedules


def test_a_schedule_is_made_of_the_learning_rates(tmp_path):
    assert schedule_of([1e-3, 2e-3, 3e-3, 3e-3]) == "[1e-3, 0] lin[1e-3, 1] lin[3e-3, 3] lin[3e-3, 4]"
    assert schedule_of([1e-3] * 5) == "[1e-3, 0] lin[1e-3, 5]"
    (trial, _) = found(lines(tmp_path / "x.jsonl", ROWS))
    assert (trial.config.horizon, trial.config.lr_alpha) == (3, 1e-3)


def test_a_schedule_that_must_be_given(refused):
    assert "give the schedule that all trials had with --set train.schedule=" in refused(
        [{key: value for key, value in row.items() if key != "lr"} for row in ROWS]
    )


def test_epochs_beyond_the_schedule_hold_its_last_value(tmp_path):
    (trial, _) = found(lines(tmp_path / "x.jsonl", ROWS), schedule="[1e-3, 0] lin[1e-4, 2]")
    assert (trial.config.epochs, trial.config.horizon) == (3, 3)


# What is wrong


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            changed(4, val_acc=91.3),
            "x.jsonl, line 5: val_acc = 91.3: expected a share in [0, 1]; --percent reads percent",
        ),
        (changed(4, val_acc=float("nan")), "x.jsonl, line 5: val_acc = nan: expected a share in [0, 1]"),
        (changed(4, val_acc=None), "x.jsonl, line 5: val_acc: missing; expected a share in [0, 1] for every epoch"),
        (changed(4, val_acc="high"), 'x.jsonl, line 5: val_acc = "high": expected a number'),
        (changed(4, loss=True), "x.jsonl, line 5: loss = true: expected a number"),
        (changed(4, epoch=1.5), "x.jsonl, line 5: epoch = 1.5: expected a whole number, 1 for the first epoch"),
        (
            changed(0, epoch=0),
            "expected a whole number, 1 for the first epoch; --from-zero reads epochs that count from 0",
        ),
        (
            changed(4, epoch=1),
            "x.jsonl, line 5: epoch = 1: expected each epoch of a trial once; it is in x.jsonl, line 4",
        ),
        (changed(4, epoch=7), "x.jsonl, line 6: epoch = 3: expected no gap: epoch 2 of trial b is missing"),
        (changed(4, trial=None), "x.jsonl, line 5: trial: missing; expected the trial's name, text or a number"),
        (changed(4, trial=[1]), "x.jsonl, line 5: trial = [1]: expected the trial's name, text or a number"),
        (changed(4, shift=0.7), "x.jsonl, line 5: shift = 0.7: expected a share of the image"),
        (changed(4, epochs=2), "x.jsonl, line 6: epoch = 3: expected at most 2 epochs"),
        (changed(4, schedule="lin"), "x.jsonl, line 5: schedule = \"lin\": expected a schedule: expected '['"),
        (changed(4, lr=None), "x.jsonl, line 5: lr: missing; expected a learning rate of 0 or more in every epoch"),
        (
            [{"trial": 1, "epoch": 1, "val_accuracy": 0.5}],
            "no column val_acc; did you mean val_accuracy?; --metric val_acc=COLUMN",
        ),
        ([{"trial": 1, "val_acc": 0.5}], "no column epoch; its columns: trial, val_acc; --metric epoch=COLUMN"),
        ([], "x.jsonl: no epoch in it; expected a line an epoch"),
    ],
)
def test_a_wrong_row_is_named(refused, rows, said):
    assert said in refused(rows)


def test_a_parameter_has_one_value_in_a_trial(refused):
    rows = [row | {"shift": row["epoch"] / 100} for row in ROWS]
    said = refused(rows)
    assert (
        "x.jsonl, line 2: shift = 0.02: expected one value in a trial; 0.01 in x.jsonl, line 1 (3 more like it)" in said
    )


def test_several_mistakes_are_reported_at_once_and_ten_at_most(refused):
    said = refused([*changed(0, val_acc=91.0, loss="x"), {"trial": "b", "epoch": "?", "val_acc": 0.5, "lr": 1}])
    assert len(said.splitlines()) == 3
    names = ("loss", "acc", "val_loss", "lr", "wd_lr", "seconds", "images_per_second", "power_watts", "test_loss")
    said = refused([{"trial": 1, "epoch": 1, "val_acc": 2, "test_acc": 3, **dict.fromkeys(names, "x")}])
    assert said.splitlines()[-1] == "and 1 more"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.txt", b"", "unknown kind of file; expected .jsonl, .csv, or a folder of TensorBoard's event files"),
        ("x.csv", b"trial,epoch,val_acc\n\xe9,1,0.5\n", "x.csv: not UTF-8 in line 2"),
        ("x.csv", b"", "x.csv: no epoch in it"),
        ("x.csv", b"trial,epoch,val_acc\n", "x.csv: no epoch in it"),
        ("x.csv", "trial,epoch\n".encode("utf-16"), "x.csv: the text is in UTF-16; save it as UTF-8"),
        ("x.jsonl", '{"trial": 1}\n'.encode("utf-16"), "x.jsonl: the text is in UTF-16; save it as UTF-8"),
        ("x.csv", b"trial;epoch;val_acc\n1;1;0,5\n", "x.csv, line 1: columns separated by ';'; expected commas"),
        ("x.csv", b"trial\tepoch\n1\t1\n", "x.csv, line 1: columns separated by '\\t'; expected commas"),
        ("x.csv", b"trial,epoch\n1\n", "x.csv, line 2: 1 cells; expected 2, as the header has"),
        ("x.csv", b"a,a\n1,2\n", "x.csv, line 1: column 'a' comes twice"),
        ("x.csv", b'a,b\n1,"2\n', "x.csv, line 2: not CSV: "),
        ("x.jsonl", b'{"a": 1\n[]\n', "x.jsonl, line 1: not JSON: "),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as error:
        read(tmp_path / name)
    assert said in str(error.value)


def test_a_folder_without_event_files(tmp_path):
    with pytest.raises(InputError, match="no event file of TensorBoard's in it"):
        read(tmp_path)


def test_a_column_that_is_not_there(tmp_path):
    path = lines(tmp_path / "x.jsonl", ROWS)
    with pytest.raises(InputError, match=r"--metric loss=losses: .* no column 'losses'; did you mean loss\?"):
        found(path, Options({"loss": "losses"}))


# Outcomes


def outcomes(path: Path, **train: Any) -> list[tuple[str, str | None]]:
    made = prepare(path, base(**train), Options())
    return [(entry.result.outcome.value, entry.result.stop_reason) for entry in made.entries if entry.result]


def test_outcomes_follow_from_the_curves(tmp_path):
    assert outcomes(lines(tmp_path / "x.jsonl", ROWS)) == [("reached", None), ("exhausted", None)]


def test_a_loss_that_is_not_finite_is_divergence(tmp_path):
    rows = changed(5, loss=float("nan"), val_acc=float("nan"))
    assert outcomes(lines(tmp_path / "x.jsonl", rows))[1] == ("diverged", "the loss is nan at epoch 3")


def test_a_loss_that_was_not_recorded_is_none(tmp_path):
    rows = [{key: value for key, value in row.items() if key != "loss"} for row in ROWS]
    assert outcomes(lines(tmp_path / "x.jsonl", rows))[0] == ("reached", None)


def test_a_record_that_ends_before_its_schedule_is_cut_short(tmp_path):
    path = lines(tmp_path / "x.jsonl", ROWS)
    assert outcomes(path, schedule="[1e-3, 0] lin[0, 9]") == [
        ("reached", "its record ends at epoch 3 of 9"),
        ("pruned", "its record ends at epoch 3 of 9"),
    ]


# In the store


def test_epochs_to_target_of_the_recorded_runs(home, run33):
    study = analysis.load(home.mlflow_uri, "run33")
    built = analysis.build_table(study).set_index("trial")
    reached = built["epochs_to_target"].dropna().to_dict()
    assert reached == {"33": 20, "5": 22, "4": 22, "0": 23, "3": 25}
    assert set(built["outcome"]) == {"reached", "exhausted"}
    assert (study.imported, study.environment["device"], "torch" in study.environment) == (
        *(RUN33.name, "NVIDIA H200"),
        False,
    )
    assert analysis.import_notes(study)[0].startswith(f"Imported from {RUN33.name}: ")
    assert study.trials["seed"].tolist() == [0, 1, 2, 3, 4, 5, 6, 33]
    # What the file does not say is not claimed.
    assert set(study.trials["weight_decay"]) == {0.18}
    assert "batch_size" not in study.trials


def test_every_view_and_the_report_read_it(home, run33):
    study = analysis.load(home.mlflow_uri, "run33")
    assert len(analysis.build_summary(study)) == 1
    for build in (analysis.build_cost, analysis.build_noise, analysis.build_transitions, analysis.build_ladder):
        assert len(build(study))
    assert len(
        analysis.build_stopping(analysis.histories(study), study.objective.target_score, modes=study.stopping_rules)
    )
    text = build_report(home, study)
    assert text.count(f"Imported from {RUN33.name}") == 1
    assert "sweeps confirm" not in text
    assert compare_two(configuration_runs(study), configuration_runs(study)).pairs == (0, 1, 2, 3, 4, 5, 6, 33)


def test_the_ledger_knows_it(home, run33):
    row = study_summary(home, "run33")
    assert (row["state"], row["imported_from"], row["reached"], row["best_trial"]) == ("complete", RUN33.name, 5, "33")
    assert "run33: imported from run33_h200.jsonl · 8 trials · ended: 5 reached, 3 exhausted" in describe_summary(row)
    entry = Ledger.open(home.ledger_uri, "run33").find("5")
    assert entry.result is not None
    assert entry.result.epochs_to_target == 22


def test_it_can_be_simulated(home, run33):
    curves = recorded_curves(home, "run33")
    assert (len(curves.jobs), curves.left_out) == (8, {})
    assert 15 < curves.seconds_per_epoch < 17


def test_it_cannot_be_run(home, run33):
    with pytest.raises(InputError, match=r"study 'run33' was imported from run33_h200.jsonl"):
        Ledger.open(home.ledger_uri, "run33").check_not_imported()
    with pytest.raises(InputError, match="was imported from"):
        confirmation(home, "run33", 3)


def test_the_same_import_changes_nothing(home, run33):
    assert not write(home, run33)


def test_another_import_of_the_name_is_refused_unless_it_replaces(home, tmp_path):
    first = prepare(lines(tmp_path / "x.jsonl", ROWS), base("twice"), Options())
    write(home, first)
    other = prepare(lines(tmp_path / "x.jsonl", ROWS[:3]), base("twice"), Options())
    with pytest.raises(InputError, match=r"was imported from x.jsonl, and is not what .*--replace"):
        write(home, other)
    assert write(home, other, replace=True)
    assert analysis.load(home.mlflow_uri, "twice").trials["trial"].tolist() == ["a"]
    assert len(Ledger.open(home.ledger_uri, "twice").entries()) == 1


def test_a_study_that_was_run_is_not_touched(home, tmp_path):
    spec = base("ran", schedule=SCHEDULE)
    ledger = Ledger.create(home.ledger_uri, spec)
    with pytest.raises(InputError, match="was run, not imported"):
        write(home, prepare(lines(tmp_path / "x.jsonl", ROWS), base("ran"), Options()), replace=True)
    assert ledger.remaining() == 1


@pytest.mark.parametrize("broken", ["a trial", "the ledger", "the end"])
def test_what_broke_off_is_seen_by_nobody_and_begins_again(home, tmp_path, monkeypatch, broken):
    name = f"broken-{broken.split()[-1]}"
    made = prepare(lines(tmp_path / "x.jsonl", ROWS), base(name), Options())

    def fail(*args: Any) -> None:
        if broken != "a trial" or args[1].name == "b":
            raise OSError("No space left on device")
        written(*args)

    written = writing._write_trial
    with monkeypatch.context() as patch:
        patch.setattr(
            *{
                "a trial": (writing, "_write_trial", fail),
                "the ledger": (Ledger, "create_import", fail),
                "the end": (MlflowStudy, "close", fail),
            }[broken]
        )
        with pytest.raises(
            SweepError, match=r"could not be imported to its end: No space left on device.*begins again"
        ):
            write(home, made)
    assert name not in set(analysis.studies(home.mlflow_uri)["name"])
    assert write(home, made)
    study = analysis.load(home.mlflow_uri, name)
    assert study.trials["trial"].tolist() == ["a", "b"]
    assert len(study.epochs) == 6
    assert not write(home, made)


def test_what_varies_is_what_was_tried(home, tmp_path):
    rows = [row | {"weight_decay": 0.1 if row["trial"] == "a" else 0.2, "shift": 0.05} for row in ROWS]
    write(home, prepare(lines(tmp_path / "x.jsonl", rows), base("varied"), Options()))
    study = analysis.load(home.mlflow_uri, "varied")
    assert [name for name in study.trials if name.startswith("space.")] == ["space.weight_decay"]
    assert Ledger.open(home.ledger_uri, "varied").entries()[1].job.params == {"weight_decay": 0.2}


def test_a_curve_of_accuracies_alone(home, tmp_path):
    rows = [{key: row[key] for key in ("trial", "epoch", "val_acc")} for row in ROWS]
    made = prepare(lines(tmp_path / "x.jsonl", rows), base("bare", schedule=SCHEDULE), Options())
    write(home, made)
    study = analysis.load(home.mlflow_uri, "bare")
    assert study.epochs["loss"].isna().all()
    assert "Left out: the store does not say how long the epochs took." in build_report(home, study)
    curves = recorded_curves(home, "bare")
    assert {record.loss for records in curves.curves.values() for record in records} == {None}
    with pytest.raises(InputError, match="give --seconds-per-epoch"):
        curves.curve_of()
    assert curves.curve_of(2.0)(curves.jobs[0])[0].seconds == 2.0
    # No seed is known, so that nothing is paired by it.
    assert compare_two(configuration_runs(study, "a"), configuration_runs(study, "b")).pairs == ()


def test_a_study_exported_to_tensorboard_comes_back(home, run33, tmp_path):
    pytest.importorskip("tensorboard")
    study = analysis.load(home.mlflow_uri, "run33")
    write_events(study, tmp_path / "events")
    write(home, prepare(tmp_path / "events", base("again"), Options()))
    before, after = (
        analysis.build_table(s).set_index("trial") for s in (study, analysis.load(home.mlflow_uri, "again"))
    )
    columns = ["epochs_to_target", "epochs_to_target_sustained", "epochs_run", "epoch_best", "outcome", "schedule"]
    columns += ["val_acc_best", "val_acc", "acc", "weight_decay", "shift", "lr_alpha"]
    assert after.loc[before.index, columns].equals(before[columns])
    assert after.loc[before.index, "final_loss"].tolist() == pytest.approx(before["final_loss"].tolist(), rel=1e-7)


def test_the_store_says_what_came_from_where(home, run33):
    from mlflow import MlflowClient

    client = MlflowClient(home.mlflow_uri)
    experiment = client.get_experiment_by_name("run33").experiment_id
    (launch,) = client.search_runs([experiment], "tags.`sweeps.kind` = 'launch'")
    assert launch.data.tags["sweeps.imported"] == RUN33.name
    assert len(launch.data.tags["sweeps.imported_sha256"]) == 64
    assert launch.info.status == "FINISHED"
    assert {entry.result.outcome for entry in run33.entries if entry.result} == {Outcome.REACHED, Outcome.EXHAUSTED}


def test_csv_and_json_lines_are_the_same_import(tmp_path):
    path = tmp_path / "x.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(ROWS[0]))
        writer.writeheader()
        writer.writerows(ROWS)
    as_csv, as_json = (prepare(p, base(), Options()) for p in (path, lines(tmp_path / "x.jsonl", ROWS)))
    assert as_csv.entries == as_json.entries
    assert as_csv.origin.digest == as_json.origin.digest
