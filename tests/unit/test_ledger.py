"""The ledger of trials in Optuna's storage: what it proposes, what it is told, what it remembers."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from resnet_core.records import Outcome
from search_spaces.spec import StudySpec
from search_spaces.study import differences
from search_spaces.tables import Finalists
from sweeps.errors import InputError, SweepError
from sweeps.ledger.ledger import Ledger
from sweeps.ledger.samplers import make_sampler
from sweeps.ledger.studies import study_names
from sweeps.study.finalists import race_of
from sweeps.study.outcomes import Result
from sweeps.study.trials import Job
from tests.studies import fixed_study, sampled_study

SCHEDULE = "[1e-3, 0] lin[1e-5, 10]"
LR = optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True)
SPACE = {"lr": {"low": 1e-4, "high": 1e-2, "log": True}, "shift": {"low": 0.0, "high": 0.2}}
FIRST = [{"lr": 1e-3, "shift": 0.1}, {"lr": 2e-3, "shift": 0.05}]
GRID = {"batch_size": {"choices": [16, 32]}, "shift": {"low": 0.0, "high": 0.2, "step": 0.1}}
POINTS = set(itertools.product([16, 32], [0.0, 0.1, 0.2]))


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One storage for all tests, since making one takes a second; each study has a name of its own."""
    return uri(tmp_path_factory.mktemp("ledger"))


def uri(folder: Path) -> str:
    return f"sqlite:///{folder / 'optuna.db'}"


def sampled(name: str = "", train: dict[str, Any] | None = None, **search: Any) -> StudySpec:
    """A study with a space, of random trials unless the sampler is given."""
    train = {"schedule": "[lr, 0] lin[1e-5, 10]"} | (train or {})
    return sampled_study(name, train=train, space=SPACE, search={"trials": 4, "sampler": "random"} | search)


def gridded(**search: Any) -> StudySpec:
    return fixed_study(schedule=SCHEDULE, space=GRID, search={"sampler": "grid"} | search)


def listed(runs: list[dict[str, Any]] | None = None, **search: Any) -> StudySpec:
    runs = runs if runs is not None else [{"name": "a"}, {"name": "b", "seed": 7}]
    return fixed_study(schedule=SCHEDULE, run=runs, search=search)


def result(outcome: Outcome = Outcome.REACHED, objective: float | None = 3.5, epochs: int = 4) -> Result:
    return Result(outcome, epochs, None if outcome in (Outcome.DIVERGED, Outcome.CRASHED) else objective)


def ask_all(ledger: Ledger, outcome: Outcome = Outcome.REACHED) -> list[Job]:
    """Ask and tell until nothing is left to run."""
    jobs = []
    for _ in range(ledger.remaining()):
        jobs.append(ledger.ask())
        ledger.tell(jobs[-1].number, result(outcome))
    return jobs


def optuna_study(db: str, name: str) -> optuna.Study:
    return optuna.load_study(study_name=name, storage=db)


def optuna_trial(db: str, name: str, number: int = 0) -> FrozenTrial:
    return optuna_study(db, name).get_trials()[number]


# Create and open


def test_a_new_study_begins_empty(db):
    ledger = Ledger.create(db, sampled())
    assert (ledger.entries(), ledger.remaining(), ledger.complete()) == ([], 4, False)


def test_the_folder_of_the_file_is_made(tmp_path):
    spec = sampled()
    Ledger.create(uri(tmp_path / "new"), spec)
    assert study_names(uri(tmp_path / "new")) == [spec.name]


def test_the_studies_of_a_file_are_listed_by_name(tmp_path):
    for name in ("b", "a"):
        Ledger.create(uri(tmp_path), sampled(name))
    assert study_names(uri(tmp_path)) == ["a", "b"]


