"""The page on a trainer of one's own, typed as it stands: its files, its commands, and what they print."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps import load_study

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "own-trainer.md"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_FILES = {"python": ["mlp.py", "test_mlp.py"], "toml": ["digits-mlp.toml"]}


def blocks(language: str) -> list[str]:
    return [text for name, text in _BLOCK.findall(PAGE.read_text()) if name == language]


def typed() -> list[tuple[str, str]]:
    """Return what the reader types into a shell, each with what the page shows below it."""
    parts = [part for block in blocks("console") for part in re.split(r"^\$ ", block, flags=re.MULTILINE) if part]
    return [(line, shown) for line, _, shown in (part.partition("\n") for part in parts)]


@pytest.fixture
def folder(tmp_path):
    """A folder with the files of the page."""
    for language, names in _FILES.items():
        for name, text in zip(names, blocks(language), strict=True):
            (tmp_path / name).write_text(text)
    return tmp_path


def shell(line: str, folder: Path) -> str:
    """Type a line into a real shell."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    places = {"PYTHONPATH": str(ROOT), "PATH": path}
    done = subprocess.run(
        ["bash", "-c", line], cwd=folder, env=os.environ | places, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout


def sampled(table: str) -> dict[str, tuple[str, ...]]:
    """Return what each trial of a table was given, by trial: this depends on the study's seed alone."""
    header, *rows = (re.split(r"\s{2,}", line.strip()) for line in table.split("\n\n")[0].strip().splitlines())
    places = [header.index(name) for name in ("lr", "hidden", "dropout")]
    return {row[0]: tuple(row[place] for place in places) for row in rows}


def without_times(plan: str, folder: str) -> list[str]:
    """Return the lines of a plan without the folder of the code and the time that an epoch takes."""
    return re.sub(r"; one epoch takes.*", "", plan.replace(folder, "")).strip().splitlines()


def assert_every_epoch_once(study, trials: int) -> None:
    assert [trial.state.is_finished() for trial in study.optuna().trials] == [True] * trials
    assert len(study.trials) == trials
    for run in study.trials.values():
        steps = [point.step for point in study.history(run, "val_acc")]
        assert sorted(steps) == list(range(1, int(run.data.metrics["epochs_run"]) + 1)), run.info.run_name


def test_the_files_that_the_reader_saves_are_named_before_they_are_shown():
    page = PAGE.read_text()
    for language, names in _FILES.items():
        for name, text in zip(names, blocks(language), strict=True):
            paragraph = page.split(text)[0].split("\n\n")[-2]
            assert f"Save this as `{name}`" in paragraph


def test_the_trainer_passes_its_test(folder):
    (command,) = (line for line, _ in typed() if "pytest" in line)
    assert "1 passed" in shell(command, folder)


def test_plan_and_its_errors_print_what_the_page_shows(sweeps, folder):
    (plan, shown), (mistake, said) = [(line, shown) for line, shown in typed() if line.startswith("sweeps plan")]
    found = sweeps(*shlex.split(plan)[1:], cwd=folder).stdout
    assert without_times(found, f"{folder}/") == without_times(shown, "/home/me/my-study/")
    assert sweeps(*shlex.split(mistake)[1:], cwd=folder, code=2).stderr == said


@pytest.mark.slow
def test_every_command_of_the_page_does_what_it_says(sweeps, store, cluster, folder):
    lines = typed()
    assert [line for line, _ in lines[:2]] == [
        "make quickstart && . .venv/bin/activate",
        "mkdir my-study && cd my-study",
    ]
    printed, launch, ray = {}, None, {"RAY_ADDRESS": cluster.address}
    for line, shown in lines[2:]:
        if line.endswith(" &"):
            launch = sweeps.start(*shlex.split(line.removesuffix(" &"))[1:], cwd=folder, env=ray)
        elif "$!" in line:
            shell(line.replace("$!", str(launch.pid)), folder)
            assert launch.wait().code == -9
        elif line.startswith("sweeps "):
            code = 2 if "hiden" in line else 0
            printed[line] = sweeps(*shlex.split(line)[1:], cwd=folder, env=ray, code=code).stdout
        else:
            shell(line, folder)
        if line == "sweeps table digits-mlp":
            assert sampled(printed[line]) == sampled(shown)
    assert all((folder / name).stat().st_size for name in ("curves.png", "digits-mlp.html"))
    assert_every_epoch_once(store(folder / "runs", "digits-mlp"), trials=10)


def test_the_study_on_the_first_screen_of_the_readme_is_one(folder):
    text = (ROOT / "README.md").read_text()
    study = next(block for language, block in _BLOCK.findall(text) if language == "toml")
    (folder / "study.toml").write_text(study)
    assert load_study(folder / "study.toml").train["trainer"] == "mlp:train"
