"""The code of a study: what a home has noted of it, what has changed, and that a name in a store is only a text."""

import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from resnet_core import code
from resnet_core.checkpoint import CheckpointError
from resnet_core.run import Run
from search_spaces.spec import StudySpec
from search_spaces.study import from_json, identity, load_study, to_json
from sweeps.errors import InputError, SweepError
from sweeps.execution.worker import code_to_dict, find_code
from sweeps.home import Home
from sweeps.study import code as study_code

TRAINER = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Config:
    epochs: int = 2
    seed: int = 0

def train(config: Config, run):
    for epoch in run.epochs():
        yield {"val_acc": 0.5}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a study file and its trainer."""
    (tmp_path / "made.py").write_text(TRAINER)
    (tmp_path / "study.toml").write_text('name = "x"\n[train]\ntrainer = "made:train"\n')
    return tmp_path


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def launched(folder: Path, home: Home) -> StudySpec:
    """The study as the ledger has it after a launch of this home."""
    spec = load_study(folder / "study.toml")
    study_code.keep(home, spec, spec.sources)
    return from_json(to_json(spec))


def test_what_code_imports_is_read_from_its_files(folder, home):
    (folder / "made.py").write_text(f"import os.path, helper\nfrom sklearn import svm\nfrom . import near\n{TRAINER}")
    (folder / "helper.py").write_text("import json\ndef later():\n    import torch\n")
    (folder / "broken.py").write_text("def (")
    source = code.Source("made:train", folder, ("made.py", "helper.py", "broken.py", "gone.py"), "")
    assert code.imported_by(source) == {
        *(
            "os",
            "os.path",
            "helper",
            "sklearn",
            "sklearn.svm",
            "",
            ".near",
            "json",
            "dataclasses",
            "dataclasses.dataclass",
        )
    }


def test_a_link_to_code_is_the_code_that_it_leads_to(folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder / "made.py").rename(elsewhere / "original.py")
    (folder / "made.py").symlink_to(elsewhere / "original.py")
    (tmp_path / "link").symlink_to(elsewhere, target_is_directory=True)
    assert code._resolved(str(folder / "made.py")) == elsewhere / "original.py"
    assert code._resolved(str(tmp_path / "link" / "original.py")) == elsewhere / "original.py"


def test_a_home_finds_the_code_that_it_launched(folder, home):
    found = study_code.find(home, launched(folder, home))
    assert found["made:train"].files == ("made.py",)


def test_a_home_that_never_launched_the_study_says_what_to_do(folder, home, tmp_path):
    stored = launched(folder, home)
    with pytest.raises(InputError, match="`sweeps launch FILE --name x` does, and continues it"):
        study_code.find(Home(tmp_path / "other"), stored)


def test_changed_code_is_told_at_resume(folder, home):
    stored = launched(folder, home)
    (folder / "made.py").write_text(TRAINER + "# changed\n")
    with pytest.raises(InputError, match=r"has changed since it began:\n  made:train: sha256:\w+ -> .*made\.py"):
        study_code.find(home, stored)


def test_changed_code_may_be_accepted(folder, home):
    stored = launched(folder, home)
    (folder / "made.py").write_text(TRAINER + "# changed\n")
    found = study_code.find(home, stored, accept_changes=True)
    assert stored.code is not None
    assert found["made:train"].version != stored.code.versions["made:train"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ("epochs: int = 2", "seed is gone"),
        ("rate: float\n    epochs: int = 2\n    seed: int = 0", "rate is new, and has no default"),
        ("seed", "NameError"),
    ],
)
def test_changed_code_must_take_the_trials_of_the_study(fields, said, folder, home):
    stored = launched(folder, home)
    (folder / "made.py").write_text(TRAINER.replace("epochs: int = 2\n    seed: int = 0", fields))
    with pytest.raises(InputError, match=said):
        study_code.find(home, stored, accept_changes=True)


def test_a_new_field_with_a_default_is_no_obstacle(folder, home):
    stored = launched(folder, home)
    (folder / "made.py").write_text(TRAINER.replace("seed", "rate: float = 0.1\n    seed"))
    assert study_code.find(home, stored, accept_changes=True)


def test_a_changed_module_beside_the_trainer_is_a_change(folder, home):
    (folder / "helper_made.py").write_text("X = 1\n")
    (folder / "made.py").write_text("import helper_made\n" + TRAINER)
    stored = launched(folder, home)
    (folder / "helper_made.py").write_text("X = 2\n")
    with pytest.raises(InputError, match="its code has changed"):
        study_code.find(home, stored)


def test_code_that_is_gone_is_found_in_the_copy(folder, home):
    stored = launched(folder, home)
    (folder / "made.py").unlink()
    study_code.find(home, stored)
    imported = code.load("made:train")
    assert Path(imported.__code__.co_filename).is_relative_to(home.root)
    code.search()


def test_code_that_comes_back_is_looked_at_again(folder, home):
    stored = launched(folder, home)
    (folder / "made.py").unlink()
    study_code.keep(home, stored, study_code.find(home, stored))
    (folder / "made.py").write_text(TRAINER + "# changed\n")
    with pytest.raises(InputError, match="its code has changed since it began"):
        study_code.find(home, stored)


def test_a_confirmation_has_the_copy_of_the_study_that_it_confirms(folder, home):
    stored = launched(folder, home)
    values = {**stored.model_dump(), "name": "x-confirm", "phase": "confirm", "confirms": "x trial 0"}
    values |= {"run": [{"name": "0"}], "stopping": {"diverged": False}}
    confirmation = StudySpec.model_validate(values, context={"trainer": stored.trainer})
    (folder / "made.py").unlink()
    found = study_code.find(home, confirmation)
    study_code.keep(home, confirmation, found)
    assert (study_code.copy_of(home, "x-confirm", found["made:train"]) / "made.py").read_text() == TRAINER


def test_a_file_that_changes_before_it_is_copied_is_told(folder, home):
    spec = load_study(folder / "study.toml")
    (folder / "made.py").write_text(TRAINER + "# edited\n")
    with pytest.raises(InputError, match=r"made.py, or what it imports, has changed since the study file was read"):
        study_code.keep(home, spec, spec.sources)
    assert not list((home.study("x") / "code").iterdir())


# Modules that are imported inside a function

LATE = """
def train():
    import late_one
    return late_one.VALUE
