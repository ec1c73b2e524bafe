"""What the site's own build does not look at: the documents beside it, and the commands that all of them name."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from sweeps.cli import app

ROOT = Path(__file__).parents[2]
BESIDE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
DOCUMENTS = [*BESIDE, *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("name", BESIDE)
def test_links_lead_to_files(name):
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / name).read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert missing == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_and_their_options_are_there(name):
    commands = get_command(app).commands
    text = re.sub(r"\\\n", " ", (ROOT / name).read_text(encoding="utf-8"))
    for line in re.findall(r"(?:`|\$ |bin/)sweeps ([a-z][a-z-]*(?: [^`\n|#]*)?)", text):
        word, *rest = line.split()
        assert word in commands, line
        known = {
            option for parameter in commands[word].params for option in (*parameter.opts, *parameter.secondary_opts)
        }
        asked = {token.split("=")[0] for token in rest if re.fullmatch(r"--[a-z-]+(=.*)?", token)}
        assert asked <= known | {"--help"}, line
