"""Studies in virtual time: when what happens, that the decisions are the real study's, where curves come from."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.tables.stopping import build_stopping
from resnet_core.records import EpochRecord, Outcome
from search_spaces.spec import StudySpec
from sweeps.errors import InputError
from sweeps.home import Home
from sweeps.ledger.ledger import Ledger
from sweeps.simulation import recordings
from sweeps.simulation.curve_model import POST5
from sweeps.simulation.curves import RecordedCurves, find_curves, model_curves, recorded_curves, unknown_to_model
from sweeps.simulation.figures import Range, totals_of
from sweeps.simulation.replay import CurveOf, FixedTrials, SimulatedTrial, replay, study_in_memory
from sweeps.simulation.setup import Setup
from sweeps.simulation.simulate import describe, simulate, trial_histories
from sweeps.study.recovery import recover
from sweeps.study.run import StudyRun
from sweeps.study.trials import Job
from sweeps.tracking.runs import MlflowStudy
from sweeps.tracking.writer import Tracker
from tests.studies import epoch_records, fixed_study, sampled_study

NOWHERE = Home(Path("/nonexistent"))
CAP = {"cap": {"best": 1, "slack": 1.0}}


def listed(*horizons: int, **tables: Any) -> StudySpec:
    """A study of runs a, b, c, … of these lengths."""
    runs = [{"name": "abcdefgh"[i], "epochs": epochs} for i, epochs in enumerate(horizons)]
    return fixed_study(run=runs, **tables)


def sampled(**tables: Any) -> StudySpec:
    space = {
        "lr": {"low": 5e-4, "high": 2e-3, "log": True},
        "weight_decay": {"low": 0.05, "high": 0.4, "log": True},
        "plateau": {"low": 6, "high": 16, "int": True},
    }
    train = {"schedule": "[lr, 0] lin[lr, +plateau] cos[1e-5, +8] lin[6e-6, +6]", "optimizer": "adamw"}
    return sampled_study(
        trials=12, **{"train": train, "space": space, "stopping": {"cap": {"best": 2, "slack": 1.0}}} | tables
    )


def records(val_accs: Sequence[float], *, seconds: float = 10.0, loss: float = 0.25) -> list[EpochRecord]:
    return epoch_records(val_accs, seconds=seconds, loss=loss)


def curves(**val_accs: Sequence[float]) -> CurveOf:
    return lambda job: records(val_accs[job.name])


def run(spec: StudySpec, known: CurveOf, slots: int) -> list[SimulatedTrial]:
    return replay(study_in_memory(NOWHERE, Ledger.preview(spec)), known, slots)


def test_two_slots_by_hand():
    """a and b start at once; b ends at 20 s and makes room for c, a at 30 s for d."""
    trials = run(listed(3, 2, 1, 2), lambda job: records([0.5] * 4), slots=2)
    assert {t.job.name: (t.started, t.epoch_ends) for t in trials} == {
        "a": (0, [10, 20, 30]),
        "b": (0, [10, 20]),
        "c": (20, [30]),
        "d": (30, [40, 50]),
    }


def test_a_slot_is_free_at_the_epoch_at_which_a_rule_stops_its_trial():
    """a reaches the target in epoch 2, so the cap ends b at the same epoch: c starts there."""
    known = curves(a=[0.5, 0.95, 0.95, 0.95], b=[0.5] * 4, c=[0.5] * 2)
    by_name = {t.job.name: t for t in run(listed(4, 4, 2, stopping=CAP), known, slots=2)}
    assert (by_name["b"].ended, by_name["c"].started) == (20, 20)
    assert by_name["b"].result.stopped_by == "cap"


def test_a_stopped_trial_keeps_its_whole_curve():
    known = curves(a=[0.95] * 2, b=[0.5, 0.5, 0.95, 0.95])
    stopped = run(listed(2, 4, stopping=CAP), known, slots=2)[1]
    assert (stopped.result.epochs_run, len(stopped.records)) == (1, 4)


def test_a_stop_is_judged_by_what_the_trial_would_have_come_to():
    known = curves(a=[0.95] * 2, b=[0.5, 0.5, 0.95, 0.95], c=[0.5] * 3)
    trials = run(listed(2, 4, 3, stopping=CAP), known, slots=3)
    (row, _) = build_stopping(trial_histories(trials), 0.92, keep=1).to_dict("records")
    figures = ("rule", "mode", "stopped", "epochs_saved", "judged", "false_stops", "best_lost")
    assert [row[name] for name in figures] == ["cap", "active", 2, 5, 2, 1, 0]


def test_one_of_the_best_that_is_stopped_early_is_counted_as_lost():
    known = curves(a=[0.95] * 2, b=[0.5, 0.95, 0.95, 0.95])
    trials = run(listed(2, 4, stopping=CAP), known, slots=2)
    assert build_stopping(trial_histories(trials), 0.92, keep=2)["best_lost"].tolist() == [1, 1]


def test_trials_of_a_shared_gpu_take_their_share_of_its_hours():
    trials = run(listed(3, 3), lambda job: records([0.5] * 4, seconds=3600), slots=2)
    course = totals_of(trials, per_gpu=2)
    assert (course.gpu_hours, course.hours, course.epochs) == (3, 3, 6)


def test_the_best_is_known_when_it_reaches_the_target_and_not_when_it_ends():
    known = curves(a=[0.5, 0.5, 0.95, 0.95], b=[0.5, 0.95, 0.95, 0.95])
    course = totals_of(run(listed(4, 4), known, slots=1), per_gpu=1)
    assert (course.best_epochs_to_target, course.hours_to_best) == (2, pytest.approx(60 / 3600))


def test_without_a_trial_at_the_target_there_is_no_best():
    course = totals_of(run(listed(2), lambda job: records([0.5] * 2), slots=1), per_gpu=1)
    assert (course.reached, course.best_epochs_to_target, course.hours_to_best) == (0, None, None)


def test_a_curve_that_ends_before_its_trial_is_refused():
    with pytest.raises(ValueError, match="trial a: 2 epochs for a horizon of 3"):
        run(listed(3), lambda job: records([0.5] * 2), slots=1)


# The same decisions


def test_a_real_study_decides_the_same_on_the_same_events(store, tmp_path):
    """The events of a simulation, shown to a study with a ledger on disk and MLflow, end its trials alike."""
    spec = sampled(stopping=CAP | {"at_target": True, "control": 0.2})
    drawn = model_curves(POST5, 22.0, seed=3)
    # No two events at once: each trial has a pace of its own.
    simulated = run(spec, lambda job: [replace(r, seconds=22 + job.number / 97) for r in drawn(job)], slots=3)
    home = Home(tmp_path)
    tracker = Tracker(MlflowStudy(f"sqlite:///{store.path}", home.artifacts, spec), home.spool(spec.name))
    ledger = Ledger.create(home.ledger_uri, spec)
    real = StudyRun(home, ledger, tracker, _Quiet(), recover(home, ledger, tracker))
    # At one moment, an epoch ends before the slot it frees is taken.
    starts = [(trial.started, "start", trial, 0) for trial in simulated]
    ends = [(end, "end", trial, epoch) for trial in simulated for epoch, end in enumerate(trial.epoch_ends)]
    for _, kind, trial, epoch in sorted(starts + ends, key=lambda event: event[:2]):
        if kind == "end":
            real.epoch(trial.job.number, trial.records[epoch])
        else:
            placed = real.next_trial()
            assert placed is not None
            assert placed.job == trial.job
    tracker.close("FINISHED")
    assert real.results == {t.job.number: t.result for t in simulated}
    assert {t.result.stopped_by for t in simulated} == {None, "cap", "at_target"}


class _Quiet:
    def started(self, trial: Any) -> None: ...
    def epoch(self, trial: Any) -> None: ...
    def failed(self, trial: Any, error: str, again: bool) -> None: ...
    def ended(self, trial: Any, result: Any) -> None: ...


# Several simulated studies


def on_model(spec: StudySpec, **options: Any) -> Setup:
    return Setup(spec, POST5, NOWHERE, **options)


def test_the_same_seed_simulates_the_same_study():
    setup = on_model(sampled(), repeats=2)
    assert simulate(setup).to_dict() == simulate(setup).to_dict()


def test_another_seed_simulates_another_study():
    first, second = (simulate(on_model(sampled(), seed=seed)).to_dict() for seed in (0, 1))
    assert first["with_rules"] != second["with_rules"]


def test_repeats_are_the_studies_of_the_seeds_that_follow():
    both = simulate(on_model(sampled(), seed=5, repeats=2)).with_rules["epochs"]
    single = [simulate(on_model(sampled(), seed=seed)).with_rules["epochs"].median for seed in (5, 6)]
    assert (both.low, both.high) == (min(single), max(single))


def test_what_rules_saved_is_what_is_missing_to_the_same_study_without_them():
    result = simulate(on_model(sampled(), gpus=2))
    saved = result.rules["all rules"][1]["epochs_saved"].median
    assert saved > 0
    assert result.with_rules["epochs"].median + saved == result.without_rules["epochs"].median
    assert result.share_saved == pytest.approx(saved / result.without_rules["epochs"].median)


def test_the_report_is_json_and_text():
    result = simulate(on_model(sampled(), repeats=2))
    shown = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert [row["rule"] for row in shown["rules"]][-2:] == ["cap", "all rules"]
    assert shown["with_rules"]["trials"] == {"median": 12, "low": 12, "high": 12}
    text = describe(result)
    assert text.startswith("rule ")
    assert "with no rule" in text


def test_a_study_whose_rules_stop_nothing_is_reported_too():
    assert simulate(on_model(sampled(stopping={}))).share_saved == 0


def test_simulating_leaves_no_trace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    simulate(replace(on_model(sampled()), home=Home(tmp_path / "home")))
    assert list(tmp_path.iterdir()) == []


def test_listed_runs_can_be_shuffled():
    setup = on_model(listed(4, 5, 6, 7), shuffled=True, gpus=1)
    orders = {tuple(t.job.name for t in setup.replay(seed, rules=True)) for seed in range(6)}
    assert len(orders) > 1
    assert {tuple(sorted(order)) for order in orders} == {tuple("abcd")}


def test_a_space_cannot_be_shuffled():
    with pytest.raises(InputError, match="a space has no list of trials to shuffle"):
        simulate(on_model(sampled(), shuffled=True))


def test_fewer_trials_than_are_listed_may_be_asked_for():
    assert simulate(on_model(listed(4, 5, 6), trials=2)).with_rules["trials"].median == 2


def test_more_trials_than_are_listed_may_not():
    with pytest.raises(InputError, match="--trials 4: expected at most 3"):
        simulate(on_model(listed(4, 5, 6), trials=4))


def test_of_a_space_any_number_may_be_asked_for():
    assert simulate(on_model(sampled(), trials=20)).with_rules["trials"].median == 20


def test_seconds_per_epoch_scale_all_hours():
    slow, fast = (simulate(on_model(sampled(), seconds_per_epoch=s)).with_rules["hours"].median for s in (20.0, 10.0))
    assert slow == pytest.approx(2 * fast)


def test_what_the_model_knows_nothing_of_is_told():
    assert unknown_to_model(sampled()) == ["shift = 0.0"]
    other = sampled(
        train={"schedule": "[lr, 0] lin[lr, +plateau] cos[1e-5, +8] lin[6e-6, +6]", "optimizer": "sgd", "shift": 0.07}
    )
    assert unknown_to_model(other) == ["optimizer = sgd"]
    smaller = other.model_copy(update={"train": {**other.train, "optimizer": "adamw", "image_size": 16}})
    assert unknown_to_model(smaller) == ["image_size = 16"]


def test_a_scheduled_weight_decay_counts_by_its_mean():
    plain = listed(4, train={"schedule": "[1e-3, 0] lin[1e-5, 4]", "weight_decay": 0.2})
    ramped = {"schedule": "[1e-3, 0] lin[1e-5, 4]", "weight_decay_schedule": "[0.1, 0] lin[0.3, 4]"}
    jobs = [Ledger.preview(spec).ask() for spec in (plain, listed(4, train=ramped))]
    first, second = ([r.val_acc for r in model_curves(POST5, 1.0, 0)(job)] for job in jobs)
    assert first == pytest.approx(second)


@pytest.mark.parametrize(
    ("values", "text"), [([3.0], "3"), ([1.0, 2.0, 6.0], "2 (1..6)"), ([None], "-"), ([None, 0.25], "0.25")]
)
def test_a_figure_over_repeats_is_shown_as_median_and_range(values, text):
    assert Range.of(values).shown("epochs") == text


def test_a_figure_of_hours_is_shown_as_a_time():
    assert Range.of([0.0005, 0.01]).shown("hours_saved") == "18.9 s (1.8 s..36 s)"


@pytest.mark.parametrize(
    ("gpus_per_trial", "heading", "where"),
    [(1, "gpu_time", "on 4 GPUs with 2 trial(s) on each"), (0, "trial_time", "of 8 trials at once, each on 1 core")],
)
def test_a_simulation_speaks_of_gpus_where_trials_have_one(gpus_per_trial, heading, where):
    spec = sampled(resources={"gpus_per_trial": gpus_per_trial, "cpus_per_trial": 1})
    told = describe(simulate(Setup(spec, POST5, NOWHERE, per_gpu=2, trials=2)))
    assert f" {heading} " in told
    assert where in told


# Recorded curves


@pytest.fixture
def home(store, tmp_path) -> Home:
    """A home whose MLflow store is the session's."""
    (tmp_path / "mlflow.db").symlink_to(store.path)
    return Home(tmp_path)


