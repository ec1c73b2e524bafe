"""Recordings: what a file keeps, what is wrong with one, and those that ship."""

import gzip
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from resnet_core.own_config import OwnConfig
from resnet_core.records import EpochRecord, Outcome
from search_spaces.spec import StudySpec
from search_spaces.study import find_study, from_json, load_study
from sweeps.errors import InputError
from sweeps.home import Home
from sweeps.ledger.ledger import Ledger
from sweeps.simulation import recordings
from sweeps.simulation.curves import complete_curves, find_curves
from sweeps.simulation.recordings import RecordedTrial, Recording, read, shipped, write
from sweeps.simulation.setup import Setup
from sweeps.simulation.simulate import simulate
from sweeps.study.trials import Job
from tests.benchmarks import record
from tests.studies import epoch_records

NAN = math.nan


def recording(trials: int = 2, seeds: int = 2) -> Recording:
    """Curves of a small space, each configuration with several seeds."""
    spec = StudySpec.model_validate(
        {
            "name": "recorded",
            "train": {"schedule": "[lr, 0] lin[1e-5, 3]"},
            "space": {"lr": {"low": 5e-4, "high": 2e-3, "log": True}},
            "search": {"trials": 12, "sampler": "random"},
        }
    )
    jobs = record.jobs_of(spec, trials, seeds)
    return Recording(spec, [RecordedTrial(job, Outcome.EXHAUSTED, curve(job.number)) for job in jobs])


def curve(number: int) -> list[EpochRecord]:
    return epoch_records([0.123456789 + number / 10, 0.5, 0.75], seconds=9.87654321)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "curves.jsonl.gz"


def test_a_recording_is_read_as_it_was_written(path):
    written = recording()
    write(written, path)
    found = read(path)
    assert (found.spec, [trial.job for trial in found.trials]) == (
        written.spec,
        [trial.job for trial in written.trials],
    )
    assert {trial.outcome for trial in found.trials} == {Outcome.EXHAUSTED}


def test_figures_have_five_significant_digits(path):
    write(recording(), path)
    first = read(path).trials[0].records[0]
    assert (first.epoch, first.loss, first.acc, first.val_loss) == (1, 0.25, 0.8, 0.5)
    assert (first.val_acc, first.seconds) == (0.12346, 9.8765)


def test_a_figure_that_is_no_number_is_none_in_the_file_and_nan_again(path):
    written = recording(1, 1)
    broken = [replace(record, loss=value) for record, value in zip(curve(0), (NAN, math.inf, 0.5), strict=True)]
    write(Recording(written.spec, [replace(written.trials[0], records=broken)]), path)
    assert "NaN" not in gzip.decompress(path.read_bytes()).decode()
    assert [math.isnan(record.loss) for record in read(path).trials[0].records] == [True, True, False]


def own_recording() -> Recording:
    """Curves of a trainer of somebody's own, known from what a study stored of it."""
    fields = {
        "epochs": {"type": "a whole number", "schedule": False, "required": False, "default": 2},
        "rate": {"type": "a number", "schedule": False, "required": True, "default": None},
    }
    spec = from_json(
        json.dumps(
            {
                "name": "own",
                "train": {"trainer": "mine:train"},
                "space": {"rate": {"low": 0.1, "high": 0.9}},
                "objective": {"metric": "val_loss", "goal": "min"},
                "search": {"trials": 1},
                "code": {"versions": {"mine:train": "sha256:1"}, "trainer": fields, "data": {}},
            }
        )
    )
    records = [EpochRecord.from_values(epoch, {"val_loss": -0.5 * epoch, "rmse": 3.0}) for epoch in (1, 2)]
    job = Job(0, "0", OwnConfig.from_dict({"epochs": 2, "rate": 0.5}, ()), {"rate": 0.5})
    return Recording(spec, [RecordedTrial(job, Outcome.EXHAUSTED, records)])


def test_a_recording_of_an_own_trainer_is_read_as_it_was_written(path):
    written = own_recording()
    write(written, path)
    assert read(path).trials == written.trials


def test_a_recording_of_an_own_trainer_has_what_it_measures(path):
    assert list(lines_of(own_recording(), path)[1]["epochs"]) == ["val_loss", "rmse"]


def test_a_recording_of_an_own_trainer_may_have_empty_lists_of_the_metrics_of_the_one_that_ships(path):
    header, trial = lines_of(own_recording(), path)
    earlier = trial | {"epochs": {name: [None, None] for name in recordings.COLUMNS} | trial["epochs"]}
    assert read(rewrite(path, [header, earlier])).trials == own_recording().trials


def test_a_trial_of_an_own_trainer_without_one_of_its_fields_is_refused(path):
    header, trial = lines_of(own_recording(), path)
    said = error_of(path, [header, trial | {"config": {"epochs": 2}}])
    assert said == "line 2: config: expected the fields of mine:train: epochs, rate"


def test_the_same_recording_is_the_same_file(path):
    write(recording(), path)
    first = path.read_bytes()
    write(recording(), path)
    assert path.read_bytes() == first


