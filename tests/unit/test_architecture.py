"""The layout of the packages. Who may import whom is checked by import-linter, from pyproject.toml."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("resnet_core", "search_spaces", "sweeps", "analysis")
INITS = [path.relative_to(ROOT) for name in PACKAGES for path in sorted((ROOT / name).rglob("__init__.py"))]


def test_sweeps_has_nine_rooms_at_most_and_six_files_beside_them():
    rooms = [path.parent.name for path in (ROOT / "sweeps").glob("*/__init__.py")]
    files = [path.name for path in (ROOT / "sweeps").glob("*.py") if path.name != "__init__.py"]
    assert len(rooms) <= 9, rooms
    assert len(files) <= 6, files


@pytest.mark.parametrize("path", INITS, ids=str)
def test_a_package_says_in_its_first_line_what_it_is_about(path):
    doc = ast.get_docstring(ast.parse((ROOT / path).read_text(encoding="utf-8")))
    assert doc
    assert doc.splitlines()[0].endswith((".", ":")), "expected a sentence"
    assert len(doc.split()) >= 3, "expected more than a name"


@pytest.mark.parametrize("package", PACKAGES)
def test_a_folder_with_modules_is_a_package(package):
    folders = {path.parent for path in (ROOT / package).rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


@pytest.mark.parametrize("library", ["Ray", "MLflow", "Triton"])
def test_the_page_on_design_names_the_modules_that_may_import_a_library(library):
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    allowed = (line.split(" -> ") for contract in contracts for line in contract.get("ignore_imports", ()))
    modules = {module for module, imported in allowed if imported == library.lower()}
    page = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| {library} \| (.+) \|$", page, re.MULTILINE)
    assert set(re.findall(r"`(.+?)\.py`", row)) == {module.replace(".", "/") for module in modules}


def test_the_page_on_design_names_the_modules_of_the_core_that_know_no_torch():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (free,) = (contract for contract in contracts if "free of torch" in contract["name"])
    page = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    (named,) = re.findall(r"; its (.+) the standard library alone", page)
    assert {f"resnet_core.{name}" for name in re.findall("`(.+?)`", named)} == set(free["source_modules"])
