"""The report of a study in the home folder, as a file and in MLflow."""

from __future__ import annotations

import shlex
import tempfile
from importlib import resources
from pathlib import Path

import pandas as pd

import analysis
from analysis import Study
from analysis.report.document import Repeat
from resnet_core import schema
from search_spaces.spec import StudySpec
from search_spaces.toml import to_toml
from sweeps.errors import SweepError
from sweeps.home import Home
from sweeps.ledger.ledger import Ledger
from sweeps.tracking.runs import attach_artifacts

REPORT, STUDY_FILE, CURVES = "report.html", "study.toml", "curves.png"
"""Names of the artifacts."""


def html(home: Home, study: Study) -> str:
    """Return a study's report; how to repeat it is left out where the ledger is not there."""
    spec = _spec(home, study)
    return analysis.build_report(study, None if spec is None else _repeat(spec, study), published_runs(study))


def attach_report(home: Home, study: Study, plots: int | None = None) -> int:
    """Add the report and the study file to the study's run in MLflow, and their curves to the runs of its best trials.

    Args:
        home: where things are.
        study: what `analysis.load` returned.
        plots: of how many trials; None is of all. Each takes a third of a second.

    Returns:
        How many trials got their curves.
    """
    spec = _spec(home, study)
    table = analysis.build_table(study)
    numbers = table.index[table["epochs_run"] > 0][:plots]
    runs = study.trials.set_index("number")["run_id"]
    with tempfile.TemporaryDirectory() as folder:
        files = {REPORT: html(home, study), **({STUDY_FILE: to_toml(spec)} if spec is not None else {})}
        paths = []
        for name, text in files.items():
            paths.append(Path(folder) / name)
            paths[-1].write_text(text, encoding="utf-8")
        children = {}
        for number in numbers:
            path = Path(folder) / str(number) / CURVES
            path.parent.mkdir()
            analysis.plot_curves(study, [number], path)
            children[runs[number]] = [path]
        attach_artifacts(home.mlflow_uri, study.name, paths, children)
    return len(numbers)


def published_runs(study: Study) -> pd.DataFrame | None:
    """Return the published runs that train what the study trains, to the same target; None where there are none."""
    trials = study.trials
    same = {"model": "resnet56v2", "data": "cifar10"}
    if study.target != 0.92 or any(name not in trials or set(trials[name]) != {value} for name, value in same.items()):
        return None
    with resources.as_file(resources.files("search_spaces").joinpath("published", "post5.csv")) as path:
        return pd.read_csv(path)


def _spec(home: Home, study: Study) -> StudySpec | None:
    if study.imported:
        return None  # the ledger has what its file says, which need not be what its trials trained
    try:
        return Ledger.open(home.ledger_uri, study.name).spec
    except SweepError:  # the store has the study, and the ledger is elsewhere
        return None


def _repeat(spec: StudySpec, study: Study) -> Repeat:
    commands = []
    version = study.environment.get(schema.CODE_VERSION, "").split(", ")[0]
    if "+g" in version:
        commands.append(f"git checkout {version.partition('+g')[2].removesuffix('.dirty')}")
    pinned = [f"{name}=={study.environment[name]}" for name in schema.PACKAGES if name in study.environment]
    if pinned:
        commands.append("pip install . " + " ".join(map(shlex.quote, pinned)))
    commands += [f"sweeps launch {spec.name}.toml", f"sweeps report {spec.name}"]
    if spec.proposes:
        note = (
            f"The sampler's seed is {spec.search.seed}. Trials that run side by side end in an order that differs from "
            "launch to launch, and the sampler learns from those that have ended: the same file asks the same "
            "question, and need not try the same parameters. A trial with the same parameters and seed trains the same."
        )
    else:
        note = "The file names every trial and its seed, so the same trials run."
    if version.endswith(".dirty"):
        note += " The code had changes that were not committed."
    return Repeat(to_toml(spec), "\n".join(commands), note)
