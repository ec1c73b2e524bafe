"""Which code ran."""

import re
from importlib import metadata
from pathlib import Path

import pytest

import sweeps.version
from sweeps.version import code_version

VERSION = metadata.version("resnet-sweeps")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the package seems to be in, with a git of its own on the path."""
    monkeypatch.setattr(sweeps.version, "__file__", str(tmp_path / "sweeps" / "version.py"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return tmp_path


def git(root: Path, script: str, checkout: bool = True) -> None:
    if checkout:
        (root / ".git").mkdir()
    program = root / "bin" / "git"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def version() -> str:
    return code_version.__wrapped__()


def test_it_is_the_packages_version_with_the_commit_behind_a_plus():
    assert re.fullmatch(re.escape(VERSION) + r"(\+g[0-9a-f]{7,40}(\.dirty)?)?", code_version())


def test_without_a_checkout_of_its_own_it_is_the_version_alone(root):
    git(root, "echo 1a2b3c4", checkout=False)
    assert version() == VERSION


def test_in_a_checkout_the_commit_is_named(root):
    git(root, "echo 1a2b3c4.dirty")
    assert version() == f"{VERSION}+g1a2b3c4.dirty"


def test_the_commit_is_that_of_the_packages_own_checkout(root):
    git(root, 'test "$1 $2" = "-C ' + str(root) + '" && echo 1a2b3c4')
    assert version() == f"{VERSION}+g1a2b3c4"


def test_variables_that_git_sets_for_its_hooks_name_no_other_repository(root, monkeypatch):
    monkeypatch.setenv("GIT_DIR", "/elsewhere/.git")
    monkeypatch.setenv("GIT_INDEX_FILE", "/elsewhere/.git/index")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/mine")
    git(root, 'echo "1a2b3c4$GIT_DIR$GIT_INDEX_FILE$GIT_CONFIG_GLOBAL"')
    assert version() == f"{VERSION}+g1a2b3c4/mine"


def test_a_git_that_fails_is_no_error(root):
    git(root, "echo 1a2b3c4; exit 128")
    assert version() == VERSION


def test_no_git_is_no_error(root):
    (root / ".git").mkdir()
    assert version() == VERSION
