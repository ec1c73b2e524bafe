"""Comparisons that hold on a busy machine: everything compared takes its turn in every round."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


def interleaved(rounds: int, contenders: Mapping[str, Callable[[], T]]) -> dict[str, list[T]]:
    """Call every contender once to warm up, then once a round, in turn; return what each returned, by round."""
    for contender in contenders.values():
        contender()
    results: dict[str, list[T]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            results[name].append(contender())
    return results


def seconds_a_call(function: Callable[[], object], at_least: float) -> float:
    """Return the mean wall time in seconds of a call, from calls that take ``at_least`` seconds together."""
    calls, started = 0, time.perf_counter()
    while (taken := time.perf_counter() - started) < at_least or not calls:
        function()
        calls += 1
    return taken / calls


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Return ``median (lowest to highest)``."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def print_values(name: str, values: Sequence[float], unit: str) -> None:
    """Print one line: what was measured, its median and spread over the rounds."""
    print(f"  {name:<34} {spread(values)} {unit}", flush=True)


def print_ratio(name: str, slow: Sequence[float], fast: Sequence[float], goal: float) -> None:
    """Print how many times as large ``slow`` is as ``fast``, round by round, beside the goal."""
    ratios = [a / b for a, b in zip(slow, fast, strict=True)]
    verdict = "met" if statistics.median(ratios) >= goal else "missed"
    by_round = " ".join(f"{ratio:.2f}" for ratio in ratios)
    print(f"  {name:<34} {spread(ratios, 2)} x, goal at least {goal} x: {verdict}; by round {by_round}", flush=True)