def ran(home: Home, spec: StudySpec, **val_accs: Sequence[float]) -> None:
    """Run a listed study in this home; NaN is an epoch whose loss is NaN."""
    tracker = Tracker(MlflowStudy(home.mlflow_uri, home.artifacts, spec), home.spool(spec.name))
    ledger = Ledger.create(home.ledger_uri, spec)
    study = StudyRun(home, ledger, tracker, _Quiet(), recover(home, ledger, tracker))
    while (trial := study.next_trial()) is not None:
        for record in records(val_accs[trial.job.name]):
            broken = record.val_acc != record.val_acc
            shown = replace(record, val_acc=0.1, loss=float("nan")) if broken else record
            if study.epoch(trial.job.number, shown):
                break
    tracker.close("FINISHED")


NAN = float("nan")


@pytest.fixture
def earlier(home) -> RecordedCurves:
    """a reaches the target, b is stopped by the cap, c ends below the target before any, d diverges."""
    spec = listed(2, 4, 2, 4, stopping=CAP)
    ran(home, spec, a=[0.5, 0.95], b=[0.5] * 4, c=[0.5, 0.6], d=[0.5, NAN])
    return recorded_curves(home, spec.name)


def test_whole_trials_are_taken_from_the_store(earlier):
    assert [record.val_acc for record in earlier.curves["a"]] == [0.5, 0.95]
    assert earlier.jobs[0].config.epochs == 2


