import pytest

from sweeps.doctor import examine
from sweeps.home import Home

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


def test_a_database_that_answers_is_left_as_it_is(postgres, tmp_path):
    uri = postgres.database()
    checks = {check.name: check for check in examine(Home(tmp_path, mlflow=uri, ledger=uri), tmp_path)}
    assert checks["ledger"].ok
    assert checks["mlflow store"].ok
    assert postgres.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", uri) == []
