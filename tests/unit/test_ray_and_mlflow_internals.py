"""What this package uses of Ray and MLflow that neither promises is there, in the versions that are installed.

A test that fails after an upgrade says what the missing thing was for; the modules named *_internals are to be changed.
"""

import inspect
import logging
import mmap
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import mlflow.environment_variables
import mlflow.store.db.utils
import psutil
import pytest
import ray._private.node
import ray._private.worker
from mlflow.utils import mlflow_tags
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request, verify_rest_response
from ray.tune.execution import class_cache
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.result import EXPR_ERROR_FILE
from ray.tune.trainable.metadata import _TrainingRunMetadata
from ray.tune.utils import flatten_dict

from analysis.store import mlflow_internals as store_internals
from resnet_core import schema
from sweeps import environment, errors
from sweeps.execution import fork_server, no_agent, ray_internals, tied
from sweeps.tracking import mlflow_internals as tracking_internals

RAY, MLFLOW = (Path(find_spec(name).origin).parent for name in ("ray", "mlflow"))


@pytest.fixture(scope="module")
def ray_sources() -> str:
    files = (path for room in ("tune", "air", "_private", "_common") for path in (RAY / room).rglob("*.py"))
    return "\n".join(path.read_text() for path in files)


def holds(file: Path, words: str) -> bool:
    """Whether a program has these words in it."""
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data.find(words.encode()) >= 0


# Ray


@pytest.mark.parametrize("name", environment.RAY)
def test_ray_reads_the_environment_variables_that_are_set_for_it(ray_sources, name):
    assert f'"{name}"' in ray_sources, "see environment.RAY for what it keeps Ray from"


def test_ray_starts_its_processes_where_their_group_is_chosen(ray_sources):
    why = "a signal to the process group of a launch would end Ray before running trials can finish their epoch"
    services = ray._private.services
    assert "process = ConsolePopen(" in inspect.getsource(services.start_ray_process), why
    kinds = {ray._private.ray_constants.PROCESS_TYPE_RAYLET, ray._private.ray_constants.PROCESS_TYPE_GCS_SERVER}
    assert kinds == ray_internals._NEEDED, "a launch would wait for a minute for a Ray that has died"
    assert callable(ray._private.node.Node.dead_processes), "the same"


@pytest.mark.parametrize("option", [ray_internals._WORKER, *ray_internals._AGENTS])
def test_ray_starts_a_raylet_with_the_commands_of_its_processes(option):
    why = "they would outlive a launch that was killed, its agents for a minute"
    assert f'"{option}={{' in inspect.getsource(ray._private.services.start_raylet), why
    program = ray_internals._tied(f"{option}={sys.executable} -u agent.py --port=1")
    assert program.startswith(f"{option}={sys.executable} -I -S {tied.__file__} "), why
    assert program.endswith(" -u agent.py --port=1"), why


@pytest.mark.parametrize("option", list(ray_internals._AGENTS))
def test_an_agent_that_a_launch_lacks_says_so_as_rays_own_does(tmp_path, option):
    why = "the raylet would wait for a minute for the ports of its agents"
    command = inspect.getsource(ray._private.services.start_raylet).partition(f"{option.strip('-')} = [")[2]
    command = command.partition("\n    ]")[0]
    assert '"--session-dir={' in command, why
    assert '"--node-id={' in command, why
    words = [f"--node-id={'a' * 56}", f"--session-dir={tmp_path / 'ours'}"]
    for folder in ("ours", "rays"):
        (tmp_path / folder).mkdir()
    no_agent.write_ports(list(ray_internals._AGENTS[option]), ["agent.py", *words])
    for name in ray_internals._AGENTS[option]:
        ray._raylet.persist_port(str(tmp_path / "rays"), "a" * 56, name, -1)
    ours, rays = ({path.name: path.read_text() for path in (tmp_path / f).iterdir()} for f in ("ours", "rays"))
    assert ours == rays, why


def test_a_worker_is_executed_without_the_program_that_sets_up_its_environment():
    ahead = Path(ray._private.node.__file__).parent / "workers" / tied._AHEAD
    assert f'"{tied._CONTEXT[:-1]}"' in ahead.read_text(), "each worker would import Ray twice"
    words = ["default_worker.py", "--node-id=1"]
    empty = ["--language=PYTHON", "--serialized-runtime-env-context={}"]
    assert tied.without_setup(["/ray/setup_worker.py", *words, *empty]) == words
    assert tied.without_setup(["/ray/setup_worker.py", *words, "--language=PYTHON"]) == words
    asked = ["/ray/setup_worker.py", *words, '--serialized-runtime-env-context={"env_vars": {"A": "1"}}']
    assert tied.without_setup(asked) == asked
    assert tied.without_setup(["agent.py", "--language=PYTHON"]) == ["agent.py", "--language=PYTHON"]


