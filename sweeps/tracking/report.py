"""A study's report and curves as artifacts of its runs in MLflow."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import analysis
from analysis import Study
from sweeps.tracking.runs import attach_artifacts

_CURVES = "curves.png"


def attach_report(uri: str, study: Study, files: Mapping[str, str], plots: int | None = None) -> int:
    """Add files to the study's run in MLflow, and their curves to the runs of its best trials.

    Args:
        uri: MLflow's tracking URI.
        study: the study, as `analysis.load` returns it.
        files: texts by file name: the report, the study file.
        plots: number of trials whose curves are drawn; None draws all. Each takes a third of a second.

    Returns:
        How many trials got their curves.

    Raises:
        SweepError: MLflow cannot be used, or has no such study.
    """
    table = analysis.build_table(study)
    numbers = table.index[table["epochs_run"] > 0][:plots]
    runs = study.trials.set_index("number")["run_id"]
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, text in files.items():
            paths.append(Path(folder) / name)
            paths[-1].write_text(text, encoding="utf-8")
        children = {}
        for number in numbers:
            path = Path(folder) / str(number) / _CURVES
            path.parent.mkdir()
            analysis.plot_curves(study, [number], path)
            children[runs[number]] = [path]
        attach_artifacts(uri, study.name, paths, children)
    return len(numbers)
