"""How long reading a large store takes: SQLite, PostgreSQL, and an MLflow server.

    python -m tests.benchmarks.store [--trials 2000] [--epochs 60] [--server-trials 200] [--rounds 5]

The store is made for it: MLflow makes its tables, then rows as the orchestrator writes them are put in by bulk inserts
of SQL, since writing a million points through MLflow takes an hour. Each trial has its parameters and tags, and eight
metrics an epoch; trials are interleaved, eight at a time, as on a machine that runs so many.

What is measured, in seconds, in every round: ``load`` and ``build_table`` in this process, and the commands that read a
study as processes, start-up included; of each the wall time, and the processor time, which a busy machine changes
less. The server reads an SQLite store of its own, of ``--server-trials``. PostgreSQL is left out where it is not
installed.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from uuid import UUID

from analysis.store.loader import load
from analysis.tables.trials import build_table
from resnet_core.config import TrialConfig
from sweeps.tracking.mlflow_internals import set_environment
from tests import postgres
from tests.benchmarks.rounds import interleaved, print_values
from tests.mlflow_server import serving

STUDY = "large"
METRICS = ("loss", "acc", "val_loss", "val_acc", "lr", "wd_lr", "seconds", "images_per_second")
_SCHEDULE = "[{low:.6g}, 0] lin[{peak:.6g}, 5] lin[{peak:.6g}, 12] cos[1e-05, {last}]"
_SPACE = {
    "lr": {"low": 5e-4, "high": 2e-3},
    "weight_decay": {"low": 0.05, "high": 0.4},
    "shift": {"low": 0.05, "high": 0.1},
}
_AT_ONCE = 8
_COMMANDS = ("table", "stopping", "report")  # which need no ledger

Rows = Iterable[tuple[object, ...]]


def make(uri: str, trials: int, epochs: int) -> None:
    """Fill a new store with a study of ended trials.

    Args:
        uri: of an SQLite file that is not there, or of an empty PostgreSQL database.
        trials: how many.
        epochs: of each trial.
    """
    set_environment()
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    from mlflow import MlflowClient

    client = MlflowClient(uri.replace("postgresql://", "postgresql+psycopg2://"))
    experiment = int(client.create_experiment(STUDY, artifact_location="file:///nowhere"))
    tags = {"sweeps.kind": "launch", "target": "0.92", "sustained": "2", "space": json.dumps(_SPACE)}
    launch = client.create_run(str(experiment), 1_000, tags, run_name=STUDY).info.run_id
    draw = random.Random(0)
    ids = [UUID(int=draw.getrandbits(128)).hex for _ in range(trials)]
    with _inserter(uri) as insert:
        insert(
            "runs",
            # What MLflow's server needs of a run, beside what is read.
            (
                "user_id",
                "artifact_uri",
                "lifecycle_stage",
                "status",
                "experiment_id",
                "run_uuid",
                "name",
                "start_time",
                "end_time",
            ),
            (
                (
                    "one",
                    "file:///nowhere",
                    "active",
                    "FINISHED",
                    experiment,
                    run_id,
                    f"{number:05d}",
                    _start(number),
                    _start(number) + 10**6,
                )
                for number, run_id in enumerate(ids)
            ),
        )
        insert("tags", ("key", "value", "run_uuid"), _tags(ids, launch))
        insert("params", ("key", "value", "run_uuid"), _params(ids, draw, epochs))
        insert("metrics", ("key", "value", "timestamp", "run_uuid", "step", "is_nan"), _points(ids, draw, epochs))


def _start(number: int) -> int:
    return 2_000 + 10**6 * (number // _AT_ONCE) + number


def _tags(ids: Sequence[str], launch: str) -> Iterator[tuple[object, ...]]:
    for number, run_id in enumerate(ids):
        tags = {
            **{"sweeps.kind": "trial", "sweeps.trial": str(number), "mlflow.parentRunId": launch, "seed": "0"},
            **{"study_hash": "c0ffee", "code_version": "0.1.0", "device": "cuda", "gpu_ids": "0", "node": "one"},
            **{"outcome": "reached" if number % 3 else "exhausted", "mlflow.runName": f"{number:05d}"},
        }
        yield from ((key, value, run_id) for key, value in tags.items())


def _params(ids: Sequence[str], draw: random.Random, epochs: int) -> Iterator[tuple[object, ...]]:
    for run_id in ids:
        peak, decay, shift = (draw.uniform(range_["low"], range_["high"]) for range_ in _SPACE.values())
        text = _SCHEDULE.format(low=0.8 * peak, peak=peak, last=max(epochs, 13))
        config = TrialConfig(schedule=text, weight_decay=decay, shift=shift, batch_size=64)
        sampled = {"space.lr": peak, "space.weight_decay": decay, "space.shift": shift}
        params = {**config.to_dict(), "lr_alpha": config.lr_alpha, "horizon": config.horizon, **sampled}
        yield from ((key, str(value), run_id) for key, value in params.items())


def _points(ids: Sequence[str], draw: random.Random, epochs: int) -> Iterator[tuple[object, ...]]:
    for first in range(0, len(ids), _AT_ONCE):
        best = {run_id: draw.uniform(0.915, 0.93) for run_id in ids[first : first + _AT_ONCE]}
        for epoch in range(1, epochs + 1):
            for place, (run_id, level) in enumerate(best.items()):
                val_acc = level * (1 - math.exp(-epoch / 6)) + draw.gauss(0, 0.002)
                loss = 2.3 * math.exp(-epoch / 10) + draw.uniform(0, 0.01)
                record = (loss, val_acc - 0.01, loss + 0.2, val_acc, 1e-3 / epoch, 1e-4 / epoch, 21.5, 2300.0)
                now = _start(first + place) + 1000 * epoch
                yield from ((key, value, now, run_id, epoch, False) for key, value in zip(METRICS, record, strict=True))


@contextmanager
def _inserter(uri: str) -> Iterator[Callable[[str, Sequence[str], Rows], None]]:
    """Give a function that puts rows into a table, all in one transaction."""
    if uri.startswith("sqlite:///"):
        with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as file, file:

            def insert(table: str, columns: Sequence[str], rows: Rows) -> None:
                places = ", ".join("?" * len(columns))
                file.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})", rows)

            yield insert
        return
    import psycopg2

    with closing(psycopg2.connect(uri)) as server:

        def copy(table: str, columns: Sequence[str], rows: Rows) -> None:
            text = io.StringIO()
            text.writelines("\t".join(map(str, row)) + "\n" for row in rows)
            text.seek(0)
            with server.cursor() as cursor:
                cursor.copy_from(text, table, columns=columns)

        yield copy
        server.commit()
        server.autocommit = True
        with server.cursor() as cursor:
            cursor.execute("ANALYZE")  # its own autovacuum does so within a minute


def measure(uri: str, rounds: int) -> None:
    """Print what reading a store takes, at its study's size."""
    read = _timed(lambda: load(uri, STUDY))
    study = load(uri, STUDY)
    read_and_sorted = {"load": read, "build_table": _timed(lambda: build_table(study))}
    taken = interleaved(rounds, read_and_sorted | {f"sweeps {name}": _command(name, uri) for name in _COMMANDS})
    for name, times in taken.items():
        print_values(f"{name}, wall", [wall for wall, _ in times], "s")
        print_values(f"{name}, processor", [processor for _, processor in times], "s")


