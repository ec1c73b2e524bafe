"""What a study would do, before it does it."""

import json
import os
from dataclasses import replace
from typing import Any

import pytest
import ray
import torch

from resnet_core.network import build, trainable_parameters
from search_spaces.space import listed_runs, trial_config
from search_spaces.spec import StudySpec
from search_spaces.study import find_study, load_study
from sweeps.execution import cluster
from sweeps.home import Home
from sweeps.inspection.plan import Plan, describe, measured_plan, plan, plan_from_earlier
from sweeps.ledger.ledger import Ledger
from sweeps.simulation.curve_model import POST5
from sweeps.simulation.curves import RecordedCurves, model_curves

SMALL = ["train.train_limit=16", "train.val_limit=8", "train.batch_size=8"]


@pytest.fixture(scope="module")
def spec() -> StudySpec:
    return load_study(find_study("quickstart"), SMALL)


@pytest.fixture(scope="module")
def planned(spec) -> Plan:
    return plan(spec)


@pytest.fixture(scope="module")
def shown(planned) -> dict[str, Any]:
    """What ``plan --json`` prints, read back."""
    return json.loads(json.dumps(planned.to_dict(), allow_nan=False))


def test_the_trials_are_those_that_the_study_would_start_with(spec, planned):
    ledger = Ledger.preview(spec)
    assert planned.samples == [ledger.ask() for _ in range(3)]


def test_the_parameters_are_counted_on_the_network_itself(planned):
    assert planned.parameters == trainable_parameters(build(planned.samples[0].config))


def test_the_values_that_scripts_read_have_their_names(shown, planned):
    assert shown["study"] == "quickstart"
    assert shown["trainable_parameters"] == planned.parameters
    assert [trial["config"] for trial in shown["trials"]] == [job.config.to_dict() for job in planned.samples]
    assert shown["trials"][0]["parameters"] == planned.samples[0].params
    assert (shown["trials_in_all"], shown["epochs"]) == (planned.spec.search.trials, planned.epochs)


def test_an_epoch_was_timed(planned):
    assert 0 < planned.seconds_per_epoch < 60


def test_as_many_trials_run_at_once_as_there_are_cores(planned):
    assert planned.slots == len(os.sched_getaffinity(0))


def test_people_are_shown_that_no_trial_fits_here_where_a_launch_refuses(spec):
    cores = len(os.sched_getaffinity(0))
    larger = plan(load_study(find_study("quickstart"), [*SMALL, f"resources.cpus_per_trial={cores + 1}"]), count=1)
    assert (larger.slots, larger.device) == (1, f"{cores} CPU thread(s)")
    assert f"no trial fits on this machine: resources.cpus_per_trial = {cores + 1}: there are" in describe(larger)
    assert "no trial fits" not in describe(plan(spec, count=1))


def test_a_plan_never_has_more_trials_than_the_study(spec):
    one = load_study(find_study("quickstart"), [*SMALL, "search.trials=1"])
    assert len(plan(one).samples) == 1


def test_the_number_of_threads_is_as_it_was(spec):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    plan(spec, count=1)
    found = torch.get_num_threads()
    torch.set_num_threads(before)
    assert found == 3


