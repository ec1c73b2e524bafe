"""The study file of the best configuration trains what the best trial trained, to the last digit."""

from pathlib import Path

import pytest

from resnet_core.config import TrialConfig
from resnet_core.own_config import Config
from resnet_core.records import Outcome
from search_spaces.space import listed_runs, trial_config
from search_spaces.spec import StudySpec
from search_spaces.study import load_study
from search_spaces.tables import Finalists
from sweeps.errors import InputError
from sweeps.home import Home
from sweeps.inspection.best import best_trial
from sweeps.inspection.best_file import best_study_file
from sweeps.ledger.confirmations import confirmation
from sweeps.ledger.ledger import Ledger
from sweeps.study.code import keep
from sweeps.study.origin import Origin
from sweeps.study.outcomes import Result
from sweeps.study.trials import Entry, Job
from tests.studies import SCHEDULE, fixed_study, run_trials

REACHED = Result(Outcome.REACHED, 4, 2.5, 3, 3, 0.9312, 4, values=(0.5, 0.8, 0.93, 0.9312))
MISSED = Result(Outcome.EXHAUSTED, 4, 8.5, None, None, 0.8, 4, values=(0.5, 0.6, 0.7, 0.8))

SPACE = {
    "train": {
        "schedule": "[0.3*lr, 0] lin[lr, +warmup] cos[0.1*lr, +4]",
        "optimizer": "sgd",
        "momentum_schedule": "[0.9, 0] lin[momentum_low, 4]",
        "split": "held-out",
    },
    "space": {
        "lr": {"low": 1e-4, "high": 1e-2, "log": True},
        "warmup": {"low": 1.0, "high": 3.0},
        "momentum_low": {"low": 0.1, "high": 0.7},
        "weight_decay": {"low": 1e-5, "high": 0.3},
        "nesterov": {"choices": [True, False]},
    },
    "objective": {"target": 0.9, "sustained": 3},
    "search": {"trials": 4, "sampler": "random"},
    "stopping": {"cap": {"best": 1, "slack": 1.0}},
    "resources": {"cpus_per_trial": 2, "epoch_timeout": 60},
}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def file_of(home: Home, name: str) -> str:
    ledger = Ledger.read(home.ledger_uri, name)
    best = best_trial(home, ledger)
    assert best is not None
    return best_study_file(home, ledger, best)


def read(text: str, folder: Path) -> tuple[StudySpec, Config]:
    """The study in a file, and the configuration of its only trial."""
    (folder / "best.toml").write_text(text, encoding="utf-8")
    spec = load_study(folder / "best.toml")
    (run,) = listed_runs(spec)
    return spec, trial_config(spec, {}, seed=run.seed, run=run.name)


def best_config(home: Home, name: str) -> Config:
    best = best_trial(home, Ledger.read(home.ledger_uri, name))
    assert best is not None
    return best.entry.job.config


@pytest.mark.parametrize("seed", range(5))
def test_a_sampled_trial_is_the_same_to_the_last_digit(home, tmp_path, seed):
    spec = StudySpec.model_validate({"name": "sampled", **SPACE, "search": {**SPACE["search"], "seed": seed}})
    run_trials(home.ledger_uri, spec, MISSED, REACHED, MISSED)
    again, config = read(file_of(home, "sampled"), tmp_path)
    assert config == best_config(home, "sampled")
    assert repr(config) == repr(best_config(home, "sampled"))
    assert (again.name, again.space, again.search.trials) == ("sampled-1", {}, None)
    assert (again.objective, again.resources) == (spec.objective, spec.resources)


def test_a_listed_run_has_its_own_fields_and_seed(home, tmp_path):
    runs = [{"name": "plain"}, {"name": "decayed", "weight_decay": 0.1 + 0.2}]
    spec = fixed_study("listed", run=runs, search={"seeds": [5, 7]})
    run_trials(home.ledger_uri, spec, MISSED, MISSED, MISSED, REACHED)
    again, config = read(file_of(home, "listed"), tmp_path)
    assert config == TrialConfig(schedule=SCHEDULE, weight_decay=0.1 + 0.2, seed=7)
    assert again.name == "listed-decayed-s7"


def test_what_the_study_sets_comes_first_and_defaults_are_stated(home):
    spec = StudySpec.model_validate({"name": "sampled", **SPACE})
    run_trials(home.ledger_uri, spec, REACHED)
    table = file_of(home, "sampled").partition("[train]\n")[2].partition("\n\n")[0]
    names = [line.partition(" ")[0] for line in table.splitlines()]
    assert names[:6] == ["schedule", "optimizer", "momentum_schedule", "split", "weight_decay", "nesterov"]
    assert {"batch_size", "flip", "eps", "seed"} < set(names)


