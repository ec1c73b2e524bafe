"""The tutorial, typed from its page: every command in its order, in one folder, on the study file it shows."""

import re
import shlex
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"


def commands(page: str) -> list[str]:
    """Return what the page has its readers type into a shell."""
    blocks = re.findall(r"^```console\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    lines = [line.removeprefix("$ ").split("   #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.mark.slow
def test_every_command_of_the_tutorial_does_what_it_says(sweeps, cluster, tmp_path):
    page = PAGE.read_text()
    (study,) = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "digits.toml").write_text(study)
    typed = commands(page)
    assert typed[:2] == ["make quickstart", ". .venv/bin/activate"]
    said = {}
    for line in typed[2:]:
        program, *arguments = shlex.split(line)
        assert program == "sweeps", line
        said[line] = sweeps(*arguments, cwd=tmp_path, env={"RAY_ADDRESS": cluster.address}).stdout
    assert "6 trials asked for" in said["sweeps status digits"]
    assert "digits-confirm" in said["sweeps ls"]
    assert all((tmp_path / name).stat().st_size for name in ("curves.png", "bands.png", "report.html"))