def test_a_file_that_is_not_there_has_no_studies_and_is_not_made(tmp_path):
    assert study_names(uri(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_study_is_named_with_the_known_ones(db):
    known = sampled()
    Ledger.create(db, known)
    with pytest.raises(
        InputError,
        match=rf"^no study 'nope' in {Path(db.removeprefix('sqlite:///')).parent}; known: .*\b{known.name}\b",
    ):
        Ledger.open(db, "nope")


def test_without_any_study_none_are_known(tmp_path):
    with pytest.raises(InputError, match="known: none"):
        Ledger.open(uri(tmp_path), "nope")


def test_an_opened_study_is_the_one_that_was_created(db):
    spec = sampled(first=FIRST)
    Ledger.create(db, spec)
    assert Ledger.open(db, spec.name).spec == spec


def test_the_same_study_is_continued(db):
    spec = sampled()
    ask_all(Ledger.create(db, spec))
    assert len(Ledger.create(db, spec).entries()) == 4


def test_a_study_that_asks_something_else_is_refused_with_the_difference(db):
    spec = sampled(seed=3)
    Ledger.create(db, spec)
    with pytest.raises(InputError, match=rf"(?s)asks something else:\n  search.seed: 3 -> 4\n.*resume {spec.name}`"):
        Ledger.create(db, sampled(spec.name, seed=4))


def test_a_refused_study_changes_nothing(db):
    spec = sampled()
    Ledger.create(db, spec)
    with pytest.raises(InputError):
        Ledger.create(db, sampled(spec.name, seed=4))
    assert Ledger.open(db, spec.name).spec == spec


def test_resources_and_the_number_of_trials_may_change(db):
    spec = sampled(trials=2)
    ask_all(Ledger.create(db, spec))
    more = StudySpec.model_validate(
        sampled(spec.name, trials=5).model_dump(by_alias=True) | {"resources": {"cpus_per_trial": 2}}
    )
    assert Ledger.create(db, more).remaining() == 3
    assert Ledger.open(db, spec.name).spec == more


# Ask


def test_the_first_trials_come_first_in_their_order():
    ledger = Ledger.preview(sampled(first=FIRST))
    jobs = ask_all(ledger)
    assert [job.params for job in jobs[:2]] == FIRST
    assert all(job.params not in FIRST for job in jobs[2:])


def test_what_a_first_trial_leaves_out_is_sampled():
    job = Ledger.preview(sampled(first=[{"lr": 2e-3}])).ask()
    assert job.params["lr"] == 2e-3
    assert 0 <= job.params["shift"] <= 0.2


def test_a_trial_trains_what_was_sampled():
    job = Ledger.preview(sampled(first=FIRST, train={"batch_size": 17})).ask()
    assert (job.config.lr_alpha, job.config.shift, job.config.batch_size) == (1e-3, 0.1, 17)


def test_trials_are_numbered_from_zero_and_named_by_number():
    jobs = ask_all(Ledger.preview(sampled()))
    assert [(job.number, job.name) for job in jobs] == [(0, "0"), (1, "1"), (2, "2"), (3, "3")]


def test_sampled_trials_differ():
    assert len({job.params["lr"] for job in ask_all(Ledger.preview(sampled()))}) == 4


def test_no_more_first_trials_are_run_than_asked_for():
    assert [job.params for job in ask_all(Ledger.preview(sampled(trials=1, first=FIRST)))] == FIRST[:1]


def test_each_trial_has_a_seed_of_its_own_from_the_searchs():
    jobs = ask_all(Ledger.preview(sampled(seed=40, first=FIRST)))
    assert [job.config.seed for job in jobs] == [40, 41, 42, 43]


def test_a_seed_under_train_is_every_trials():
    jobs = ask_all(Ledger.preview(sampled(train={"seed": 7}, seed=40)))
    assert {job.config.seed for job in jobs} == {7}


def test_listed_runs_come_in_order_with_their_names_and_seeds():
    jobs = ask_all(Ledger.preview(listed()))
    assert [(job.name, job.config.seed, job.params) for job in jobs] == [("a", 0, {}), ("b", 7, {})]


def test_listed_runs_are_repeated_with_every_seed():
    jobs = ask_all(Ledger.preview(listed(seeds=[3, 5])))
    assert [(job.name, job.config.seed) for job in jobs] == [("a-s3", 3), ("a-s5", 5), ("b-s3", 3), ("b-s5", 5)]


def test_a_listed_run_trains_its_own_fields():
    (job,) = ask_all(Ledger.preview(listed([{"name": "a", "shift": 0.07}])))
    assert job.config.shift == 0.07


def test_a_grid_tries_every_point_once():
    points = [(job.params["batch_size"], job.params["shift"]) for job in ask_all(Ledger.preview(gridded()))]
    assert len(points) == 6
    assert {(batch_size, round(shift, 9)) for batch_size, shift in points} == POINTS


@pytest.mark.parametrize("point", [(16, 0.0), (16, 0.2), (32, 0.0), (32, 0.2)])
def test_a_grid_has_its_first_trials_first_and_once(point):
    first = dict(zip(GRID, point, strict=True))
    points = [tuple(job.params.values()) for job in ask_all(Ledger.preview(gridded(first=[first])))]
    assert points[0] == point
    assert len(points) == len(set(points)) == 6


def shuffled(**search: Any) -> list[dict[str, Any]]:
    return [job.params for job in ask_all(Ledger.preview(gridded(**search)))]


def test_a_grid_is_shuffled_by_the_seed():
    orders = [shuffled(seed=seed) for seed in range(4)]
    assert shuffled(seed=1) == orders[1]
    assert any(order != orders[0] for order in orders)


def test_a_cut_grid_is_the_begin_of_the_whole_one():
    assert shuffled(trials=4) == shuffled()[:4]


@pytest.mark.parametrize(
    ("sampler", "kind"),
    [("tpe", "TPESampler"), ("gp", "GPSampler"), ("cmaes", "CmaEsSampler"), ("random", "RandomSampler")],
)
def test_the_study_chooses_optunas_sampler(sampler, kind):
    assert type(make_sampler(sampled(sampler=sampler), [])).__name__ == kind


def test_a_preview_asks_what_the_study_would_ask(db):
    spec = sampled(first=FIRST[:1])
    preview, ledger = Ledger.preview(spec), Ledger.create(db, spec)
    assert [preview.ask() for _ in range(4)] == [ledger.ask() for _ in range(4)]


def test_a_preview_keeps_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ask_all(Ledger.preview(sampled()))
    assert list(tmp_path.iterdir()) == []


# Tell


@pytest.mark.parametrize("outcome", [Outcome.REACHED, Outcome.EXHAUSTED])
def test_a_trial_that_ended_by_itself_is_complete_with_its_objective(db, outcome):
    ledger = Ledger.create(db, sampled())
    ledger.tell(ledger.ask().number, result(outcome, 3.5))
    trial = optuna_trial(db, ledger.spec.name)
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 3.5)


def test_a_pruned_trial_has_its_objective_at_the_trained_percentage_of_its_schedule(db):
    ledger = Ledger.create(db, sampled())
    ledger.tell(ledger.ask().number, result(Outcome.PRUNED, 12.5, epochs=9))
    trial = optuna_trial(db, ledger.spec.name)
    assert (trial.state, trial.value, trial.intermediate_values) == (TrialState.PRUNED, 12.5, {90: 12.5})


def test_a_diverged_trial_is_pruned_without_a_value(db):
    ledger = Ledger.create(db, sampled())
    ledger.tell(ledger.ask().number, result(Outcome.DIVERGED))
    trial = optuna_trial(db, ledger.spec.name)
    assert (trial.state, trial.value, trial.intermediate_values) == (TrialState.PRUNED, None, {})


def test_a_crashed_trial_has_failed(db):
    ledger = Ledger.create(db, sampled())
    ledger.tell(ledger.ask().number, result(Outcome.CRASHED))
    trial = optuna_trial(db, ledger.spec.name)
    assert (trial.state, trial.value) == (TrialState.FAIL, None)


def test_a_trial_that_was_begun_is_running(db):
    ledger = Ledger.create(db, sampled())
    ledger.ask()
    assert optuna_trial(db, ledger.spec.name).state is TrialState.RUNNING


@pytest.mark.parametrize("outcome", Outcome)
def test_results_are_remembered_with_their_jobs(db, outcome):
    ledger = Ledger.create(db, sampled())
    job, told = ledger.ask(), result(outcome)
    ledger.tell(job.number, told)
    (entry,) = Ledger.open(db, ledger.spec.name).entries()
    assert (entry.job, entry.result) == (job, told)


def test_a_running_trial_has_no_result_yet(db):
    ledger = Ledger.create(db, sampled())
    job = ledger.ask()
    assert [(entry.job, entry.result) for entry in ledger.entries()] == [(job, None)]


@pytest.mark.parametrize(("outcome", "left"), [(None, 3), *((o, 4 if o is Outcome.CRASHED else 3) for o in Outcome)])
def test_a_crashed_trial_does_not_count(db, outcome, left):
    ledger = Ledger.create(db, sampled())
    job = ledger.ask()
    if outcome is not None:
        ledger.tell(job.number, result(outcome))
    assert Ledger.open(db, ledger.spec.name).remaining() == left


def test_a_trial_that_crashes_is_retried_by_the_next_launch(db):
    ledger = Ledger.create(db, sampled())
    ledger.tell(ledger.ask().number, result(Outcome.CRASHED))
    assert ledger.remaining() == 3


def test_a_study_is_complete_when_all_trials_have_ended(db):
    ledger = Ledger.create(db, sampled(trials=1))
    job = ledger.ask()
    assert (ledger.remaining(), ledger.complete()) == (0, False)
    ledger.tell(job.number, result())
    assert (ledger.remaining(), ledger.complete()) == (0, True)


def test_fewer_trials_than_have_ended_leave_none_to_run(db):
    spec = sampled(trials=3)
    ask_all(Ledger.create(db, spec))
    assert Ledger.create(db, sampled(spec.name, trials=2)).remaining() == 0


# After the process has ended


def test_trials_that_were_running_are_the_same_in_the_next_process(db):
    spec = sampled(first=FIRST[:1])
    ledger = Ledger.create(db, spec)
    jobs = [ledger.ask() for _ in range(3)]
    ledger.tell(1, result())
    again = Ledger.open(db, spec.name)
    assert again.unfinished() == [jobs[0], jobs[2]]
    assert again.remaining() == 1


@pytest.mark.parametrize("outcome", Outcome)
def test_a_continued_trial_can_be_told(db, outcome):
    spec = sampled()
    Ledger.create(db, spec).ask()
    again = Ledger.open(db, spec.name)
    (job,) = again.unfinished()
    again.tell(job.number, result(outcome))
    assert (again.unfinished(), again.entries()[0].result) == ([], result(outcome))


def test_listed_trials_that_have_begun_are_not_begun_again(db):
    spec = listed(seeds=[3, 5])
    ledger = Ledger.create(db, spec)
    ledger.tell(ledger.ask().number, result())
    ledger.ask()
    again = Ledger.open(db, spec.name)
    assert [job.name for job in again.unfinished()] == ["a-s5"]
    assert [job.name for job in ask_all(again)] == ["b-s3", "b-s5"]


def test_a_resumed_sampler_does_not_repeat_its_first_draws(db):
    spec = sampled(trials=3)
    drawn = ask_all(Ledger.create(db, spec))
    more = ask_all(Ledger.create(db, sampled(spec.name, trials=6)))
    assert len({job.params["lr"] for job in drawn + more}) == 6


def test_a_resumed_sampler_draws_the_same_for_the_same_seed(db):
    draws = []
    for spec in (sampled(), sampled()):
        Ledger.create(db, spec).ask()
        draws.append([job.params for job in ask_all(Ledger.open(db, spec.name))])
    assert draws[0] == draws[1]


def test_a_trial_without_a_configuration_yet_is_no_entry(db):
    spec = sampled()
    Ledger.create(db, spec)._study.ask()
    assert Ledger.open(db, spec.name).entries() == []


@pytest.mark.parametrize("sampled_before", [[], ["lr"], ["lr", "shift"]])
def test_a_trial_without_a_configuration_is_completed_after_a_kill(db, sampled_before):
    spec = sampled()
    Ledger.create(db, spec)
    trial = optuna_study(db, spec.name).ask()
    ranges = {"lr": LR, "shift": optuna.distributions.FloatDistribution(0.0, 0.2)}
    for name in sampled_before:
        trial._suggest(name, ranges[name])
    (job,) = Ledger.open(db, spec.name).unfinished()
    assert job.params.keys() == SPACE.keys()
    assert {name: job.params[name] for name in sampled_before} == trial.params
    assert (job.number, job.name, job.config.shift) == (0, "0", job.params["shift"])


def test_a_trial_completed_once_stays_as_it_is(db):
    spec = sampled()
    Ledger.create(db, spec)
    optuna_study(db, spec.name).ask()
    jobs = Ledger.open(db, spec.name).unfinished()
    assert Ledger.open(db, spec.name).unfinished() == jobs


@pytest.mark.parametrize("asked", [True, False])
def test_a_first_trial_is_run_once_after_a_kill_while_it_was_asked_for(db, asked):
    spec = sampled(first=FIRST)
    study = Ledger.create(db, spec)._study
    study.enqueue_trial(FIRST[0], user_attrs={"listed": 0})
    if asked:
        study.ask()
    ledger = Ledger.open(db, spec.name)
    continued = ledger.unfinished()
    for job in continued:
        ledger.tell(job.number, result())
    params = [job.params for job in continued + ask_all(ledger)]
    assert len(params) == 4
    assert [params.count(first) for first in FIRST] == [1, 1]


def test_a_listed_run_keeps_name_and_seed_after_a_kill_while_it_was_asked_for(db):
    spec = listed(seeds=[3, 5])
    study = Ledger.create(db, spec)._study
    study.enqueue_trial({}, user_attrs={"run": "a", "seed": 3, "name": "a-s3", "listed": 0})
    study.ask()
    ledger = Ledger.open(db, spec.name)
    (job,) = ledger.unfinished()
    assert (job.name, job.config.seed) == ("a-s3", 3)
    ledger.tell(job.number, result())
    assert [job.name for job in ask_all(ledger)] == ["a-s5", "b-s3", "b-s5"]


# Crashed trials


def crash_the_first(db: str, spec: StudySpec) -> list[Job]:
    """Run all trials of a study; the first crashes."""
    ledger = Ledger.create(db, spec)
    jobs = [ledger.ask() for _ in range(ledger.remaining())]
    for job in jobs:
        ledger.tell(job.number, result(Outcome.REACHED if job.number else Outcome.CRASHED))
    return jobs


@pytest.mark.parametrize("make", [sampled, gridded, listed])
def test_a_crashed_trial_is_tried_again_as_it_was_by_the_next_launch(db, make):
    spec = make()
    jobs = crash_the_first(db, spec)
    ledger = Ledger.open(db, spec.name)
    (again,) = ask_all(ledger)
    assert (again.number, again.config, again.params) == (len(jobs), jobs[0].config, jobs[0].params)
    assert ledger.complete()


def test_a_listed_run_that_crashed_keeps_its_name(db):
    spec = listed(seeds=[3, 5])
    crash_the_first(db, spec)
    assert Ledger.open(db, spec.name).ask().name == "a-s3"


def test_a_crashed_trial_is_not_tried_again_by_the_same_launch(db):
    ledger = Ledger.create(db, sampled(trials=2))
    crashed = ledger.ask()
    ledger.tell(crashed.number, result(Outcome.CRASHED))
    assert ledger.ask().params != crashed.params


def test_a_crashed_trial_is_tried_again_once(db):
    spec = sampled(trials=2)
    (crashed, _) = crash_the_first(db, spec)
    ask_all(Ledger.open(db, spec.name))
    more = ask_all(Ledger.create(db, sampled(spec.name, trials=4)))
    assert len(more) == 2
    assert all(job.config != crashed.config for job in more)


def test_a_new_try_that_crashes_is_tried_again_by_the_launch_after(db):
    spec = sampled(trials=2)
    (crashed, _) = crash_the_first(db, spec)
    ask_all(Ledger.open(db, spec.name), Outcome.CRASHED)
    (third,) = ask_all(Ledger.open(db, spec.name))
    assert (third.number, third.config) == (3, crashed.config)


# What a process that was killed in between two writes left behind


def test_a_written_result_is_told_to_optuna_after_a_kill(db):
    spec = sampled()
    job = Ledger.create(db, spec).ask()
    study = optuna_study(db, spec.name)
    optuna.Trial(study, study.trials[job.number]._trial_id).set_user_attr("result", result().to_dict())
    ledger = Ledger.open(db, spec.name)
    ledger.tell_pending_results()
    assert ledger.unfinished() == []
    assert (optuna_trial(db, spec.name).state, optuna_trial(db, spec.name).value) == (TrialState.COMPLETE, 3.5)


def test_a_running_trial_without_a_result_is_not_told_to_optuna(db):
    spec = sampled()
    job = Ledger.create(db, spec).ask()
    ledger = Ledger.open(db, spec.name)
    ledger.tell_pending_results()
    assert ledger.unfinished() == [job]


def test_a_study_that_asks_nothing_yet_is_not_listed(tmp_path):
    db = uri(tmp_path)
    optuna.create_study(storage=db, study_name="half")
    assert study_names(db) == []


def test_a_study_that_asks_nothing_yet_is_created_anew(tmp_path):
    db = uri(tmp_path)
    optuna.create_study(storage=db, study_name="half")
    Ledger.create(db, sampled("half"))
    assert Ledger.open(db, "half").spec == sampled("half")


# Edges


def test_a_first_trial_of_a_grid_may_leave_values_open():
    points = [job.params for job in ask_all(Ledger.preview(gridded(first=[{"batch_size": 32}])))]
    assert points[0]["batch_size"] == 32
    assert len({tuple(point.values()) for point in points}) == len(points) == 6


def test_seeds_begin_again_after_the_highest(db):
    spec = sampled(seed=2**32 - 1)
    ledger = Ledger.create(db, spec)
    assert [ledger.ask().config.seed for _ in range(2)] == [2**32 - 1, 0]
    Ledger.open(db, spec.name)


def test_a_ledger_that_is_taken_away_while_the_study_runs_is_noticed(tmp_path):
    ledger = Ledger.create(uri(tmp_path), sampled())
    ledger.ask()
    (tmp_path / "optuna.db").rename(tmp_path / "elsewhere.db")
    with pytest.raises(SweepError, match=r"optuna.db was deleted or exchanged while the study ran; put it back"):
        ledger.ask()


def test_a_ledger_that_is_gone_is_not_made_anew_by_looking_for_a_study(tmp_path):
    (tmp_path / "studies" / "x").mkdir(parents=True)
    with pytest.raises(SweepError, match=r"optuna.db is gone.*put it back"):
        Ledger.open(uri(tmp_path), "x")
    assert not (tmp_path / "optuna.db").exists()


# Extend


def test_a_study_is_extended_to_so_many_trials(db):
    spec = sampled(trials=2)
    ask_all(Ledger.create(db, spec))
    ledger = Ledger.open(db, spec.name)
    ledger.extend(5)
    assert ledger.remaining() == 3
    assert Ledger.open(db, spec.name).spec.search.trials == 5


def test_an_extended_study_asks_the_same_otherwise(db):
    spec = sampled(trials=2, first=FIRST)
    Ledger.create(db, spec).extend(5)
    assert differences(spec, Ledger.open(db, spec.name).spec) == []


def test_an_extended_study_goes_on_with_the_next_trial(db):
    spec = sampled(trials=2)
    before = ask_all(Ledger.create(db, spec))
    ledger = Ledger.open(db, spec.name)
    ledger.extend(4)
    after = ask_all(ledger)
    assert [job.number for job in after] == [2, 3]
    assert not {job.params["lr"] for job in before} & {job.params["lr"] for job in after}


def test_an_extended_study_runs_the_first_trials_that_were_left(db):
    ledger = Ledger.create(db, sampled(trials=1, first=FIRST))
    ask_all(ledger)
    ledger = Ledger.open(db, ledger.spec.name)
    ledger.extend(3)
    assert ledger.ask().params == FIRST[1]


def test_a_study_can_be_cut_to_what_has_begun(db):
    ledger = Ledger.create(db, sampled(trials=5))
    ledger.ask()
    ledger.extend(1)
    assert ledger.remaining() == 0


def test_fewer_trials_than_have_begun_are_refused(db):
    spec = sampled(trials=5)
    ledger = Ledger.create(db, spec)
    ask_all(ledger)
    message = (
        rf"^--trials 3: 5 trials of study '{spec.name}' have begun or ended; expected 5 or more, or \+N to add N to"
    )
    with pytest.raises(InputError, match=message):
        ledger.extend(3)
    assert Ledger.open(db, spec.name).spec == spec


@pytest.mark.parametrize(("make", "reason"), [(gridded, "the points of its grid"), (listed, "the runs that its file")])
def test_a_study_that_names_its_trials_cannot_be_extended(db, make, reason):
    ledger = Ledger.create(db, make())
    with pytest.raises(InputError, match=reason):
        ledger.extend(100)


def raced(**search: Any) -> StudySpec:
    """A study of two runs and its finalists."""
    return listed([{"name": "a"}, {"name": "b", "weight_decay": 0.1}], finalists={"top": 2, "seeds": 2}, **search)


def end(ledger: Ledger, job: Job, crossing: float) -> None:
    val_accs = tuple(0.92 + 0.02 * (epoch - crossing) for epoch in range(1, 11))
    ledger.tell(job.number, Result(Outcome.REACHED, 10, crossing, values=val_accs))


def searched(ledger: Ledger) -> None:
    for crossing in (3.0, 3.2):
        end(ledger, ledger.ask(), crossing)


def test_finalists_come_behind_the_search_with_seeds_of_their_own(db):
    ledger = Ledger.create(db, raced())
    searched(ledger)
    jobs = [ledger.next_assignment().job for _ in range(2)]
    assert [(j.name, j.config.seed, j.finalist) for j in jobs if j] == [
        ("a-s1000000", 1_000_000, True),
        ("b-s1000000", 1_000_000, True),
    ]
    assert jobs[1] is not None
    assert jobs[1].config.weight_decay == 0.1


def test_a_finalist_has_a_fresh_seed_whatever_the_study_fixes(db):
    spec = sampled(train={"seed": 7}, trials=2, finalists={"top": 2, "seeds": 1})
    ledger = Ledger.create(db, spec)
    searched(ledger)
    job = ledger.next_assignment().job
    assert job is not None
    assert (job.config.seed, job.params) == (1_000_000, ledger.entries()[0].job.params)


def test_no_finalist_is_assigned_before_the_search_has_begun_all_its_trials(db):
    ledger = Ledger.create(db, raced())
    first = ledger.next_assignment()
    assert (first.job is not None and first.job.finalist, first.remaining) == (False, 1 + 4)


def test_a_finalist_waits_for_running_trials_that_decide_the_race(db):
    ledger = Ledger.create(db, raced())
    first, second = ledger.ask(), ledger.ask()
    waiting = ledger.next_assignment()
    assert (waiting.job, waiting.remaining) == (None, 1)
    end(ledger, first, 3.0)
    assert ledger.next_assignment().job is not None
    assert second.number == 1


def test_a_race_goes_on_in_another_process_as_it_would_have(db):
    spec = raced()
    ledger = Ledger.create(db, spec)
    searched(ledger)
    end(ledger, ledger.next_assignment().job, 3.1)  # type: ignore[arg-type]
    races = [race_of(one.spec, one.entries()) for one in (Ledger.open(db, spec.name), ledger)]
    assert races[0] == races[1]
    while (job := Ledger.open(db, spec.name).next_assignment().job) is not None:
        end(ledger_of := Ledger.open(db, spec.name), ledger_of.unfinished()[0], 3.0 + 0.1 * job.number)
    assert Ledger.open(db, spec.name).complete()


def test_finalists_do_not_count_among_the_trials_a_study_asks_for(db):
    spec = sampled(trials=2, finalists={"top": 2, "seeds": 1})
    ledger = Ledger.create(db, spec)
    searched(ledger)
    while (job := ledger.next_assignment().job) is not None:
        end(ledger, job, 3.0)
    assert ledger.complete()
    assert len(ledger.entries()) > 2
    ledger.extend(3)
    assert ledger.remaining() == 1 + 2


def test_a_crashed_finalist_is_tried_again_by_the_next_launch_with_its_seed(db):
    spec = raced()
    ledger = Ledger.create(db, spec)
    searched(ledger)
    job = ledger.next_assignment().job
    assert job is not None
    ledger.tell(job.number, result(Outcome.CRASHED))
    again = Ledger.open(db, spec.name).next_assignment().job
    assert again is not None
    assert (again.name, again.config, again.finalist) == (job.name, job.config, True)


def test_a_race_ends_the_search_with_what_has_begun(db):
    spec = sampled(trials=9)
    ledger = Ledger.create(db, spec)
    searched(ledger)
    ledger.race(Finalists(top=2, seeds=1))
    job = ledger.next_assignment().job
    assert job is not None
    assert job.finalist
    assert from_kept(db, spec.name).search.trials == 2


def from_kept(db: str, name: str) -> StudySpec:
    return Ledger.open(db, name).spec


def test_a_study_that_was_raced_is_the_same_study(db):
    spec = sampled(trials=2)
    ledger = Ledger.create(db, spec)
    searched(ledger)
    ledger.race(Finalists())
    assert differences(from_kept(db, spec.name), spec) == []


def test_runs_that_a_file_lists_are_run_before_a_race(db):
    ledger = Ledger.create(db, listed([{"name": name} for name in "abc"]))
    ledger.tell(ledger.ask().number, result())
    with pytest.raises(InputError, match=r"names its trials itself, and 2 of them have not begun"):
        ledger.race(Finalists())


def test_a_study_without_an_ended_trial_cannot_be_raced(db):
    ledger = Ledger.create(db, sampled())
    ledger.ask()
    with pytest.raises(InputError, match="has no trial that ended yet"):
        ledger.race(Finalists())


def test_a_study_whose_trials_all_crashed_cannot_be_raced_and_stays_as_it_was(db):
    ledger = Ledger.create(db, sampled(trials=1))
    ledger.tell(ledger.ask().number, Result(Outcome.CRASHED, 0, stop_reason="mlp.py, line 5: KeyError: 'x'"))
    with pytest.raises(InputError, match=r"ended without a crash: every trial crashed: mlp\.py"):
        Ledger.open(db, ledger.spec.name).race(Finalists())
    assert from_kept(db, ledger.spec.name) == ledger.spec


def test_a_confirmation_has_no_finalists(db):
    spec = fixed_study(phase="confirm", search={"seeds": [1]}, stopping={"diverged": False})
    with pytest.raises(InputError, match="is a confirmation"):
        Ledger.create(db, spec).race(Finalists())


def test_a_space_that_has_the_seed_has_no_finalists(db):
    space = {"seed": {"low": 0, "high": 9, "int": True}}
    spec = sampled_study(space=SPACE | space)
    with pytest.raises(InputError, match="samples the seed, and finalists have seeds of their own"):
        Ledger.create(db, spec).race(Finalists())


# Thawed: a trial that ended goes on


PRUNED = Result(Outcome.PRUNED, 3, 7.0, stopped_by="forecast", would_stop={"cap": 2, "forecast": 3})


def frozen(db: str, spec: StudySpec) -> Ledger:
    """A study whose trial 1 of two was pruned."""
    ledger = Ledger.create(db, spec)
    for outcome in (result(), PRUNED):
        ledger.tell(ledger.ask().number, outcome)
    return ledger


def test_a_thawed_trial_is_the_one_that_ended(db):
    ledger = frozen(db, sampled(first=FIRST))
    before = ledger.entries()[1].job
    job = ledger.thaw(1)
    assert job is not None
    assert job.thawed == (3,)
    assert replace(job, thawed=()) == before
    assert [(entry.job.number, entry.result is None) for entry in ledger.entries()] == [(0, False), (1, True)]
    assert ledger.load_would_stop(1) == {"cap": 2}


def test_a_thawed_trial_does_not_count_twice(db):
    spec = sampled()
    ledger = frozen(db, spec)
    assert ledger.thaw(1) is not None
    assert ledger.remaining() == 2
    ledger.tell(1, result(epochs=9))
    assert [job.number for job in ask_all(ledger)] == [3, 4]  # it took a number of Optuna's
    assert ledger.complete()
    again = Ledger.open(db, spec.name)
    assert [entry.result.epochs_run for entry in again.entries() if entry.result is not None] == [4, 9, 4, 4]


def test_the_sampler_knows_both_ends_of_a_thawed_trial(db):
    spec = sampled()
    ledger = frozen(db, spec)
    ledger.thaw(1)
    ledger.tell(1, result())
    states = [trial.state for trial in optuna_study(db, spec.name).get_trials()]
    assert states == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE]


