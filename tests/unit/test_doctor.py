import os

import pytest

from sweeps.execution.machine import Share
from sweeps.home import Home
from sweeps.inspection import doctor
from sweeps.inspection.doctor import examine

NOBODY = "127.0.0.1:1"


def test_what_is_not_asked_for_is_not_looked_at(tmp_path):
    names = {check.name for check in examine(Home(tmp_path), tmp_path)}
    assert "home" in names
    assert not names & {"ledger", "mlflow store", "cluster"}


@pytest.mark.parametrize(
    ("name", "home", "address"),
    [
        ("ledger", {"ledger": f"postgresql://me:secret@{NOBODY}/x"}, None),
        ("mlflow store", {"mlflow": f"postgresql://me:secret@{NOBODY}/x"}, None),
        ("mlflow store", {"mlflow": f"http://me:secret@{NOBODY}"}, None),
        ("cluster", {}, NOBODY),
    ],
)
def test_what_does_not_answer_is_a_no(name, home, address, tmp_path):
    pytest.importorskip("psycopg2")
    (check,) = (check for check in examine(Home(tmp_path, **home), tmp_path, address) if check.name == name)
    assert check.ok is False
    assert NOBODY in check.found
    assert "refused" in check.found
    assert "secret" not in check.found


@pytest.mark.parametrize(("folder", "ok"), [("/tmp", True), ("/proc/self", False), ("/tmp/" + "x" * 99, False)])
def test_what_keeps_ray_from_starting_is_a_no(folder, ok, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", folder)
    monkeypatch.setenv("OMP_PROC_BIND", "true")
    (check,) = (check for check in examine(Home(tmp_path), tmp_path) if check.name == "ray start")
    assert check.ok is ok
    assert folder in check.found
    assert os.environ["OMP_PROC_BIND"] == "true"


def test_a_proxy_that_keeps_a_server_away_is_named(tmp_path, monkeypatch):
    for name in ("NO_PROXY", "no_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://{NOBODY}")
    home = Home(tmp_path, mlflow="http://tracking.example:5000")
    (check,) = (check for check in examine(home, tmp_path) if check.name == "mlflow store")
    assert check.ok is False
    assert check.found.startswith("MLflow's server http://tracking.example:5000 does not answer through the proxy")
    assert check.found.endswith("name tracking.example in NO_PROXY")


@pytest.mark.parametrize(("text", "ok"), [("", True), ("no database", False)])
def test_an_sqlite_file_elsewhere_is_a_yes_where_it_is_a_database(text, ok, tmp_path):
    file = tmp_path / "elsewhere.db"
    file.write_text(text)
    checks = {check.name: check for check in examine(Home(tmp_path / "home", ledger=f"sqlite:///{file}"), tmp_path)}
    assert checks["ledger"].ok is ok
    assert ("elsewhere.db: file is not a database" in checks["ledger"].found) is not ok


@pytest.mark.parametrize(("text", "ok"), [("", True), ("no database", False)])
def test_a_home_is_a_no_where_its_databases_are_none(text, ok, tmp_path):
    Home(tmp_path).own_ledger_db.write_text(text)
    (check,) = (check for check in examine(Home(tmp_path), tmp_path) if check.name == "home")
    assert check.ok is ok
    assert ("file is not a database; choose another with --home" in check.found) is not ok


def test_images_that_are_there_are_a_yes(tmp_path):
    (tmp_path / "FashionMNIST" / "raw").mkdir(parents=True)
    for part, images in (("train", 60_000), ("t10k", 10_000)):
        for name, size in (("images-idx3", 16 + images * 28 * 28), ("labels-idx1", 8 + images)):
            file = tmp_path / "FashionMNIST" / "raw" / f"{part}-{name}-ubyte"
            file.touch()
            os.truncate(file, size)  # no disk is used
    (check,) = (check for check in examine(Home(tmp_path), tmp_path) if check.name == "fashion_mnist")
    assert (check.ok, check.found) == (True, str(tmp_path))


def test_images_of_which_files_are_missing_are_no_yes(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    (check,) = (check for check in examine(Home(tmp_path), tmp_path) if check.name == "cifar10")
    assert check.ok is None
    assert "data_batch_1 is missing" in check.found


def test_the_home_folder_is_not_made(tmp_path):
    checks = {check.name: check for check in examine(Home(tmp_path / "a" / "home"), tmp_path)}
    assert checks["home"].ok
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fp32", "bf16", "found"),
    [
        (3.0, 1.5, "2 times as fast as fp32 here"),
        (3.0, 2.9, "1 times as fast as fp32 here; use --set train.precision=fp32"),
        (3.0, 4.0, "0.75 times as fast as fp32 here; use --set train.precision=fp32"),
    ],
)
def test_advice_on_bf16_follows_what_training_steps_take(fp32, bf16, found, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(doctor, "_seconds", {"fp32": fp32, "bf16": bf16}.get)
    (check,) = (check for check in examine(Home(tmp_path), tmp_path) if check.name == "bf16")
    assert check.found == found


def test_a_database_that_answers_is_left_as_it_is(postgres, tmp_path):
    uri = postgres.database()
    checks = {check.name: check for check in examine(Home(tmp_path, mlflow=uri, ledger=uri), tmp_path)}
    assert checks["ledger"].ok
    assert checks["mlflow store"].ok
    assert postgres.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", uri) == []


def test_a_share_of_the_machine_is_told_with_what_limits_it(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "cores", lambda: Share(0.5, 64, "cgroup quota of 0.5"))
    monkeypatch.setattr(doctor, "memory", lambda: Share(4 * 1024**3, 256 * 1024**3, "cgroup limit"))
    found = {check.name: check.found for check in examine(Home(tmp_path), tmp_path)}
    assert found["cpu"].startswith("0.5 of 64 cores (cgroup quota of 0.5), ")
    assert found["memory"] == "4 of 256 GiB (cgroup limit)"
