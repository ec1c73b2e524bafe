"""Kept networks, read and ready to predict: of a file, or of a study. Which code they may import is decided here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_core import code
from resnet_core.code import CodeError, is_reference
from resnet_core.network_file import NetworkFileError, read_about
from search_spaces.trainers import SHIPPED
from sweeps.errors import InputError
from sweeps.home import Home
from sweeps.inspection.kept_networks import find_kept, kept
from sweeps.ledger.ledger import Ledger
from sweeps.study.code import copy_of, find

if TYPE_CHECKING:
    from resnet_core.kept import KeptNetwork


def open_file(file: Path, device: str, folder: Path | None = None, *, with_data: bool = False) -> KeptNetwork:
    """Return the network in a file.

    Args:
        file: the file.
        device: a torch device.
        folder: the folder of the code that the file names, which may then be imported; None imports none.
        with_data: whether the data set is needed, too, which may be code.

    Raises:
        InputError: the file has no network that can be used, or needs ``folder``.
    """
    network = _loaded(file, device, folder)
    if with_data and folder is None and is_reference(network.config.data):
        raise InputError(
            f"{file}: its images are of {network.config.data}, code of one's own; if you trust it, name the folder of "
            "its module: --code FOLDER"
        )
    if folder is not None:
        code.search(folder)
    return network


def open_kept(home: Home, name: str, trial: str, device: str) -> KeptNetwork:
    """Return the network that a study has kept of a trial; of its best one without a name.

    Code that it needs is imported as a launch of this home has noted it, and no other code.

    Raises:
        InputError: there is no such network, it cannot be used, or this home has not launched the study from its file.
    """
    ledger = Ledger.read(home.ledger_uri, name)
    file = find_kept(home, ledger, trial).path if trial else _best(home, ledger)
    known = ledger.spec.code.versions if ledger.spec.code is not None else {}
    try:
        config = read_about(file).config
    except NetworkFileError as error:
        raise InputError(str(error)) from None
    for field in ("model", "data"):
        if is_reference(config.get(field)) and config[field] not in known:
            raise InputError(f"{file}: it names the code {config[field]}, which study {name!r} does not name")
    folders = _code_folders(home, ledger)
    network = _loaded(file, device, folders[0] if folders else None)
    code.search(*folders)
    return network


def _best(home: Home, ledger: Ledger) -> Path:
    there = kept(home, ledger)
    if not there:
        name = ledger.spec.name
        said = "of a trial that has ended" if ledger.spec.keep.any else "at all: its [keep] says best = 0"
        own = "" if ledger.spec.trainer is SHIPPED else ", and its trainer may have given none to run.save_model"
        raise InputError(f"study {name!r} has kept no network {said}{own}; `sweeps status {name}` tells how far it is")
    return there[0].path


def _loaded(file: Path, device: str, folder: Path | None) -> KeptNetwork:
    from resnet_core.kept import load_model

    try:
        return load_model(file, device, folder=folder)
    except (NetworkFileError, CodeError) as error:
        raise InputError(str(error).replace("load_model(file, folder=...)", "--code FOLDER")) from None


def _code_folders(home: Home, ledger: Ledger) -> list[Path]:
    """Return the folders of the code that a study names; of each the copy from its beginning, if there is one."""
    spec, folders = ledger.spec, []
    if spec.code is None:
        return []
    for name, source in find(home, spec, accept_changes=True).items():
        if source.folder is not None:
            copy = copy_of(home, spec.name, replace(source, version=spec.code.versions[name]))
            folders.append(copy if copy.is_dir() else source.folder)
    return list(dict.fromkeys(folders)) or [home.study(spec.name)]
