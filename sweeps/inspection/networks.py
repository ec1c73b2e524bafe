"""The networks that a study has kept, for commands that look at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_core import code
from resnet_core.code import CodeError, is_reference
from resnet_core.network_file import NetworkFileError, read_about
from sweeps.errors import InputError
from sweeps.home import Home
from sweeps.ledger.ledger import Ledger
from sweeps.study.code import copy_of, find
from sweeps.study.networks import best_trials, kept_networks

if TYPE_CHECKING:
    from resnet_core.kept import KeptNetwork

# torch takes seconds to import, and a report needs none of it.


@dataclass(frozen=True)
class Confusion:
    """What the best kept network of a study took the validation images for.

    Attributes:
        trial: name of the trial.
        epoch: the epoch (1-based) after which it was validated.
        classes: names of the classes, by label.
        counts: for each class (row) and each class (column), how many images of the first were taken for the second.
    """

    trial: str
    epoch: int
    classes: Sequence[str]
    counts: Sequence[Sequence[int]]


def ranked_networks(home: Home, ledger: Ledger) -> dict[str, Path]:
    """Return the networks that a study has kept in this home, by name of the trial, the best first."""
    kept = kept_networks(home, ledger.spec.name)
    ended = {entry.job.number: entry for entry in ledger.entries() if entry.result is not None}
    results = {number: entry.result for number, entry in ended.items() if entry.result is not None}
    every = ledger.spec.keep.model_copy(update={"all": True})
    names = [ended[number].job.name for number in best_trials(results, ledger.spec.objective, every)]
    return {name: kept[name] for name in names if name in kept}


def network_file(home: Home, ledger: Ledger, trial: str = "") -> Path:
    """Return the file of the network that a study has kept of a trial; of its best one without a name.

    Raises:
        InputError: this home has no network of it; the message says of which trials it has some.
    """
    found = ranked_networks(home, ledger)
    name = ledger.find(trial).job.name if trial else next(iter(found), "")
    if name in found:
        return found[name]
    which = f"of trial {name}" if name else "yet"
    there = f"there are those of: {', '.join(found)}" if found else f"see `[keep]` in its study file, and {home.root}"
    raise InputError(f"study {ledger.spec.name!r} has kept no network {which}; {there}")


def best_confusion(home: Home, ledger: Ledger) -> Confusion | None:
    """Return what the best kept network took the validation images for, as its last epoch has measured it.

    None where no network is kept, its file cannot be read, it is of a trainer of one's own, or has more than 100
    classes. Nothing is computed, and no weight is read.
    """
    for trial, path in ranked_networks(home, ledger).items():
        try:
            about = read_about(path)
        except NetworkFileError:
            continue
        return None if about.confusion is None else Confusion(trial, about.epoch, about.classes, about.confusion)
    return None


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

    Code that it needs is imported as its launch has noted it in this home.

    Raises:
        InputError: this home has no such network, or has never launched the study from its file.
    """
    ledger = Ledger.read(home.ledger_uri, name)
    file = network_file(home, ledger, trial)
    folders = _code_folders(home, ledger)
    network = _loaded(file, device, folders[0] if folders else None)
    code.search(*folders)
    return network


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
