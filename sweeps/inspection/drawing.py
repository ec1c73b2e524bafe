"""Schedules drawn as a line of text."""

from __future__ import annotations

from resnet_core.config import TrialConfig
from resnet_core.schedule import Schedule

_BARS = " ▁▂▃▄▅▆▇█"


def draw_rates(config: TrialConfig, width: int = 60) -> str:
    """Return the learning rate over a run's epochs as one line of bars, with its highest value and length."""
    return f"{draw(config.lr_schedule, config.horizon, width)}  peak {config.lr_alpha:g}, {config.horizon} epochs"


def draw(schedule: Schedule, horizon: float, width: int = 60) -> str:
    """Return a schedule from epoch 0 to ``horizon`` as ``width`` bars, the highest of them its peak."""
    if not schedule.peak:
        return _BARS[0] * width
    values = [schedule.value(horizon * (i + 0.5) / width) for i in range(width)]
    # A value above 0 never looks like 0.
    return "".join(_BARS[max(round(v / schedule.peak * (len(_BARS) - 1)), 1 if v else 0)] for v in values)
