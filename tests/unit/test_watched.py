"""What is known of a study that is watched, by its ledger and by its store."""

import re
import shutil
from pathlib import Path

import pytest

from sweeps.errors import InputError, SweepError
from sweeps.home import Home
from sweeps.inspection.watched import Watched
from sweeps.study.time_left import time_left
from tests.studies import CRASHED, MISSED, PRUNED, REACHED, run_trials, sampled_study


@pytest.fixture
def home(tmp_path, store) -> Home:
    """A home whose epochs are in the store of the session."""
    return Home(tmp_path / "home", mlflow=f"sqlite:///{store.path}")


@pytest.fixture
def begin(home, store):
    """Begin a study: a trial for each result in the ledger, and as many in the store."""
    home.root.mkdir()

    def begin(*results, name, trials=6):
        ledger = run_trials(home.ledger_uri, sampled_study(name, trials=trials), *results)
        launch = store.launch(name)
        for number, result in enumerate(results):
            outcome = None if result is None else str(result.outcome)
            store.trial(launch, number, [0.1, 0.3], outcome, None if result is None else result.stop_reason)
        return ledger, launch

    return begin


def facts(watched: Watched) -> dict[str, str]:
    return dict(watched.seen.standing.facts)


def test_a_study_that_runs_says_what_runs_and_how_long_it_will(home, begin):
    begin(REACHED, PRUNED, None, None, name="watched-runs")
    with home.lock("watched-runs"):
        watched = Watched(home, "watched-runs")
    standing = watched.seen.standing
    assert (standing.said, standing.ended, standing.waiting) == ("Running.", False, frozenset())
    assert facts(watched)["Trials"] == "ended: 1 reached, 1 pruned · running: 2 · to come: 2"
    assert facts(watched)["Best so far"] == "trial 0, reached the target 0.92 at epoch 3"
    # By the store: 2 of 6 epochs of each running trial, 2 epochs of each that ended, 1.5 s an epoch.
    left = time_left([(2, 6), (2, 6)], [2, 2], 2, 1.5)
    assert facts(watched)["Time left"] == f"about 9 s: {left.how}"


def test_trials_that_nobody_runs_wait(home, begin):
    begin(MISSED, None, name="watched-stopped")
    watched = Watched(home, "watched-stopped")
    standing = watched.seen.standing
    assert standing.said == "Nobody runs it now; `sweeps resume watched-stopped` goes on with it."
    assert (standing.waiting, standing.ended) == ({1}, False)
    assert facts(watched)["Trials"] == "ended: 1 exhausted · running: 0 · waiting to go on: 1 · to come: 4"
    assert "Time left" not in facts(watched)


def test_a_trial_that_was_paused_waits_while_others_run(home, begin, store):
    _, launch = begin(None, None, name="watched-paused")
    paused = store.trial(launch, 1, [0.1], start=3_000)  # the later of two runs counts
    store.client.update_run(paused, "SCHEDULED")
    with home.lock("watched-paused"):
        assert Watched(home, "watched-paused").seen.standing.waiting == {1}


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ((REACHED, MISSED), "Complete: all its trials have ended."),
        ((REACHED, CRASHED), "Ended, and some trials crashed. Crashed: disk full; `sweeps show"),
    ],
)
def test_a_study_that_has_ended_says_so(home, begin, results, said):
    name = f"watched-ended-{results[1].outcome}"
    begin(*results, name=name, trials=2)
    standing = Watched(home, name).seen.standing
    assert standing.ended
    assert standing.said.startswith(said)


def test_a_study_that_has_begun_nothing_is_watched_too(tmp_path):
    home = Home(tmp_path)
    run_trials(home.ledger_uri, sampled_study("new"))
    seen = Watched(home, "new").seen
    assert (seen.study, seen.standing.troubles) == (None, ())
    assert dict(seen.standing.facts)["Trials"] == "ended: none · running: 0 · to come: 4"


def test_without_a_ledger_the_store_tells(tmp_path, store):
    launch = store.launch("watched-store")
    store.trial(launch, 0, [0.1, 0.2])
    standing = Watched(Home(tmp_path, mlflow=f"sqlite:///{store.path}"), "watched-store").seen.standing
    assert standing.said == (
        "Running, says MLflow's store. The study's ledger is not here: what is to come is not known."
    )
    assert dict(standing.facts)["Time left"] == (
        "about 6 s for the trials that run: 4 epochs of 1 running trial at 1.5 s an epoch"
    )
    store.client.set_terminated(launch, "FINISHED")
    assert Watched(Home(tmp_path, mlflow=f"sqlite:///{store.path}"), "watched-store").seen.standing.ended