def test_ray_reads_its_settings_anew_when_it_is_told_to():
    why = "a worker that was forked would not know the token without which Ray answers nobody"
    program = (
        "import os; from ray._raylet import Config; from sweeps.execution import ray_internals\n"
        "os.environ['RAY_health_check_period_ms'] = '777'; before = Config.health_check_period_ms()\n"
        "ray_internals.begin_as_fork(1); print(before == 777, Config.health_check_period_ms() == 777)"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "False True\n", why


def test_the_first_job_of_a_ray_has_the_id_that_forks_are_told():
    assert ray.JobID.from_int(1).hex() == fork_server.FIRST_JOB, "no worker would be forked"


def test_ray_looks_for_the_libraries_of_its_dashboard_by_a_function_that_can_be_replaced():
    why = "each launch would import an HTTP server that it does not use"
    start = inspect.getsource(ray._private.services.start_raylet)
    assert "ray._private.utils.get_dashboard_dependency_error()" in start, why


def test_a_worker_of_rays_is_a_program_that_is_known_by_its_name():
    workers = RAY / "_private" / "workers"
    assert (workers / tied._WORKER).is_file(), "no worker would be forked"


def test_a_process_that_is_tied_ends_with_the_one_that_started_it():
    ray_alone = "import subprocess, sys, time; print(subprocess.Popen(sys.argv[1:]).pid, flush=True); time.sleep(600)"
    asleep = [sys.executable, tied.__file__, "-c", "import time; time.sleep(600)"]
    parent = subprocess.Popen([sys.executable, "-c", ray_alone, *asleep], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(parent.stdout.readline()))
    while not (command := child.cmdline()) or "time.sleep" not in command[-1] or tied.__file__ in command:
        time.sleep(0.01)  # it has not executed its command yet
    parent.kill()
    parent.wait()
    child.wait(timeout=10)
    parent.stdout.close()


def test_ray_starts_as_many_workers_ahead_as_it_is_told():
    why = "a worker for each core would import torch, or none"
    assert "--num_prestart_python_workers=" in inspect.getsource(ray._private.services.start_raylet), why
    settings = ray_internals.Ahead(2, 1, "math").settings()
    raylet = RAY / "core/src/ray/raylet/raylet"
    assert [name for name in settings if not holds(raylet, name)] == [], why
    assert "worker_preload_modules" in (RAY / "_private/workers/default_worker.py").read_text(), why


def test_ray_starts_what_a_launch_does_without_by_methods_of_its_node():
    node = ray._private.node.Node
    assert [name for name in ray_internals._UNUSED if f"self.{name}(" not in inspect.getsource(node)] == []


def test_ray_tune_asks_for_workers_by_a_method_that_can_be_replaced():
    why = "workers that were started ahead would not be used"
    assert "_ActorClassCache()" in inspect.getsource(TuneController), why
    assert list(inspect.signature(class_cache._ActorClassCache.get).parameters) == ["self", "trainable_cls"], why
    assert list(ray_internals._OF_TUNE.items()) == list(class_cache.DEFAULT_ENV_VARS.items()), why


@pytest.mark.parametrize(("shown", "err"), [(False, ""), (True, "a worker died")])
def test_ray_prints_on_stdout_by_a_function_that_can_be_replaced(shown, err, capsys):
    why = "a process that dies would leave a page of Ray's among the results"
    worker = ray._private.worker
    assert "print_to_stdstream(" in inspect.getsource(worker.listen_error_messages), why
    with ray_internals.off_stdout(shown=shown):
        worker.print_to_stdstream({"lines": ["a worker died"], "pid": "raylet", "is_err": False}, ignore_prefix=False)
    said = capsys.readouterr()
    assert said.out == "", why
    assert err in said.err
    assert bool(said.err) is shown


def test_ray_sets_its_handler_of_sigterm_where_it_is_kept_from_it():
    why = "SIGTERM would end a launch without a word while Ray starts"
    assert "ray._private.utils.set_sigterm_handler(sigterm_handler)" in inspect.getsource(ray.init), why
    assert "signal.signal(" not in inspect.getsource(ray._private.worker), why
    before = signal.getsignal(signal.SIGTERM)
    with ray_internals.without_signal_handler():
        ray._private.utils.set_sigterm_handler(signal.default_int_handler)
    assert signal.getsignal(signal.SIGTERM) is before, why


def test_ray_takes_the_address_of_loopback_where_it_may_have_no_cluster():
    why = "Ray would look for a network at every launch, and be open to other machines"
    with ray_internals.on_loopback():
        assert ray.util.get_node_ip_address() == "127.0.0.1", why
    assert ray._private.ray_constants.ENABLE_RAY_CLUSTER, why


def test_ray_extends_the_path_of_its_workers():
    why = "workers would import modules of the current folder in place of others"
    assert isinstance(ray.job_config.JobConfig()._py_driver_sys_path, list), why
    assert "job_config._py_driver_sys_path.extend(" in inspect.getsource(ray._private.worker), why


def test_the_processes_that_ray_started_can_be_killed():
    why = "a driver whose node has died would wait a minute at its exit"
    assert hasattr(ray._private.worker, "_global_node"), why
    known = inspect.signature(ray._private.node.Node.kill_all_processes).parameters
    assert {"check_alive", "allow_graceful"} <= known.keys(), why


def test_a_trials_failures_are_counted_in_its_metadata():
    why = "a machine that leaves would use up a trial's retries"
    assert _TrainingRunMetadata().num_failures == 0, why
    assert "self.run_metadata.num_failures += 1" in inspect.getsource(Trial), why


def test_a_trials_errors_are_in_a_file_of_its_folder():
    why = "a crashed trial would have no reason"
    assert isinstance(inspect.getattr_static(Trial, "local_path"), property), why
    assert EXPR_ERROR_FILE == ray_internals._ERROR_FILE, why
    assert ray_internals._ERROR_BEGINS in inspect.getsource(Trial), why


@pytest.mark.parametrize("status", ["PENDING", "RUNNING"])
def test_trials_have_a_status(status):
    assert getattr(Trial, status) == status, "no trial would be started, or seen to run"


def test_results_are_flattened_with_a_slash():
    flat = flatten_dict({"record": {"epoch": 1}})
    assert ray_internals.unflattened(flat, "record") == {"epoch": 1}, "the study would see no epoch"


@pytest.mark.parametrize(
    ("words", "programs"),
    [
        *((words, ["core/src/ray/gcs/gcs_server", "_raylet.so", "exceptions.py"]) for words in errors.NODE_GONE),
        *((words, ["_raylet.so", "exceptions.py"]) for words in errors.PROCESS_GONE),
        *((words, ["core/src/ray/raylet/raylet"]) for words in (errors.LOW_MEMORY, errors.MEMORY_USED)),
    ],
)
def test_ray_says_why_a_trial_was_lost_in_the_words_that_are_looked_for(words, programs):
    found = [name for name in programs if holds(RAY / name, words)]
    assert found, "a lost machine would use up retries, or the cause of a crash be a page of Ray's"


@pytest.mark.parametrize("name", ray_internals._LOGGERS)
def test_ray_is_silenced(name):
    before = logging.getLogger(name).level
    try:
        ray_internals.silence()
        assert not logging.getLogger(name).isEnabledFor(logging.ERROR)
    finally:
        logging.getLogger(name).setLevel(before)


# MLflow: what the writer uses


@pytest.mark.parametrize(
    "name",
    [
        *environment.MLFLOW,
        *environment.MLFLOW_FAIL_SOON,
        *environment.MLFLOW_QUIET,
        *sorted(environment.MLFLOW_IGNORED),  # each process of pytest-xdist must list the same
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION",
    ],
)
def test_mlflow_reads_the_environment_variables_that_are_set_for_it(name):
    assert hasattr(mlflow.environment_variables, name), "see sweeps.environment for what it keeps MLflow from"


def test_mlflow_makes_its_tables_by_a_function_of_their_own():
    why = "a killed process would leave a database that MLflow can do nothing with"
    assert list(inspect.signature(mlflow.store.db.utils._initialize_tables).parameters) == ["engine"], why


def test_mlflow_shows_trials_below_their_launch():
    assert mlflow_tags.MLFLOW_PARENT_RUN_ID == schema.PARENT_RUN


def test_mlflow_shows_the_note_of_a_launch():
    assert mlflow_tags.MLFLOW_RUN_NOTE == schema.NOTE


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (tracking_internals.SHARED_VIEW, "the view of a study would not be in the menu Views"),
        *((word, "MLflow would open on its pages for language models") for word in tracking_internals.EXPERIMENT_KIND),
        *((word, "likewise") for word in tracking_internals.EXPERIMENT_KIND.values()),
    ],
)
def test_mlflows_pages_know_the_tags_of_an_experiment(words, why):
    scripts = (MLFLOW / "server/js/build/static/js").glob("*.js")
    assert any(holds(script, words.rstrip(".")) for script in scripts if script.stat().st_size), why


