"""Collects the mistakes in a source, so that one error can name several of them."""

from __future__ import annotations

from collections.abc import Sequence

from search_spaces.errors import wrong_value
from sweeps.errors import InputError

_MOST = 10  # lines of an error


class Problems:
    """Mistakes in the order in which they were found; equal mistakes of several rows become one, with their number."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, str], str] = {}
        self._count: dict[tuple[str, str], int] = {}

    def add(self, place: str, column: str, value: object, expected: str, note: str = "") -> None:
        """Add a value that differs from what was expected; ``note`` is shown with the first such place."""
        self._add((column, expected), f"{place}: {''.join(wrong_value(column, value, expected))}{note}")

    def missing(self, place: str, column: str, expected: str) -> None:
        """Add the mistake that a row has no value in a column."""
        self._add((column, expected), f"{place}: {column}: missing; expected {expected}")

    def _add(self, kind: tuple[str, str], line: str) -> None:
        self._first.setdefault(kind, line)
        self._count[kind] = self._count.get(kind, 0) + 1

    def raise_if_any(self) -> None:
        """Raise an error that names the mistakes, if there are any.

        Raises:
            InputError: there are mistakes; the message has a line for each kind, at most ten lines.
        """
        lines = [
            line + (f" ({self._count[kind] - 1} more like it)" if self._count[kind] > 1 else "")
            for kind, line in self._first.items()
        ]
        if lines:
            raise InputError("\n".join(first_lines(lines)))


def first_lines(lines: Sequence[str]) -> list[str]:
    """Return the first ten lines, and a line with the number of the others."""
    more = len(lines) - _MOST
    return [*lines[:_MOST], *([f"and {more} more"] if more > 0 else [])]
