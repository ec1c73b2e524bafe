"""The report of a study: results from MLflow's store, how to repeat the study, and published runs to compare."""

from __future__ import annotations

import shlex
from importlib import resources

import pandas as pd

import analysis
from analysis import Study
from analysis.report import live
from analysis.report.document import BestNetwork, Reproduction
from analysis.report.live import Standing
from analysis.tables.published import trains_as_post5
from resnet_core import schema
from resnet_core.network_file import NetworkFileError, read_about
from search_spaces.spec import StudySpec
from search_spaces.toml import to_toml
from sweeps.errors import SweepError
from sweeps.home import Home
from sweeps.inspection.kept_networks import kept
from sweeps.ledger.ledger import Ledger


def build_report(home: Home, study: Study) -> str:
    """Return a study's report as HTML; if the ledger has the study, the report says how to repeat it."""
    return _build(home, study, _ledger(home, study))


def report_files(home: Home, study: Study) -> dict[str, str]:
    """Return, by file name, the report and, if the ledger has the study, the study file."""
    ledger = _ledger(home, study)
    study_file = {} if ledger is None else {"study.toml": to_toml(ledger.spec)}
    return {"report.html": _build(home, study, ledger)} | study_file


def build_live(home: Home, name: str, study: Study | None, standing: Standing, version: str) -> str:
    """Return the page of a study that is watched; see `analysis.report.live.build_live`."""
    if study is None or not standing.ended:
        return live.build_live(name, study, standing, version)
    ledger = _ledger(home, study)
    return live.build_live(
        name,
        study,
        standing,
        version,
        _reproduction(study, ledger),
        published_runs(study),
        best_network(home, ledger),
    )


def _build(home: Home, study: Study, ledger: Ledger | None) -> str:
    return analysis.build_report(
        study, _reproduction(study, ledger), published_runs(study), network=best_network(home, ledger)
    )


def best_network(home: Home, ledger: Ledger | None) -> BestNetwork | None:
    """Return what the report shows of the best kept network: what it took the validation images for.

    The trial has counted that in its last validation, and the network's file says it. So nothing is computed, and no
    weight is read.

    Args:
        home: the home folder.
        ledger: the study's; None where it is elsewhere.

    Returns:
        None where no network is kept, its file cannot be read, it is of a trainer of one's own, or has more than 100
        classes.
    """
    there = [] if ledger is None else kept(home, ledger)
    try:
        about = read_about(there[0].path) if there else None
    except NetworkFileError:
        return None
    if about is None or about.confusion is None:
        return None
    return BestNetwork(about.trial, about.epoch, about.classes, about.confusion)


def _reproduction(study: Study, ledger: Ledger | None) -> Reproduction | None:
    return None if ledger is None else _repeat(ledger.spec, study)


def published_runs(study: Study) -> pd.DataFrame | None:
    """Return the published runs with the study's network, data set, metric and target; None if there are none."""
    if study.target != 0.92 or not study.objective.is_accuracy or not trains_as_post5(study):
        return None
    with resources.as_file(resources.files("search_spaces").joinpath("published", "post5.csv")) as path:
        return pd.read_csv(path)


def _ledger(home: Home, study: Study) -> Ledger | None:
    if study.imported:
        return None  # the ledger has the settings of the import, which may differ from what the trials trained
    try:
        return Ledger.read(home.ledger_uri, study.name)
    except SweepError:  # the store has the study, but the ledger is elsewhere
        return None


def _repeat(spec: StudySpec, study: Study) -> Reproduction:
    commands = []
    version = study.environment.get(schema.CODE_VERSION, "").split(", ")[0]
    if "+g" in version:
        commands.append(f"git checkout {version.partition('+g')[2].removesuffix('.dirty')}")
    pinned = [f"{name}=={study.environment[name]}" for name in schema.PACKAGES if name in study.environment]
    if pinned:
        commands.append("pip install . " + " ".join(map(shlex.quote, pinned)))
    commands += [f"sweeps launch {spec.name}.toml", f"sweeps report {spec.name}"]
    if spec.is_sampled:
        note = (
            f"The sampler's seed is {spec.search.seed}. Trials that run side by side end in an order that differs from "
            "launch to launch, and the sampler learns from those that have ended: the same file asks the same "
            "question, and need not try the same parameters. A trial with the same parameters and seed trains the same."
        )
    else:
        note = "The file names every trial and its seed, so the same trials run."
    if spec.code is not None:
        code = ", ".join(f"{name} ({version})" for name, version in spec.code.versions.items())
        note += f" It runs code of its own, which must be beside the file or installed: {code}."
    if version.endswith(".dirty"):
        note += " The code had changes that were not committed."
    return Reproduction(to_toml(spec), "\n".join(commands), note)