# MLflow: what the readers use


@pytest.mark.parametrize("table", store_internals.TABLES)
def test_a_database_of_mlflows_has_the_columns_that_are_read(store, table):
    with closing(sqlite3.connect(store.path)) as connection:
        columns = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
    assert set(store_internals.TABLES[table]) - columns == set(), "no study could be read from a file or PostgreSQL"


def test_a_server_has_the_route_that_gives_the_points_of_many_runs():
    source = (MLFLOW / "server/handlers.py").read_text() + (MLFLOW / "server/__init__.py").read_text()
    why = "no study could be read from a server"
    assert store_internals._HISTORY.removeprefix("/ajax-api/2.0/mlflow/") in source, why
    assert f"MAX_RUNS_GET_METRIC_HISTORY_BULK = {store_internals.MOST_RUNS}\n" in source, why


def test_a_server_gives_as_many_points_as_are_expected():
    source = (MLFLOW / "server/handlers.py").read_text()
    why = "of a long study some epochs would silently be missing"
    assert f"MAX_HISTORY_RESULTS = {store_internals.MOST_POINTS}\n" in source, why


def test_a_server_can_be_asked_on_any_route_with_the_users_password():
    why = "a server that wants a password could not be read"
    assert {"host_creds", "endpoint", "method"} <= inspect.signature(http_request).parameters.keys(), why
    assert list(inspect.signature(verify_rest_response).parameters)[:2] == ["response", "endpoint"], why
    assert next(iter(inspect.signature(get_default_host_creds).parameters)) == "store_uri", why