def test_after_a_race_it_is_the_winners_configuration(home, tmp_path):
    run_trials(home.ledger_uri, fixed_study("raced", run=[{"name": "a"}, {"name": "b", "l2": 1e-3}]), REACHED, MISSED)
    ledger = Ledger.open(home.ledger_uri, "raced")
    ledger.race(Finalists(top=2, seeds=2))
    while (job := ledger.next_assignment().job) is not None:
        ledger.tell(job.number, REACHED if job.config.l2 else MISSED)
    _, config = read(file_of(home, "raced"), tmp_path)
    assert config == best_config(home, "raced")
    assert config.l2 == 1e-3


def test_the_best_run_of_a_confirmation_looks_at_the_test_images_again(home, tmp_path):
    spec = StudySpec.model_validate({"name": "searched", **SPACE})
    run_trials(home.ledger_uri, spec, REACHED)
    run_trials(home.ledger_uri, confirmation(home, "searched", 2), MISSED, REACHED)
    again, config = read(file_of(home, "searched-confirm"), tmp_path)
    assert config == best_config(home, "searched-confirm")
    assert (again.phase, config.test) == ("confirm", True)


MLP = """
from collections.abc import Iterator
from dataclasses import dataclass
from resnet_core.schedule import Schedule
from sweeps import Run

@dataclass(frozen=True)
class Config:
    schedule: Schedule
    rate: float = 0.1
    note: str | None = None
    layers: tuple[int, ...] = (1, 2)
    größe: int = 3
    seed: int = 0

def train(config: Config, run: Run) -> Iterator[dict[str, float]]:
    yield {"val_acc": config.rate}
"""


def own_study(folder: Path, home: Home) -> StudySpec:
    (folder / "made_mlp.py").write_text(MLP, encoding="utf-8")
    (folder / "own.toml").write_text(
        'name = "own"\n[train]\ntrainer = "made_mlp:train"\nschedule = "[lr, 0] lin[0, 4]"\n[space]\n'
        "lr = { low = 1e-3, high = 0.5, log = true }\nrate = { low = 0.01, high = 0.5 }\n[search]\ntrials = 3\n"
    )
    spec = load_study(folder / "own.toml")
    keep(home, spec, spec.sources)
    run_trials(home.ledger_uri, spec, MISSED, REACHED)
    return spec


def test_a_trial_of_an_own_trainer_is_the_same(home, tmp_path):
    own_study(tmp_path, home)
    text = file_of(home, "own")
    again, config = read(text, tmp_path)
    assert config == best_config(home, "own")
    assert again.train["trainer"] == "made_mlp:train"
    assert f"{tmp_path / 'made_mlp.py'} (sha256:" in text.replace("\n# ", " ")


def test_code_that_is_gone_is_named_where_its_copy_is(home, tmp_path):
    own_study(tmp_path, home)
    (tmp_path / "made_mlp.py").unlink()
    assert str(home.study("own") / "code") in file_of(home, "own").replace("\n# ", " ")


def test_a_folder_of_any_name_leaves_it_a_study_file(home, tmp_path):
    folder = tmp_path / "with\nline and \x1b[31m"
    folder.mkdir()
    own_study(folder, home)
    text = file_of(home, "own")
    assert "with\\nline and \\x1b[31m/made_mlp.py" in text.replace("\n# ", " ")
    _, config = read(text, folder)
    assert config == best_config(home, "own")


def test_comments_say_where_it_comes_from_and_how_it_did(home):
    run_trials(home.ledger_uri, fixed_study("told"), REACHED)
    said = file_of(home, "told").replace("\n# ", " ")
    assert said.startswith(
        "# The best configuration of study told: trial told, reached at epoch 3, best val_acc 0.9312 at epoch 4, of 4 "
        "epochs. Target: validation accuracy 0.92 or more. no winner yet: one run may be luck; `sweeps race told`"
    )


def test_the_longest_names_stay_names(home, tmp_path):
    name, run = "s" * 64, "r" * 64
    run_trials(home.ledger_uri, fixed_study(name, run=[{"name": run}]), REACHED)
    again, _ = read(file_of(home, name), tmp_path)
    assert len(again.name) == 64
    assert again.name.startswith("s-rrr")


def test_an_imported_study_has_none(home):
    spec = fixed_study("imported")
    entry = Entry(Job(0, "a", TrialConfig(schedule=SCHEDULE), {}), REACHED)
    Ledger.create_import(home.ledger_uri, spec, Origin("runs.csv", "0" * 64, "0"), [entry])
    with pytest.raises(InputError, match="was imported: what its trials trained is known only as far"):
        file_of(home, "imported")
