"""Variables of libraries that were set for other programs do not reach a launch; those that are meant for it do."""

import logging
import os
import sys
import sysconfig

import pytest
from ray.air.constants import AIR_ENV_VARS
from ray.tune.constants import TUNE_ENV_VARS

from sweeps import environment
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


def test_a_long_folder_for_temporary_files_is_not_used_for_ray():
    os.environ.pop("RAY_TMPDIR", None)
    os.environ["TMPDIR"] = "/tmp/" + "x" * 100
    assert placement._folder_of_ray() == "/tmp/ray"


def test_a_folder_in_which_ray_cannot_write_is_refused_by_name(tmp_path):
    os.environ["RAY_TMPDIR"] = "/proc/self"
    with pytest.raises(
        placement.InputError,
        match=r"RAY_TMPDIR = /proc/self: Ray cannot write its files there: .*; name another folder in RAY_TMPDIR",
    ):
        placement._folder_of_ray()
