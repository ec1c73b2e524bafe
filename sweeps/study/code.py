"""The code that a study's file names: a copy in the home folder, and whether it has changed since.

A study in a store names its code as a text. That text alone is never imported: what a launch may import is what an
earlier launch of this home, from a study file, has noted here.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from resnet_core import code
from resnet_core.code import CodeError, Source
from search_spaces.spec import StudySpec
from search_spaces.trainers import SHIPPED, find_trainer
from sweeps.errors import InputError, SweepError
from sweeps.home import Home

_NOTE = "code.json"


def keep(home: Home, spec: StudySpec, sources: Mapping[str, Source]) -> None:
    """Copy the files of a study's code to its folder, and note where they came from.

    Trials import the file where it is, if it has not changed since, else the copy: so an edit changes no running study.

    Raises:
        InputError: a file has changed since the study was read.
    """
    if not sources:
        return
    folder = home.study(spec.name)
    for source in sources.values():
        if source.folder is None or copy_of(home, spec.name, source).is_dir():
            continue
        partial, place = folder / "code" / f"{_digits(source)}.{os.getpid()}.partial", _place(home, spec, source)
        for file in source.files:
            (partial / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(place / file, partial / file)
        if code.version_of(partial, source.files) != source.version:
            shutil.rmtree(partial, ignore_errors=True)
            raise InputError(
                f"study {spec.name!r}: {source.folder / source.files[0]}, or what it imports, has changed since the "
                "study file was read: launch it again"
            )
        try:
            partial.rename(copy_of(home, spec.name, source))
        except OSError:  # another process was faster
            shutil.rmtree(partial, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{_NOTE}.{os.getpid()}.partial"
    partial.write_text(json.dumps({name: source.to_dict() for name, source in sources.items()}, indent=1))
    partial.replace(folder / _NOTE)


def describe(spec: StudySpec) -> list[str]:
    """Return a line for each code that a study runs: its name in the study file, and where it is."""
    return [f"runs {name}, the code of {source}" for name, source in spec.sources.items()]


def places(home: Home, spec: StudySpec) -> dict[str, str]:
    """Return where the code of a stored study is, by its name in the study file; empty where it names none.

    Code that another home has launched is named with its version alone.
    """
    noted = _noted(home, spec) if spec.code is not None else {}
    return {
        name: str(replace(noted[name], folder=noted[name].folder and _place(home, spec, noted[name])))
        if name in noted
        else version
        for name, version in (spec.code.versions if spec.code is not None else {}).items()
    }


def copy_of(home: Home, name: str, source: Source) -> Path:
    """Return the folder of the copy of a study's code."""
    return home.study(name) / "code" / _digits(source)


def find(home: Home, spec: StudySpec, *, accept_changes: bool = False) -> dict[str, Source]:
    """Return the code of a stored study, as a launch of this home noted it, and let modules be found there.

    Args:
        home: the home folder.
        spec: the study, from the ledger.
        accept_changes: whether code may have changed since the study began.

    Raises:
        InputError: this home has never launched the study from its file; or the code has changed.
        SweepError: the note cannot be read.
    """
    if spec.code is None:
        return {}
    noted = _noted(home, spec)
    found, folders, changed = {}, [], []
    for name, version in spec.code.versions.items():
        if name not in noted:
            raise InputError(
                f"study {spec.name!r} runs code of its own ({name}), and this home has not launched it from its study "
                f"file: `sweeps launch FILE --name {spec.name}` does, and continues it"
            )
        now = _now(home, spec, noted[name])
        if now.version != version:
            changed.append(f"  {name}: {version} -> {now}")
        found[name] = now
        folders += [] if now.folder is None else [_place(home, spec, now)]
    if changed and not accept_changes:
        raise InputError(
            f"study {spec.name!r}: its code has changed since it began:\n"
            + "\n".join(changed)
            + "\nTrials before and after would not be comparable. Put the code back, launch the study under another "
            f"--name, or go on with the changed code: `sweeps resume {spec.name} --changed-code`."
        )
    code.search(*dict.fromkeys(folders))
    if changed:
        _check_fields(spec)
    return found


def _check_fields(spec: StudySpec) -> None:
    """Check that the trainer takes the configurations of a study that began with other code.

    Raises:
        InputError: it does not, or cannot be imported.
    """
    if spec.trainer is SHIPPED:
        return
    try:
        now = find_trainer(spec.trainer.name)
    except CodeError as error:
        raise InputError(f"study {spec.name!r}: {error}") from None
    began = spec.trainer.fields.keys()
    problems = [f"{name} is gone" for name in began if name not in now.fields]
    problems += [
        f"{name} is new, and has no default" for name in now.fields.keys() - began if now.fields[name].required
    ]
    if problems:
        said = "; ".join(problems)
        raise InputError(
            f"study {spec.name!r}: {now.owner} of {now.name} does not take the trials of the study: {said}. Launch it "
            "under another --name."
        )


def _noted(home: Home, spec: StudySpec) -> dict[str, Source]:
    """Return the noted code of a study; of a confirmation that has none yet, that of the study it confirms."""
    names = [spec.name, *([spec.confirms.partition(" trial ")[0]] if spec.confirms else [])]
    for name in names:
        path = home.study(name) / _NOTE
        if path.exists():
            try:
                return {key: Source.from_dict(value) for key, value in json.loads(path.read_text()).items()}
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                raise SweepError(f"{path} cannot be read ({error}): `sweeps launch FILE` writes it anew") from None
    return {}


def _now(home: Home, spec: StudySpec, source: Source) -> Source:
    """Return a source with the version that it has now; where its files are gone, that of the copy."""
    try:
        return code.current(source)
    except (OSError, CodeError) as error:
        if source.folder is not None and _place(home, spec, source) != source.folder:
            return source
        raise InputError(f"study {spec.name!r}: its code is gone: {error}") from None


def _place(home: Home, spec: StudySpec, source: Source) -> Path:
    """Return the folder that has a source's files: its own, or where they are gone a copy, if there is one."""
    assert source.folder is not None
    copies = [copy_of(home, name, source) for name in (spec.name, spec.confirms.partition(" trial ")[0]) if name]
    is_there = all((source.folder / file).is_file() for file in source.files)
    return source.folder if is_there else next((copy for copy in copies if copy.is_dir()), source.folder)


def _digits(source: Source) -> str:
    return source.version.partition(":")[2]
