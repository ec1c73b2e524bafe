"""Variables of libraries that were set for other programs do not reach a launch; those that are meant for it do."""

import getpass
import logging
import os
import pwd
import resource
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import warnings
from pathlib import Path

import pytest
from ray.air.constants import AIR_ENV_VARS
from ray.tune.constants import TUNE_ENV_VARS

from sweeps import environment
from sweeps.api import open_home, open_launcher
from sweeps.cli.launching import run_study
from sweeps.cli.options import LaunchOptions, Store
from sweeps.execution import placement, ray_internals


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    """Give back the environment after each test, whatever it sets or removes."""
    monkeypatch.setattr(os, "environ", os.environ.copy())


@pytest.mark.parametrize(
    "name",
    [
        "TUNE_RESULT_DIR",
        "RAY_AIR_LOCAL_CACHE_DIR",
        "RAY_NAMESPACE",
        "RAY_TUNE_CALLBACKS",
        "OMP_PROC_BIND",
        "GOMP_CPU_AFFINITY",
        "OMP_THREAD_LIMIT",
        "OMP_DYNAMIC",
        "OMP_MAX_ACTIVE_LEVELS",
    ],
)
@pytest.mark.parametrize("own", [True, False])
def test_a_setting_for_another_program_is_taken_away(name, own):
    os.environ[name] = "x"
    environment.for_ray(own=own)
    assert name not in os.environ


@pytest.mark.parametrize("name", ["RAY_OVERRIDE_RESOURCES", "RAY_RUNTIME_ENV_HOOK", "RAY_JOB_CONFIG_JSON_ENV_VAR"])
@pytest.mark.parametrize("own", [True, False])
def test_a_job_on_a_cluster_keeps_what_the_cluster_has_set(name, own):
    os.environ[name] = "x"
    environment.for_ray(own=own)
    assert (name in os.environ) is not own


@pytest.mark.parametrize(
    "name",
    [
        "RAY_TMPDIR",
        "RAY_AUTH_MODE",
        "RAY_memory_usage_threshold",
        "CUDA_VISIBLE_DEVICES",
        "OMP_NUM_THREADS",
        "TRAIN_DATA",
        "TUNE_IN",
        "MLFLOW_TRACKING_URI",
        "MLFLOW_TRACKING_TOKEN",
        "https_proxy",
    ],
)
def test_what_the_user_means_for_a_launch_or_for_a_trainer_stays(name):
    os.environ[name] = "x"
    environment.for_ray(own=True)
    environment.for_mlflow(fail_soon=True)
    assert os.environ[name] == "x"


@pytest.mark.parametrize(("name", "value"), [*environment.RAY.items(), *environment.MLFLOW.items()])
def test_what_a_launch_depends_on_is_set_whatever_it_was(name, value):
    os.environ[name] = "other"
    environment.for_ray(own=True)
    environment.for_mlflow()
    assert os.environ[name] == value


def test_a_user_with_a_slow_server_sets_how_long_it_is_waited_for():
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "300"
    environment.for_mlflow(fail_soon=True)
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "300"
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"


def test_every_setting_that_ray_tune_lists_is_set_or_taken_away():
    assert set(environment.RAY) | environment.TUNE | {"RAY_AIR_FULL_TRACEBACKS"} >= TUNE_ENV_VARS | {
        name for name in AIR_ENV_VARS if name.startswith("RAY_")
    }


def test_every_option_of_the_server_of_mlflow_is_given_or_taken_away():
    from mlflow.cli import server

    given = {"BACKEND_STORE_URI", "DEFAULT_ARTIFACT_ROOT", "HOST", "PORT", "WORKERS"}
    who_may_reach_it = {"ALLOWED_HOSTS", "CORS_ALLOWED_ORIGINS", "DISABLE_SECURITY_MIDDLEWARE", "X_FRAME_OPTIONS"}
    options = {option.envvar for option in server.params if option.envvar}
    os.environ |= dict.fromkeys(options, "x")
    environment.for_mlflow(server=True)
    left = {*(f"MLFLOW_{name}" for name in given), *(f"MLFLOW_SERVER_{name}" for name in who_may_reach_it)}
    assert options & os.environ.keys() == left