def test_a_trial_may_be_thawed_again(db):
    ledger = frozen(db, sampled())
    ledger.thaw(1)
    ledger.tell(1, replace(PRUNED, epochs_run=5))
    job = ledger.thaw(1)
    assert job is not None
    assert job.thawed == (3, 5)


@pytest.mark.parametrize("number", [0, 2])
def test_neither_a_running_nor_an_unknown_trial_is_thawed(db, number):
    ledger = frozen(db, sampled())
    ledger.thaw(0)
    assert ledger.thaw(number) is None


def test_a_thawed_trial_is_continued_after_a_kill(db):
    spec = sampled()
    job = frozen(db, spec).thaw(1)
    assert Ledger.open(db, spec.name).unfinished() == [job]


@pytest.mark.parametrize("killed", ["ask", "set_user_attr"])
def test_a_kill_while_a_trial_is_thawed_leaves_it_frozen_or_running(db, killed, monkeypatch):
    spec = sampled(first=FIRST)
    ledger = frozen(db, spec)
    wanted = ledger.entries()

    def kill(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    target = optuna.Study if killed == "ask" else optuna.Trial
    with monkeypatch.context() as patched:
        patched.setattr(target, killed, kill)
        with pytest.raises(KeyboardInterrupt):
            ledger.thaw(1)
    again = Ledger.open(db, spec.name)
    continued = again.unfinished()
    assert [entry.job.name for entry in again.entries()] == [entry.job.name for entry in wanted]
    job = again.thaw(1) if killed == "ask" else continued[0]
    assert job is not None
    assert (job.number, job.config, job.thawed) == (1, wanted[1].job.config, (3,))
    assert again.remaining() == 2


def test_a_thawed_trial_that_crashes_is_tried_again_from_its_start(db):
    spec = sampled()
    ledger = frozen(db, spec)
    thawed = ledger.thaw(1)
    ledger.tell(1, result(Outcome.CRASHED))
    again = Ledger.open(db, spec.name)
    job = again.ask()
    assert thawed is not None
    assert (job.name, job.config, job.thawed) == (thawed.name, thawed.config, ())
    assert again.remaining() == 2


def test_a_crashed_trial_whose_second_try_was_thawed_is_not_tried_a_third_time(db):
    spec = sampled()
    ledger = Ledger.create(db, spec)
    ledger.tell(ledger.ask().number, result(Outcome.CRASHED))
    ledger = Ledger.open(db, spec.name)
    ledger.tell(ledger.ask().number, PRUNED)
    ledger.thaw(1)
    ledger.tell(1, result())
    again = Ledger.open(db, spec.name)
    assert again.remaining() == 3
    assert again.ask().number == 3


def test_a_fork_knows_a_thawed_trial_once(db):
    spec, other = sampled(), sampled()
    ledger = frozen(db, spec)
    ledger.thaw(1)
    ledger.tell(1, result())
    assert len(ledger.fork_for(other).trials) == 2
    forked = Ledger.create_fork(db, other, ledger.fork_for(other))
    forked.tell(forked.ask().number, PRUNED)
    job = forked.thaw(0)
    assert job is not None
    assert (job.number, job.thawed) == (0, (3,))


def test_a_driver_hears_of_the_new_end_of_a_thawed_trial(db):
    ledger = frozen(db, sampled())
    ledger.thaw(1)
    ledger.tell(1, result(epochs=9))
    ended = {entry.job.number: entry.result for entry in ledger.next_assignment({0, 1}).ended}
    assert ended == {1: result(epochs=9)}
