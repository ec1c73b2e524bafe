"""How long a study will still take: one estimate, for every place that shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from resnet_core.records import duration_text


@dataclass(frozen=True)
class TimeLeft:
    """The time that a study still needs.

    Attributes:
        seconds: the time in seconds.
        how: how it was estimated, in words.
    """

    seconds: float
    how: str


def time_left(
    running: Sequence[tuple[int, int]], lengths: Sequence[int], remaining: int, epoch_seconds: float
) -> TimeLeft | None:
    """Estimate the time that a study still needs; None where no trial runs or no epoch was timed.

    The running trials are taken to train to the end of their schedules, and those to come as long as those that have
    ended did, on average. As many trials run at a time as do now.

    Args:
        running: of each running trial, the epochs it has trained and the epochs of its schedule.
        lengths: epochs of each trial that has ended.
        remaining: number of trials that have not begun.
        epoch_seconds: mean time of an epoch in seconds; NaN where none is known.

    >>> left = time_left([(2, 10), (6, 10)], [5, 7], 4, 30.0)
    >>> left.seconds, left.how
    (540.0, '12 epochs of 2 running trials and 4 trials to come, of 6 epochs each, at 30 s an epoch')
    """
    if not running or not epoch_seconds > 0:
        return None
    open_epochs = sum(horizon - done for done, horizon in running)
    length = fmean(lengths or [horizon for _, horizon in running])
    how = f"{_count(open_epochs, 'epoch')} of {_count(len(running), 'running trial')}"
    if remaining:
        how += f" and {_count(remaining, 'trial')} to come, of {length:.3g} epochs each,"
    how += f" at {duration_text(epoch_seconds)} an epoch"
    return TimeLeft((open_epochs + remaining * length) * epoch_seconds / len(running), how)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
