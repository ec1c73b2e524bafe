"""How many trials fit on which nodes, and what is said of errors; what needs no running Ray."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from search_spaces.tables import Resources
from sweeps import load_study
from sweeps.errors import InputError
from sweeps.execution import cluster
from sweeps.execution.cluster import Cluster, Node
from sweeps.execution.ray_internals import last_error


def slots(cpus: float, gpus: float = 0, *, cpus_each: int = 1, gpus_each: float = 0.0) -> int:
    return Cluster((Node(cpus, gpus),)).slots(Resources(cpus_per_trial=cpus_each, gpus_per_trial=gpus_each))


@pytest.mark.parametrize(("cpus", "each", "expected"), [(2, 1, 2), (8, 3, 2), (4, 4, 1), (2.5, 1, 2)])
def test_a_trial_takes_whole_cores(cpus, each, expected):
    assert slots(cpus, cpus_each=each) == expected


def test_unused_gpus_do_not_limit_the_slots():
    assert slots(16, 1) == 16


@pytest.mark.parametrize(
    ("gpus", "each", "expected"),
    [
        *[(1, 1, 1), (2, 1, 2), (1, 0.5, 2), (1, 0.4, 2), (2, 0.4, 4), (2, 0.25, 8), (1, 1 / 3, 3), (1, 0.1, 10)],
        *[(1, 0.6, 1), (3, 0.6, 3)],
    ],
)
def test_a_share_is_taken_from_a_single_gpu(gpus, each, expected):
    assert slots(64, gpus, gpus_each=each) == expected


def test_the_scarcer_of_cores_and_gpus_decides():
    assert slots(4, 2, gpus_each=0.25) == 4
    assert slots(64, 2, cpus_each=8, gpus_each=0.25) == 8


def test_too_few_cores_are_an_error_with_the_key_and_what_to_do():
    message = "resources.cpus_per_trial = 3: there are 2 CPU cores; use --set resources.cpus_per_trial=2 or fewer"
    with pytest.raises(InputError, match=re.escape(message)):
        slots(2, cpus_each=3)


@pytest.mark.parametrize(("gpus", "each", "shown"), [(0, 0.25, "0.25"), (0, 1, "1")])
def test_too_few_gpus_are_an_error_with_the_key_and_what_to_do(gpus, each, shown):
    message = (
        f"resources.gpus_per_trial = {shown}: there are {gpus} GPUs; "
        "use --set resources.gpus_per_trial=0 to run on CPU cores"
    )
    with pytest.raises(InputError, match=re.escape(message)):
        slots(8, gpus, gpus_each=each)


def test_a_trial_runs_on_one_node():
    nodes = (Node(3), Node(3), Node(1))
    assert Cluster(nodes).slots(Resources(cpus_per_trial=2)) == 2


def test_nodes_that_have_the_cores_and_nodes_that_have_the_gpus_fit_nothing():
    message = "resources: no node has 4 CPU cores and 1 GPUs at once"
    with pytest.raises(InputError, match=re.escape(message)):
        Cluster((Node(8), Node(2, 4))).slots(Resources(cpus_per_trial=4, gpus_per_trial=1))


def test_a_cluster_without_nodes_has_no_slots():
    with pytest.raises(InputError, match="no node has more than 0 CPU cores"):
        Cluster(()).slots(Resources())


def test_a_study_without_shared_processes_does_not_load_them():
    code = """if True:
        import sys
        import sweeps.execution.placement

        sys.exit(", ".join(name for name in sys.modules if "execution.shared" in name) or 0)
    """
    subprocess.run([sys.executable, "-c", code], check=True)


class Failed:
    """A trial of Ray's whose error is in its folder."""

    def __init__(self, folder: Path, error: str | None) -> None:
        self.local_path = str(folder)
        if error is not None:
            (folder / "error.txt").write_text(error)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("Failure # 1\nold\nFailure # 2 (occurred at noon)\n\x1b[36mray::step()\x1b[39m\nRuntimeError: x\n", None),
        ("RuntimeError: x", "RuntimeError: x"),
        (None, "unknown error"),
        ("", "unknown error"),
    ],
)
def test_an_error_of_a_trial_is_its_last_without_colours(tmp_path, error, text):
    assert last_error(Failed(tmp_path, error)) == (text or "2 (occurred at noon)\nray::step()\nRuntimeError: x")


BF16 = {"train": {"schedule": "[0.01, 0] lin[0, 2]", "precision": "bf16"}}
SAMPLED = {
    "train": {"schedule": "[0.01, 0] lin[0, 2]"},
    "space": {"precision": {"choices": ["fp32", "bf16"]}},
    "search": {"trials": 2},
}


@pytest.mark.parametrize(
    ("study", "has", "is_slow"),
    [
        (BF16, False, True),
        (SAMPLED, False, True),
        (BF16, True, False),
        (BF16, None, False),
        (BF16 | {"train": BF16["train"] | {"precision": "fp32"}}, False, False),
        (BF16 | {"resources": {"gpus_per_trial": 1}}, False, False),
    ],
)
def test_bf16_is_said_to_be_slow_where_trials_run_on_a_cpu_without_it(study, has, is_slow, monkeypatch):
    monkeypatch.setattr(cluster, "has_bf16", lambda: has)
    said = cluster.slow_precision(load_study({"name": "any"} | study))
    assert (said is not None) is is_slow
    assert said is None or said.endswith("use --set train.precision=fp32")
