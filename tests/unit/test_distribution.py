"""What a wheel and a source distribution hold, as pyproject.toml and MANIFEST.in say; `make dist` builds them."""

import tomllib
from pathlib import Path

from setuptools import find_packages

ROOT = Path(__file__).parents[2]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
PACKAGES = find_packages(str(ROOT), include=SETUPTOOLS["packages"]["find"]["include"])
ROOMS = ("resnet_core", "search_spaces", "sweeps", "analysis")
# What Python and tools leave behind.
LEFT = ("__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache")


def files(folder: Path) -> set[Path]:
    found = (path for path in folder.rglob("*") if path.is_file() and not set(path.parts) & set(LEFT))
    return {path.relative_to(ROOT) for path in found}


def test_every_package_is_installed():
    """An installation from the checkout finds the others too, so that no other test notices."""
    found = {path.parent for room in ROOMS for path in files(ROOT / room) if path.name == "__init__.py"}
    assert set(PACKAGES) == {".".join(folder.parts) for folder in found}


def test_every_file_of_a_package_is_installed():
    packages = {Path(*name.split(".")) for name in PACKAGES}
    patterns = ["*.py", *SETUPTOOLS["package-data"]["*"]]
    left_out = [
        str(path)
        for room in ROOMS
        for path in files(ROOT / room)
        if path.parent not in packages or not any(path.match(pattern) for pattern in patterns)
    ]
    assert left_out == []


def test_every_room_says_that_it_is_typed():
    assert [room for room in ROOMS if not (ROOT / room / "py.typed").exists()] == []


def test_every_document_at_the_top_is_in_the_source_distribution():
    said = (ROOT / "MANIFEST.in").read_text().split()
    beside = {"README.md", "LICENSE", "pyproject.toml", "MANIFEST.in"}  # setuptools adds these by itself
    top = {path.name for pattern in ("*.md", "*.yml", "Makefile") for path in ROOT.glob(pattern)}
    assert top - beside - set(said) == set()


def test_the_folders_that_a_source_distribution_is_tested_with_are_in_it():
    lines = (ROOT / "MANIFEST.in").read_text().splitlines()
    assert {"graft docs", "graft tests"} <= set(lines)
