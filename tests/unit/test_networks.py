"""Which networks a study keeps, in which order, and that its folder never has more than that."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from resnet_core.network_file import About, read_about, save_network
from resnet_core.objective import Objective
from resnet_core.records import Outcome
from search_spaces.study import from_json, identity, load_study, to_json
from search_spaces.tables import Keep
from sweeps.errors import InputError
from sweeps.home import Home
from sweeps.study.networks import Networks, best_trials, kept_networks
from sweeps.study.outcomes import Result, crash_result
from tests.study_files import SPACE

MAX, MIN = Objective("val_acc", "max", 0.9, 2), Objective("loss", "min", None, 2)


def ended(*values, outcome=Outcome.EXHAUSTED, at=None):
    return Result(outcome, len(values), epochs_to_target=at, values=values)


def test_those_that_came_to_the_target_are_first_then_the_last_value_counts():
    results = {
        0: ended(0.5, 0.8),
        1: ended(0.8, 0.95, outcome=Outcome.REACHED, at=2),
        2: ended(0.9, 0.91, outcome=Outcome.REACHED, at=1),
        3: ended(0.89, 0.7),
        4: ended(0.5, 0.8),
        5: ended(0.8, 0.96, outcome=Outcome.REACHED, at=2),
        6: ended(0.85, outcome=Outcome.PRUNED),
        7: ended(0.99, outcome=Outcome.DIVERGED),
        8: crash_result(3, "why"),
        9: ended(math.nan),
    }
    assert best_trials(results, MAX, Keep(all=True)) == [2, 5, 1, 6, 0, 4, 3, 9]
    assert best_trials(results, MAX, Keep()) == [2, 5, 1]
    assert best_trials(results, MAX, Keep(best=0)) == []


def test_a_metric_that_should_fall_is_best_where_it_is_low():
    assert best_trials({0: ended(0.5), 1: ended(0.2), 2: ended(math.nan), 3: ended(0.3)}, MIN, Keep(best=2)) == [1, 3]


def study(folder, **keep):
    path = folder / "s.toml"
    path.write_text(SPACE + "".join(f"[keep]\n{key} = {json.dumps(value)}\n" for key, value in keep.items()))
    return load_study(path)


class Study:
    """Trials that end one after the other, as files and results alone."""

    def __init__(self, home, **keep):
        self.home = Home(home)
        self.spec = study(home, **keep)
        self.networks, self.results, self.frozen = Networks(self.home, self.spec), {}, set()

    @property
    def name(self):
        return self.spec.name

    def write(self, number, *values, epoch=None, trainer=None):
        at = epoch or len(values)
        about = About(at, {}, trial=str(number), trainer=trainer, metrics={"val_acc": values[at - 1]})
        save_network(self.home.network(self.name, number), {"w": np.full(3, number, np.float32)}, about)

    def end(self, number, *values, frozen=False, **result):
        self.results[number] = ended(*values, **result)
        if frozen:
            self.frozen.add(number)
        self.settle()

    def settle(self):
        names = {number: str(number) for number in self.results}
        self.networks.settle(names, self.results, self.frozen)

    @property
    def kept(self):
        return sorted(kept_networks(self.home, self.name))

    @property
    def waiting(self):
        return sorted(path.name for path in self.home.network(self.name, 0).parent.glob("*.safetensors*"))


def test_better_networks_push_out_worse_ones(tmp_path):
    study, most = Study(tmp_path), 0
    for number, value in enumerate([0.3, 0.5, 0.4, 0.2, 0.9, 0.45, 0.6]):
        study.write(number, 0.1, value)
        study.end(number, 0.1, value)
        most = max(most, len(study.kept))
        assert study.waiting == []
    assert study.kept == ["1", "4", "6"]
    assert most == 3
    assert read_about(study.home.model(study.name, "4")).value == 0.9
    beside = json.loads(study.home.model(study.name, "4").with_suffix(".json").read_text())
    assert (beside["trial"], beside["metrics"]) == ("4", {"val_acc": 0.9})
    assert sorted(path.suffix for path in study.home.models(study.name).iterdir()) == 3 * [".json"] + 3 * [
        ".safetensors"
    ]


def test_a_trial_that_runs_or_may_go_on_keeps_its_network_where_it_is(tmp_path):
    study = Study(tmp_path)
    study.write(0, 0.5)
    study.write(1, 0.6)
    study.end(1, 0.6, outcome=Outcome.PRUNED, frozen=True)
    assert (study.kept, study.waiting) == ([], ["00000.safetensors", "00001.safetensors"])
    study.frozen.clear()
    study.settle()
    assert (study.kept, study.waiting) == (["1"], ["00000.safetensors"])


def test_a_network_that_was_kept_is_not_lost_when_its_trial_counts_as_frozen_again(tmp_path):
    # The process was killed between the network's move and the removal of the checkpoint.
    study = Study(tmp_path)
    study.write(1, 0.6)
    study.end(1, 0.6, outcome=Outcome.PRUNED)
    study.frozen.add(1)
    study.settle()
    assert study.kept == ["1"]


@pytest.mark.parametrize(
    ("written", "epoch", "trainer", "is_kept"),
    [
        ((0.1, 0.5), None, None, True),
        ((0.1, 0.6), None, None, False),  # another driver went on, and has another value
        ((0.1, 0.5), 1, None, False),  # of an earlier epoch
        ((0.1, 0.5), 1, "mlp:train", True),  # which a trainer of one's own may choose
        ((0.1, 0.5, 0.6), 3, None, False),
        ((0.1, 0.5, 0.6), 3, "mlp:train", False),
    ],
)
def test_the_network_must_be_that_of_the_trial_as_it_ended(tmp_path, written, epoch, trainer, is_kept):
    study = Study(tmp_path)
    study.write(0, *written, epoch=epoch, trainer=trainer)
    study.end(0, 0.1, 0.5)
    assert (study.kept, study.waiting) == (["0"] if is_kept else [], [])


def test_a_network_of_a_trial_without_a_value_is_kept(tmp_path):
    study = Study(tmp_path)
    study.write(0, math.nan)
    study.end(0, math.nan)
    assert study.kept == ["0"]


def test_what_killed_writers_have_left_is_removed(tmp_path):
    study = Study(tmp_path)
    study.write(0, 0.5)
    study.end(0, 0.5)
    folder, models = study.home.network(study.name, 0).parent, study.home.models(study.name)
    for left in ("0.safetensors.77.partial", "0.json.77.partial", "7.json"):
        (models / left).write_bytes(b"half")
    (models / "notes.txt").write_text("somebody's own")
    for left in (folder / "00000.safetensors.77.partial",):
        left.write_bytes(b"half")
    running = folder / "00001.safetensors.77.partial"
    running.write_bytes(b"half")
    study.settle()
    assert sorted(folder.glob("*")) == [running]
    assert sorted(path.name for path in models.iterdir()) == ["0.json", "0.safetensors", "notes.txt"]


def test_a_damaged_network_is_dropped_and_said(tmp_path, caplog):
    study = Study(tmp_path)
    study.home.network(study.name, 0).parent.mkdir(parents=True)
    study.home.network(study.name, 0).write_bytes(b"half a file of a network")
    study.end(0, 0.5)
    assert (study.kept, study.waiting) == ([], [])
    assert "the network of trial 0 is not kept" in caplog.text


def test_a_study_asked_to_keep_fewer_removes_the_others(tmp_path):
    study = Study(tmp_path, all=True)
    for number in range(5):
        study.write(number, number / 10)
        study.end(number, number / 10)
    assert study.kept == ["0", "1", "2", "3", "4"]
    study.networks = Networks(study.home, study.spec.model_copy(update={"keep": Keep(best=2)}))
    study.settle()
    assert study.kept == ["3", "4"]
    study.networks = Networks(study.home, study.spec.model_copy(update={"keep": Keep(best=0)}))
    study.settle()
    assert list(study.home.models(study.name).iterdir()) == []


def test_a_study_that_never_ran_here_makes_no_folder(tmp_path):
    study = Study(tmp_path)
    study.end(0, 0.5)
    assert not study.home.studies.exists()


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a..b", "x\n"])
def test_the_name_of_a_trial_is_no_path(tmp_path, name):
    with pytest.raises(InputError, match="expected the name of a trial"):
        Home(tmp_path).model("mine", name)


def test_keep_changes_no_identity_and_is_left_out_of_a_stored_study_where_it_is_the_default(tmp_path):
    plain, more = study(tmp_path), study(tmp_path, best=5)
    assert identity(plain) == identity(more)
    assert "keep" not in json.loads(to_json(plain))
    assert from_json(to_json(more)).keep == Keep(best=5)
    assert from_json(to_json(plain)).keep == Keep(best=3)


def test_a_finalists_name_is_valid():
    assert Home(Path("/x")).model("mine", "12-s4294967295").name == "12-s4294967295.safetensors"


def test_a_simulation_of_a_study_leaves_its_networks_alone(tmp_path):
    from sweeps.simulation.replay import study_in_memory
    from sweeps.study.trials import Assignment

    real = Study(tmp_path)
    real.write(0, 0.5)
    real.end(0, 0.5)
    real.write(1, 0.6)

    class Trials:
        spec = real.spec

        def remaining(self):
            return 1

        def next_assignment(self, known=()):
            return Assignment(None, 0, 0)

    study_in_memory(real.home, Trials()).remove_frozen()
    assert (real.kept, real.waiting) == (["0"], ["00001.safetensors"])