def test_what_was_ignored_is_named_when_debugging(caplog):
    caplog.set_level(logging.DEBUG, logger="sweeps")
    os.environ |= {"TUNE_RESULT_DIR": "/x", "RAY_AIR_NEW_OUTPUT": "1"}
    environment.for_ray(own=True)
    assert "ignored in the environment: RAY_AIR_NEW_OUTPUT, TUNE_RESULT_DIR" in caplog.messages


def test_a_notebook_has_its_environment_back():
    os.environ |= {"TUNE_RESULT_DIR": "/x", "MLFLOW_DISABLE_TELEMETRY": "false"}
    before = dict(os.environ)
    with environment.restored():
        environment.for_ray(own=True)
        environment.for_mlflow(fail_soon=True)
        assert dict(os.environ) != before
    assert dict(os.environ) == before


@pytest.mark.parametrize("before", [None, "", "1"])
def test_the_safe_path_holds_in_the_block(before):
    os.environ.pop("PYTHONSAFEPATH", None)
    if before is not None:
        os.environ["PYTHONSAFEPATH"] = before
    with environment.safe_path():
        assert os.environ["PYTHONSAFEPATH"] == "1"
    assert os.environ.get("PYTHONSAFEPATH") == before


@pytest.mark.parametrize(("place", "is_sent"), [("ahead", True), ("behind", False), ("nowhere", False)])
def test_workers_have_the_current_folder_ahead_where_the_driver_has(place, is_sent, tmp_path, monkeypatch):
    """A study file's folder is behind all others."""
    folder, standard = str(tmp_path), sysconfig.get_path("stdlib")
    paths = {"ahead": [folder, standard], "behind": [standard, folder], "nowhere": [standard]}
    monkeypatch.setattr(sys, "path", paths[place])
    config = ray_internals.job_config()
    config._py_driver_sys_path.extend([folder])
    assert config._py_driver_sys_path == [folder] * is_sent


def test_a_folder_that_is_too_long_for_the_sockets_of_ray_is_refused_by_name(tmp_path):
    folder = "/tmp/" + "x" * 100
    os.environ["RAY_TMPDIR"] = folder
    with pytest.raises(placement.InputError, match=f"RAY_TMPDIR = {folder}: a path of 105 bytes; expected 39 at most"):
        placement._folder_of_ray()


@pytest.mark.parametrize("folder", ["x" * 100, "é", "absent", "file", "full"])
def test_a_folder_for_temporary_files_that_ray_cannot_use_is_not_used_for_ray(folder, tmp_path, monkeypatch):
    chosen = tmp_path / folder
    if folder == "file":
        chosen.touch()
    elif folder != "absent":
        chosen.mkdir()
    if folder == "full":
        (chosen / "ray").touch()
    monkeypatch.setattr(placement, "_MOST_BYTES", 39 if len(folder) > 39 else 1000)
    os.environ.pop("RAY_TMPDIR", None)
    os.environ["TMPDIR"] = str(chosen)
    assert placement._folder_of_ray() == "/tmp/ray"
    assert chosen.exists() is (folder != "absent")


def test_a_folder_with_other_letters_than_those_of_ray_is_refused_by_name():
    os.environ["RAY_TMPDIR"] = "/tmp/Läufe"
    with pytest.raises(placement.InputError, match=r"= /tmp/Läufe: Ray needs a path of ASCII characters"):
        placement._folder_of_ray()


def test_a_folder_for_ray_is_read_as_people_type_paths(tmp_path, monkeypatch):
    monkeypatch.setattr(placement, "_MOST_BYTES", 1000)
    os.environ |= {"HOME": str(tmp_path), "RAY_TMPDIR": "~/mine"}
    assert placement._folder_of_ray() == str(tmp_path / "mine" / "ray")
    os.environ["RAY_TMPDIR"] = "~nobody-of-this-name/mine"
    with pytest.raises(placement.InputError, match="RAY_TMPDIR = ~nobody-of-this-name/mine: no home folder of"):
        placement._folder_of_ray()


@pytest.mark.parametrize("address", ["http://127.0.0.1:8265", "127.0.0.1:²", "127.0.0.1:99999", "a b:6379", "LOCAL"])
def test_what_is_no_address_of_a_cluster_is_refused(address):
    with pytest.raises(placement.InputError, match=r"expected HOST:PORT, such as head:6379, or auto$"):
        placement.check_address(address)
    os.environ["RAY_ADDRESS"] = address  # which other programs read too, such as `ray job`
    with pytest.raises(placement.InputError, match=r"\(RAY_ADDRESS\): expected .*; --address local starts one on this"):
        placement.check_address(address)


