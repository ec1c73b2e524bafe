"""What the site's own build does not look at: the documents beside it, and the commands that all of them name."""

import json
import math
import re
from collections import defaultdict
from pathlib import Path

import pytest
from typer.main import get_command

from analysis.statistics.estimates import median_epochs, restricted_mean, share_reached
from resnet_core.objective import best, first_crossing, sustained_crossing
from sweeps.cli import app

ROOT = Path(__file__).parents[2]
BESIDE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
DOCUMENTS = [*BESIDE, *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("name", BESIDE)
def test_links_lead_to_files(name):
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / name).read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert missing == []


@pytest.mark.parametrize("name", sorted(set(DOCUMENTS) - {"CHANGELOG.md"}))  # which names files of its time
def test_files_of_the_project_that_are_named_are_there(name):
    named = re.findall(
        r"`((?:resnet_core|search_spaces|sweeps|analysis|tests|docs)/[\w./]*)`", (ROOT / name).read_text()
    )
    assert [path for path in named if "NAME" not in path and not (ROOT / path).exists()] == []


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


def test_the_results_on_a_gpu_are_those_of_the_recorded_epochs():
    text = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    curves = defaultdict(list)
    for line in (ROOT / "docs/data/run33_h200.jsonl").read_text(encoding="utf-8").splitlines():
        epoch = json.loads(line)
        curves[epoch["seed"]].append(epoch["val_acc"])
    epochs = []
    for seed, accs in curves.items():
        assert len(accs) == 26
        crossing, held, (at, most) = first_crossing(accs, 0.92), sustained_crossing(accs, 0.92), best(accs)
        epochs.append(math.inf if crossing is None else crossing)
        row = f"| {seed} | {crossing or 'never'} | {held or ''} | {most:.4f} | {at} | {accs[-1]:.4f} |"
        assert row.replace("|  |", "| |") in text
    reached = sum(map(math.isfinite, epochs))
    assert f"{share_reached(reached, len(epochs))}" in text
    assert f"median {median_epochs(epochs)}" in text
    assert f"{restricted_mean(epochs, 26)}" in text
