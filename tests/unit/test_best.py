"""Whether the best trial is confirmed, and whether it leads by more than noise."""

import dataclasses
import math

import pytest

from resnet_core.records import Outcome
from search_spaces.tables import Finalists
from sweeps.errors import InputError
from sweeps.home import Home
from sweeps.inspection.best import BestTrial, best_trial
from sweeps.ledger.confirmations import confirmation
from sweeps.ledger.ledger import Ledger
from sweeps.study.outcomes import Result
from tests.studies import SCHEDULE, fixed_study, run_trials

MISS = Result(Outcome.EXHAUSTED, 4, 8.0, None, None, 0.8, 4, values=(0.5, 0.6, 0.7, 0.8))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("home"))


def reached(crossing: float) -> Result:
    """A run that rises by 0.02 an epoch and crosses 0.92 there."""
    val_accs = tuple(0.92 + 0.02 * (epoch - crossing) for epoch in range(1, math.ceil(crossing) + 2))
    return Result(Outcome.REACHED, 4, crossing, math.ceil(crossing), None, 0.94, 4, values=val_accs)


def listed(home: Home, *results: Result, seeds: tuple[int, ...] = (), runs: int = 1, schedule: str = SCHEDULE) -> str:
    """The name of a study of runs that differ in their weight decay, and that ended with these results."""
    named = [{"name": f"r{i}", "weight_decay": 0.1 * i} for i in range(runs if seeds else len(results))]
    spec = fixed_study(schedule=schedule, run=named, search={"seeds": list(seeds)} if seeds else {})
    return run_trials(home.ledger_uri, spec, *results).spec.name


def confirmed(home: Home, name: str, *results: Result) -> str:
    return run_trials(home.ledger_uri, confirmation(home, name, len(results)), *results).spec.name


def best_of(home: Home, name: str) -> BestTrial:
    found = best_trial(home, Ledger.open(home.ledger_uri, name))
    assert found is not None
    return found


def test_one_run_of_a_trial_makes_no_winner(home):
    name = listed(home, reached(3.0))
    (said,) = best_of(home, name).sentences()
    assert said.startswith("no winner yet: one run may be luck")
    assert f"`sweeps race {name}`" in said
    assert f"`sweeps confirm {name}`" in said


def raced(home: Home) -> str:
    """A study of two runs, of which the faster one missed when it was run again."""
    name = listed(home, reached(2.0), reached(3.0))
    ledger = Ledger.open(home.ledger_uri, name)
    ledger.race(Finalists(top=2, seeds=2))
    while (job := ledger.next_assignment().job) is not None:
        ledger.tell(job.number, MISS if job.name.startswith("r0") else reached(3.0))
    return name


def test_a_winner_is_named_of_those_that_were_run_again(home):
    name = raced(home)
    winner, expected, *_ = best_of(home, name).sentences()
    assert winner.startswith("winner of the finalists: of 2 runs with fresh seeds 2 reached the target")
    assert f"`sweeps confirm {name}`" in winner
    assert expected.startswith("expected of its configuration: 2.9 epochs")
    assert best_of(home, name).entry.job.name == "r1"


def test_while_the_race_goes_on_there_is_no_winner(home):
    name = listed(home, reached(2.0), reached(3.0))
    ledger = Ledger.open(home.ledger_uri, name)
    ledger.race(Finalists(top=2, seeds=2))
    job = ledger.next_assignment().job
    assert job is not None
    ledger.tell(job.number, reached(2.0))
    found = best_of(home, name)
    assert found.sentences()[0].startswith(
        "ahead of the finalists so far, whose race goes on: of 1 runs with fresh seeds 1 "
    )
    assert not found.to_dict()["winner"]


def test_plain_values_tell_a_winner(home):
    shown = best_of(home, raced(home)).to_dict()
    assert (shown["winner"], shown["run_again"]) == (True, {"reached": 2, "runs": 2})
    assert shown["lead"]["chance_of_the_other"] < 0.5


def test_the_text_says_which_is_ahead_by_its_own_runs(home):
    found = best_of(home, listed(home, reached(3.0), reached(3.25)))
    assert found.lead is not None
    assert "0.25 epochs behind, with a chance of" in found.sentences()[-1]
    slower = dataclasses.replace(found, lead=dataclasses.replace(found.lead, epochs=-0.25))
    assert "0.25 epochs ahead by its own runs, but not by those around it" in slower.sentences()[-1]