"""


@pytest.fixture
def late(tmp_path: Path) -> Iterator[Path]:
    """A folder with a module that imports another inside a function."""
    (tmp_path / "late_trainer.py").write_text(LATE)
    (tmp_path / "late_one.py").write_text("VALUE = 1")
    yield tmp_path
    code.search()
    for name in ("late_trainer", "late_one"):
        sys.modules.pop(name, None)


def test_a_function_imports_modules_beside_its_own(late):
    code.search(late)
    assert code.load("late_trainer:train")() == 1


def test_such_modules_hide_no_others_and_are_looked_for_in_this_study_alone(late):
    before = list(sys.path)
    code.search(late)
    assert sys.path == [*before, str(late)]
    code.search()
    assert sys.path == before


def test_folders_that_a_module_adds_to_the_path_stay_there(late):
    (late / "late_trainer.py").write_text("import sys\nsys.path.insert(0, 'of the module')")
    code.search(late)
    with pytest.raises(code.CodeError):
        code.load("late_trainer:train")
    assert "of the module" in sys.path
    sys.path.remove("of the module")


def test_beside_a_copy_such_modules_are_those_of_the_original_folder(late, home):
    code.search(late)
    code.load("late_trainer:train")
    source = code.source("late_trainer:train")
    (home.root / "copy").mkdir(parents=True)
    (home.root / "copy" / "late_trainer.py").write_text(LATE)
    (late / "late_trainer.py").write_text("edited = True")
    find_code([code_to_dict(source, home.root / "copy")])
    assert code.load("late_trainer:train")() == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"made:train": 1}', '{"made:train": {"reference": "made:train"}}'])
def test_a_broken_note_is_told_with_its_path(text, folder, home):
    stored = launched(folder, home)
    note = home.study("x") / "code.json"
    note.write_text(text)
    with pytest.raises(SweepError) as error:
        study_code.find(home, stored)
    assert str(note) in str(error.value)


@pytest.mark.parametrize("name", ["os:system", "antigravity:geohash", "made:train"])
def test_a_name_in_a_ledger_is_not_imported(name, folder, home, monkeypatch):
    stored = json.loads(to_json(load_study(folder / "study.toml")))
    stored["train"]["trainer"] = name
    stored["code"]["versions"] = {name: "python"}
    sys.modules.pop("made", None)
    monkeypatch.chdir(folder)
    code.search(folder)
    with pytest.raises(InputError, match="has not launched it from its study file"):
        study_code.find(home, from_json(json.dumps(stored)))
    assert "antigravity" not in sys.modules
    assert "made" not in sys.modules


class _Payload:
    """An object whose pickle makes a file when it is read."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("write", [torch.save, lambda state, path: path.write_bytes(pickle.dumps(state))])
def test_a_checkpoint_with_a_pickle_inside_is_refused(write, tmp_path):
    checkpoint, made = tmp_path / "trial.pt", tmp_path / "made"
    write({"config": {}, "kept": 1, "records": [], "state": _Payload(made)}, checkpoint)
    with pytest.raises(CheckpointError):
        Run(checkpoint=checkpoint)
    assert not made.exists()


# Installed plug-ins