def test_planning_starts_nothing_and_keeps_nothing(spec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan(spec, count=1)
    assert list(tmp_path.iterdir()) == []
    assert not ray.is_initialized()


def test_epochs_are_those_of_the_samples_for_all_trials(planned):
    horizons = [job.config.horizon for job in planned.samples]
    assert replace(planned, trials=30).epochs == 10 * sum(horizons)


@pytest.mark.parametrize(("slots", "at_once"), [(1, 1), (7, 7), (100, 14)])
def test_hours_are_shared_between_the_trials_that_run_at_once(planned, slots, at_once):
    timed = replace(planned, seconds_per_epoch=36.0, slots=slots, trials=14)
    assert timed.hours == pytest.approx(timed.epochs * 36 / at_once / 3600)


@pytest.mark.parametrize("has", [True, False])
def test_people_are_shown_where_bf16_is_slow(planned, has, monkeypatch):
    monkeypatch.setattr(cluster, "has_bf16", lambda: has)
    reduced = replace(planned, spec=load_study(find_study("quickstart"), ['train.precision="bf16"']))
    assert ("use --set train.precision=fp32" in describe(reduced)) is not has


def test_people_are_shown_each_trial_with_its_schedule_drawn(planned):
    text = describe(planned)
    assert f"{planned.parameters:,} trainable parameters" in text
    for job in planned.samples:
        assert f"\n  {job.config.schedule}\n" in text
        assert f"peak {job.config.lr_alpha:g}, {job.config.horizon} epochs" in text
    assert f"\ntrial 0: lr = {planned.samples[0].params['lr']:.4g}, weight_decay = " in text


@pytest.mark.parametrize(
    ("hours", "text"),
    [(0.0005, "1.8 s"), (0.05, "3 min"), (0.99, "59.4 min"), (2.5, "2.5 h"), (148.8, "6.2 days")],
)
def test_the_cost_is_shown_in_readable_units(planned, hours, text):
    timed = replace(planned, seconds_per_epoch=hours * 3600 / planned.epochs, slots=1)
    assert describe(timed).endswith(f"about {text}")


def test_a_short_epoch_has_a_time_of_its_own_unit(planned):
    assert "one epoch takes about 0.4 ms on " in describe(replace(planned, seconds_per_epoch=0.0004))


def test_listed_runs_are_added_up_exactly(planned):
    listed = load_study(find_study("published/post5"))
    horizons = [trial_config(listed, {}, run=run.name).horizon for run in listed_runs(listed)]
    assert replace(planned, spec=listed).epochs == sum(horizons)


def test_energy_is_power_over_all_epochs(planned):
    metered = replace(planned, watts=100.0, seconds_per_epoch=36.0)
    assert metered.kilowatt_hours == pytest.approx(metered.epochs * 36 * 100 / 3.6e6)
    assert describe(metered).endswith(" kWh")


def test_without_a_gpu_there_is_no_energy(planned):
    assert planned.kilowatt_hours is None


def test_what_the_rules_save_is_taken_off_epochs_hours_and_energy(planned):
    stopped = replace(planned, share_saved=0.25, watts=100.0).stopped
    assert stopped == {
        "epochs": round(planned.epochs * 0.75),
        "hours": planned.hours * 0.75,
        "kilowatt_hours": planned.epochs * planned.seconds_per_epoch * 100 / 3.6e6 * 0.75,
    }


def test_a_plan_that_is_not_simulated_tells_nothing_of_rules(planned, shown):
    assert shown["with_stopping"] is None
    assert "stopping rules" not in describe(planned)


def test_a_measured_plan_tells_what_the_rules_save(spec, tmp_path, monkeypatch):
    monkeypatch.setattr("sweeps.inspection.plan._MEASURED_SECONDS", 0.5)  # it asks nothing of how exact the time is
    timed = measured_plan(spec, Home(tmp_path / "home"))
    assert 0 < timed.stopped["epochs"] <= timed.epochs
    assert "with its stopping rules, simulated: about" in describe(timed)


def test_an_earlier_study_brings_its_times_and_its_curves(spec, tmp_path):
    ledger = Ledger.preview(spec)
    jobs = [ledger.ask() for _ in range(4)]
    drawn = model_curves(POST5, 7.0, seed=0)
    earlier = RecordedCurves("earlier", jobs, {job.name: drawn(job) for job in jobs}, {})
    planned = plan_from_earlier(spec, earlier, Home(tmp_path))
    assert planned.seconds_per_epoch == 7
    assert planned.device == "the machine of earlier"
    assert planned.stopped["epochs"] <= planned.epochs
