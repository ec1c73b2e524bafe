"""Several drivers of one study, on SQLite and on a real PostgreSQL: which trials each gets, and whose lease expires."""

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.exceptions import StorageInternalError

from resnet_core.uris import with_psycopg2, without_password
from search_spaces.spec import StudySpec
from sweeps.errors import InputError, SweepError, UnknownStudyError, reason_of
from sweeps.ledger import database
from sweeps.ledger.database import open_storage, sqlite_file
from sweeps.ledger.leases import lease_seconds
from sweeps.ledger.ledger import Ledger
from sweeps.ledger.studies import study_names
from sweeps.study.trials import Assignment, Job
from tests.postgres import PostgresServer
from tests.studies import CRASHED, REACHED, fixed_study, sampled_study


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def uri(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for all tests; each study has a name of its own."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path_factory.mktemp('drivers') / 'optuna.db'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.database()


Drive = Callable[..., Ledger]


@pytest.fixture
def drive(uri: str, tmp_path: Path) -> Iterator[Drive]:
    """Open a study as a driver of this name would; all leave at the end."""
    with ExitStack() as stack:

        def drive(study: StudySpec, driver: str, stop: Callable[[], None] = lambda: None) -> Ledger:
            ledger = Ledger.create(uri, study)
            stack.enter_context(ledger.driven_by(driver, tmp_path / driver, stop))
            ledger.unfinished()
            return ledger

        yield drive


def expire_lease(ledger: Ledger) -> None:
    """Let the lease of a ledger's driver run out, as if its process had been held for long."""
    lease = ledger.drivers._lease
    assert lease is not None
    with lease._storage.engine.begin() as connection:
        connection.exec_driver_sql(
            f"UPDATE sweeps_drivers SET lease = 1 WHERE driver = '{lease.driver}' AND study = '{ledger.spec.name}'"
        )
    lease._renewed -= 1000


def lease_of(ledger: Ledger) -> float:
    """Until when the lease of a ledger's driver lasts, by the database's clock."""
    lease = ledger.drivers._lease
    assert lease is not None
    with lease._storage.engine.begin() as connection:
        return connection.exec_driver_sql(
            f"SELECT lease FROM sweeps_drivers WHERE driver = '{lease.driver}' AND study = '{ledger.spec.name}'"
        ).scalar_one()


def next_job(ledger: Ledger) -> Job:
    job = ledger.next_assignment().job
    assert job is not None
    return job


# Asking


def test_two_drivers_never_get_the_same_trial(drive):
    study = sampled_study(trials=6)
    drivers = [drive(study, "a"), drive(study, "b")]
    jobs = [next_job(drivers[turn % 2]) for turn in range(6)]
    assert [job.number for job in jobs] == list(range(6))
    assert len({job.params["lr"] for job in jobs}) == 6


def test_no_more_trials_are_assigned_than_the_study_asks_for(drive):
    study = sampled_study(trials=2)
    a, b = drive(study, "a"), drive(study, "b")
    next_job(a), next_job(b)
    assert (a.next_assignment(), b.next_assignment()) == (Assignment(None, 0, 1), Assignment(None, 0, 1))


def test_two_drivers_share_the_runs_that_a_study_lists(drive):
    study = fixed_study(run=[{"name": "a"}], search={"seeds": list(range(4))})
    a, b = drive(study, "a"), drive(study, "b")
    assert [next_job(ledger).name for ledger in (a, b, b, a)] == ["a-s0", "a-s1", "a-s2", "a-s3"]


def test_a_driver_sees_how_the_trials_of_others_ended(drive):
    study = sampled_study()
    a, b = drive(study, "a"), drive(study, "b")
    job = next_job(a)
    a.tell(job.number, REACHED)
    assert [(entry.job, entry.result) for entry in b.next_assignment().ended] == [(job, REACHED)]


def test_a_result_that_the_driver_knows_is_left_out(drive):
    study = sampled_study()
    a, b = drive(study, "a"), drive(study, "b")
    a.tell(next_job(a).number, REACHED)
    assert b.next_assignment(known={0}).ended == []


def test_no_driver_of_this_launch_retries_a_crashed_trial(drive):
    study = sampled_study(trials=2)
    a, b = drive(study, "a"), drive(study, "b")
    a.tell(next_job(a).number, CRASHED)
    next_job(b)
    assert (a.next_assignment().job, b.next_assignment().job) == (None, None)


def test_a_study_that_was_made_longer_is_longer_for_all_its_drivers(drive, uri):
    study = sampled_study(trials=1)
    a = drive(study, "a")
    next_job(a)
    Ledger.open(uri, study.name).extend(2)
    assert next_job(a).number == 1


def test_another_driver_cannot_join_with_another_question(drive):
    study = sampled_study()
    drive(study, "a")
    with pytest.raises(InputError, match=r"asks something else:\n  search\.seed: 0 -> 4"):
        drive(sampled_study(study.name, search={"trials": 4, "sampler": "random", "seed": 4}), "b")


ASK = """
import sys
from pathlib import Path
from resnet_core.records import Outcome
from sweeps.ledger.ledger import Ledger
from sweeps.study.outcomes import Result
uri, name, driver = sys.argv[1:]
ledger = Ledger.open(uri, name)
with ledger.driven_by(driver, Path("/nowhere") / driver, lambda: None):
    print("ready", flush=True)
    sys.stdin.readline()
    while (job := ledger.next_assignment().job) is not None:
        print(job.number, job.params["lr"], flush=True)
        ledger.tell(job.number, Result(Outcome.REACHED, 4, 3.5))
"""


@pytest.mark.slow
def test_two_processes_that_ask_at_once_get_a_hundred_trials_none_twice(uri):
    study = sampled_study(trials=100)
    Ledger.create(uri, study)
    command = [sys.executable, "-c", ASK, uri, study.name]
    processes = [
        subprocess.Popen([*command, driver], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for driver in ("a", "b")
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=180)[0].splitlines() for process in processes]
    assert sorted(int(line.split()[0]) for lines in said for line in lines) == list(range(100))
    assert len({line.split()[1] for lines in said for line in lines}) == 100
    assert all(said)
    states = Counter(
        trial.state.name for trial in optuna.load_study(study_name=study.name, storage=with_psycopg2(uri)).trials
    )
    assert states == {"COMPLETE": 100}


# Whose trial it is


def test_a_driver_continues_its_own_trials_alone(drive, uri):
    study = sampled_study()
    a, b = drive(study, "a"), drive(study, "b")
    job, _ = next_job(a), next_job(b)
    assert drive(study, "a").unfinished() == [job]


def test_a_driver_continues_a_trial_that_was_begun_and_has_no_parameters_yet(drive, uri):
    study = sampled_study()
    drive(study, "a")
    optuna.load_study(study_name=study.name, storage=with_psycopg2(uri)).ask()  # here the process was killed
    ledger = Ledger.create(uri, study)
    with ledger.driven_by("a", Path("a"), lambda: None):
        (job,) = ledger.unfinished()
    assert job.params.keys() == study.space.keys()


def test_an_unclaimed_trial_is_assigned_to_the_next_driver_that_asks(drive, uri):
    study = sampled_study()
    a = drive(study, "a")
    begun = Ledger.open(uri, study.name).ask()
    assert next_job(a) == begun


def test_of_several_unclaimed_trials_the_first_comes_first(drive, uri):
    study = sampled_study()
    a = drive(study, "a")
    begun = [Ledger.open(uri, study.name).ask() for _ in range(2)]
    assert [next_job(a), next_job(a)] == begun


def test_an_assignment_counts_the_trials_that_remain_and_that_run_elsewhere(drive, uri):
    study = sampled_study(trials=3)
    a, b = drive(study, "a"), drive(study, "b")
    next_job(a)
    assignment = b.next_assignment()
    assert (assignment.remaining, assignment.running_elsewhere, b.running_elsewhere()) == (1, 1, 1)
    assert Ledger.open(uri, study.name).running_elsewhere() == 0  # a process that is no driver


def test_the_trials_of_a_driver_that_is_alive_are_left_to_it(drive):
    study = sampled_study(trials=1)
    a, b = drive(study, "a"), drive(study, "b")
    next_job(a)
    assert b.next_assignment() == Assignment(None, 0, 1)


def test_the_trial_of_an_expired_driver_is_assigned_when_no_new_one_is_left(drive, tmp_path):
    study = sampled_study(trials=2)
    a, b = drive(study, "a"), drive(study, "b")
    job = next_job(a)
    expire_lease(a)
    assert next_job(b).number == 1
    assert b.next_assignment() == Assignment(job, 0, 0, adopted=True, home=str(tmp_path / "a"))


def test_of_several_trials_of_expired_drivers_the_first_is_assigned_first(drive, tmp_path):
    study = sampled_study(trials=2)
    a, b, c = (drive(study, name) for name in "abc")
    jobs = [next_job(a), next_job(c)]
    expire_lease(a), expire_lease(c)
    assert [b.next_assignment(), b.next_assignment()] == [
        Assignment(job, 0, left, adopted=True, home=str(tmp_path / name))
        for job, left, name in zip(jobs, (1, 0), "ac", strict=True)
    ]


def test_a_driver_never_counts_itself_among_the_expired(drive, uri):
    study = sampled_study()
    a, b, _ = (drive(study, name) for name in "abc")
    expire_lease(a)
    ledgers = (a, b, Ledger.open(uri, study.name))
    assert [ledger.drivers.expired() for ledger in ledgers] == [set(), {"a"}, {"a"}]


def test_the_first_driver_cannot_end_an_adopted_trial(drive):
    study = sampled_study(trials=1)
    a, b = drive(study, "a"), drive(study, "b")
    number = next_job(a).number
    expire_lease(a)
    next_job(b)
    assert (a.tell(number, REACHED), b.tell(number, REACHED)) == (False, True)


def test_a_driver_that_comes_back_no_longer_owns_its_trial(drive):
    study = sampled_study(trials=2)
    a, b = drive(study, "a"), drive(study, "b")
    kept, number = next_job(b).number, next_job(a).number
    expire_lease(a)
    next_job(b)
    assert (a.owns(number), b.owns(number), b.owns(kept)) == (False, True, True)


def test_a_driver_that_comes_back_in_time_keeps_its_trial(drive):
    study = sampled_study(trials=1)
    a, b = drive(study, "a"), drive(study, "b")
    number = next_job(a).number
    expire_lease(a)
    assert a.owns(number)
    assert b.next_assignment().job is None


def test_the_lease_of_a_driver_that_left_has_expired_at_once(uri, drive, tmp_path):
    study = sampled_study(trials=1)
    a = Ledger.create(uri, study)
    with a.driven_by("a", tmp_path / "a", lambda: None):
        job = next_job(a)
    assert next_job(drive(study, "b")) == job


def test_a_result_that_an_expired_driver_had_written_is_told_to_optuna(drive, uri):
    study = sampled_study(trials=1)
    a, b = drive(study, "a"), drive(study, "b")
    number = next_job(a).number
    a._running[number].set_user_attr("result", REACHED.to_dict())
    expire_lease(a)
    assert b.next_assignment().job is None
    assert Ledger.open(uri, study.name).complete()


def test_a_second_process_under_the_same_name_takes_the_place_of_the_first(drive):
    study = sampled_study()
    first = drive(study, "a")
    second = drive(study, "a")
    next_job(second)
    with pytest.raises(SweepError, match=r"another process runs study .* as driver a by now: is its home folder a"):
        first.next_assignment()


def test_drivers_are_listed_with_their_homes_and_whether_they_are_alive(drive, uri, tmp_path):
    study = sampled_study()
    a, _ = drive(study, "a"), drive(study, "b")
    expire_lease(a)
    found = [(driver.id, driver.home, driver.alive) for driver in Ledger.open(uri, study.name).drivers.all()]
    assert found == [("a", str(tmp_path / "a"), False), ("b", str(tmp_path / "b"), True)]


def test_a_request_to_stop_reaches_every_driver(drive, uri, monkeypatch):
    monkeypatch.setenv("SWEEPS_LEASE", "1")
    study, heard = sampled_study(), [threading.Event(), threading.Event()]
    drive(study, "a", heard[0].set), drive(study, "b", heard[1].set)
    Ledger.open(uri, study.name).drivers.request_stop()
    assert all(event.wait(60) for event in heard)


def test_a_driver_renews_its_lease(drive, uri, monkeypatch):
    monkeypatch.setenv("SWEEPS_LEASE", "1")
    study = sampled_study()
    ledger = drive(study, "a")
    first, end = lease_of(ledger), time.monotonic() + 60
    while lease_of(ledger) <= first:
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("text", ["0", "x", "-5", "nan", "1e9"])
def test_a_lease_that_is_no_number_of_seconds_is_refused(text, monkeypatch):
    monkeypatch.setenv("SWEEPS_LEASE", text)
    with pytest.raises(InputError, match=rf"^SWEEPS_LEASE={text}: expected seconds"):
        lease_seconds()


# PostgreSQL that is away


@contextmanager
def stopped_server(server: PostgresServer, seconds: float | None = None) -> Iterator[None]:
    """Stop PostgreSQL; start it again so many seconds later, while the block runs, or else after the block."""
    server.stop()
    if seconds is None:
        try:
            yield
        finally:
            server.start()
        return
    thread = threading.Timer(seconds, server.start)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_a_driver_that_leaves_has_its_ledger_in_one_file(tmp_path):
    ledger = Ledger.create(f"sqlite:///{tmp_path}/optuna.db", sampled_study(trials=2))
    with ledger.driven_by("a", tmp_path, lambda: None):
        assert ledger.tell(next_job(ledger).number, REACHED)
        assert (tmp_path / "optuna.db-wal").stat().st_size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["optuna.db", "optuna.db.lock"]


def test_a_restart_of_postgresql_is_waited_for(postgres, tmp_path):
    study = sampled_study(trials=2)
    ledger = Ledger.create(postgres.database(), study)
    with ledger.driven_by("a", tmp_path, lambda: None):
        job = next_job(ledger)
        with stopped_server(postgres, 1.0):
            assert ledger.tell(job.number, REACHED)
        assert next_job(ledger).number == 1
    assert [entry.result for entry in ledger.entries()] == [REACHED, None]


BREAK_OFF = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> "


def test_a_result_is_told_once_though_the_connection_broke_after_it(postgres, tmp_path, monkeypatch):
    uri = postgres.database()
    ledger = Ledger.create(uri, sampled_study())
    with ledger.driven_by("a", tmp_path, lambda: None):
        number, tell = next_job(ledger).number, ledger._study.tell

        def tell_and_break_off(*args: Any) -> None:
            tell(*args)
            postgres.execute(f"{BREAK_OFF} pg_backend_pid()", uri)

        monkeypatch.setattr(ledger._study, "tell", tell_and_break_off)
        assert ledger.tell(number, REACHED)
    assert [entry.result for entry in ledger.entries()] == [REACHED]


def test_postgresql_that_stays_away_stops_the_study(postgres, tmp_path, monkeypatch):
    monkeypatch.setattr(database, "RETRY_SECONDS", 1.0)
    study = sampled_study()
    ledger = Ledger.create(postgres.database(), study)
    with ledger.driven_by("a", tmp_path, lambda: None), stopped_server(postgres):
        message = rf"^the ledger postgresql://sweeps@.* could not be used for 1 s: .*`sweeps resume {study.name}`$"
        with pytest.raises(SweepError, match=message):
            ledger.next_assignment()


def test_a_server_that_is_down_is_reported_at_once():
    message = r"^the ledger postgresql://me:\*\*\*@127\.0\.0\.1:1/x cannot be used: .*refused"
    with pytest.raises(SweepError, match=message):
        Ledger.open("postgresql://me:secret@127.0.0.1:1/x", "study")


def test_a_server_that_goes_down_before_the_study_begins_is_reported_at_once(postgres, tmp_path):
    ledger = Ledger.create(postgres.database(), sampled_study())
    with (
        stopped_server(postgres),
        pytest.raises(SweepError, match=r"^the ledger postgresql.* cannot be used: .*refused"),
        ledger.driven_by("a", tmp_path, lambda: None),
    ):
        pass


def test_the_message_is_the_databases_and_not_optunas(tmp_path):
    storage = open_storage(f"sqlite:///{tmp_path / 'optuna.db'}")
    with storage.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE studies")
    with pytest.raises(StorageInternalError) as caught:
        optuna.create_study(storage=storage)
    assert reason_of(caught.value) == "no such table: studies"


def test_a_ledger_damaged_behind_its_first_page_is_an_error(tmp_path):
    file = tmp_path / "optuna.db"
    open_storage(f"sqlite:///{file}").engine.dispose()
    with file.open("r+b") as pages:
        pages.seek(4096)
        pages.write(b"\xff" * (file.stat().st_size - 4096))
    with pytest.raises(SweepError, match=r"optuna\.db: database disk image is malformed; move it away"):
        open_storage(f"sqlite:///{file}")


def test_a_wrong_password_is_reported_and_not_shown(postgres):
    with pytest.raises(SweepError, match="password authentication failed") as error:
        Ledger.open(postgres.guarded(postgres.database(), "wrong-one"), "study")
    assert "wrong-one" not in str(error.value)


def test_looking_at_postgresql_makes_no_tables(postgres):
    uri = postgres.database()
    assert study_names(uri) == []
    for look in (Ledger.read, Ledger.open):
        with pytest.raises(UnknownStudyError, match=r"^no study 'nope' in postgresql://.*; known: none\."):
            look(uri, "nope")
    assert postgres.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", uri) == []


def test_a_user_who_may_only_read_postgresql_can_look_at_a_study(postgres):
    uri = postgres.database()
    Ledger.create(uri, sampled_study("known"))
    postgres.execute("CREATE ROLE looker LOGIN", uri)
    postgres.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO looker", uri)
    looking = uri.replace("sweeps@", "looker@")
    assert study_names(looking) == ["known"]
    found = Ledger.read(looking, "known")
    assert (found.entries(), found.drivers.all()) == ([], [])


def test_an_error_for_a_missing_study_in_postgresql_lists_the_existing_ones(postgres):
    uri = postgres.database()
    Ledger.create(uri, sampled_study("known"))
    with pytest.raises(InputError, match=r"^no study 'nope' in postgresql://sweeps@127.*; known: known\."):
        Ledger.open(uri, "nope")


def test_without_psycopg2_what_to_install_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    with pytest.raises(InputError, match=r"pip install 'resnet-sweeps\[postgres\]'"):
        Ledger.open("postgresql://me@127.0.0.1/x", "study")


@pytest.mark.parametrize(
    "uri",
    ["", "x", "mysql://h/d", "postgresql://", "postgresql://h", "sqlite://", "/tmp/x.db", "http://h/x", "redis://h/1"],
)
def test_a_uri_that_can_hold_no_ledger_is_refused(uri):
    with pytest.raises(InputError, match=r"^--ledger .*expected postgresql://USER@HOST/DATABASE or sqlite:////FILE$"):
        sqlite_file(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql://me:secret@h/d",
        "postgresql://me:se%23cret@h/d",
        "postgresql://me@h/d?password=secret",
        "me:secret@h",
        "http://me:secret@h:1",
    ],
)
def test_no_password_is_shown(uri):
    assert "cret" not in without_password(uri)


def test_a_lease_is_kept_where_the_boot_clock_is_missing(tmp_path, monkeypatch):
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    ledger = Ledger.create(f"sqlite:///{tmp_path / 'optuna.db'}", sampled_study())
    with ledger.driven_by("a", tmp_path, lambda: None):
        job = ledger.next_assignment().job
        assert ledger.owns(job.number)
