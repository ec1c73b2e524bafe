"""The race of a study's best configurations, from what is known of their runs alone."""

from dataclasses import replace

import pytest

from resnet_core.config import TrialConfig
from resnet_core.records import Outcome
from search_spaces.spec import StudySpec
from sweeps.study.finalists import Race, race_of
from sweeps.study.outcomes import Result
from sweeps.study.ranking import ranking
from sweeps.study.trials import Entry, Job
from tests.studies import fixed_study

CONFIG = TrialConfig(schedule="[1e-3, 0] lin[1e-5, 30]")
FRESH = [1_000_000 + k for k in range(9)]


def study(top: int = 3, seeds: int = 3) -> StudySpec:
    return fixed_study(schedule=CONFIG.schedule, search={"finalists": {"top": top, "seeds": seeds}})


def crossing(epochs: float) -> tuple[float, ...]:
    """A curve that crosses 0.92 there."""
    return tuple(min(0.99, 0.92 + 0.02 * (epoch - epochs)) for epoch in range(1, 31))


def entry(number: int, which: int, epochs: float | None, seed: int | None = None) -> Entry:
    """A run of a configuration; a finalist where it has a seed; running where it has no epochs."""
    config = replace(CONFIG, weight_decay=0.01 * (1 + which), seed=number if seed is None else seed)
    result = None
    if epochs is not None:
        result = Result(Outcome.REACHED, 30, epochs, values=crossing(epochs))
    return Entry(Job(number, str(number), config, {}, finalist=seed is not None), result)


def searched(*epochs: float) -> list[Entry]:
    return [entry(which, which, value) for which, value in enumerate(epochs)]


def which(entries: list[Entry], spec: StudySpec) -> list[int]:
    return [round(racer.configuration.config.weight_decay / 0.01) - 1 for racer in race_of(spec, entries).racers]


def test_the_best_few_race_in_the_order_of_their_rank():
    assert which(searched(20, 18, 25, 19), study(top=3)) == [1, 3, 0]


def test_without_finalists_nothing_races():
    assert race_of(fixed_study(schedule=CONFIG.schedule), searched(20, 18)) == Race()


def test_the_best_configuration_runs_first_with_the_first_fresh_seed():
    found = race_of(study(), searched(20, 18, 25)).next
    assert found is not None
    assert (found[0].job.number, found[1]) == (1, FRESH[0])


def test_a_seed_of_the_search_is_not_fresh():
    used = [*searched(20, 18), entry(2, 5, 30.0)]
    used[2] = replace(used[2], job=replace(used[2].job, config=replace(used[2].job.config, seed=FRESH[0])))
    found = race_of(study(), used).next
    assert found is not None
    assert found[1] == FRESH[1]


def test_the_configuration_with_the_fewest_runs_is_next():
    entries = [*searched(20, 18), entry(2, 1, None, FRESH[0])]
    found = race_of(study(), entries).next
    assert found is not None
    assert (found[0].job.number, found[1]) == (0, FRESH[0])


def test_a_configuration_that_falls_far_behind_is_out():
    entries = searched(20.0, 20.2, 20.4, 20.6)
    entries += [entry(4 + k, 0, 20.0 + 0.1 * k, FRESH[k]) for k in range(3)]
    entries += [entry(7 + k, 1, 29.0 + 0.1 * k, FRESH[k]) for k in range(2)]
    assert 1 not in which(entries, study(top=2))


def test_a_configuration_that_ran_again_keeps_its_place_in_the_race():
    # 1 was fast in the search, and slower when run again: with one place taken by it, one is left.
    entries = [*searched(20, 18, 19, 18.5), entry(4, 1, 19.0, FRESH[0])]
    assert set(which(entries, study(top=2))) == {1, 3}


def test_no_configuration_is_out_before_it_ran_again():
    assert which(searched(5, 30, 30, 30), study(top=2)) == [0, 1]


def test_the_race_is_decided_once_one_is_left_and_was_repeated():
    entries = searched(10, 29)
    entries += [entry(2 + k, 0, 10 + 0.1 * k, FRESH[k]) for k in range(2)]
    entries += [entry(4 + k, 1, 29 + 0.1 * k, FRESH[k]) for k in range(2)]
    assert which(entries, study(seeds=4)) == [0]
    assert race_of(study(seeds=4), entries).next is None
    assert race_of(study(seeds=4), entries).runs_left == 0


def test_a_lead_without_repeats_decides_nothing():
    assert race_of(study(), searched(5, 30, 30, 30, 30, 30)).next is not None


def test_no_configuration_has_more_runs_than_there_are_seeds():
    entries = searched(20, 20.1)
    for number in range(2, 40):
        found = race_of(study(top=2, seeds=3), entries).next
        if found is None:
            break
        place = round(found[0].job.config.weight_decay / 0.01) - 1
        entries.append(entry(number, place, 20.0 + 5 * (number % 3), found[1]))
    runs = [sum(e.job.finalist and e.job.config.weight_decay == 0.01 * (1 + i) for e in entries) for i in (0, 1)]
    assert 2 <= max(runs) <= 3
    assert min(runs) >= 1


@pytest.mark.parametrize("running", [0, 1])
def test_while_a_trial_runs_another_run_may_still_be_asked_for(running):
    entries = searched(20, 20.1) + [
        entry(2 + 3 * place + k, place, 20.0, FRESH[k]) for place in range(2) for k in range(3)
    ]
    entries += [entry(20, 2, None)] * running
    assert race_of(study(top=2, seeds=3), entries).runs_left == running


def test_a_finalist_that_crashed_is_not_run_again():
    crashed = replace(entry(2, 1, 18.0, FRESH[0]), result=Result(Outcome.CRASHED, 0))
    found = race_of(study(), [*searched(20, 18), crashed]).next
    assert found is not None
    assert (found[0].job.number, found[1]) == (0, FRESH[0])


def test_the_best_configuration_of_a_raced_study_ran_again():
    entries = [*searched(20, 18, 19), entry(3, 0, 20.0, FRESH[0]), entry(4, 0, 20.0, FRESH[1])]
    best = ranking(study(), entries).best
    assert best is not None
    assert [run.job.number for run in best.runs] == [0, 3, 4]