def test_a_write_that_fails_leaves_what_was_there(path, monkeypatch):
    path.write_text("earlier")

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write(recording(), path)
    assert [(file.name, file.read_text()) for file in path.parent.iterdir()] == [(path.name, "earlier")]


def test_trials_are_grouped_by_all_but_their_seed(path):
    write(recording(trials=3, seeds=2), path)
    groups = complete_curves(read(path), "it").configurations
    assert [[job.name for job in group] for group in groups] == [["0-0", "0-1"], ["1-0", "1-1"], ["2-0", "2-1"]]
    assert [[job.config.seed for job in group] for group in groups] == [[0, 1]] * 3
    assert all(first.params == second.params for first, second in groups)


def test_trials_that_differ_in_more_than_their_seed_are_no_group():
    made = recording(trials=1, seeds=2)
    first, second = made.trials
    other = replace(second, job=replace(second.job, config=replace(second.job.config, batch_size=32)))
    assert len(complete_curves(Recording(made.spec, [first, other]), "it").configurations) == 2


# What is wrong with a file


def lines_of(made: Recording, path: Path) -> list[Any]:
    write(made, path)
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]


def rewrite(path: Path, lines: list[Any]) -> Path:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_bytes(gzip.compress(text.encode()))
    return path


def error_of(path: Path, lines: list[Any]) -> str:
    rewrite(path, lines)
    with pytest.raises(InputError) as caught:
        read(path)
    return str(caught.value).removeprefix(f"{path}, ")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"recording": 2}, "line 1: recording = 2: expected version 1"),
        ({"extra": 1}, "line 1: its keys are recording, study, extra; expected recording, study"),
        ({"study": {"name": "a b"}}, 'line 1: stored study: name = "a b": expected 1 to 64'),
    ],
)
def test_a_header_that_is_wrong(path, change, said):
    header, *trials = lines_of(recording(), path)
    assert said in error_of(path, [header | change, *trials])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"more": 1},
            "line 3: its keys are name, params, config, outcome, epochs, more; expected name, params, config",
        ),
        ({"name": 7}, "line 3: name = 7: expected a text"),
        ({"name": "0-0"}, 'line 3: name = "0-0": expected each once; it is in line 2, too'),
        ({"params": []}, "line 3: params = []: expected an object"),
        ({"outcome": "won"}, 'line 3: outcome = "won": expected one of reached, exhausted'),
        ({"config": {}}, "line 3: config: expected fields of TrialConfig, schedule among them"),
        ({"config": {"schedule": "[1, 0] lin[1, 3]", "depth": 3}}, "line 3: config: depth = 3: expected a field of"),
        ({"config": {"schedule": "["}}, "line 3: config: "),
        ({"epochs": {"val_acc": []}}, "line 3: epochs: expected an object with the lists loss, acc, val_loss"),
    ],
)
def test_a_trial_that_is_wrong(path, change, said):
    header, first, second, *rest = lines_of(recording(), path)
    assert said in error_of(path, [header, first, second | change, *rest])


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("val_acc", [0.1, 1.5, 0.2], "epochs.val_acc: 1.5 in epoch 2: expected a share in [0, 1], or null"),
        ("loss", [0.1, "low", 0.2], 'epochs.loss: "low" in epoch 2: expected a number of 0 or more, or null'),
        ("seconds", [0.1, 0.2, -1], "epochs.seconds: -1 in epoch 3: expected a number of 0 or more, or null"),
        ("acc", [True, 0.2, 0.2], "epochs.acc: true in epoch 1: expected a share in [0, 1], or null"),
        ("loss", [0.1], "epochs.loss: expected a list as long as val_acc, of at most 3 epochs"),
        ("loss", 3, "epochs.loss: expected a list as long as val_acc, of at most 3 epochs"),
    ],
)
def test_epochs_that_are_wrong(path, column, values, said):
    header, trial, *rest = lines_of(recording(), path)
    assert error_of(path, [header, trial | {"epochs": trial["epochs"] | {column: values}}, *rest]) == f"line 2: {said}"


def test_more_epochs_than_the_horizon_are_refused(path):
    header, trial, *rest = lines_of(recording(), path)
    longer = {name: [*values, 0.5] for name, values in trial["epochs"].items()}
    assert "of at most 3 epochs" in error_of(path, [header, trial | {"epochs": longer}, *rest])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2: not JSON: "),
        ("[1]", "line 2: [1]: expected an object"),
        ('{"loss": NaN}', "line 2: not JSON: NaN is no number of JSON"),
        ("", "line 2: not JSON: "),
    ],
)
def test_a_line_that_is_no_object(path, line, said):
    header, trial, *_ = lines_of(recording(), path)
    assert said in error_of(path, [header, line, trial])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "line 1: not JSON"),
        (b"text", "not a whole gzip file"),
        (gzip.compress(b"{}" * 100, mtime=0)[:-9], "not a whole gzip file"),
        (gzip.compress(b"{}\n\xff", mtime=0), "line 2: not UTF-8; expected a recording"),
    ],
)
def test_a_file_that_is_no_recording(path, data, said):
    path.write_bytes(data)
    with pytest.raises(InputError, match=said):
        read(path)


