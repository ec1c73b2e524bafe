"""One trial, for people and for --json: its configuration, its result, its errors, its output."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from resnet_core.objective import METRIC, Objective
from resnet_core.own_config import Config, OwnConfig
from resnet_core.schedule import Schedule
from resnet_core.schema import best_metric
from sweeps.home import Home
from sweeps.ledger.ledger import Ledger
from sweeps.study.outcomes import Result
from sweeps.study.trials import Entry
from sweeps.trial_log import failures, read_log

_BARS = " ▁▂▃▄▅▆▇█"


def trial_to_dict(entry: Entry, objective: Objective) -> dict[str, Any]:
    """Return one trial as plain values; ``result`` is None while it runs.

    Args:
        entry: the trial.
        objective: what its study looks for; the result's values have the name of its metric.
    """
    return {
        "trial": entry.job.name,
        "number": entry.job.number,
        "parameters": entry.job.params,
        "thawed": list(entry.job.thawed),
        "config": entry.job.config.to_dict(),
        "result": None if entry.result is None else _result(entry.result, objective),
    }


def _result(result: Result, objective: Objective) -> dict[str, Any]:
    names = {"best_val_acc": best_metric(objective.metric)}
    if objective.metric != METRIC:
        names["val_accs"] = "values"
    return {names.get(name, name): value for name, value in result.to_dict().items()}


def describe_trial(entry: Entry, objective: Objective) -> str:
    """Return one trial as text: one line for each parameter and each figure of its result."""
    job, result = entry.job, entry.result
    lines = [f"trial {job.name} (number {job.number})"]
    lines += [f"  {name} = {value!r}" for name, value in job.params.items()]
    if isinstance(job.config, OwnConfig):
        fields = job.config.to_dict().items()
        lines += [f"  {name} = {value!r}" for name, value in fields if name not in job.params]
    else:
        lines.append(f"  schedule: {job.config.schedule}")
    lines.append(f"  {draw_learning_rate(job.config)}")
    lines += [f"  ended after epoch {epoch}, and went on later" for epoch in job.thawed]
    if result is None:
        lines.append("  has not ended")
        return "\n".join(lines)
    lines.append(f"  outcome: {result.outcome.value}")
    left_out = {"outcome", "would_stop", "val_accs", "values"} | (set() if result.epochs_saved else {"epochs_saved"})
    for name, value in _result(result, objective).items():
        if name not in left_out and value is not None:
            lines.append(f"  {name}: {value:.4f}" if isinstance(value, float) else f"  {name}: {value}")
    others = {rule: epoch for rule, epoch in result.would_stop.items() if rule != result.stopped_by}
    lines += [f"  {rule} said stop at epoch {epoch}, and was not let" for rule, epoch in others.items()]
    return "\n".join(lines)


def failed_tries(home: Home, ledger: Ledger, entry: Entry) -> list[dict[str, Any]]:
    """Return the errors of a trial, oldest first, with those of the earlier tries of the same run.

    Returns:
        One dictionary per error: ``number`` of the try, ``time``, ``error`` (the traceback) and ``summary`` (its last
        line).
    """
    return [
        {"number": number, **asdict(failure), "summary": failure.summary}
        for number in _tries(ledger, entry)
        for failure in failures(home.error_log(ledger.spec.name, number))
    ]


def printed_output(home: Home, ledger: Ledger, entry: Entry) -> str:
    """Return the printed and logged output of a trial, after that of the earlier tries of the same run."""
    return "".join(read_log(home.trial_log(ledger.spec.name, number)) for number in _tries(ledger, entry))


def _tries(ledger: Ledger, entry: Entry) -> list[int]:
    """Return the numbers of all tries of a run: a crashed trial is tried again under a new number."""
    return [other.job.number for other in ledger.entries() if other.job.name == entry.job.name]


def draw_learning_rate(config: Config, width: int = 60) -> str:
    """Return the learning rate over a run's epochs as one line of bars, with its peak and the number of epochs.

    Without a schedule, it is the number of epochs alone.
    """
    if config.lr_schedule is None:
        return f"{config.horizon} epochs"
    bars = draw_schedule(config.lr_schedule, config.horizon, width)
    return f"{bars}  peak {config.lr_alpha:g}, {config.horizon} epochs"


def draw_schedule(schedule: Schedule, horizon: float, width: int = 60) -> str:
    """Return a schedule from epoch 0 to ``horizon`` as ``width`` bars; a full block is its peak, a blank is 0.

    >>> from resnet_core.schedule import parse
    >>> draw_schedule(parse("[0, 0] lin[1, 5] lin[0, 10]"), 10, width=10)
    '▁▂▄▆▇▇▆▄▂▁'
    """
    if not schedule.peak:
        return _BARS[0] * width
    values = [schedule.value(horizon * (i + 0.5) / width) for i in range(width)]
    # A value above 0 is never drawn like 0.
    return "".join(_BARS[max(round(v / schedule.peak * (len(_BARS) - 1)), 1 if v else 0)] for v in values)