def _timed(work: Callable[[], object]) -> Callable[[], tuple[float, float]]:
    """Return a function that gives the wall and the processor time of a call."""

    def call() -> tuple[float, float]:
        wall, processor = time.perf_counter(), time.process_time()
        work()
        return time.perf_counter() - wall, time.process_time() - processor

    return call


def _command(name: str, uri: str) -> Callable[[], tuple[float, float]]:
    """Return a function that gives the wall and the processor time of a command on the study."""
    command = [sys.executable, "-c", "from sweeps.cli import main; main()", name, STUDY, "--mlflow", uri]

    def call() -> tuple[float, float]:
        with tempfile.TemporaryDirectory() as folder:  # where a report comes to lie
            before, wall = os.times(), time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder)
            after = os.times()
        processor = after.children_user + after.children_system - before.children_user - before.children_system
        return time.perf_counter() - wall, processor

    return call


def main() -> None:
    """Make the stores, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--server-trials", type=int, default=200, help="0 leaves the server out")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    size = f"{given.trials} trials x {given.epochs} epochs x {len(METRICS)} metrics"
    with tempfile.TemporaryDirectory(prefix="sweeps-store-") as folder:
        print(f"SQLite, {size}", flush=True)
        make(f"sqlite:///{folder}/large.db", given.trials, given.epochs)
        measure(f"sqlite:///{folder}/large.db", given.rounds)
        try:
            with postgres.running() as server:
                print(f"PostgreSQL, {size}", flush=True)
                uri = server.database()
                make(uri, given.trials, given.epochs)
                measure(uri, given.rounds)
        except FileNotFoundError as error:
            print(f"PostgreSQL is left out: {error}")
        if given.server_trials:
            print(f"an MLflow server on SQLite, {given.server_trials} trials", flush=True)
            make(f"sqlite:///{folder}/small.db", given.server_trials, given.epochs)
            with serving(f"sqlite:///{folder}/small.db", workers=4) as address:  # as many as it has by itself
                measure(address, given.rounds)


if __name__ == "__main__":
    main()
