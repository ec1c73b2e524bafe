"""What a new study's sampler knows of an older one, and what it does not."""

from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from resnet_core.records import Outcome
from search_spaces.spec import StudySpec
from sweeps.errors import InputError
from sweeps.ledger.attributes import FORKED
from sweeps.ledger.forks import Fork
from sweeps.ledger.ledger import Ledger
from sweeps.ledger.studies import study_names
from sweeps.study.outcomes import Result
from tests.studies import REACHED, fixed_study, run_trials, sampled_study

SPACE = {
    "lr": {"low": 1e-4, "high": 1e-2, "log": True},
    "shift": {"low": 0.0, "high": 0.2},
    "batch_size": {"choices": [32, 64]},
}
POINTS = [{"lr": 1e-3, "shift": 0.05, "batch_size": 32}, {"lr": 2e-3, "shift": 0.1, "batch_size": 64}]


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'optuna.db'}"


def spec(
    space: dict[str, Any] | None = None,
    train: dict[str, Any] | None = None,
    search: dict[str, Any] | None = None,
    **tables: Any,
) -> StudySpec:
    return sampled_study(
        train={"schedule": "[lr, 0] lin[1e-5, 10]"} | (train or {}),
        space={name: values for name, values in (SPACE | (space or {})).items() if values},
        search={"trials": 4, "sampler": "random"} | (search or {}),
        **tables,
    )


def old_study(db: str, *results: Result | None, **tables: Any) -> Ledger:
    return run_trials(db, spec(search={"first": POINTS}, **tables), *(results or (REACHED, REACHED)))


def forked(db: str, source: Ledger, new: StudySpec) -> Ledger:
    return Ledger.create_fork(db, new, source.fork_for(new))


def in_optuna(db: str, study: StudySpec) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=study.name, storage=db).get_trials()


# What is taken


def test_ended_trials_are_known_with_parameters_and_value(db):
    source, new = old_study(db), spec()
    forked(db, source, new)
    trials = in_optuna(db, new)
    assert [trial.params for trial in trials] == POINTS
    assert [(trial.state, trial.value) for trial in trials] == [(TrialState.COMPLETE, 2.5)] * 2


def test_a_known_trial_says_where_it_is_from(db):
    source, new = old_study(db), spec()
    forked(db, source, new)
    assert [trial.user_attrs[FORKED] for trial in in_optuna(db, new)] == [
        {"study": source.spec.name, "trial": "0"},
        {"study": source.spec.name, "trial": "1"},
    ]


def test_a_pruned_trial_is_known_with_its_objective(db):
    source, new = old_study(db, Result(Outcome.PRUNED, 5, 12.0)), spec()
    forked(db, source, new)
    (trial,) = in_optuna(db, new)
    assert (trial.state, trial.value, trial.intermediate_values) == (TrialState.PRUNED, 12.0, {50: 12.0})


def test_a_diverged_trial_is_known_without_a_value(db):
    source, new = old_study(db, Result(Outcome.DIVERGED, 5)), spec()
    forked(db, source, new)
    (trial,) = in_optuna(db, new)
    assert (trial.state, trial.value) == (TrialState.PRUNED, None)


def test_crashed_and_unfinished_trials_are_left_out(db):
    source = old_study(db, REACHED, Result(Outcome.CRASHED, 0), None)
    known = source.fork_for(spec())
    assert (len(known.trials), known.left_out) == (1, {"crashed": 1, "not ended": 1})


def test_trials_outside_of_the_new_space_are_left_out(db):
    known = old_study(db).fork_for(spec({"shift": {"low": 0.0, "high": 0.07}}))
    assert ([trial.params["shift"] for trial in known.trials], known.left_out) == (
        [0.05],
        {"shift was not a number from 0 to 0.07": 1},
    )


def test_a_wider_space_takes_all(db):
    new = spec({"shift": {"low": 0.0, "high": 0.4}, "batch_size": {"choices": [16, 64, 32]}})
    assert len(old_study(db).fork_for(new).trials) == 2


def test_a_parameter_that_was_fixed_before_has_the_value_it_was_fixed_to(db):
    source, new = old_study(db, train={"weight_decay": 0.1}), spec({"weight_decay": {"low": 0.0, "high": 0.4}})
    assert [trial.params["weight_decay"] for trial in source.fork_for(new).trials] == [0.1, 0.1]


