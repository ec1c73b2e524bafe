"""The contract suite of samplers, which are used through the ledger.

    class TestHyperband(SamplerContract):
        sampler = "my_sampler"

A sampler must be registered: as a shipped one, or in the entry-point group ``sweeps.samplers``.
"""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import Any, ClassVar

import pytest

from resnet_core.config import TrialConfig
from resnet_core.records import Outcome
from search_spaces.plugins import samplers
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
    **SPACE,
    "lr": {"choices": [1e-4, 1e-3, 1e-2]},
    "shift": {"low": 0.0, "high": 0.2, "step": 0.1},
}
"""The space for a sampler that tries every value."""
TRIALS = 16  # enough: every sampler draws the first ones at random, and uses its model for the last ones
_NAMES = (f"study-{number}" for number in itertools.count())


def ask_some(ledger: Ledger, count: int = TRIALS) -> list[Job]:
    """Ask for trials, and end them with all possible outcomes, each while the next one is already running."""
    jobs: list[Job] = []
    for _ in range(count):
        jobs.append(ledger.ask())
        if len(jobs) > 1:
            _end(ledger, jobs[-2])
    return jobs


def _end(ledger: Ledger, job: Job) -> None:
    outcome = dict(enumerate(Outcome)).get(job.number, Outcome.REACHED)
    failed = outcome in (Outcome.DIVERGED, Outcome.CRASHED)
    assert isinstance(job.config, TrialConfig)
    ledger.tell(job.number, Result(outcome, 4, None if failed else 5 + 100 * job.config.shift))


class SamplerContract:
    """The suite: a subclass sets the sampler.

    Attributes:
        sampler: name of the sampler.
        learns: whether the sampler learns from the results of trials.
    """

    sampler: ClassVar[str]
    learns: ClassVar[bool] = True

    @classmethod
    def spec(cls, seed: int = 0) -> StudySpec:
        """Return a study with this sampler."""
        return StudySpec.model_validate(
            {
                "name": next(_NAMES),
                "train": {"schedule": "[0.1*lr, 0] lin[lr, +warmup] cos[1e-6, +6]"},
                "space": STEPS if samplers()[cls.sampler].exhaustive else SPACE,
                "search": {"trials": TRIALS, "sampler": cls.sampler, "seed": seed},
            }
        )

    @pytest.fixture(scope="class")
    @classmethod
    def jobs(cls) -> list[Job]:
        """Return the trials of a study."""
        return ask_some(Ledger.preview(cls.spec()))

    def test_parameters_are_inside_the_space(self, jobs: list[Job]) -> None:
        ranges = distributions(self.spec())
        assert len(jobs) == TRIALS
        for job in jobs:
            assert job.params.keys() == ranges.keys()
            assert all(ranges[name]._contains(ranges[name].to_internal_repr(v)) for name, v in job.params.items())

    def test_a_trial_trains_what_was_sampled(self, jobs: list[Job]) -> None:
        for job in jobs:
            params, config = job.params, job.config
            assert isinstance(config, TrialConfig)
            assert (config.optimizer, config.shift) == (params["optimizer"], params["shift"])
            assert config.horizon == params["warmup"] + 6
            assert config.lr_alpha == pytest.approx(params["lr"], rel=1e-5)

    def test_no_trial_is_sampled_twice(self, jobs: list[Job]) -> None:
        assert len({tuple(job.params.items()) for job in jobs}) == TRIALS

    def test_the_same_seed_samples_the_same_trials(self, jobs: list[Job]) -> None:
        assert ask_some(Ledger.preview(self.spec())) == jobs

    def test_another_seed_samples_other_trials(self, jobs: list[Job]) -> None:
        """The first trial and the choices may be drawn by a generator other than the sampler's."""
        others = ask_some(Ledger.preview(self.spec(seed=1000)), 4)
        assert [job.params["lr"] for job in others[1:]] != [job.params["lr"] for job in jobs[1:4]]

    def test_it_goes_on_in_the_next_process_with_other_trials(self, tmp_path: Path) -> None:
        db, spec = f"sqlite:///{tmp_path / 'optuna.db'}", self.spec()
        before = ask_some(Ledger.create(db, spec), 4)
        ledger = Ledger.open(db, spec.name)
        assert ledger.unfinished() == before[-1:]
        more = [ledger.ask() for _ in range(3)]
        assert [job.number for job in more] == [4, 5, 6]
        assert len({tuple(job.params.items()) for job in before + more}) == 7

    def test_it_learns_to_keep_away_from_where_trials_diverge_or_are_stopped(self) -> None:
        if self.learns:
            assert _bad_trials(self.sampler) < _bad_trials("random")


@functools.cache
def _bad_trials(sampler: str) -> int:
    """Count the last 10 of 50 trials, in two studies, that lie in the half of the space where trials end badly."""
    return sum(_bad_trials_of_one(sampler, seed) for seed in range(2))


def _bad_trials_of_one(sampler: str, seed: int) -> int:
    search: dict[str, Any] = {"trials": 50, "sampler": sampler, "seed": seed}
    spec = StudySpec.model_validate(
        {
            "name": next(_NAMES),
            "train": {"schedule": "[0.1*lr, 0] lin[lr, +2] cos[1e-6, +6]"},
            "space": {"lr": SPACE["lr"], "shift": SPACE["shift"]},
            "search": search,
        }
    )
    ledger, bad = Ledger.preview(spec), 0
    for number in range(50):
        job = ledger.ask()
        lr, shift = job.params["lr"], job.params["shift"]
        if lr > 2e-3:  # among trials that do not diverge, a higher rate is faster
            ledger.tell(job.number, Result(Outcome.DIVERGED, 2))
        elif shift > 0.15:
            ledger.tell(job.number, Result(Outcome.PRUNED, 4, 12 - shift))
        else:
            ledger.tell(job.number, Result(Outcome.REACHED, 8, 5 - lr * 1e3 + 10 * shift))
        bad += number >= 40 and (lr > 2e-3 or shift > 0.15)
    return bad
