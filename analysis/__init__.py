"""From MLflow's store to tables, plots and reports.

>>> import analysis
>>> study = analysis.load("runs/mlflow.db", "adamw-cosine")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.comparison import Arm, Contrast, PhaseError, arm, contrast
    from analysis.confirmation import Confirmation, build_confirmation
    from analysis.cost import build_cost, cost_footnotes
    from analysis.importance import build_importance, importance_footnotes
    from analysis.noise import build_noise, noise_footnotes
    from analysis.plots.bands import plot_bands
    from analysis.plots.curves import plot_best_trials, plot_comparison, plot_curves
    from analysis.plots.schedules import plot_schedules
    from analysis.plots.statistics import (
        plot_best_of_n,
        plot_best_so_far,
        plot_importance,
        plot_share_reached,
        plot_slices,
    )
    from analysis.published import build_published, published_footnotes, published_text
    from analysis.rendering import render
    from analysis.report import Repeat, build_report
    from analysis.statistics import (
        Comparison,
        Estimate,
        best_of_n,
        compare,
        expected_running_time,
        kaplan_meier,
        mean_sd,
        median_epochs,
        restricted_mean,
        share_reached,
    )
    from analysis.stopping_table import TrialHistory, build_stopping, histories, stopping_footnotes
    from analysis.store import StoreError, Study, load, studies
    from analysis.summary import (
        build_best_of_n,
        build_best_so_far,
        build_ladder,
        build_summary,
        configurations,
        readable,
        runs,
        summary_footnotes,
    )
    from analysis.table import COLUMNS, Counts, build_table, count, footnotes
    from analysis.transitions import build_transitions, transition_footnotes

__all__ = [
    "COLUMNS",
    "Arm",
    "Comparison",
    "Confirmation",
    "Contrast",
    "Counts",
    "Estimate",
    "PhaseError",
    "Repeat",
    "StoreError",
    "Study",
    "TrialHistory",
    "arm",
    "best_of_n",
    "build_best_of_n",
    "build_best_so_far",
    "build_confirmation",
    "build_cost",
    "build_importance",
    "build_ladder",
    "build_noise",
    "build_published",
    "build_report",
    "build_stopping",
    "build_summary",
    "build_table",
    "build_transitions",
    "compare",
    "configurations",
    "contrast",
    "cost_footnotes",
    "count",
    "expected_running_time",
    "footnotes",
    "histories",
    "importance_footnotes",
    "kaplan_meier",
    "load",
    "mean_sd",
    "median_epochs",
    "noise_footnotes",
    "plot_bands",
    "plot_best_of_n",
    "plot_best_so_far",
    "plot_best_trials",
    "plot_comparison",
    "plot_curves",
    "plot_importance",
    "plot_schedules",
    "plot_share_reached",
    "plot_slices",
    "published_footnotes",
    "published_text",
    "readable",
    "render",
    "restricted_mean",
    "runs",
    "share_reached",
    "stopping_footnotes",
    "studies",
    "summary_footnotes",
    "transition_footnotes",
]

_HOME = {
    "render": "rendering",
    "plot_bands": "plots.bands",
    **dict.fromkeys(("Arm", "Contrast", "PhaseError", "arm", "contrast"), "comparison"),
    **dict.fromkeys(("Confirmation", "build_confirmation"), "confirmation"),
    **dict.fromkeys(("build_published", "published_footnotes", "published_text"), "published"),
    **dict.fromkeys(("Repeat", "build_report"), "report"),
    **dict.fromkeys(("build_cost", "cost_footnotes"), "cost"),
    **dict.fromkeys(("build_importance", "importance_footnotes"), "importance"),
    **dict.fromkeys(("build_noise", "noise_footnotes"), "noise"),
    **dict.fromkeys(
        (
            "plot_best_of_n",
            "plot_best_so_far",
            "plot_importance",
            "plot_share_reached",
            "plot_slices",
        ),
        "plots.statistics",
    ),
    **dict.fromkeys(("plot_best_trials", "plot_comparison", "plot_curves"), "plots.curves"),
    "plot_schedules": "plots.schedules",
    **dict.fromkeys(
        (
            "Comparison",
            "Estimate",
            "best_of_n",
            "compare",
            "expected_running_time",
            "kaplan_meier",
            "mean_sd",
            "median_epochs",
            "restricted_mean",
            "share_reached",
        ),
        "statistics",
    ),
    **dict.fromkeys(("TrialHistory", "build_stopping", "histories", "stopping_footnotes"), "stopping_table"),
    **dict.fromkeys(("StoreError", "Study", "load", "studies"), "store"),
    **dict.fromkeys(
        (
            "build_best_of_n",
            "build_best_so_far",
            "build_ladder",
            "build_summary",
            "configurations",
            "readable",
            "runs",
            "summary_footnotes",
        ),
        "summary",
    ),
    **dict.fromkeys(("COLUMNS", "Counts", "build_table", "count", "footnotes"), "table"),
    **dict.fromkeys(("build_transitions", "transition_footnotes"), "transitions"),
}


def __getattr__(name: str) -> Any:
    # Names load their module when first used: analysis.epochs_to_target must not cost pandas' import.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
