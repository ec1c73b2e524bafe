"""The examples, as a person runs them: launched, killed in the middle, resumed, and their table looked at."""

import threading
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest

from resnet_core.run import Run, own_epochs
from search_spaces.study import load_study

FOLDER = Path(__file__).parents[2] / "examples"
NEEDS = {
    "keras": ["keras"],
    "lightgbm_rounds": ["lightgbm"],
    "lightning": ["lightning"],
    "pytorch_loop": [],
    "sklearn_partial_fit": [],
    "transformers": ["transformers", "accelerate"],
}
TRIALS = 2


@pytest.fixture(params=sorted(NEEDS))
def study(request):
    """The study file of an example whose libraries are installed."""
    missing = [library for library in NEEDS[request.param] if find_spec(library) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    return FOLDER / request.param / "study.toml"


def test_all_examples_are_tested():
    beside = {"made_images"}  # of the trainer that ships: tests/unit/test_made_images.py
    assert {path.parent.name for path in FOLDER.glob("*/study.toml")} == set(NEEDS) | beside


@pytest.mark.parametrize("name", sorted(NEEDS))
def test_an_example_is_short_and_says_what_to_install(name):
    (module,) = (FOLDER / name).glob("*.py")
    lines = module.read_text().splitlines()
    assert lines[0].startswith('"""Install: pip install resnet-sweeps')
    assert all(library in lines[0].partition(". ")[0] for library in NEEDS[name])
    assert len(lines) <= 85


@pytest.mark.slow
def test_an_example_is_killed_and_resumed(sweeps, store, cluster, home, study):
    name = load_study(study).name
    first = sweeps.start("launch", study, "--home", home, "--trials", TRIALS)
    first.until(lambda command: len(command.epochs) >= 3)
    first.kill()
    status = sweeps.json("status", name, "--home", home)
    assert status["state"] == "interrupted"
    assert status["running"]

    resumed = sweeps("resume", name, "--home", home, on=cluster)
    assert resumed.stdout.startswith("trial")
    rows = sweeps.json("table", name, "--home", home)
    assert len(rows) == TRIALS
    assert {row["outcome"] for row in rows} <= {"reached", "exhausted", "pruned"}
    kept = store(home, name)
    for trial, run in kept.trials.items():
        steps = [point.step for point in kept.history(run, "loss")]
        assert sorted(steps) == list(range(1, int(run.data.metrics["epochs_run"]) + 1)), trial
    assert not list((home / "studies" / name / "checkpoints").iterdir())


@pytest.mark.slow
def test_a_library_ends_when_its_trial_is_stopped_and_continues_later(tmp_path, study, caplog):
    trainer = load_study(study).trainer
    values = {"schedule": "[0.01, 0] lin[0.001, 4]"} if "schedule" in trainer.fields else {"epochs": 4}
    config = trainer.config(values)

    def epochs():
        run = Run(checkpoint=tmp_path / "trial.pt", config=config.to_dict(), horizon=config.horizon, metric="val_acc")
        return closing(own_epochs(trainer.function, trainer.instance(config), run))

    with epochs() as first:
        before = [next(first), next(first)]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("trainer of")]
    assert "the trainer of" not in caplog.text
    with epochs() as second:
        after = list(second)
    assert [record.epoch for record in after] == [1, 2, 3, 4]
    assert after[: len(before)] == before
    assert after[2].loss < before[1].loss  # a trainer that began anew would be as bad as in its first epoch
