"""What every sampler keeps to, through the ledger. A new sampler gets a class here."""

import functools
import itertools
from typing import Any, ClassVar

import pytest

from resnet_core.records import Outcome
from search_spaces.space import distributions
from search_spaces.spec import StudySpec
from sweeps.ledger.ledger import Ledger
from sweeps.study.outcomes import Result
from sweeps.study.trials import Job

SPACE = {
    "lr": {"low": 1e-4, "high": 1e-2, "log": True},
    "warmup": {"low": 1, "high": 4, "int": True},
    "shift": {"low": 0.0, "high": 0.2},
    "optimizer": {"choices": ["adam", "adamw"]},
}
STEPS = {
    "lr": {"choices": [1e-4, 1e-3, 1e-2]},
    "warmup": {"low": 1, "high": 4, "int": True},
    "shift": {"low": 0.0, "high": 0.2, "step": 0.1},
    "optimizer": {"choices": ["adam", "adamw"]},
}
TRIALS = 16  # so many that every sampler draws at random first, and models at the end
NAMES = (f"study-{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('samplers') / 'optuna.db'}"


@pytest.fixture(scope="class")
def jobs(request: pytest.FixtureRequest) -> list[Job]:
    return ask_some(Ledger.preview(request.cls.spec()))


def ask_some(ledger: Ledger, count: int = TRIALS) -> list[Job]:
    """Ask for trials that end in every way, each while the one after it is running already."""
    jobs, waiting = [], None
    for _ in range(count):
        jobs.append(ledger.ask())
        if waiting is not None:
            end(ledger, waiting)
        waiting = jobs[-1]
    return jobs


def end(ledger: Ledger, job: Job) -> None:
    outcome = dict(enumerate(Outcome)).get(job.number, Outcome.REACHED)
    failed = outcome in (Outcome.DIVERGED, Outcome.CRASHED)
    ledger.tell(job.number, Result(outcome, 4, None if failed else 5 + 100 * job.config.shift))


class SamplersContract:
    """The suite."""

    sampler: ClassVar[str]
    space: ClassVar[dict[str, Any]] = SPACE

    @classmethod
    def spec(cls, seed: int = 0) -> StudySpec:
        return StudySpec.model_validate(
            {
                "name": next(NAMES),
                "train": {"schedule": "[0.1*lr, 0] lin[lr, +warmup] cos[1e-6, +6]"},
                "space": cls.space,
                "search": {"trials": TRIALS, "sampler": cls.sampler, "seed": seed},
            }
        )

    def test_parameters_are_inside_the_space(self, jobs):
        ranges = distributions(self.spec())
        assert len(jobs) == TRIALS
        for job in jobs:
            assert job.params.keys() == ranges.keys()
            assert all(ranges[name]._contains(ranges[name].to_internal_repr(v)) for name, v in job.params.items())

    def test_a_trial_trains_what_was_sampled(self, jobs):
        for job in jobs:
            params, config = job.params, job.config
            assert (config.optimizer, config.shift) == (params["optimizer"], params["shift"])
            assert (config.horizon, config.lr_alpha) == (params["warmup"] + 6, pytest.approx(params["lr"], rel=1e-5))

    def test_no_trial_is_sampled_twice(self, jobs):
        assert len({tuple(job.params.items()) for job in jobs}) == TRIALS

    def test_the_same_seed_samples_the_same_trials(self, jobs):
        assert ask_some(Ledger.preview(self.spec())) == jobs

    def test_another_seed_samples_other_trials(self, jobs):
        others = ask_some(Ledger.preview(self.spec(seed=1000)), 3)
        assert [job.params for job in others] != [job.params for job in jobs[:3]]

    def test_it_goes_on_in_the_next_process_with_other_trials(self, db):
        spec = self.spec()
        before = ask_some(Ledger.create(db, spec), 4)
        ledger = Ledger.open(db, spec.name)
        assert ledger.unfinished() == before[-1:]
        more = [ledger.ask() for _ in range(3)]
        assert [job.number for job in more] == [4, 5, 6]
        assert len({tuple(job.params.items()) for job in before + more}) == 7

    def test_it_learns_to_keep_away_from_where_trials_diverge_or_are_stopped(self):
        if self.sampler in ("random", "grid"):
            pytest.skip("learns nothing")
        assert bad(self.sampler) < bad("random")


@functools.cache
def bad(sampler: str) -> int:
    """Of the last 10 of 50 trials in two studies, how many lie where half of all would diverge or be stopped."""
    return sum(_bad(sampler, seed) for seed in range(2))


def _bad(sampler: str, seed: int) -> int:
    spec = StudySpec.model_validate(
        {
            "name": next(NAMES),
            "train": {"schedule": "[0.1*lr, 0] lin[lr, +2] cos[1e-6, +6]"},
            "space": {"lr": SPACE["lr"], "shift": SPACE["shift"]},
            "search": {"trials": 50, "sampler": sampler, "seed": seed},
        }
    )
    ledger, late = Ledger.preview(spec), 0
    for number in range(50):
        job = ledger.ask()
        lr, shift = job.params["lr"], job.params["shift"]
        if lr > 2e-3:  # the higher it is, the faster are those that do not diverge
            ledger.tell(job.number, Result(Outcome.DIVERGED, 2))
        elif shift > 0.15:
            ledger.tell(job.number, Result(Outcome.PRUNED, 4, 12 - shift))
        else:
            ledger.tell(job.number, Result(Outcome.REACHED, 8, 5 - lr * 1e3 + 10 * shift))
        late += number >= 40 and (lr > 2e-3 or shift > 0.15)
    return late


class TestTpe(SamplersContract):
    sampler = "tpe"


class TestGp(SamplersContract):
    sampler = "gp"


class TestCmaes(SamplersContract):
    sampler = "cmaes"


class TestRandom(SamplersContract):
    sampler = "random"


class TestGrid(SamplersContract):
    sampler = "grid"
    space = STEPS


def test_every_sampler_has_its_suite():
    names = StudySpec.model_json_schema()["$defs"]["Search"]["properties"]["sampler"]["enum"]
    assert {suite.sampler for suite in SamplersContract.__subclasses__()} == set(names)