@pytest.mark.parametrize("host", ["x" * 70, "a..b"])
def test_a_host_that_cannot_be_is_told_of(host):
    with pytest.raises(placement.SweepError, match="there can be no host of this name"):
        placement.check_address(f"{host}:6379")


def test_an_address_of_version_6_is_reached():
    try:
        server = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 here")
    with server:
        placement.check_address(f"[::1]:{server.getsockname()[1]}")


@pytest.mark.parametrize("address", ["", " ", "\n"])
def test_an_empty_address_starts_a_cluster(address, tmp_path):
    os.environ["RAY_ADDRESS"] = address
    assert open_launcher(open_home(tmp_path)).address is None


@pytest.mark.parametrize("value", ["", "90%"])
def test_a_setting_that_ends_ray_is_refused_by_name(value):
    code = "from sweeps import environment; environment.for_ray(own=True)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "RAY_memory_usage_threshold": value},
        capture_output=True,
        text=True,
    )
    assert done.stderr.strip().endswith(
        "Ray cannot read its settings in the environment: "
        f"RAY_memory_usage_threshold = {value!r}; expected numbers, or unset them"
    )


def test_a_folder_in_which_ray_cannot_write_is_refused_by_name(tmp_path):
    os.environ["RAY_TMPDIR"] = "/proc/self"
    with pytest.raises(
        placement.InputError,
        match=r"RAY_TMPDIR = /proc/self: Ray cannot write its files there: .*; name another folder in RAY_TMPDIR",
    ):
        placement._folder_of_ray()


@pytest.fixture
def without_a_person(monkeypatch, tmp_path):
    """A user without an entry in the user database, and with nothing about it in the environment."""
    for name in (*environment.PERSON, "LOGNAME", "LNAME", "USERNAME"):
        os.environ.pop(name, None)

    def unknown(_user):
        raise KeyError("uid not found")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.mark.usefixtures("without_a_person")
@pytest.mark.parametrize(
    "prepare", [environment.for_person, environment.for_mlflow, lambda: environment.for_ray(own=True)]
)
def test_a_user_that_the_machine_does_not_know_has_a_home_and_a_name(prepare):
    prepare()
    assert Path.home() == Path("/")
    assert getpass.getuser() == str(os.getuid())


@pytest.mark.usefixtures("without_a_person")
def test_a_known_user_keeps_home_and_name(tmp_path):
    os.environ |= {"HOME": str(tmp_path), "LOGNAME": "somebody"}
    before = dict(os.environ)
    environment.for_person()
    assert dict(os.environ) == before


@pytest.mark.usefixtures("without_a_person")
def test_caches_have_a_private_folder_where_the_home_cannot_be_written(tmp_path):
    os.environ |= {"HOME": "/proc/self", "LOGNAME": "somebody", "MPLCONFIGDIR": "/own"}
    environment.for_person()
    folder = tmp_path / f"sweeps-{os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert os.environ["TRITON_HOME"] == str(folder)
    assert os.environ["XDG_CACHE_HOME"] == str(folder / "cache")
    assert os.environ["MPLCONFIGDIR"] == "/own"


