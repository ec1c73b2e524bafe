import math

import pytest

from sweeps.tracking.tensorboard import write_events

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

FAST = {"val_accs": [0.5, 0.93, 0.94], "outcome": "reached"}
MISS = {"val_accs": [0.5, math.nan], "outcome": "exhausted"}
CRASHED = {"val_accs": [0.5], "outcome": "crashed"}


def read(folder):
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    return events


def points(folder, name):
    return [(event.step, pytest.approx(event.value, abs=1e-6)) for event in read(folder).Scalars(name)]


def test_a_trial_is_a_folder(make_study, tmp_path):
    assert write_events(make_study(FAST, MISS), tmp_path) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trial-0", "trial-1"]


def test_a_curve_has_the_epochs_values(make_study, tmp_path):
    write_events(make_study(FAST), tmp_path)
    assert points(tmp_path / "trial-0", "val_acc") == [(1, 0.5), (2, 0.93), (3, 0.94)]


def test_a_value_that_is_missing_is_left_out(make_study, tmp_path):
    write_events(make_study(MISS), tmp_path)
    assert points(tmp_path / "trial-0", "val_acc") == [(1, 0.5)]


def test_epochs_to_target_is_a_result(make_study, tmp_path):
    write_events(make_study(FAST), tmp_path)
    assert points(tmp_path / "trial-0", "result/epochs_to_target") == [(0, 2.0)]


def test_parameters_are_on_the_page_of_hparams(make_study, tmp_path):
    write_events(make_study(FAST), tmp_path)
    metadata = read(tmp_path / "trial-0").PluginTagToContent("hparams")
    assert b"weight_decay" in metadata["_hparams_/session_start_info"]


def test_a_crashed_trial_is_left_out(make_study, tmp_path):
    assert write_events(make_study(CRASHED), tmp_path) == 0


def test_a_second_export_replaces_the_first(make_study, tmp_path):
    for _ in range(2):
        write_events(make_study(FAST), tmp_path)
    assert len(list((tmp_path / "trial-0").iterdir())) == 1