def test_a_diverged_trial_stays_broken_to_its_horizon(earlier):
    assert [record.epoch for record in earlier.curves["d"]] == [1, 2, 3, 4]
    assert all(record.loss != record.loss for record in earlier.curves["d"][1:])


def test_pruned_trials_are_left_out_and_counted(earlier):
    assert "b" not in earlier.curves
    assert earlier.left_out["pruned"] == 1


def test_absent_gpu_figures_are_none(earlier):
    assert earlier.curves["a"][0].power_watts is None


def test_recorded_trials_are_replayed_with_the_rules_of_another_study(earlier):
    result = simulate(Setup(listed(3), earlier, NOWHERE, gpus=1, repeats=3))
    assert result.with_rules["trials"].median == len(earlier.jobs)
    assert result.rules["diverged"][1]["epochs_saved"].median == 2
    assert any("left out: " in note for note in result.notes)


def test_recorded_seconds_can_be_replaced(earlier):
    hours = [
        simulate(Setup(listed(3), earlier, NOWHERE, gpus=1, seconds_per_epoch=s)).with_rules["hours"].median
        for s in (None, 20.0)
    ]
    assert hours[1] == pytest.approx(2 * hours[0])


def test_a_study_without_a_whole_trial_is_refused(home):
    spec = listed(4, stopping={"at_target": True})
    ran(home, spec, a=[0.95] * 4)
    with pytest.raises(InputError, match=r"no trial of it ran to the end of its schedule \(1 ended early\)"):
        recorded_curves(home, spec.name)


