"""Registries find the modules of a folder, and only those."""

from pathlib import Path

import pytest

from resnet_core import data, models, optim
from resnet_core.data import DATASETS
from resnet_core.models import NETWORKS
from resnet_core.optim import OPTIMIZERS
from resnet_core.registry import Registry


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that no other test imports."""
    folder = tmp_path / f"entries_of_{tmp_path.name}"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "two.py").write_text("ENTRY = 2")
    (folder / "one.py").write_text("ENTRY = 1")
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def test_every_module_is_an_entry_in_alphabetical_order(folder):
    assert list(Registry(folder.name, "ENTRY").items()) == [("one", 1), ("two", 2)]


def test_a_package_in_the_folder_is_no_entry(folder):
    (folder / "shared").mkdir()
    (folder / "shared" / "__init__.py").touch()
    assert list(Registry(folder.name, "ENTRY")) == ["one", "two"]


def test_a_module_without_an_entry_is_an_error_that_names_it(folder):
    (folder / "three.py").touch()
    with pytest.raises(ImportError, match=f"{folder.name}.three has no ENTRY"):
        list(Registry(folder.name, "ENTRY"))


def test_nothing_is_imported_before_the_first_look(folder):
    (folder / "three.py").write_text("raise RuntimeError")
    Registry(folder.name, "ENTRY")


@pytest.mark.parametrize(
    ("registry", "package"),
    [(DATASETS, data), (NETWORKS, models), (OPTIMIZERS, optim)],
    ids=["data", "models", "optim"],
)
def test_what_ships_is_every_file_of_its_folder(registry, package):
    files = {path.stem for path in Path(package.__file__).parent.glob("*.py")} - {"__init__"}
    assert set(registry) == files
