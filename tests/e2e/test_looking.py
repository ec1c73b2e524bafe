"""Commands that look at studies, by a user who may only read them: they work, and nothing changes."""

import ctypes
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Launched, Sweeps

_OTHER = 65534  # nobody
_PR_CAPBSET_DROP = 24


def give_up_privileges() -> None:
    """Let the permissions of files hold for root, too, once another program begins."""
    if os.getuid() == 0:
        libc = ctypes.CDLL(None)
        for capability in range(64):
            libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)


def only_to_read(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
        if os.getuid() == 0:
            os.chown(path, _OTHER, _OTHER)


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in [folder, *folder.rglob("*")]}


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweeps]:
    """The command, run by a user who is not above permissions."""
    command = Sweeps(tmp_path_factory.mktemp("reader"), give_up_privileges)
    yield command
    command.clean_up()


@pytest.fixture(scope="module")
def kept(launched: Launched, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with a study that ended, which may only be read, as may the user's own folder beside it."""
    home = tmp_path_factory.mktemp("kept") / "home"
    shutil.copytree(launched.home, home)
    only_to_read(home)
    return home


LOOKING = [
    ("status",),
    ("status", "space", "--json"),
    ("ls",),
    ("show", "space", "0"),
    ("show", "space", "0", "--log"),
    ("best", "space"),
    ("table", "space"),
    ("table", "space", "--plot", "curves.png"),
    ("stopping", "space"),
    ("export", "space", "--out", "curves.jsonl.gz"),
    ("simulate", "quickstart", "--from", "space", "--repeats", "2"),
    ("report", "space", "--out", "report.html"),
]


@pytest.mark.parametrize("command", LOOKING, ids=" ".join)
def test_who_may_only_read_a_home_can_look_at_it(reader, kept, command):
    before = everything(kept)
    done = reader(*command, "--home", kept)
    assert done.stdout or Path(command[-1]).suffix
    assert everything(kept) == before


def test_a_home_that_may_only_be_read_is_no_place_to_write(reader, kept, studies):
    before = everything(kept)
    said = reader("stop", "space", "--home", kept, code=1).stderr
    assert said == "sweeps: study 'space' is not running; see `sweeps status space`\n"
    said = reader("launch", studies.space, "--home", kept, code=1).stderr
    assert said.splitlines()[-1] == (
        f"sweeps: {kept}/studies/space/lock cannot be used: Permission denied; "
        "see who may read and write it, or choose another folder with --home"
    )
    assert everything(kept) == before


@pytest.mark.parametrize("command", [("status",), ("stop", "space"), ("table", "space"), ("ui",)], ids=" ".join)
def test_a_home_that_may_not_be_read_is_told_in_a_line(reader, tmp_path, command):
    home = tmp_path / "home"
    home.mkdir()
    only_to_read(home)
    home.chmod(0)
    said = reader(*command, "--home", home, code=2).stderr
    assert said == f"sweeps: --home {home}: this user may not read the folder; expected one that may be read\n"


def test_nothing_is_said_where_matplotlib_cannot_keep_a_cache(sweeps, launched):
    done = sweeps.cold("table", "space", "--plot", "curves.png", "--home", launched.home, env={"HOME": "/dev/null"})
    assert done.stderr == "curves drawn into curves.png\n"
