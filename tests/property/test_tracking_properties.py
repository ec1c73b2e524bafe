"""Whatever fails between a study and MLflow, and whenever the process is killed: every epoch once, in order."""

import tempfile
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_core.config import TrialConfig
from sweeps.errors import SweepError
from sweeps.study.trials import Job
from sweeps.tracking import writer as tracking
from sweeps.tracking.runs import MlflowStudy
from sweeps.tracking.writer import Tracker
from tests.studies import MISSED, SCHEDULE, epoch_record, sampled_study

SPEC = sampled_study("any", horizon=4)


class Memory:
    """Stands for MLflow's client, a thousand times as fast: a store that can be down, and can lose its answers.

    Attributes:
        down: how many of the next calls fail before they do anything.
        lossy: whether the call after them does what it is asked to and fails then.
    """

    def __init__(self) -> None:
        self.runs: list[SimpleNamespace] = []
        self.down, self.lossy = 0, False

    def _call(self, change: Any = lambda: None) -> Any:
        if self.down:
            self.down -= 1
            raise ConnectionError("down")
        value = change()
        if self.lossy:
            self.lossy = False
            raise ConnectionError("no answer")
        return value

    def _run(self, run_id: str) -> SimpleNamespace:
        return self.runs[int(run_id)]

    def search_experiments(self, *_which: Any, **_options: Any) -> Any:
        tags = {"sweeps.study": SPEC.name}
        return self._call(lambda: [SimpleNamespace(experiment_id="0", lifecycle_stage="active", tags=tags)])

    def search_runs(self, _ids: Any, *_which: Any, **_options: Any) -> Any:
        page = type("Page", (list,), {"token": None})(self.runs)
        return self._call(lambda: page)

    def create_run(self, _experiment: str, tags: dict[str, str], run_name: str) -> Any:
        def create() -> SimpleNamespace:
            info = SimpleNamespace(
                run_id=str(len(self.runs)), status="RUNNING", run_name=run_name, lifecycle_stage="active"
            )
            data = SimpleNamespace(tags=tags, params={}, metrics={})
            self.runs.append(SimpleNamespace(info=info, data=data, points=[]))
            return self.runs[-1]

        return self._call(create)

    def log_batch(self, run_id: str, metrics: Any = (), tags: Any = (), **_rest: Any) -> None:
        def log() -> None:
            run = self._run(run_id)
            run.data.tags.update({tag.key: tag.value for tag in tags})
            for metric in metrics:
                point = (metric.key, metric.step, metric.value, metric.timestamp)
                if point not in run.points:  # MLflow's stores keep one of equal points
                    run.points.append(point)
                    run.data.metrics[metric.key] = metric.value

        self._call(log)

    def get_metric_history(self, run_id: str, key: str) -> Any:
        return self._call(lambda: [SimpleNamespace(step=p[1]) for p in self._run(run_id).points if p[0] == key])

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        self._call(lambda: self._run(run_id).data.tags.update({key: value}))

    def update_run(self, run_id: str, status: str) -> None:
        self._call(lambda: setattr(self._run(run_id).info, "status", status))

    def set_terminated(self, run_id: str, status: str, *_end: int) -> None:
        self.update_run(run_id, status)


def open_(store: Memory, spool: Path) -> Tracker:
    class InMemory(MlflowStudy):
        _client = store  # type: ignore[assignment]

    return Tracker(InMemory("memory", spool.parent, SPEC), spool)


def wait_until_taken(tracker: Tracker) -> None:
    """Wait until the thread has taken everything: written it, or saved it."""
    tracker._queue.put(question := tracking._Question(lambda: None, Future()))
    with suppress(SweepError):
        question.answer.result(20)


def kill(tracker: Tracker) -> None:
    tracker._queue.put(None)
    tracker._thread.join(20)


def job(number: int) -> Job:
    return Job(number, str(number), TrialConfig(schedule=SCHEDULE), {})


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("epoch"), st.integers(0, 1)),
        st.tuples(st.just("end"), st.integers(0, 1)),
        st.tuples(st.just("down"), st.integers(1, 12)),
        st.tuples(st.just("lossy"), st.just(0)),
        st.tuples(st.just("kill"), st.just(0)),
        st.tuples(st.just("half"), st.integers(1, 9)),
    ),
    max_size=25,
)


@pytest.fixture(scope="module", autouse=True)
def short_waits():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracking, "_TRIES", 1)
        patch.setattr(tracking, "_LONGEST_WAIT", 0.001)
        patch.setattr(tracking, "_EPOCHS_SECONDS", 0.001)
        yield


@given(STEPS)
@settings(max_examples=60)
def test_every_epoch_is_in_the_store_once_and_in_order(steps):
    store = Memory()
    with tempfile.TemporaryDirectory() as folder:
        spool = Path(folder) / "spool.jsonl"
        tracker = open_(store, spool)
        done, ended = {0: 0, 1: 0}, set()
        tracker.begin(job(0))
        tracker.begin(job(1))
        for step, value in steps:
            if step == "epoch" and value not in ended:
                done[value] += 1
                tracker.epoch(job(value), epoch_record(done[value]))
            elif step == "end":
                ended.add(value)
                tracker.end(job(value), MISSED)
            elif step == "down":
                store.down = value
            elif step == "lossy":
                store.lossy = True
            elif step in ("kill", "half"):
                wait_until_taken(tracker)
                kill(tracker)
                if step == "half":  # what a kill amid an append leaves
                    with spool.open("ab") as file:
                        file.write(b'{"do": "epoch", '[:value])
                tracker = open_(store, spool)
        store.down, store.lossy = 0, False
        tracker.close("FINISHED")
        assert not spool.exists()
    runs = {run.data.tags.get("sweeps.trial", "launch"): run for run in store.runs}
    assert len(runs) == len(store.runs) == 3
    for number, epochs in done.items():
        run = runs[str(number)]
        assert [point[1] for point in run.points if point[0] == "val_acc"] == list(range(1, epochs + 1))
        assert run.info.status == ("FINISHED" if number in ended else "RUNNING")
    assert runs["launch"].info.status == "FINISHED"
