"""Makes a study from a recorded file, and writes it to MLflow's store and the ledger."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.statistics.repeats import run_noise
from resnet_core.config import SCHEDULE_FIELDS, epoch_sizes
from resnet_core.objective import Objective
from resnet_core.schedule import parse_template
from search_spaces.space import longest_horizon
from search_spaces.spec import StudySpec
from search_spaces.study import parse_study, to_json
from sweeps.errors import InputError, SweepError, reason_of
from sweeps.home import Home, check_database
from sweeps.importing.sources import read
from sweeps.importing.trials import Options, Trial, trials_of
from sweeps.ledger.database import sqlite_file
from sweeps.ledger.ledger import Ledger
from sweeps.ledger.studies import study_names
from sweeps.study.origin import Origin
from sweeps.study.outcomes import Result, Stop, make_result
from sweeps.study.stopping.base import Progress
from sweeps.study.trials import Entry, Job
from sweeps.tracking.runs import MlflowStudy
from sweeps.tracking.writer import begin_entry, end_entry, epochs_entry

NO_SCHEDULE = "[0, 0] lin[0, 1]"
"""A placeholder, since a study file must have a schedule: the trials' schedules come from the source."""

_BATCH = 1000  # values that an MLflow server accepts in one request


@dataclass(frozen=True)
class Import:
    """A study that was recorded elsewhere, checked but not written yet.

    Attributes:
        spec: the study's known settings; it lists a run for each trial.
        origin: the source file or folder.
        trials: the recorded trials.
        entries: the trials in the ledger's form, with their results.
        left_out: the columns that the store cannot hold, each with the reason.
        from_lr: whether the schedules were made from the recorded learning rates.
    """

    spec: StudySpec
    origin: Origin
    trials: Sequence[Trial]
    entries: Sequence[Entry]
    left_out: Mapping[str, str]
    from_lr: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the values that ``import --json`` prints."""
        return {
            "study": self.spec.name,
            "source": self.origin.file,
            "sha256": self.origin.sha256,
            "target": self.spec.objective.target,
            "metric": self.spec.objective.metric,
            "schedules_from_lr": self.from_lr,
            "left_out": dict(self.left_out),
            "trials": [
                {
                    "trial": trial.name,
                    "source_name": trial.source_name,
                    "known": sorted(trial.given),
                    "metrics": sorted({name for values in trial.metrics for name in values}),
                    **{name: value for name, value in _result(entry).to_dict().items() if name in _SHOWN},
                }
                for trial, entry in zip(self.trials, self.entries, strict=True)
            ],
        }

    def lines(self) -> list[str]:
        """Return the import as lines of text: one per trial, and the columns that are left out."""
        said = []
        for trial, entry in zip(self.trials, self.entries, strict=True):
            result = _result(entry)
            called = "" if trial.name == trial.source_name else f" ({trial.source_name})"
            sought = self.spec.objective
            reached = f", {sought.target_text} at epoch {result.epochs_to_target}"
            best = f", best {sought.metric} {sought.shown(result.best_value)}" if result.best_value is not None else ""
            said.append(
                f"trial {trial.name}{called}: {result.epochs_run} epochs, {result.outcome.value}"
                + (reached if result.epochs_to_target else "")
                + best
            )
        if self.from_lr:
            said.append("The schedules are made of the recorded learning rates; --set train.schedule gives another.")
        said += [f"Left out: {name} ({why})." for name, why in self.left_out.items()]
        return said


_SHOWN = ("outcome", "epochs_run", "epochs_to_target", "epochs_to_target_sustained", "best_val_acc", "best_epoch")


def prepare(path: Path, base: StudySpec, options: Options) -> Import:
    """Return the study in a file or folder, completely checked.

    Args:
        path: the file or folder.
        base: a study with the name, the objective, and the settings of all trials: its ``[train]`` and, if it lists a
            single run, this run. A schedule that is NO_SCHEDULE or has parameters is left out.
        options: how to read the source.

    Raises:
        InputError, StudyError: there are mistakes; the message names up to ten kinds of them with their places.
    """
    source = read(path)
    train = {**base.train, **(base.run[0].changes if len(base.run) == 1 else {})}
    train = {
        name: value
        for name, value in train.items()
        if name not in SCHEDULE_FIELDS or (value != NO_SCHEDULE and not parse_template(value).parameters)
    }
    found = trials_of(source, train, options, base.objective.metric)
    spec = parse_study(
        {
            "name": base.name,
            "description": base.description,
            "train": train,
            "objective": base.objective,
            "stopping": {"diverged": False},
            "run": [{"name": trial.name, **trial.changes} for trial in found.trials],
        },
        str(path),
    )
    params = _varying(found.trials)
    longest = longest_horizon(spec)
    entries = [
        Entry(Job(number, trial.name, trial.config, params[number]), _ended(trial, base.objective, longest))
        for number, trial in enumerate(found.trials)
    ]
    recorded = [[trial.source_name, trial.place, trial.metrics] for trial in found.trials]
    digest = hashlib.sha256((to_json(spec) + json.dumps(recorded)).encode()).hexdigest()
    origin = Origin(path.resolve().name, source.sha256, digest)
    return Import(spec, origin, found.trials, entries, found.left_out, found.from_lr)


def _varying(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Return the parameters of each trial: the fields that are known for all trials and differ between them."""
    names = set.intersection(*(set(trial.given) for trial in trials)) - {"seed", "epochs", *SCHEDULE_FIELDS}
    values = [{name: getattr(trial.config, name) for name in sorted(names)} for trial in trials]
    varied = {name for name in names if len({row[name] for row in values}) > 1}
    return [{name: value for name, value in row.items() if name in varied} for row in values]


