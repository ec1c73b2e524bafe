"""From a search to its confirmation: what is frozen, which seeds are taken, what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from resnet_core.records import Outcome
from search_spaces.errors import StudyError
from search_spaces.space import listed_runs, trial_config
from search_spaces.spec import StudySpec
from search_spaces.study import identity
from sweeps.errors import InputError
from sweeps.home import Home
from sweeps.ledger.confirmations import Side, confirmation, confirming, paired
from sweeps.ledger.ledger import Ledger
from sweeps.study.finalists import fresh_seeds
from sweeps.study.outcomes import Result
from tests.studies import SCHEDULE, fixed_study


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """One storage for all tests, since making one takes a second; each study has a name of its own."""
    return Home(tmp_path_factory.mktemp("home"))


def result(objective: float) -> Result:
    val_accs = tuple(min(0.9 + 0.1 * (epoch - objective), 0.93) for epoch in range(1, 5))  # crosses 0.9 there
    return Result(Outcome.REACHED, 4, objective, 3, None, 0.93, 4, values=val_accs)


def search(home: Home, *objectives: float, seed: int = 0, **train: Any) -> str:
    """A search of weight decays whose trials ended so; the name of it."""
    spec = fixed_study(
        train={"schedule": SCHEDULE, "split": "held-out"} | train,
        space={"weight_decay": {"low": 0.1, "high": 0.2}},
        search={"trials": max(1, len(objectives)), "sampler": "random", "seed": seed, "retries": 3},
        objective={"target": 0.9, "sustained": 3},
        stopping={"cap": {"best": 1, "slack": 1.0}},
        resources={"cpus_per_trial": 2},
    )
    ledger = Ledger.create(home.ledger_uri, spec)
    for objective in objectives:
        ledger.tell(ledger.ask().number, result(objective))
    return spec.name


def launched(home: Home, name: str, seeds: int, **options: Any) -> StudySpec:
    spec = confirmation(home, name, seeds, **options)
    Ledger.create(home.ledger_uri, spec)
    return spec


# What is frozen


def test_the_best_trials_configuration_is_frozen(home):
    name = search(home, 3.0, 2.0, 4.0)
    spec = confirmation(home, name, 2)
    (_, best, _) = Ledger.open(home.ledger_uri, name).entries()
    (run, *_) = listed_runs(spec)
    frozen = trial_config(spec, {}, seed=run.seed, run=run.name).to_dict()
    assert {k: v for k, v in frozen.items() if best.job.config.to_dict()[k] != v} == {"seed": 1_000_000, "test": True}


def test_every_field_is_written_out(home):
    assert confirmation(home, search(home, 3.0), 1).train["batch_size"] == 64


def test_another_trial_can_be_named(home):
    name = search(home, 3.0, 2.0)
    assert confirmation(home, name, 1, trial="0").confirms == f"{name} trial 0"


def test_the_target_is_the_searchs(home):
    objective = confirmation(home, search(home, 3.0), 1).objective
    assert (objective.target, objective.sustained) == (0.9, 3)


def test_nothing_stops_a_run_early(home):
    assert confirmation(home, search(home, 3.0), 1).stopping.rules == {}


def test_resources_are_the_searchs_unless_changed(home):
    spec = confirmation(home, search(home, 3.0), 1, resources={"gpus_per_trial": 0.5})
    assert (spec.resources.cpus_per_trial, spec.resources.gpus_per_trial) == (2, 0.5)


def test_a_resource_that_does_not_exist_is_refused(home):
    with pytest.raises(InputError, match=r"--set resources\.tpus"):
        confirmation(home, search(home, 3.0), 1, resources={"tpus": 1})


@pytest.mark.parametrize("split", ["official", "pooled"])
def test_a_split_without_untouched_images_is_not_tested(home, split):
    assert confirmation(home, search(home, 3.0, split=split), 1).train["test"] is False


# Seeds


def test_seeds_are_fresh_and_as_many_as_asked_for(home):
    assert confirmation(home, search(home, 3.0, seed=7), 3).search.seeds == [1_000_007, 1_000_008, 1_000_009]


def test_a_seed_that_was_used_is_passed_over():
    assert fresh_seeds(0, 3, {1_000_001}) == [1_000_000, 1_000_002, 1_000_003]


def test_seeds_stay_below_their_limit():
    assert fresh_seeds(2**32 - 1, 1, ()) == [999_999]


def test_confirmations_of_two_trials_share_their_seeds(home):
    name = search(home, 3.0, 2.0)
    seeds = [confirmation(home, name, 4, trial=trial).search.seeds for trial in ("0", "1")]
    assert seeds[0] == seeds[1]


def test_a_single_run_is_named_by_its_seed_too(home):
    assert [run.trial_name for run in listed_runs(confirmation(home, search(home, 3.0), 1))] == ["0-s1000000"]


# Again, and for longer


def test_more_seeds_are_added_behind_those_there_are(home):
    name = search(home, 3.0)
    first, longer = launched(home, name, 2), launched(home, name, 4)
    assert longer.search.seeds is not None
    assert longer.search.seeds[:2] == first.search.seeds
    assert Ledger.open(home.ledger_uri, longer.name).remaining() == 4


def test_a_longer_confirmation_runs_the_new_seeds_alone(home):
    name = search(home, 3.0)
    spec = launched(home, name, 1)
    ledger = Ledger.open(home.ledger_uri, spec.name)
    ledger.tell(ledger.ask().number, result(2.0))
    launched(home, name, 2)
    assert Ledger.open(home.ledger_uri, spec.name).ask().config.seed == 1_000_001


def test_fewer_seeds_than_there_are_are_refused(home):
    name = search(home, 3.0)
    launched(home, name, 3)
    with pytest.raises(InputError, match=r"--seeds 2: study '.*-confirm' has 3 seeds already"):
        confirmation(home, name, 2)


def test_a_confirmation_continues_with_its_trial_when_another_is_the_best_by_now(home):
    name = search(home, 3.0)
    launched(home, name, 1)
    ledger = Ledger.open(home.ledger_uri, name)
    ledger.extend(2)
    ledger.tell(ledger.ask().number, result(1.0))
    assert confirmation(home, name, 2).confirms == f"{name} trial 0"


def test_a_name_that_confirms_another_trial_is_refused(home):
    name = search(home, 3.0, 2.0)
    launched(home, name, 1)
    with pytest.raises(InputError, match=r"confirms .* trial 1, and not .* trial 0: give .* --as"):
        confirmation(home, name, 1, trial="0")


def test_two_trials_are_confirmed_under_two_names(home):
    name = search(home, 3.0, 2.0)
    launched(home, name, 1)
    assert confirmation(home, name, 1, trial="0", new_name="other").name == "other"


def test_a_name_that_is_taken_by_a_search_is_refused(home):
    name = search(home, 3.0)
    with pytest.raises(InputError, match="is there, and no confirmation"):
        confirmation(home, name, 1, new_name=search(home, 3.0))


def test_a_confirmation_is_not_confirmed(home):
    spec = launched(home, search(home, 3.0), 1)
    with pytest.raises(InputError, match=r"is a confirmation itself, of .* trial 0; name the search"):
        confirmation(home, spec.name, 1)


def test_a_search_without_a_result_is_refused(home):
    with pytest.raises(InputError, match="no trial that ended with a result yet"):
        confirmation(home, search(home), 1)


def test_a_confirmation_is_not_made_longer_by_a_number_of_trials(home):
    spec = launched(home, search(home, 3.0), 1)
    with pytest.raises(InputError, match="sweeps confirm STUDY --as"):
        Ledger.open(home.ledger_uri, spec.name).extend(5)


def test_other_seeds_under_the_same_name_are_another_study(home):
    spec = launched(home, search(home, 3.0), 2)
    other = spec.model_copy(update={"search": spec.search.model_copy(update={"seeds": [5, 6, 7]})})
    with pytest.raises(InputError, match=r"search\.seeds: \[1000000, 1000001\] -> \[5, 6, 7\]"):
        Ledger.create(home.ledger_uri, other)


def test_the_studies_that_confirm_a_trial_are_found(home):
    name = search(home, 3.0, 2.0)
    spec = launched(home, name, 1)
    worst, best = Ledger.open(home.ledger_uri, name).entries()
    assert [c.name for c in confirming(home, name, best)] == [spec.name]
    assert confirming(home, name, worst) == []


# The phase in a study file


def confirm_file(**tables: Any) -> StudySpec:
    train = {"schedule": SCHEDULE, "split": "held-out", "test": True}
    return fixed_study("c", **{"phase": "confirm", "train": train, "stopping": {"diverged": False}} | tables)


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"space": {"shift": {"low": 0.0, "high": 0.1}}, "search": {"trials": 2}}, "has no space"),
        ({"run": [{"name": "a"}, {"name": "b"}]}, "has one run"),
        ({"stopping": {}}, r"stopping\.diverged: expected false"),
        ({"stopping": {"diverged": False, "patience": {"epochs": 2}}}, r"stopping\.patience: expected none"),
    ],
)
def test_a_confirmation_refuses(tables, said):
    with pytest.raises(ValueError, match=said):
        confirm_file(**tables)


def test_a_search_cannot_test():
    with pytest.raises(ValueError, match=r"train\.test = true: expected none in a search"):
        confirm_file(phase="search")


def test_a_search_cannot_try_out_testing():
    with pytest.raises(ValueError, match=r"space\.test: expected none in a search: .*`sweeps confirm`"):
        confirm_file(phase="search", space={"test": {"choices": [True, False]}}, search={"trials": 2})


def test_a_search_confirms_nothing():
    with pytest.raises(ValueError, match=r"confirms = .*expected none in a search"):
        fixed_study(confirms="x")


def test_what_a_study_confirms_is_no_part_of_its_identity():
    assert identity(confirm_file(confirms="a trial 1")) == identity(confirm_file())


def test_the_phase_of_a_search_is_no_part_of_its_identity():
    """A study from before there were phases is still the same."""
    assert "phase" not in identity(fixed_study())


def test_an_invalid_name_is_a_study_error(home):
    with pytest.raises(StudyError, match="name = "):
        confirmation(home, search(home, 3.0), 1, new_name="../x")


def test_a_missing_study_is_an_input_error(tmp_path: Path):
    with pytest.raises(InputError, match="no study 'x'"):
        confirmation(Home(tmp_path), "x", 1)


# How the number of runs came about


def ended(home: Home, spec: StudySpec, **options: Any) -> Ledger:
    """The ledger of a confirmation all of whose runs have ended."""
    ledger = Ledger.create(home.ledger_uri, spec, **options)
    while ledger.remaining():
        ledger.tell(ledger.ask().number, result(3.0))
    return ledger


def test_seeds_that_are_added_after_runs_have_ended_are_known_from_then_on(home):
    name = search(home, 3.0)
    assert ended(home, confirmation(home, name, 2)).lengthened == ""
    assert Ledger.create(home.ledger_uri, confirmation(home, name, 3)).lengthened == "looked"
    assert Ledger.open(home.ledger_uri, f"{name}-confirm").lengthened == "looked"


def test_seeds_that_are_added_before_any_run_has_ended_are_not_recorded_as_looked(home):
    name = search(home, 3.0)
    launched(home, name, 2)
    assert Ledger.create(home.ledger_uri, confirmation(home, name, 3)).lengthened == ""


def test_a_confirmation_that_is_continued_is_as_long_as_it_was(home):
    name = search(home, 3.0)
    ended(home, confirmation(home, name, 2))
    assert Ledger.create(home.ledger_uri, confirmation(home, name, 2)).lengthened == ""


def test_seeds_that_a_sequential_test_adds_are_recorded_as_sequential(home):
    name = search(home, 3.0)
    assert ended(home, confirmation(home, name, 2), sequential=True).lengthened == "sequential"
    assert ended(home, confirmation(home, name, 3), sequential=True).lengthened == "sequential"
    assert ended(home, confirmation(home, name, 4)).lengthened == "looked"
    assert ended(home, confirmation(home, name, 5), sequential=True).lengthened == "looked"


def test_without_a_number_a_confirmation_has_ten_seeds_or_as_many_as_it_had(home):
    name = search(home, 3.0)
    assert len(confirmation(home, name).search.seeds or []) == 10
    launched(home, name, 3)
    assert len(confirmation(home, name).search.seeds or []) == 3


# In pairs


def launch_pairs(home: Home, a: Side, b: Side, pairs: int) -> list[int]:
    found = paired(home, a, b, pairs)
    for spec in (found.a, found.b):
        ended(home, spec, sequential=True)
    return found.seeds


def test_both_sides_of_a_pair_have_the_same_fresh_seeds(home):
    a, b = Side(search(home, 3.0, seed=1)), Side(search(home, 2.0, seed=2))
    found = paired(home, a, b, 3)
    assert found.seeds == found.a.search.seeds == found.b.search.seeds == [1_000_001, 1_000_002, 1_000_003]
    assert (found.a.name, found.b.name) == (f"{a.study}-confirm", f"{b.study}-confirm")


def test_a_seed_that_either_search_used_makes_no_pair(home):
    a, b = Side(search(home, 3.0, seed=0)), Side(search(home, 2.0, seed=1_000_000))
    assert paired(home, a, b, 2).seeds == [1_000_001, 1_000_002]


def test_pairs_keep_their_places_as_there_are_more(home):
    a, b = Side(search(home, 3.0)), Side(search(home, 2.0, seed=5))
    first = launch_pairs(home, a, b, 2)
    assert launch_pairs(home, a, b, 4)[:2] == first


def test_seeds_that_one_side_has_make_the_first_pairs(home):
    a, b = Side(search(home, 3.0)), Side(search(home, 2.0, seed=5))
    ended(home, confirmation(home, b.study, 3))
    found = paired(home, a, b, 2)
    assert found.seeds == found.a.search.seeds == [1_000_005, 1_000_006]
    assert found.b.search.seeds == [1_000_005, 1_000_006, 1_000_007]


def test_pairs_that_are_there_are_all_counted(home):
    a, b = Side(search(home, 3.0)), Side(search(home, 2.0, seed=5))
    launch_pairs(home, a, b, 4)
    assert len(paired(home, a, b, 2).seeds) == 4


def test_a_kill_between_the_two_sides_changes_no_pair(home):
    a, b = Side(search(home, 3.0)), Side(search(home, 2.0, seed=5))
    launch_pairs(home, a, b, 2)
    interrupted = paired(home, a, b, 4)
    ended(home, interrupted.a, sequential=True)
    assert paired(home, a, b, 4).seeds == interrupted.seeds


def test_two_trials_of_a_search_are_paired_under_two_names(home):
    name = search(home, 3.0, 2.0)
    with pytest.raises(InputError, match="give the second a name of its own with --against-as"):
        paired(home, Side(name, "0"), Side(name, "1", option="--against-as"), 2)
    found = paired(home, Side(name, "0"), Side(name, "1", "other-" + name), 2)
    assert (found.a.confirms, found.b.confirms) == (f"{name} trial 0", f"{name} trial 1")


def test_a_trial_is_not_paired_with_itself(home):
    name = search(home, 3.0)
    with pytest.raises(InputError, match="expected another trial"):
        paired(home, Side(name), Side(name, "0", "twice-" + name), 2)


def test_targets_that_differ_are_refused(home):
    a, b = search(home, 3.0), search(home, 3.0)
    low = confirmation(home, b, 1)
    objective = replace(low.objective, target=0.8)
    spec = Ledger.open(home.ledger_uri, b).spec.model_copy(update={"name": "low-" + b, "objective": objective})
    ledger = Ledger.create(home.ledger_uri, spec)
    ledger.tell(ledger.ask().number, result(3.0))
    with pytest.raises(
        InputError, match=r"0\.9 or more and low-.* accuracy 0\.8 or more: --against expects one target"
    ):
        paired(home, Side(a), Side("low-" + b), 2)
