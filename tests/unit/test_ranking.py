"""Which configuration is best, by all its runs."""

from dataclasses import replace

import pytest

from resnet_core.config import TrialConfig
from resnet_core.records import Outcome
from search_spaces.spec import StudySpec
from sweeps.study.outcomes import Result
from sweeps.study.ranking import best_entry, ranking
from sweeps.study.trials import Entry, Job
from tests.studies import CRASHED, MISSED, REACHED, fixed_study

CONFIG = TrialConfig(schedule="[1e-3, 0] lin[1e-5, 8]")
SPEC = fixed_study(schedule=CONFIG.schedule)
SURE = (0.5, 0.7, 0.85, 0.9, 0.93, 0.95, 0.95, 0.95)
LUCKY = (0.5, 0.7, 0.9201, 0.9, 0.91, 0.91, 0.91, 0.91)


def run(number: int, val_accs: tuple[float, ...], decay: float = 0.1, outcome: Outcome = Outcome.REACHED) -> Entry:
    failed = outcome in (Outcome.DIVERGED, Outcome.CRASHED)
    config = replace(CONFIG, weight_decay=decay, seed=number)
    return Entry(
        Job(number, str(number), config, {}),
        Result(outcome, len(val_accs), None if failed else 0.0, values=() if outcome == "crashed" else val_accs),
    )


def entry(number: int, result: Result | None) -> Entry:
    return Entry(Job(number, str(number), CONFIG, {}), result)


def test_the_best_trial_has_the_smallest_objective():
    entries = [entry(0, MISSED), entry(1, REACHED), entry(2, CRASHED), entry(3, None)]
    assert best_entry(SPEC, entries) == entries[1]


def test_of_equals_the_first_trial_is_the_best():
    assert best_entry(SPEC, [entry(1, REACHED), entry(0, REACHED)]) == entry(0, REACHED)


@pytest.mark.parametrize("results", [[], [None], [CRASHED, Result(Outcome.DIVERGED, 2)]])
def test_without_an_objective_there_is_no_best_trial(results):
    assert best_entry(SPEC, [entry(number, result) for number, result in enumerate(results)]) is None


def test_a_sure_run_is_ahead_of_a_lucky_one_that_was_earlier():
    lucky, sure = run(0, LUCKY, decay=0.1), run(1, SURE, decay=0.2)
    assert best_entry(SPEC, [lucky, sure]) == sure


def test_runs_that_differ_in_their_seed_are_one_configuration():
    entries = [run(0, SURE), run(1, SURE[:4]), run(2, SURE, decay=0.2)]
    assert [[r.job.number for r in c.runs] for c in ranking(SPEC, entries).configurations] == [[2], [0, 1]]


def test_a_repeat_that_diverged_counts_as_one_that_learned_nothing():
    broken = [run(0, SURE), run(1, (0.1,), outcome=Outcome.DIVERGED)]
    slow = [run(2, (*SURE[:4], 0.91, 0.915, 0.93, 0.94), decay=0.2)]
    assert ranking(SPEC, [*broken, *slow]).configurations[0].runs == slow


def test_a_repeat_that_crashed_counts_for_nothing():
    entries = [run(0, SURE), run(1, (), outcome=Outcome.CRASHED), run(2, SURE[:4], decay=0.2)]
    assert ranking(SPEC, entries).configurations[0].runs == entries[:1]


@pytest.mark.parametrize("outcome", [Outcome.DIVERGED, Outcome.CRASHED])
def test_a_configuration_without_any_result_is_not_ranked(outcome):
    assert ranking(SPEC, [run(0, (0.1,), outcome=outcome)]).configurations == []


def test_a_small_lead_counts_less_where_repeats_scatter():
    # Alone, 0 is ahead; beside repeats of 2 that differ by some points, that it hardly passed the target counts.
    hardly, well = run(0, (0.5, 0.7, 0.931, 0.931), decay=0.1), run(1, (0.5, 0.7, 0.9, 0.97), decay=0.2)
    scattered = [run(2 + i, (0.5, 0.6, 0.7, 0.8 + 0.02 * i), decay=0.3) for i in range(6)]
    assert [best_entry(SPEC, found) for found in ([hardly, well], [hardly, well, *scattered])] == [hardly, well]


SPACE = StudySpec.model_validate(
    {
        "name": "near",
        "train": {"schedule": CONFIG.schedule},
        "space": {"weight_decay": {"low": 0.0, "high": 1.0}},
        "search": {"trials": 20},
    }
)


def sampled(decay: float, val_accs: tuple[float, ...], number: int, stopped_by: str | None = None) -> Entry:
    found = run(number, val_accs, decay)
    assert found.result is not None
    outcome = found.result.outcome if stopped_by is None else Outcome.PRUNED
    return Entry(
        replace(found.job, params={"weight_decay": decay}),
        replace(found.result, outcome=outcome, stopped_by=stopped_by),
    )


def line(slow_from: float) -> list[Entry]:
    """Twelve configurations side by side, which miss from some weight decay on, but for a lucky one among them."""
    entries = [sampled(i / 11, SURE if i / 11 < slow_from else (0.5, 0.7, 0.8) * 2, i) for i in range(12)]
    return [*entries[:9], sampled(9 / 11, (0.5, 0.93, 0.95, 0.95), 9), *entries[10:]]


def test_a_fast_run_among_slow_neighbours_ranks_behind_its_equals():
    alone = ranking(SPEC, line(0.5)).configurations[0]
    assert alone.runs[0].job.number == 9
    among = ranking(SPACE, line(0.5)).configurations[0]
    assert among.config.weight_decay < 0.5


def test_a_trial_stopped_by_forecast_is_judged_by_its_neighbours():
    entries = line(0.5)
    entries[2] = sampled(2 / 11, (0.3,), 2, stopped_by="forecast")
    known = {one.runs[0].job.number: one for one in ranking(SPACE, entries).configurations}
    assert known[2].expected == pytest.approx(known[1].expected, abs=0.5)
    capped = [*entries[:2], sampled(2 / 11, (0.3,), 2, stopped_by="cap"), *entries[3:]]
    assert {one.runs[0].job.number: one for one in ranking(SPACE, capped).configurations}[2].expected > known[
        2
    ].expected


def test_the_best_configuration_has_run_to_an_end():
    entries = [sampled(0.0, (0.3,), 0, stopped_by="forecast"), *line(0.5)[1:]]
    ranked = ranking(SPACE, entries)
    assert ranked.best is not None
    assert ranked.best.runs[0].job.number != 0
    assert ranking(SPACE, entries[:1]).best is None