def test_a_study_whose_trials_still_run_is_refused(home):
    spec = listed(2)
    Tracker(MlflowStudy(home.mlflow_uri, home.artifacts, spec), home.spool(spec.name)).close("FINISHED")
    Ledger.create(home.ledger_uri, spec).ask()
    with pytest.raises(InputError, match=r"no trial of it ran to the end of its schedule \(1 running\)"):
        recorded_curves(home, spec.name)


def test_a_study_that_mlflow_does_not_know_is_refused(home):
    spec = listed(2)
    Ledger.create(home.ledger_uri, spec)
    with pytest.raises(InputError, match=f"no study '{spec.name}'"):
        recorded_curves(home, spec.name)


@pytest.mark.parametrize("order", ["own", "shuffled"])
def test_an_exported_study_is_simulated_as_the_study_itself(home, tmp_path, order):
    spec = listed(2, 4, 2, 4, stopping=CAP)
    ran(home, spec, a=[0.5, 0.95], b=[0.5] * 4, c=[0.5, 0.6], d=[0.5, NAN])
    file = tmp_path / "curves.jsonl.gz"
    recordings.write(recordings.of_study(home, spec.name), file)
    sources = find_curves(home, spec.name), find_curves(NOWHERE, str(file))
    setups = [Setup(spec, source, home, shuffled=order == "shuffled", repeats=3) for source in sources]
    first, second = (simulate(setup).to_dict() for setup in setups)
    assert first == second
    assert first["with_rules"]["trials"]["median"] == 3