def test_a_parameter_that_is_fixed_now_keeps_the_trials_that_agree(db):
    known = old_study(db).fork_for(spec({"batch_size": None}, train={"batch_size": 64}))
    assert [trial.params for trial in known.trials] == [{"lr": 2e-3, "shift": 0.1}]
    assert known.left_out == {"it trained with another batch_size": 1}


def test_whole_numbers_are_taken_where_steps_were_before(db):
    source = old_study(db, train={"crop": 3})
    new = spec({"crop": {"low": 0, "high": 4, "int": True}})
    assert [trial.params["crop"] for trial in source.fork_for(new).trials] == [3, 3]


def test_a_trial_with_another_seed_is_taken(db):
    assert len(old_study(db).fork_for(spec(search={"seed": 40})).trials) == 2


def test_a_trial_under_other_stopping_rules_is_taken(db):
    assert len(old_study(db).fork_for(spec(stopping={"cap": {"best": 1, "slack": 1.0}})).trials) == 2


def test_a_fork_of_a_fork_knows_the_first_study_too(db):
    first, second, third = old_study(db), spec(), spec()
    run_on = forked(db, first, second)
    run_on.tell(run_on.ask().number, REACHED)
    forked(db, run_on, third)
    origins = [trial.user_attrs[FORKED]["study"] for trial in in_optuna(db, third)]
    assert origins == [first.spec.name, first.spec.name, second.name]


def test_the_text_of_a_fork_counts_the_trials_it_took_and_left_out():
    said = str(Fork("old", [], {"crashed": 3, "not ended": 1}))
    assert said == "the sampler knows 0 of the 4 trials of 'old':\n  3 left out: crashed\n  1 left out: not ended"


# What is refused


@pytest.mark.parametrize(
    ("tables", "difference"),
    [
        ({"objective": {"target": 0.9}}, r"objective.target: 0.92 -> 0.9"),
        ({"train": {"epochs": 12}}, r"epochs of the longest schedule: 10 -> 12"),
        ({"train": {"schedule": "[lr, 0] lin[1e-5, 8]"}}, r"epochs of the longest schedule: 10 -> 8"),
    ],
)
def test_a_study_with_another_objective_is_refused_with_the_difference(db, tables, difference):
    with pytest.raises(InputError, match=rf"(?s)what is minimised means another thing there\n  {difference}\n"):
        old_study(db).fork_for(spec(**tables))


@pytest.mark.parametrize(
    ("train", "named"),
    [
        ({"model": "resnet20v2"}, "model"),
        ({"schedule": "[lr, 0] cos[1e-5, 10]"}, "schedule"),
        ({"split": "held-out", "l2": 1e-4}, "split, another l2"),
    ],
)
def test_a_study_that_trains_otherwise_is_refused_with_what_differs(db, train, named):
    with pytest.raises(InputError, match=rf"(?s)none of its trials .*\n  2 left out: it trained with another {named}$"):
        old_study(db).fork_for(spec(train=train))


def test_a_schedule_with_a_parameter_that_was_none_is_refused(db):
    new = spec({"end": {"low": 1e-6, "high": 1e-4}}, train={"schedule": "[lr, 0] lin[end, 10]"})
    with pytest.raises(InputError, match="2 left out: end was no parameter of it"):
        old_study(db).fork_for(new)


def test_a_study_without_trials_is_refused(db):
    with pytest.raises(InputError, match="none of its trials can be taken over; it has none"):
        run_trials(db, spec()).fork_for(spec())


def test_a_grid_cannot_learn(db):
    grid = fixed_study(space={"batch_size": SPACE["batch_size"]}, search={"sampler": "grid"})
    with pytest.raises(InputError, match="the new one is a grid, and no sampler is there to learn"):
        old_study(db).fork_for(grid)


def test_listed_runs_cannot_learn(db):
    with pytest.raises(InputError, match="the new one lists its runs, and no sampler is there to learn"):
        old_study(db).fork_for(fixed_study())


def test_a_name_that_exists_is_refused(db):
    source = old_study(db)
    with pytest.raises(InputError, match=f"--fork {source.spec.name}: there is a study of this name"):
        forked(db, source, spec().model_copy(update={"name": source.spec.name}))


# The new study


def test_known_trials_do_not_count_in_the_new_study(db):
    source, new = old_study(db), spec()
    ledger = forked(db, source, new)
    assert (ledger.entries(), ledger.unfinished(), ledger.remaining(), ledger.complete()) == ([], [], 4, False)


