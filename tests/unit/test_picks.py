"""What the picks of a simulated study, and of others, are truly worth."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from resnet_core.config import TrialConfig
from resnet_core.objective import Objective
from resnet_core.records import EpochRecord
from search_spaces.spec import StudySpec
from search_spaces.study import find_study, load_study
from search_spaces.tables import Finalists
from sweeps.errors import InputError
from sweeps.home import Home
from sweeps.simulation.curve_model import POST5
from sweeps.simulation.curves import RecordedCurves
from sweeps.simulation.picks import (
    PRUNERS,
    Truth,
    one_run_of_each,
    pick_of_optuna,
    pick_of_study,
    truth_of_runs,
    truth_of_trial,
)
from sweeps.simulation.setup import Setup
from sweeps.simulation.simulate import simulate
from sweeps.study.trials import Job
from tests.studies import epoch_records

NOWHERE = Home(Path("/nonexistent"))
LUCKY = (0.5, 0.9201, 0.90, 0.905)
UNLUCKY = (0.5, 0.8, 0.90, 0.905)
SURE = (0.5, 0.8, 0.93, 0.94)
SPEC = StudySpec.model_validate(
    {
        "name": "made",
        "train": {"schedule": "[1e-3, 0] lin[1e-5, 4]"},
        "space": {"weight_decay": {"low": 0.1, "high": 1.0}},
        "search": {"trials": 8},
    }
)


def recording(configurations: Mapping[float, Sequence[Sequence[float]]]) -> RecordedCurves:
    """Runs by weight decay; each has another seed."""
    jobs, curves = [], {}
    for decay, runs in configurations.items():
        for seed, val_accs in enumerate(runs):
            config = TrialConfig(schedule="[1e-3, 0] lin[1e-5, 4]", weight_decay=decay, seed=seed)
            jobs.append(Job(len(jobs), str(len(jobs)), config, {"weight_decay": decay}))
            curves[jobs[-1].name] = epoch_records(val_accs, seconds=1.0)
    return RecordedCurves("made", jobs, curves, {})


def setup(source: RecordedCurves, **options: Any) -> Setup:
    return Setup(SPEC, source, NOWHERE, gpus=2, shuffled=True, **options)


def test_the_truth_of_runs_by_hand():
    assert truth_of_runs([LUCKY, SURE, UNLUCKY, SURE], Objective(target=0.92), 10) == Truth(
        0.75, (2 + 3 + 10 + 3) / 4, (2 + 3 + 4 + 3) / 3
    )


def test_what_never_reaches_costs_without_end():
    assert truth_of_runs([UNLUCKY], Objective(target=0.92), 10) == Truth(0.0, 10, math.inf)


def test_the_run_that_was_seen_is_no_part_of_the_truth():
    source = recording({0.1: [LUCKY, UNLUCKY, UNLUCKY]})
    assert truth_of_trial(source, source.jobs[0], SPEC, {source.jobs[0].name}).share == 0
    assert truth_of_trial(source, source.jobs[1], SPEC, {source.jobs[1].name}).share == 0.5


def test_a_run_without_another_of_its_kind_has_to_do():
    source = recording({0.1: [SURE]})
    assert truth_of_trial(source, source.jobs[0], SPEC, {source.jobs[0].name}).share == 1


def test_on_a_model_the_truth_is_that_of_many_runs_whatever_the_trial():
    spec = load_study(find_study("adamw_cosine"))
    config = TrialConfig(schedule="[8e-4, 0] lin[1e-3, 5] lin[1e-3, 12] cos[1e-5, 20] lin[6e-6, 26]", weight_decay=0.18)
    truths = [truth_of_trial(POST5, Job(number, "x", config, {}), spec, ()) for number in (0, 7)]
    assert truths[0] == truths[1]
    assert truths[0].rmst == pytest.approx(26.6, abs=0.6)
    assert truths[0].share == pytest.approx(0.65, abs=0.06)


def test_a_repeat_sees_one_run_of_each_configuration_and_another_repeat_others():
    source = recording({0.1: [LUCKY] * 5, 0.2: [SURE] * 5, 0.3: [SURE] * 5})
    seen = [one_run_of_each(source, seed) for seed in range(12)]
    assert all(sorted(job.config.weight_decay for job in jobs) == [0.1, 0.2, 0.3] for jobs in seen)
    assert len({tuple(job.name for job in jobs) for jobs in seen}) > 6


def test_the_study_picks_what_is_sure_and_a_search_at_random_what_was_lucky():
    source = recording({0.1: [LUCKY, UNLUCKY, UNLUCKY], 0.2: [SURE, SURE, SURE]})
    seeds = [s for s in range(20) if tuple(_first_seen(source, s, 0.1)) == LUCKY][:4]
    for seed in seeds:
        picks = simulate(setup(source, seed=seed, against=["random"])).picks
        assert picks["study"].true_share.value == 1
        assert picks["random"].true_share.value == 0
        assert picks["study"].better_than_random == 1
        assert picks["random"].observed.value == 2


def _first_seen(source: RecordedCurves, seed: int, decay: float) -> list[float]:
    job = next(job for job in one_run_of_each(source, seed) if job.config.weight_decay == decay)
    return [record.val_acc for record in source.curves[job.name]]


@pytest.mark.parametrize("method", ["random", *PRUNERS])
def test_every_method_picks_among_the_trials_that_there_are(method):
    source = recording({0.1 * i: [SURE if i == 3 else UNLUCKY] * 2 for i in range(1, 9)})
    worth = simulate(setup(source, against=[method])).picks[method]
    assert (worth.picks, worth.true_share.value) == (1, 1)


def test_first_settings_do_not_depend_on_the_runs_that_a_study_sees():
    spec = load_study(find_study("adamw_cosine"), ["search.sampler=random", "search.finalists=", "search.trials=12"])
    made = [simulate(Setup(spec, POST5, NOWHERE, against=["first"], seed=seed)).picks for seed in (0, 1)]
    assert made[0]["first"].true_rmst == made[1]["first"].true_rmst
    assert made[0]["first"].observed != made[1]["first"].observed
    for picks in made:
        ahead = picks["first"].true_rmst.value - picks["study"].true_rmst.value
        assert picks["study"].better_than_first == (ahead > 0) + (ahead == 0) / 2
        assert picks["first"].better_than_first is picks["study"].better_than_random is None


@pytest.mark.parametrize("source", ["model", "recording"])
def test_a_study_without_first_settings_and_a_recording_cannot_be_set_against_them(source):
    made = Setup(SPEC, POST5 if source == "model" else recording({0.1: [SURE]}), NOWHERE, against=["first"])
    with pytest.raises(InputError, match=r"^--against first: expected a study with search.first, on the model's"):
        simulate(made)


def test_optunas_pruners_train_no_more_epochs_than_the_budget():
    asked, method = [], "optuna-median"  # which prunes none of the first five, so that each takes its four epochs
    source = recording({0.1 * i: [UNLUCKY] for i in range(1, 9)})
    made = setup(source, against=[method], epochs=12)
    curves = made.curves(0)

    def counted(job: Job) -> Sequence[EpochRecord]:
        asked.append(job.name)
        return curves(job)

    pick_of_optuna(method, SPEC, source.jobs, counted, source, 2, 12, 0)
    assert len(set(asked)) == 3


def test_no_trial_begins_that_the_epochs_would_not_be_enough_for():
    source = recording({0.1 * i: [UNLUCKY] for i in range(1, 9)})
    assert simulate(setup(source, epochs=12)).with_rules["epochs"].median == 12
    assert simulate(setup(source, epochs=13)).with_rules["epochs"].median == 16


def test_picks_have_intervals_from_two_repeats_on():
    source = recording({0.1: [SURE, SURE], 0.2: [UNLUCKY, SURE]})
    single, several = (simulate(setup(source, repeats=repeats)).picks["study"].true_rmst for repeats in (1, 3))
    assert (single.low, single.high) == (None, None)
    assert several.low <= several.value <= several.high


RACED = SPEC.model_copy(update={"search": SPEC.search.model_copy(update={"finalists": Finalists(top=2, seeds=4)})})


def test_finalists_take_half_of_the_recorded_runs_that_the_search_did_not_see():
    """Of five runs one is seen by the search, two can be taken, and two are left for the truth."""
    source = recording({0.1: [SURE] * 5, 0.2: [LUCKY] * 5})
    trials = Setup(RACED, source, NOWHERE, gpus=2, shuffled=True).replay(0, rules=True)
    runs = [trial.job.name for trial in trials]
    assert len(set(runs)) == len(runs)
    assert [trial.job.finalist for trial in trials[:2]] == [False, False]
    finalists = [trial for trial in trials if trial.job.finalist]
    assert 2 <= len(finalists) <= 4
    assert max(sum(t.job.config.weight_decay == decay for t in finalists) for decay in (0.1, 0.2)) == 2


def test_without_a_second_run_to_spare_nothing_is_raced():
    source = recording({0.1: [SURE] * 2, 0.2: [LUCKY] * 2})
    trials = Setup(RACED, source, NOWHERE, gpus=2, shuffled=True).replay(0, rules=True)
    assert not any(trial.job.finalist for trial in trials)


def test_the_truth_of_a_raced_pick_is_that_of_runs_it_did_not_see():
    source = recording({0.1: [SURE, SURE, SURE, UNLUCKY, UNLUCKY]})
    trials = Setup(RACED, source, NOWHERE, gpus=2, shuffled=True).replay(0, rules=True)
    seen = {trial.job.name for trial in trials}
    pick = pick_of_study(trials, source, RACED)
    assert pick is not None
    left = [job.name for job in source.jobs if job.name not in seen]
    assert pick.truth.share == sum(int(name) < 3 for name in left) / len(left)


def test_epochs_that_bound_a_study_are_enough_for_its_finalists_too():
    spec = load_study(find_study("adamw_cosine"), ["search.sampler=random", "search.finalists={top=3, seeds=2}"])
    trials = Setup(spec, POST5, NOWHERE, epochs=400).replay(0, rules=True)
    again = [trial.result.epochs_run for trial in trials if trial.job.finalist]
    assert 2 <= len(again) <= 6
    assert sum(again) < 200
    assert sum(trial.result.epochs_run for trial in trials) < 400 + 4 * 38
