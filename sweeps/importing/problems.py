"""What is wrong with a source, collected so that several things can be said at once."""

from __future__ import annotations

from collections.abc import Sequence

from search_spaces.errors import wrong_value
from sweeps.errors import InputError

_MOST = 10  # lines of an error


class Problems:
    """What is wrong, in the order it was found. The same in several rows is told once, with their number."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, str], str] = {}
        self._count: dict[tuple[str, str], int] = {}

    def add(self, place: str, column: str, value: object, expected: str, note: str = "") -> None:
        """Take in a value that is not what was expected; a note goes with this place alone."""
        self._add((column, expected), f"{place}: {''.join(wrong_value(column, value, expected))}{note}")

    def missing(self, place: str, column: str, expected: str) -> None:
        """Take in that a row has no value."""
        self._add((column, expected), f"{place}: {column}: missing; expected {expected}")

    def _add(self, kind: tuple[str, str], line: str) -> None:
        self._first.setdefault(kind, line)
        self._count[kind] = self._count.get(kind, 0) + 1

    def reject(self) -> None:
        """Say what is wrong, if anything is.

        Raises:
            InputError: something is; a line for each kind of mistake, ten at the most.
        """
        lines = [
            line + (f" ({self._count[kind] - 1} more like it)" if self._count[kind] > 1 else "")
            for kind, line in self._first.items()
        ]
        if lines:
            raise InputError("\n".join(cut(lines)))


def cut(lines: Sequence[str]) -> list[str]:
    """Return the first ten lines, and how many more there are."""
    more = len(lines) - _MOST
    return [*lines[:_MOST], *([f"and {more} more"] if more > 0 else [])]