def test_a_confirmation_is_named_with_how_many_runs_reached_the_target(home):
    name = listed(home, reached(3.0))
    confirming = confirmed(home, name, reached(3.0), MISS, reached(3.5))
    assert best_of(home, name).confirmed_by == {confirming: (2, 3)}
    assert best_of(home, name).sentences() == [f"confirmation {confirming}: 2 of 3 runs reached the target"]


def test_the_second_best_is_told_with_how_far_it_is_behind(home):
    found = best_of(home, listed(home, reached(3.5), reached(3.0), MISS))
    assert found.second == "r0"
    assert found.lead is not None
    assert found.lead.epochs == pytest.approx(0.5, abs=0.05)


def test_one_that_crossed_earlier_by_luck_is_behind(home):
    lucky = dataclasses.replace(reached(2.0), values=(0.9, 0.9201, 0.91, 0.91))
    found = best_of(home, listed(home, lucky, reached(3.0), schedule="[1e-3, 0] lin[1e-5, 12]"))
    assert found.second == "r0"
    assert found.lead is not None
    assert found.lead.epochs > 0


def test_another_seed_of_the_best_is_no_second_best(home):
    assert best_of(home, listed(home, reached(3.0), reached(3.1), seeds=(0, 1))).lead is None


@pytest.mark.parametrize("results", [(reached(3.0),), (reached(3.0), MISS), (MISS, MISS)])
def test_there_is_no_lead_unless_two_reached_the_target(home, results):
    assert best_of(home, listed(home, *results)).lead is None


def test_without_repeats_the_noise_is_said_to_be_unknown(home):
    said = best_of(home, listed(home, reached(3.0), reached(9.0))).sentences()[-1]
    assert "whether by more than noise is not known without repeats of a configuration; roughly" in said
    assert "both were validated on the same ones" in said


def test_a_curve_that_cannot_tell_the_noise_is_given_no_rough_figure(home):
    falling = dataclasses.replace(reached(1.0), values=(0.95, 0.94, 0.93, 0.92))
    said = best_of(home, listed(home, falling, reached(3.0))).sentences()[-1]
    assert said.endswith("not known without repeats of a configuration")


@pytest.mark.parametrize(("second", "said"), [(3.1, "within noise"), (90.0, "more than noise")])
def test_the_lead_is_judged_by_confirmations(home, second, said):
    name = listed(home, reached(3.0), reached(second))
    confirmed(home, name, reached(1.0), reached(3.0), MISS, reached(5.0))
    found = best_of(home, name)
    assert found.lead is not None
    # The trial that they repeat is a run like theirs: four crossings.
    assert found.lead.degrees == 3
    assert said in found.sentences()[-1]


def test_the_lead_is_judged_by_seeds_of_the_search_itself(home):
    results = [reached(crossing) for crossing in (3.0, 3.5, 4.0, 9.0, 9.5, 8.5)]
    found = best_of(home, listed(home, *results, seeds=(0, 1, 2), runs=2)).lead
    assert found is not None
    assert found.degrees > 1


def test_no_winner_of_a_confirmation_is_praised(home):
    name = confirmed(home, listed(home, reached(3.0)), reached(2.0), reached(3.0))
    (said,) = best_of(home, name).sentences()
    assert "its fastest run is luck" in said


def test_a_study_without_a_result_has_no_best_trial(home):
    assert best_trial(home, Ledger.create(home.ledger_uri, fixed_study())) is None


def test_plain_values_tell_the_same(home):
    shown = best_of(home, listed(home, reached(3.0), reached(3.25))).to_dict()
    assert (shown["confirmed_by"], shown["lead"]["over"]) == ({}, "r1")
    assert shown["lead"]["epochs"] == pytest.approx(0.25, abs=0.05)


def test_a_study_whose_trials_all_crashed_has_no_trial_to_confirm(home):
    name = listed(home, Result(Outcome.CRASHED, 0, stop_reason="mlp.py, line 5: KeyError: 'x'"))
    with pytest.raises(InputError, match=r"every trial crashed: mlp\.py, line 5"):
        confirmation(home, name, 3)


def test_the_second_best_of_another_metric_with_a_target_is_told(home):
    sought = {"metric": "val_loss", "goal": "min", "target": 0.5}
    runs = [{"name": "a"}, {"name": "b", "weight_decay": 0.1}]
    ends = [Result(Outcome.REACHED, 4, at, 2, None, 0.4, 4, values=(0.9, 0.5, 0.45, 0.4)) for at in (2.0, 1.9)]
    name = run_trials(home.ledger_uri, fixed_study(run=runs, objective=sought), *ends).spec.name
    found = best_of(home, name)
    assert found.second is not None
    assert f"second best: trial {found.second}, with a chance of " in " ".join(found.sentences())