def _ended(trial: Trial, objective: Objective, longest: int) -> Result:
    """Return the result that a running study would give to a trial."""
    cut_short = Stop("", f"its record ends at epoch {len(trial.records)} of {trial.config.horizon}")
    images = epoch_sizes(trial.config)[1] if objective.is_accuracy else None
    result = make_result(
        Progress(trial.config, trial.records, objective=objective),
        longest_horizon=longest,
        noise=run_noise((), objective.target, images),
        stop=cut_short if len(trial.records) < trial.config.horizon else None,
    )
    return dataclasses.replace(result, stopped_by=None, epochs_saved=0)


def write(home: Home, made: Import, *, replace: bool = False) -> bool:
    """Write a study to MLflow's store and the ledger; readers see it only once it is complete.

    After an import that failed or was killed, the next import under the same name begins again.

    Args:
        home: the home folder.
        made: the study.
        replace: whether to replace another import of this name.

    Returns:
        False if the same import exists already, and nothing was written.

    Raises:
        InputError: another study has this name.
        SweepError: the store or the ledger cannot be used, or a write failed.
    """
    spec, origin = made.spec, made.origin
    for database in (home.own_mlflow_db, sqlite_file(home.ledger_uri)):
        if database is not None:
            check_database(database)
    with home.lock(spec.name):
        runs = MlflowStudy(home.mlflow_uri, home.artifacts, spec, origin=origin)
        try:
            if _is_there(home, runs, made, replace):
                return False
            Ledger.remove_import(home.ledger_uri, spec.name)
            if runs.existing_launch() is not None:
                runs.delete_runs()
            runs.open()
            for trial, entry in zip(made.trials, made.entries, strict=True):
                _write_trial(runs, trial, entry)
            Ledger.create_import(home.ledger_uri, spec, origin, made.entries)
            runs.close("FINISHED", ())
        except SweepError:
            raise
        except Exception as error:
            with contextlib.suppress(Exception):  # the ledger may be the cause of the failure
                Ledger.remove_import(home.ledger_uri, spec.name)
            raise SweepError(
                f"study {spec.name!r} could not be imported to its end: {reason_of(error)}. Nothing shows of it yet; "
                "when that is mended, the same import begins again"
            ) from error
    return True


def _is_there(home: Home, runs: MlflowStudy, made: Import, replace: bool) -> bool:
    """Return whether the same import exists already.

    Raises:
        InputError: another study has this name, and may not be replaced.
    """
    name, digest = made.spec.name, made.origin.digest
    there = [Ledger.read(home.ledger_uri, name).origin] if name in study_names(home.ledger_uri) else []
    earlier = runs.existing_launch()
    if earlier is not None:
        status, origin = earlier
        # An import that did not finish is replaced: no reader has seen it.
        there += [origin] if origin is None or status == "FINISHED" else []
    for other in there:
        if other is None:
            raise InputError(f"study {name!r} is there, and was run, not imported; import under another --name")
        if other.digest != digest and not replace:
            raise InputError(
                f"study {name!r} was imported from {other.file}, and is not what this import makes; replace it with "
                "--replace, or import under another --name"
            )
    return len(there) == 2 and all(other is not None and other.digest == digest for other in there)


def _write_trial(runs: MlflowStudy, trial: Trial, entry: Entry) -> None:
    job = entry.job
    runs.apply(begin_entry(job, runs.tags, trial.given))
    if trial.place:
        runs.apply({"do": "place", "trial": job.number, "tags": trial.place})
    epochs = [{"epoch": epoch, **values} for epoch, values in enumerate(trial.metrics, start=1)]
    at_once = max(1, _BATCH // max(map(len, epochs)))
    for start in range(0, len(epochs), at_once):
        runs.apply(epochs_entry(job, epochs[start : start + at_once]))
    runs.apply(end_entry(job, _result(entry), runs.metric))


def _result(entry: Entry) -> Result:
    assert entry.result is not None
    return entry.result