@pytest.mark.usefixtures("without_a_person")
def test_a_folder_that_another_user_could_have_made_is_not_used(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"sweeps-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    os.environ |= {"HOME": "/proc/self", "LOGNAME": "somebody"}
    environment.for_person()
    assert "TRITON_HOME" not in os.environ


@pytest.mark.usefixtures("without_a_person")
@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to another user")
def test_a_folder_of_another_user_is_not_used(tmp_path):
    folder = tmp_path / f"sweeps-{os.getuid()}"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    os.environ |= {"HOME": "/proc/self", "LOGNAME": "somebody"}
    environment.for_person()
    assert "TRITON_HOME" not in os.environ


@pytest.mark.parametrize("block", [environment.mild_warnings, environment.restored])
def test_no_warning_becomes_an_error_in_the_block(block):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with block(), warnings.catch_warnings(record=True) as shown:
            warnings.warn("old", DeprecationWarning, stacklevel=1)
            warnings.warn("odd", UserWarning, stacklevel=1)
        assert [str(warning.message) for warning in shown] == ["odd"]
        with pytest.raises(UserWarning):
            warnings.warn("odd", UserWarning, stacklevel=1)


def test_other_filters_of_warnings_hold_in_the_block():
    with warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.simplefilter("ignore")
        before = list(warnings.filters)
        with environment.mild_warnings():
            assert warnings.filters == before


def test_python_without_docstrings_is_refused_by_name():
    code = "from sweeps import environment; environment.for_ray(own=True)"
    done = subprocess.run([sys.executable, "-OO", "-c", code], capture_output=True, text=True)
    assert done.stderr.strip().endswith(
        "Ray needs docstrings, which PYTHONOPTIMIZE=2 and python -OO remove: unset PYTHONOPTIMIZE"
    )


def test_processes_that_cannot_connect_to_each_other_are_told_of_before_ray_starts(monkeypatch):
    def unreachable(*_args, **_more):
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", unreachable)
    monkeypatch.setattr(placement.ray, "init", lambda **_settings: pytest.fail("Ray was started"))
    message = r"at 127\.0\.0\.1: Network is unreachable; check the loopback"
    with pytest.raises(placement.SweepError, match=message), placement.ray_cluster(None):
        pass


def test_a_full_disk_is_told_of_before_ray_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(placement, "_MOST_BYTES", 1000)
    os.environ["RAY_TMPDIR"] = str(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        with pytest.raises(placement.InputError, match=r"Ray cannot write its files there: .*; name another folder"):
            placement._folder_of_ray()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_limit_on_the_size_of_files_is_told_of_before_ray_starts():
    code = "from sweeps.execution.placement import check_start; check_start()"
    done = subprocess.run(["sh", "-c", f'ulimit -f 1000; exec "{sys.executable}" -c "{code}"'], capture_output=True)
    assert b"files are limited to " in done.stderr
    assert done.stderr.strip().endswith(b"raise the limit (`ulimit -f unlimited`)")


def test_any_error_with_which_ray_does_not_start_is_told_in_a_line(monkeypatch):
    def fail(**_settings):
        raise Exception("The current node timed out during startup.")  # as Ray does

    monkeypatch.setattr(placement.ray, "init", fail)
    os.environ |= {"RAY_memory_usage_threshold": "2"}
    message = (
        r"Ray does not start on this machine, with RAY_memory_usage_threshold in the environment: The current node "
        r"timed out during startup; what its processes wrote is in \S+/ray/session_latest/logs$"
    )
    with pytest.raises(placement.SweepError, match=message), placement.ray_cluster(None):
        pass


@pytest.mark.parametrize(("backend", "stays"), [("module://matplotlib_inline.backend_inline", False), ("TkAgg", True)])
def test_the_figures_of_a_notebook_do_not_decide_how_a_command_draws(backend, stays):
    os.environ["MPLBACKEND"] = backend
    environment.for_person()
    assert ("MPLBACKEND" in os.environ) is stays


@pytest.mark.parametrize(("mlflow", "is_told"), [("", True), ("http://127.0.0.1:1", False)])
def test_a_tracking_uri_that_is_not_used_is_told_of(mlflow, is_told, tmp_path, capsys):
    class Started(Exception):  # noqa: N818
        """The study would start now."""

    def start():
        raise Started

    os.environ["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:1"
    options = LaunchOptions(store=Store(home=tmp_path / "home", mlflow=mlflow))
    with pytest.raises(Started):
        run_study(options, "any", start)
    assert ("MLFLOW_TRACKING_URI is not used" in capsys.readouterr().err) is is_told


@pytest.mark.skipif(sys.platform != "linux", reason="which libraries are loaded is read from /proc")
def test_a_process_that_trains_drops_settings_of_openmp_before_it_is_loaded():
    """On a cluster, they come from the environment of its node."""
    code = """
import os, pathlib
import sweeps.execution.trainable, sweeps.execution.worker
loaded = pathlib.Path("/proc/self/maps").read_text()
sweeps.execution.worker.prepare_worker(1, 0)
print("gomp" in loaded or "iomp" in loaded, "OMP_PROC_BIND" in os.environ)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "OMP_PROC_BIND": "true"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False False\n"
