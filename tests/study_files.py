"""Study files that tests write, load and break."""

from collections.abc import Callable
from pathlib import Path

import pytest

from search_spaces.errors import StudyError
from search_spaces.spec import StudySpec
from search_spaces.study import load_study

SPACE = """
name = "sampled"
[train]
schedule = "[0.8*lr, 0] lin[lr, +warmup] cos[1e-5, end]"
[space]
lr = { low = 1e-3, high = 2e-3, log = true }
warmup = { low = 1, high = 8, int = true }
end = { low = 10, high = 12 }
[search]
trials = 3
"""
RUNS = """
name = "listed"
[train]
schedule = "[1e-3, 0] cos[1e-5, 4]"
[[run]]
name = "a"
shift = 0.1
[[run]]
name = "b"
seed = 7
"""

Load = Callable[..., StudySpec]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Load a text as ``s.toml``, which is then the file's name in errors."""
    monkeypatch.chdir(tmp_path)

    def load_text(text: str, *overrides: str) -> StudySpec:
        Path("s.toml").write_text(text, encoding="utf-8")
        return load_study("s.toml", overrides)

    return load_text


def error_of(load: Load, text: str, *overrides: str) -> str:
    with pytest.raises(StudyError) as caught:
        load(text, *overrides)
    return str(caught.value)


def with_toml(text: str, table: str, lines: str) -> str:
    """Return a study with lines put at the start of one of its tables."""
    assert f"[{table}]\n" in text
    return text.replace(f"[{table}]\n", f"[{table}]\n{lines}\n", 1)