def test_there_is_nothing_to_watch_without_a_study(home, store):
    with pytest.raises(InputError, match="no study 'none' in"):
        Watched(home, "none")


def test_nothing_is_written(home, begin):
    ledger, _ = begin(REACHED, None, name="watched-untouched")
    before = {path: path.stat().st_mtime_ns for path in home.root.rglob("*")}
    watched = Watched(home, "watched-untouched")
    watched.stamp()
    watched.read()
    assert {path: path.stat().st_mtime_ns for path in home.root.rglob("*")} == before
    del ledger  # its end writes


def test_a_ledger_that_goes_is_told_of_since_when_until_it_is_back(home, begin):
    begin(REACHED, None, name="watched-gone")
    watched = Watched(home, "watched-gone")
    before = watched.seen
    aside = Path(shutil.move(home.own_ledger_db, home.root / "aside"))
    (said,) = watched.read().standing.troubles
    assert re.match(r"Since \d\d:\d\d:\d\d \S+ its ledger cannot be read: ", said)
    assert watched.seen.standing.facts == before.standing.facts  # what was known stays
    assert watched.read().standing.troubles == (said,)  # the time is that at which it began
    shutil.move(aside, home.own_ledger_db)
    assert watched.read().is_same(before)


def test_a_study_that_is_deleted_is_told_of(home, begin):
    begin(REACHED, None, name="watched-deleted")
    watched = Watched(home, "watched-deleted")
    import optuna

    optuna.delete_study(study_name="watched-deleted", storage=home.ledger_uri)
    (said,) = watched.read().standing.troubles
    assert "its ledger cannot be read: no study 'watched-deleted' in" in said


def test_a_store_that_goes_is_told_of(home, begin, store, tmp_path):
    begin(REACHED, None, name="watched-down")
    copied = Home(home.root, mlflow=f"sqlite:///{shutil.copy(store.path, tmp_path / 'copy.db')}")
    watched = Watched(copied, "watched-down")
    (tmp_path / "copy.db").write_bytes(b"no database")
    seen = watched.read()
    assert "its epochs cannot be read: " in seen.standing.troubles[0]
    assert len(seen.study.trials) == 2


def test_a_store_that_never_answered_is_told_of_too(home, begin):
    begin(REACHED, None, name="watched-never")
    away = Home(home.root, mlflow="http://127.0.0.1:9")
    (said,) = Watched(away, "watched-never").seen.standing.troubles
    assert said.startswith("No epoch can be read yet: http://127.0.0.1:9: ")


def test_with_neither_the_ledgers_error_is_told(home):
    home.root.mkdir()
    home.own_ledger_db.write_bytes(b"no database")
    with pytest.raises(SweepError, match=r"optuna\.db"):
        Watched(home, "any")


def test_a_change_of_any_kind_changes_the_stamp(home, begin, store):
    ledger, launch = begin(REACHED, None, name="watched-stamp")
    watched = Watched(home, "watched-stamp")
    stamps = [watched.stamp()]
    store.trial(launch, 2, [0.1])
    stamps.append(watched.stamp())
    ledger.tell(1, PRUNED)
    stamps.append(watched.stamp())
    with home.lock("watched-stamp"):
        stamps.append(watched.stamp())
    assert len({str(stamp) for stamp in stamps}) == 4


def test_what_is_seen_is_the_same_until_something_happens(home, begin, store):
    _, launch = begin(REACHED, None, name="watched-same")
    watched = Watched(home, "watched-same")
    before = watched.seen
    assert watched.read().is_same(before)
    store.trial(launch, 2, [0.1])
    assert not watched.read().is_same(before)


def test_the_time_left_needs_a_trial_and_an_epoch():
    assert time_left([], [], 3, 1.0) is None
    assert time_left([(0, 5)], [], 0, float("nan")) is None


def test_while_none_has_ended_those_to_come_are_as_long_as_those_that_run():
    assert time_left([(0, 4), (2, 8)], [], 2, 1.0).seconds == (4 + 6 + 2 * 6) / 2