def test_of_a_running_study_what_has_ended_is_exported(home, tmp_path):
    spec = listed(2, 2)
    ran(home, spec, a=[0.5, 0.95], b=[0.5, 0.6])
    longer = Ledger.open(home.ledger_uri, spec.name)
    more = listed(2, 2, 2).run[2]
    longer.spec = spec.model_copy(update={"run": [*spec.run, more]})
    longer.ask()
    exported = recordings.of_study(home, spec.name)
    assert [trial.job.name for trial in exported.trials] == ["a", "b"]
    assert exported.running == 1
    assert recorded_curves(home, spec.name).left_out == {"running": 1}


def test_fixed_trials_are_numbered_in_the_order_they_are_handed_out():
    ledger = Ledger.preview(listed(2, 3))
    jobs: list[Job] = [ledger.ask(), ledger.ask()]
    fixed = FixedTrials(ledger.spec, jobs[::-1])
    assigned = [fixed.next_assignment().job for _ in range(2)]
    assert [(job.number, job.name) for job in assigned if job is not None] == [
        (0, "b"),
        (1, "a"),
    ]
    assert fixed.remaining() == 0


def test_every_outcome_but_crashes_can_be_simulated():
    known = {"a": records([0.5, 0.95]), "b": records([0.5] * 4), "c": records([0.5]), "d": records([0.5] * 4, loss=NAN)}
    spec = listed(2, 4, 1, 4, stopping=CAP)
    outcomes = [t.result.outcome for t in run(spec, lambda job: known[job.name], slots=1)]
    assert outcomes == [Outcome.REACHED, Outcome.PRUNED, Outcome.EXHAUSTED, Outcome.DIVERGED]


PLACES = [0.84, 0.26, 0.98, 0.72, 0.96, 0.34]
REACHED_AT = [3, None, 2, 6, None, 4]
"""Trial 3 is ended after an epoch, and goes on once trial 4 has shown that its neighbours are no faster."""


def freezing() -> StudySpec:
    first = [{"lr": 10 ** (2 * place - 4)} for place in PLACES]
    return sampled_study(
        horizon=6,
        space={"lr": {"low": 1e-4, "high": 1e-2, "log": True}},
        search={"trials": 6, "sampler": "random", "first": first},
        stopping={"forecast": {"chance": 0.2, "best": 1, "trials": 3}, "freeze": True},
    )


def shown(job: Job) -> list[EpochRecord]:
    reached = dict(zip((10 ** (2 * place - 4) for place in PLACES), REACHED_AT, strict=True))[job.params["lr"]]
    return records([0.93 if reached is not None and epoch >= reached else 0.5 for epoch in range(1, 7)])


def in_order(spec: StudySpec) -> FixedTrials:
    ledger = Ledger.preview(spec)
    return FixedTrials(spec, [ledger.ask() for _ in range(6)])


@pytest.mark.parametrize("make", [Ledger.preview, in_order], ids=["ledger", "fixed trials"])
def test_a_frozen_trial_goes_on_where_it_ended(make):
    spec = freezing()
    trials = replay(study_in_memory(NOWHERE, make(spec)), shown, 1)
    assert len(trials) == 6
    assert all(trial.result.epochs_run == 6 for trial in trials)
    went_on = trials[3]
    assert went_on.epoch_ends[0] == trials[2].ended + 10
    assert went_on.epoch_ends[1:] == [trials[4].ended + 10 * epoch for epoch in range(1, 6)]


def test_while_it_is_frozen_a_trial_takes_no_gpu():
    trials = replay(study_in_memory(NOWHERE, Ledger.preview(freezing())), shown, 1)
    assert totals_of(trials, per_gpu=1).gpu_hours == pytest.approx(6 * 6 * 10 / 3600)
    assert totals_of(trials, per_gpu=1).hours == pytest.approx(6 * 6 * 10 / 3600)
