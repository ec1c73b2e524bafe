"""The layout of the packages. Who may import whom is checked by import-linter, from pyproject.toml."""

import ast
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