def install(folder: Path, version: str) -> None:
    """Install a package with a trainer named ``plugged``, as pip lays it out."""
    info = folder / "plugged_trainer.dist-info"
    info.mkdir(exist_ok=True)
    (folder / "plugged_trainer.py").write_text(TRAINER)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: plugged-trainer\nVersion: {version}\n")
    (info / "entry_points.txt").write_text("[sweeps.trainers]\nplugged = plugged_trainer:train\n")
    (info / "top_level.txt").write_text("plugged_trainer\n")
    (info / "RECORD").write_text("plugged_trainer.py,,\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages, with version 1.0 of a plug-in."""
    site = tmp_path / "site"
    site.mkdir()
    sys.modules.pop("plugged_trainer", None)
    install(site, "1.0")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(code, "_installed_folders", lambda: frozenset({site.resolve()}))
    (tmp_path / "study.toml").write_text('name = "x"\n[train]\ntrainer = "plugged"\n')
    return site


def test_the_version_of_a_plug_in_is_part_of_the_identity(site, tmp_path):
    values = identity(load_study(tmp_path / "study.toml"))
    assert values["code.versions.plugged"] == "plugged-trainer 1.0"


def test_another_version_of_a_plug_in_is_told_at_resume(site, tmp_path, home):
    stored = launched(tmp_path, home)
    install(site, "2.0")
    with pytest.raises(InputError, match=r"plugged: plugged-trainer 1\.0 -> plugged-trainer 2\.0"):
        study_code.find(home, stored)


def files(folder: Path, reference: str) -> tuple[str, ...]:
    """The files of a reference's code, loaded from a folder."""
    code.search(folder)
    code.load(reference)
    return code.source(reference).files


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """A function that writes modules; those that a test has loaded are forgotten after it."""
    known = set(sys.modules)
    monkeypatch.setattr(code, "_read", {})
    monkeypatch.setattr(code, "_came_with", {})

    def write(**texts: str) -> Path:
        for name, text in texts.items():
            path = tmp_path / f"{name.replace('__', '/', 1)}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return tmp_path

    yield write
    code.search()
    for name in sys.modules.keys() - known:
        if str(tmp_path) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


def test_the_code_of_another_study_in_the_process_does_not_count(modules):
    folder = modules(shared="X = 1", first="import shared; A = 1", second="from shared import X")
    alone = files(folder, "second:X")
    files(folder, "first:A")
    assert files(folder, "second:X") == alone == ("second.py", "shared.py")


def test_a_script_that_launches_a_study_is_no_part_of_its_code(modules, monkeypatch):
    folder = modules(script="", mine="A = 1")
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(folder / "script.py"), raising=False)
    assert files(folder, "mine:A") == ("mine.py",)


@pytest.mark.parametrize(
    "statement",
    [
        "import helper",
        "import helper as h",
        "from helper import X",
        "from helper import *",
        "try:\n    import helper\nexcept ImportError:\n    pass",
        "class C:\n    import helper",
        "import importlib\nimportlib.import_module('helper')",
    ],
)
def test_what_a_module_imports_is_part_of_its_code(modules, statement):
    folder = modules(helper="X = 1", mine=f"{statement}\nA = 1")
    assert files(folder, "mine:A") == ("helper.py", "mine.py")


@pytest.mark.parametrize(
    "statement",
    ["def f():\n    import helper", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import helper"],
)
def test_what_a_module_imports_later_or_never_is_no_part_of_its_code(modules, statement):
    folder = modules(helper="X = 1", mine=f"{statement}\nA = 1")
    files(folder, "helper:X")
    assert files(folder, "mine:A") == ("mine.py",)


@pytest.mark.parametrize("statement", ["from .helper import X", "from . import helper", "from nets import helper"])
def test_a_package_is_followed(modules, statement):
    folder = modules(nets____init__="", nets__helper="X = 1", nets__mine=f"{statement}\nA = 1")
    files(folder, "nets.helper:X")
    assert files(folder, "nets.mine:A") == ("nets/__init__.py", "nets/helper.py", "nets/mine.py")


@pytest.mark.parametrize("name", ["antigravity", "time", "yaml", "ray"])
def test_a_module_with_the_name_of_one_of_python_or_of_a_package_is_refused(modules, name):
    code.search(modules(**{name: "A = 1"}))
    with pytest.raises(code.CodeError, match=rf"{name}\.py has the name of another module, .*: give it another name"):
        code.load(f"{name}:A")


def test_a_folder_of_data_hides_no_package(modules):
    folder = modules()
    (folder / "json").mkdir()
    code.search(folder)
    assert code.load("json:loads") is json.loads


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("mine.py:A", "; write mine, without .py"),
        ("__main__:A", "a script or a notebook is no module that trials can import"),
        ("mine:A.missing", r"A of mine \(.*mine\.py\) has no missing; it has: none"),
        ("mine:C.missing", r"C of mine \(.*mine\.py\) has no missing; it has: known"),
        ("mine:c.fails", r"mine\.py, line 7: ValueError: no value"),
        ("many:missing", r"has no missing; it has: a0, a1, .*, a29, and 10 more"),
        ("ends:A", r"ends the program when it is imported: .*ends\.py, line 1: SystemExit: 3"),
    ],
)
def test_a_reference_that_leads_nowhere_says_why(modules, reference, said):
    lines = ["A = 1", "class C:", "    known = 1", "", "    @property", "    def fails(self):"]
    mine = "\n".join([*lines, "        raise ValueError('no value')", "c = C()"])
    code.search(modules(mine=mine, many="".join(f"a{i} = 1\n" for i in range(40)), ends="raise SystemExit(3)"))
    with pytest.raises(code.CodeError, match=said):
        code.load(reference)
