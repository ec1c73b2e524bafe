"""What a launch finds on a machine that others use for other things."""

import pytest

from tests.e2e.conftest import LISTED

pytestmark = pytest.mark.slow

OTHERS = {
    "TUNE_RESULT_DIR": "/elsewhere",
    "TUNE_MAX_PENDING_TRIALS_PG": "many",
    "RAY_TUNE_CALLBACKS": "absent.module",
    "RAY_OVERRIDE_RESOURCES": '{"CPU": 0}',
    "RAY_RUNTIME_ENV_HOOK": "absent.hook",
    "RAY_LOG_TO_STDERR": "1",
    "OMP_THREAD_LIMIT": "1",
    "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "absent",
    "PYTHONWARNINGS": "error",
}


def test_variables_for_other_programs_change_no_launch(sweeps, store, tmp_path):
    study, home = tmp_path / "study.toml", tmp_path / "home"
    study.write_text(LISTED)
    done = sweeps.cold("launch", study, "--home", home, "--set", "search.seeds=[0]", env=OTHERS)
    assert len(store(home, "listed").trials) == 2
    assert done.stdout.startswith("trial ")
    assert "raylet" not in done.stdout + done.stderr


def test_files_of_the_current_folder_are_not_imported_in_place_of_modules(sweeps, store, tmp_path, monkeypatch):
    study, home = tmp_path / "study.toml", tmp_path / "home"
    study.write_text(LISTED)
    for name in ("random", "socket", "torch", "torchvision"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('of the current folder')\n")
    monkeypatch.setattr(sweeps, "_place", lambda: tmp_path)
    sweeps.cold("launch", study, "--home", home, "--set", "search.seeds=[0]")
    assert {run.data.tags["outcome"] for run in store(home, "listed").trials.values()} <= {"reached", "exhausted"}
