"""How each trial ended, with the marker, the colour and the words that figures have for it."""

from __future__ import annotations

from typing import Any, TypeAlias

import pandas as pd
from matplotlib.path import Path

from analysis.plots.canvas import COLOURS
from analysis.store.loader import Study

REACHED, ENDED, CUT, DIVERGED, CRASHED = "reached", "missed", "cut short", "diverged", "crashed"
Looks: TypeAlias = dict[str, dict[str, Any]]

_UP = Path(
    [(0, -0.5), (0, 0.5), (-0.22, 0.2), (0, 0.5), (0.22, 0.2)],
    [Path.MOVETO, Path.LINETO, Path.MOVETO, Path.LINETO, Path.LINETO],
)
"""An arrow upwards: the result lies beyond the axis, and is not known."""
LOOKS: Looks = {
    REACHED: {"marker": "o", "color": COLOURS[0], "s": 32, "linewidths": 0},
    ENDED: {"marker": _UP, "facecolors": "none", "edgecolors": COLOURS[1], "s": 90, "linewidths": 1.4},
    CUT: {"marker": _UP, "facecolors": "none", "edgecolors": "dimgrey", "s": 64, "linewidths": 0.9},
    DIVERGED: {"marker": "s", "facecolors": "none", "edgecolors": COLOURS[3], "s": 25, "linewidths": 1.2},
    CRASHED: {"marker": "+", "color": COLOURS[6], "s": 49, "linewidths": 1.2},
}
"""Marker and colour of each kind of trial, from the best to the worst."""
LOOKS_WITHOUT_TARGET = LOOKS | {
    ENDED: LOOKS[REACHED],
    CUT: {"marker": "x", "color": "dimgrey", "s": 36, "linewidths": 1.2},
}
WORDS = {
    REACHED: "reached",
    ENDED: "missed: its schedule ended",
    CUT: "cut short before it reached",
    DIVERGED: "diverged",
    CRASHED: "crashed",
}
WORDS_WITHOUT_TARGET = WORDS | {ENDED: "a trial", CUT: "cut short: its best until then"}


def kinds_of(study: Study, found: pd.DataFrame) -> pd.Series[str]:
    """Return by trial number how each trial ended, crashed ones too: the keys of `LOOKS`.

    Args:
        study: the study.
        found: what `analysis.tables.summary.ended_runs` returned for it.
    """
    kinds = pd.Series(CRASHED, index=study.trials.set_index("number")["outcome"].dropna().sort_index().index)
    kinds[found.index] = ENDED
    kinds[found.index[found["cut_short"]]] = CUT
    kinds[found.index[found["reached"]]] = REACHED
    kinds[found.index[found["diverged"]]] = DIVERGED
    return kinds
