"""What holds of every simulated study, whatever its trials, rules and slots."""

from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from resnet_core.config import TrialConfig
from search_spaces.spec import StudySpec
from sweeps.home import Home
from sweeps.simulation.replay import FixedTrials, SimulatedTrial, replay, study_in_memory
from sweeps.study.trials import Job
from tests.studies import epoch_records, fixed_study

LONGEST = 6
CONFIGS = [TrialConfig(schedule="[1e-3, 0] lin[1e-5, 3]", epochs=epochs) for epochs in range(1, LONGEST + 1)]


def study(**stopping: object) -> StudySpec:
    return fixed_study(run=[{"name": "longest", "epochs": LONGEST}], stopping=stopping)


FREE = study(diverged=False)
RULED = study(cap={"best": 1, "slack": 1.0}, at_target=True, control=0.2)

curves = st.lists(
    st.tuples(st.floats(0.1, 100), st.lists(st.sampled_from([0.1, 0.5, 0.93]), min_size=1, max_size=LONGEST)),
    min_size=1,
    max_size=12,
)
slots = st.integers(1, 5)


def run(spec: StudySpec, trials: list[tuple[float, list[float]]], slots: int) -> list[SimulatedTrial]:
    known = {str(i): epoch_records(accs, seconds=seconds) for i, (seconds, accs) in enumerate(trials)}
    jobs = [Job(0, name, CONFIGS[len(records) - 1], {}) for name, records in known.items()]
    return replay(study_in_memory(Home(Path("/nonexistent")), FixedTrials(spec, jobs)), lambda j: known[j.name], slots)


@given(curves, slots)
def test_no_trial_is_lost_or_run_twice(trials, slots):
    assert [t.job.name for t in run(RULED, trials, slots)] == [str(i) for i in range(len(trials))]


@given(curves, slots)
def test_slots_are_never_over_used(trials, slots):
    done = run(RULED, trials, slots)
    for trial in done:
        at_once = sum(other.started <= trial.started < other.ended for other in done)
        assert at_once <= slots


@given(curves, slots)
def test_no_slot_is_idle_while_a_trial_waits(trials, slots):
    done = run(RULED, trials, slots)
    for trial in done[slots:]:
        assert any(other.ended == trial.started for other in done)
        assert sum(other.started <= trial.started <= other.ended for other in done) > slots


@given(curves, slots)
def test_time_goes_forward(trials, slots):
    done = run(RULED, trials, slots)
    assert all(a.started <= b.started for a, b in pairwise(done))
    for trial in done:
        assert all(a < b for a, b in pairwise([trial.started, *trial.epoch_ends]))


@given(curves, slots)
def test_without_rules_a_study_lasts_the_sum_of_its_horizons(trials, slots):
    epochs = sum(t.result.epochs_run for t in run(FREE, trials, slots))
    assert epochs == sum(len(accs) for _, accs in trials)


@given(curves, slots)
def test_rules_never_make_a_study_longer_in_epochs(trials, slots):
    epochs = sum(t.result.epochs_run for t in run(RULED, trials, slots))
    assert epochs <= sum(len(accs) for _, accs in trials)