def test_the_new_study_counts_its_own_trials_from_zero(db):
    ledger = forked(db, old_study(db), spec(search={"seed": 40}))
    jobs = [ledger.ask() for _ in range(2)]
    assert [(job.number, job.name, job.config.seed) for job in jobs] == [(0, "0", 40), (1, "1", 41)]


def test_the_new_study_runs_its_own_first_trials(db):
    wanted = {"lr": 5e-3, "shift": 0.01, "batch_size": 64}
    ledger = forked(db, old_study(db), spec(search={"first": [wanted]}))
    assert ledger.ask().params == wanted


def test_a_forked_study_is_continued_as_any_other(db):
    new = spec()
    ledger = forked(db, old_study(db), new)
    ledger.tell(ledger.ask().number, REACHED)
    begun = ledger.ask()
    again = Ledger.open(db, new.name)
    assert again.unfinished() == [begun]
    again.tell(begun.number, REACHED)
    assert [entry.job.number for entry in again.entries()] == [0, 1]
    assert again.remaining() == 2
    assert Ledger.create(db, new).remaining() == 2


def test_a_crashed_trial_of_a_forked_study_is_tried_again_under_its_name(db):
    new = spec()
    ledger = forked(db, old_study(db), new)
    crashed = ledger.ask()
    ledger.tell(crashed.number, Result(Outcome.CRASHED, 0))
    again = Ledger.open(db, new.name).ask()
    assert (again.number, again.name, again.params, again.config) == (1, "0", crashed.params, crashed.config)


def test_the_old_study_stays_as_it_was(db):
    source = old_study(db)
    before = in_optuna(db, source.spec)
    forked(db, source, spec())
    assert in_optuna(db, source.spec) == before


def test_a_fork_that_was_killed_half_way_is_begun_anew(db):
    source, new = old_study(db), spec()
    half = optuna.create_study(study_name=new.name, storage=db, direction="minimize")
    half.add_trial(source.fork_for(new).trials[0])
    assert new.name not in study_names(db)
    forked(db, source, new)
    assert len(in_optuna(db, new)) == 2
    assert Ledger.open(db, new.name).spec == new


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes", "random"])
def test_every_sampler_goes_on_from_what_it_knows(db, sampler, recwarn):
    source, new = old_study(db, *[REACHED] * 12), spec(search={"sampler": sampler, "trials": 3})
    ledger = forked(db, source, new)
    for _ in range(3):
        ledger.tell(ledger.ask().number, REACHED)
    assert ledger.complete()
    assert [str(warning.message) for warning in recwarn if warning.category is UserWarning] == []


@pytest.mark.parametrize("options", [{"sigma0": 0.1}, {"use_separable_cma": True}, {"with_margin": True}])
def test_cmaes_goes_on_with_any_of_its_settings(db, options):
    """Optuna refuses to start from known trials with the first two of them."""
    search = {"sampler": "cmaes", "trials": 3, "sampler_options": options}
    ledger = forked(db, old_study(db, *[REACHED] * 12), spec(search=search))
    for _ in range(3):
        ledger.tell(ledger.ask().number, REACHED)
    assert ledger.complete()


def test_cmaes_starts_from_known_trials_without_their_conditional_parameters(db):
    """Else it takes the trials that have one for those of another space, and the others alone may be too few."""
    crop = {"low": 0, "high": 4, "int": True, "when": {"batch_size": 32}}
    new = spec(space={"crop": crop}, search={"sampler": "cmaes", "trials": 3})
    ledger = forked(db, old_study(db, *[REACHED] * 14), new)
    for _ in range(3):
        ledger.tell(ledger.ask().number, REACHED)
    assert ledger.complete()


@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
def test_a_sampler_proposes_near_what_was_good_before(db, sampler):
    """Of 40 trials over the whole space those at a small shift were the better; so are the new study's."""
    space = {"lr": {"low": 1e-4, "high": 1e-2, "log": True}, "shift": {"low": 0.0, "high": 0.2}}
    first = [{"lr": 10 ** (-2 - (7 * i % 40) / 20), "shift": i / 200} for i in range(40)]

    def study(**search: Any) -> StudySpec:
        return sampled_study(space=space, search=search)

    source = Ledger.create(db, study(trials=40, sampler="random", first=first))
    for _ in range(40):
        job = source.ask()
        source.tell(job.number, Result(Outcome.REACHED, 10, 1 + 100 * job.config.shift))
    ledger = forked(db, source, study(trials=8, sampler=sampler))
    shifts = [ledger.ask().config.shift for _ in range(8)]
    assert sorted(shifts)[4] < 0.05