def test_a_file_that_is_not_there(path):
    with pytest.raises(InputError, match=r"No such file or directory; expected a recording"):
        read(path)


# What ``--from`` may name


def test_a_file_is_simulated_on_and_no_home_is_made(path, tmp_path):
    write(recording(), path)
    home = Home(tmp_path / "home")
    source = find_curves(home, str(path))
    made = simulate(Setup(source_spec(path), source, home, shuffled=True))
    assert made.with_rules["trials"].median == 2  # one of each configuration's runs
    assert not home.root.exists()


def source_spec(path: Path) -> StudySpec:
    return read(path).spec


@pytest.mark.parametrize("text", ["absent.jsonl.gz", "folder/absent", "recorded/../recorded/digits", "recorded/digit"])
def test_what_is_no_file_lists_what_ships(tmp_path, text):
    with pytest.raises(InputError) as caught:
        find_curves(Home(tmp_path), text)
    assert str(caught.value) == f"--from {text}: no such file; recordings that ship: {', '.join(shipped()) or 'none'}"


def test_a_study_that_is_not_there_lists_what_ships(tmp_path):
    with pytest.raises(InputError, match=r"no study 'absent' in .*; known: none.*; recordings that ship: "):
        find_curves(Home(tmp_path), "absent")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", shipped())
def test_what_ships_is_of_the_study_that_ships_beside_it(name):
    path = recordings.find(name)
    assert path is not None
    assert path.stat().st_size < 500_000
    found, spec = read(path), load_study(find_study(name))
    assert found.spec.model_copy(update={"search": spec.search}) == spec
    ledger = Ledger.preview(found.spec)
    groups = complete_curves(found, name).configurations
    assert [group[0].params for group in groups] == [ledger.ask().params for _ in groups]
    assert sum(map(len, groups)) == len(found.trials)
    assert {len(group) for group in groups} == {len(groups[0])}


@pytest.mark.parametrize("name", ["recorded/cifar10", "recorded/digits"])
def test_the_docs_say_what_ships(name, pytestconfig):
    assert name in shipped()
    recording = read(recordings.find(name))
    found, target = complete_curves(recording, name), recording.spec.objective.target
    reached = sum(max(record.val_acc for record in records) >= target for records in found.curves.values())
    groups = found.configurations
    row = next(
        line
        for line in (pytestconfig.rootpath / "docs" / "simulation.md").read_text(encoding="utf-8").splitlines()
        if line.startswith(f"| `{name}` |")
    )
    assert row.endswith(
        f"| {len(groups)} configurations, {len(groups[0])} seeds each | {target:g}, reached by {reached} of "
        f"{len(found.jobs)} |"
    )


# The program that records


TINY = ["train.train_limit=32", "train.val_limit=16", "train.batch_size=32", "train.epochs=1"]


@pytest.fixture
def tiny() -> StudySpec:
    return load_study(find_study("recorded/digits"), [*TINY, "search.trials=2"])


def test_each_configuration_is_drawn_by_the_study_and_has_every_seed(tiny):
    drawn = [Ledger.preview(tiny).ask()]
    jobs = record.jobs_of(tiny, 2, 3)
    assert [job.name for job in jobs] == ["0-0", "0-1", "0-2", "1-0", "1-1", "1-2"]
    assert [job.config.seed for job in jobs] == [0, 1, 2] * 2
    assert jobs[0].params == jobs[2].params == drawn[0].params
    assert jobs[0].config == replace(drawn[0].config, seed=0)


def test_a_run_that_was_killed_trains_what_is_missing(tiny, tmp_path, monkeypatch, capsys):
    """The last line was cut short: that trial is trained again, the one before it is not."""
    work, jobs = tmp_path / "work", record.jobs_of(tiny, 1, 2)
    record.train_missing(jobs, work, 2, tmp_path)
    whole = work.read_text().splitlines()
    assert len(whole) == 2
    work.write_text(whole[0] + "\n" + whole[1][:50])
    capsys.readouterr()
    record.train_missing(jobs, work, 1, tmp_path)
    assert "1 of 1 in" in capsys.readouterr().out
    again = [json.loads(line) for line in work.read_text().splitlines()]
    assert again[0] == json.loads(whole[0])
    again[1]["records"][0] |= {key: json.loads(whole[1])["records"][0][key] for key in ("seconds", "images_per_second")}
    assert again[1] == json.loads(whole[1])
    made = record.recording_of(tiny, jobs, work)
    assert [len(trial.records) for trial in made.trials] == [1, 1]
    assert {trial.outcome for trial in made.trials} == {Outcome.EXHAUSTED}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["recorded/digits", "--out", "x.json"], "expected a name that ends in .jsonl.gz"),
        (["quickstart", "--out", "x.jsonl.gz"], 'expected a study with a space and search.sampler = "random"'),
        (["absent", "--out", "x.jsonl.gz"], "absent: no such file"),
    ],
)
def test_the_program_refuses(arguments, said, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["record", *arguments, "--configurations", "2"])
    with pytest.raises(SystemExit):
        record.main()
    assert said in capsys.readouterr().err
