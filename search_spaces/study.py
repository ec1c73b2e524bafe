"""Studies: read from TOML files, kept as JSON, compared.

>>> spec = load_study(find_study("quickstart"), ["search.trials=4"])
>>> spec.search.trials
4
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from resnet_core import code, own, schema
from resnet_core.code import CodeError, Source
from resnet_core.config import IMAGE_FOLDER, OPTION_TABLES, ConfigError, is_own_data
from resnet_core.data import DataError
from resnet_core.paths import PathError, TextError, expanded, read_text, typed_path
from search_spaces.checks import code_problems
from search_spaces.errors import (
    Location,
    Problem,
    StudyError,
    as_toml,
    problems_of,
    suggestion,
    unknown_name,
    wrong_value,
)
from search_spaces.parameters import Choices, Range, int_if_whole
from search_spaces.plugins import resolve, rules
from search_spaces.spec import StudySpec
from search_spaces.stopping import stopping_keys
from search_spaces.tables import Code, DataInfo, Finalists, Keep, ObjectiveKeys, Resources, Run, Search
from search_spaces.trainers import GROUP as TRAINERS
from search_spaces.trainers import SHIPPED, SHIPPED_NAME, FieldSchema, OwnTrainer, StoredTrainer, Trainer, find_trainer


def load_study(path: str | Path, overrides: Sequence[str] = ()) -> StudySpec:
    """Return the study in a file; code that the file names is imported.

    Args:
        path: the file.
        overrides: ``KEY=VALUE`` each, as after ``--set``: a dotted key of the file and a TOML value. A value that is
            not valid TOML is a string; an empty value removes the key.

    Raises:
        StudyError: the file cannot be read, is not TOML, or something in the file or in the overrides is wrong.
    """
    path = Path(path)
    text = ""
    try:
        text = read_text(path)
        values = tomllib.loads(text)
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file; expected a study file") from None
    except OSError as error:
        raise StudyError(f"{path}: {error.strerror}; expected a study file") from None
    except TextError as error:
        raise StudyError(f"{path}: {error}") from None
    except tomllib.TOMLDecodeError as error:
        lines = text.split("\n")
        end = f"at line {len(lines)}, column {len(lines[-1]) + 1}, the end of the file"
        said = str(error).replace("at end of document", end)
        raise StudyError(f"{path}: not TOML: {said}{_odd_character(lines, said)}") from None
    folder = path.parent if path.is_file() else Path()  # of a pipe: the current folder
    code.search(folder)
    return parse_study(values, str(path), overrides, folder)


def _odd_character(lines: list[str], said: str) -> str:
    """Name the character at the place of an error in TOML if it looks like another one, such as a curly quote."""
    place = re.search(r"at line (\d+), column (\d+)", said)
    char = "" if place is None else lines[int(place[1]) - 1][int(place[2]) - 1 :][:1]
    return "" if char.isascii() else f": there is a {unicodedata.name(char, 'character without a name')}"


def parse_study(values: dict[str, Any], source: str, overrides: Sequence[str] = (), folder: Path = Path()) -> StudySpec:
    """Return the study with these values; code that they name is imported.

    Args:
        values: as ``tomllib`` returns them; overrides are written into this dictionary.
        source: name of the file, for messages.
        overrides: as ``load_study`` takes them.
        folder: the folder that relative paths in the file start from.

    Raises:
        StudyError: something in the values or in the overrides is wrong.
    """
    notes = {_override(values, override): f" (from --set {override})" for override in overrides}
    if "code" in values:
        key, text = unknown_name("code", values["code"], set(StudySpec.model_fields) - {"code"})
        raise StudyError(f"{source}: {key}{text}")
    wrong = [
        wrong_value(key, number, "a whole number below 2^63: TOML and torch have no larger ones")
        for key, number in _whole_numbers("", {name: table for name, table in values.items() if name != "space"})
        if abs(number) >= 2**63
    ]
    if wrong:  # those of a space have a bound of their own
        raise StudyError("\n".join(_lines(wrong, source, notes)))
    _use_references(values, source, folder)
    _name_options(values)
    trainer, found = _read_code(values, source)
    data = _own_data(values, source) if trainer is SHIPPED else {}
    if found or data:
        fields = trainer.fields if isinstance(trainer, OwnTrainer) else {}
        versions = {name: of_name.version for name, of_name in found.items()}
        values = values | {"code": Code(versions=versions, trainer=dict(fields), data=data)}
    try:
        spec = StudySpec.model_validate(values, context={"trainer": trainer, "sources": found})
    except ValidationError as error:
        raise StudyError("\n".join(_lines(problems_of(error, _models), source, notes))) from None
    problems = list(code_problems(spec))
    if problems:
        raise StudyError("\n".join(_lines(problems, source, notes)))
    return spec


def _whole_numbers(key: str, value: Any) -> Iterator[tuple[str, int]]:
    """Yield the whole numbers in a value of a file, with their dotted keys."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _whole_numbers(f"{key}.{name}" if key else name, item)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _whole_numbers(f"{key}[{i}]", item)
    elif isinstance(value, int):
        yield key, value


def _read_code(values: dict[str, Any], source: str) -> tuple[Trainer, dict[str, Source]]:
    """Import the code that a study file names; return its trainer, and where the code is, by name."""
    wrong, found, trainer = [], {}, find_trainer(None)
    for key, group, name in _named_code(values):
        try:
            if group == TRAINERS:
                trainer = find_trainer(name)
            reference = resolve(group, name)
            code.load(reference)
            found[name] = code.source(reference, schema.PACKAGES)
        except CodeError as error:
            wrong.append(f"{source}: {key} = {as_toml(name)}: {error}")
    if wrong:
        raise StudyError("\n".join(wrong))
    return trainer, found


def _places(values: dict[str, Any], key: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield where a field may have a value: the key in the file, the table or list that holds it, and its place there.

    Only the trainer that ships takes networks, data sets and optimizers; of another one, such a field is a text. The
    values are not checked yet, so they may have any type.
    """
    if key != "trainer" and not _is_shipped(values):
        return
    runs, space = values.get("run"), values.get("space")
    tables = {"train": values.get("train")}
    tables |= {f"run[{i}]": run for i, run in enumerate(runs if isinstance(runs, list) else [])}
    yield from ((f"{at}.{key}", table, key) for at, table in tables.items() if isinstance(table, dict) and key in table)
    parameter = space.get(key) if isinstance(space, dict) else None
    choices = parameter.get("choices") if isinstance(parameter, dict) else None
    if isinstance(choices, list):
        yield from ((f"space.{key}.choices[{i}]", choices, i) for i in range(len(choices)))


def _is_shipped(values: dict[str, Any]) -> bool:
    train = values.get("train")
    return not isinstance(train, dict) or train.get("trainer") in (None, SHIPPED_NAME)


def _use_references(values: dict[str, Any], source: str, folder: Path) -> None:
    """Replace the names of installed plug-ins by their references, and relative paths of images by absolute ones.

    A study that is read from a store then needs neither the plug-in nor the folder of the file.

    Raises:
        StudyError: the path of a folder of images cannot be used.
    """
    for key in ("model", "data", "optimizer"):
        for at, holder, place in _places(values, key):
            name = holder[place]
            if isinstance(name, str) and name.startswith(IMAGE_FOLDER):
                # One folder has one name, wherever the study is launched from.
                try:
                    path = typed_path(folder.absolute() / expanded(name.removeprefix(IMAGE_FOLDER)))
                except PathError as error:
                    raise StudyError(f"{source}: {at} = {as_toml(name)}: {error}") from None
                holder[place] = f"{IMAGE_FOLDER}{path}"
            elif isinstance(name, str) and name in code.installed(_GROUPS[key]):
                holder[place] = resolve(_GROUPS[key], name)


def _name_options(values: dict[str, Any]) -> None:
    """Name the parameters of ``[space.model_options]`` and ``[space.optimizer_options]`` by dotted keys.

    So are those that a ``when`` and a table of ``search.first`` name.
    """
    if not _is_shipped(values):  # there a field may have that name
        return
    space, search = values.get("space"), values.get("search")
    first = search.get("first") if isinstance(search, dict) else None
    _use_dots(space)
    for parameter in space.values() if isinstance(space, dict) else ():
        _use_dots(parameter.get("when") if isinstance(parameter, dict) else None)
    for table in first if isinstance(first, list) else ():
        _use_dots(table)


def _use_dots(table: Any) -> None:
    """Name what is in a table's tables of options by dotted keys."""
    for options in OPTION_TABLES if isinstance(table, dict) else ():
        if isinstance(table.get(options), dict):
            for name, value in table.pop(options).items():
                table[f"{options}.{name}"] = value


def _own_data(values: dict[str, Any], source: str) -> dict[str, DataInfo]:
    """Return what a study keeps of the data sets of one's own that its file names, by name."""
    wrong: list[str] = []
    found: dict[str, DataInfo] = {}
    for key, holder, place in _places(values, "data"):
        name = holder[place]
        if not is_own_data(name) or name in found:
            continue
        try:
            with code.not_exiting():
                spec = own.dataset(name)
            found[name] = DataInfo(**asdict(spec.info), image_size=spec.default_image_size)
        except ConfigError as error:
            wrong.append(f"{source}: {key} = {as_toml(name)}: expected {error.expected}")
        except (CodeError, DataError) as error:
            wrong.append(f"{source}: {key} = {as_toml(name)}: {error}")
        except Exception as error:  # the user's code may raise anything at all
            wrong.append(f"{source}: {key} = {as_toml(name)}: {code.describe(error)}")
    if wrong:
        raise StudyError("\n".join(wrong))
    return found


_GROUPS = {
    "trainer": TRAINERS,
    "model": "sweeps.models",
    "data": "sweeps.data",
    "optimizer": "sweeps.optimizers",
}
"""For each key that may name code, the entry-point group of its plug-ins."""


def _named_code(values: Any) -> Iterator[tuple[str, str, str]]:
    """Yield the code that a study file names: its key, the entry-point group, and the name.

    The values are not checked yet, so they may have any type.
    """
    found: list[tuple[str, str, Any]] = []
    for key, group in _GROUPS.items():
        found += [(at, group, holder[place]) for at, holder, place in _places(values, key)]
    stopping, search = values.get("stopping"), values.get("search")
    rules_named = stopping.items() if isinstance(stopping, dict) else []
    found += [(f"stopping.{name}", "sweeps.rules", name) for name, value in rules_named if value is not False]
    found += [("search.sampler", "sweeps.samplers", search.get("sampler"))] if isinstance(search, dict) else []
    for key, group, name in found:
        if group in ("sweeps.rules", "sweeps.samplers"):  # installed ones have always been read with the study
            if code.is_reference(name) and not name.startswith("optunahub:"):  # that names a package of OptunaHub
                yield key, group, name
        elif (group == TRAINERS and name != SHIPPED_NAME) or (
            isinstance(name, str) and (code.is_reference(name) or name in code.installed(group))
        ):
            yield key, group, name


def _lines(problems: Iterable[Problem], source: str, notes: dict[str, str]) -> Iterator[str]:
    """Yield a line for each problem, with a note where an override caused it."""
    for key, text in problems:
        note = "".join(note for place, note in notes.items() if re.match(rf"{re.escape(place)}(?![^.\[])", key))
        first, newline, caret = text.partition("\n")
        yield f"{source}: {key}{first}{note}{newline}{caret}"


def _models(place: Location) -> list[type[BaseModel]]:
    """Return the models that the table at a location may be."""
    match place:
        case ("objective",):
            return [ObjectiveKeys]
        case ("search",):
            return [Search]
        case ("search", "finalists"):
            return [Finalists]
        case ("stopping",):
            return [stopping_keys()]
        case ("stopping", str() as rule):
            return [rules()[rule]]
        case ("resources",):
            return [Resources]
        case ("keep",):
            return [Keep]
        case ("space", _, "choices"):
            return [Choices]
        case ("space", _, _):
            return [Range, Choices]
        case ("run", _):
            return [Run]
        case _:
            return [StudySpec]


def _override(values: dict[str, Any], override: str) -> str:
    """Apply one ``KEY=VALUE`` to the values of a file; return the key in the form of error messages."""
    key, equals, text = (part.strip() for part in override.partition("="))
    *above, last = re.sub(r"\[(\d+)\]", r".\1", key).split(".")
    if not equals or not all([*above, last]):
        raise StudyError(f"--set {override}: expected KEY=VALUE with a dotted key, such as search.trials=20")
    table: Any = values
    try:
        for part in above:
            table = table[int(part)] if isinstance(table, list) else table.setdefault(part, {})
        place = int(last) if isinstance(table, list) else last
        if text:
            table[place] = _toml_value(text)
        else:
            del table[place]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise StudyError(f"--set {override}: the file has no {key} to {'set' if text else 'take out'}") from None
    return re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", key)


def _toml_value(text: str) -> object:
    """Return the TOML value of a text, or the text itself where it is not TOML."""
    try:
        values = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return values["value"] if len(values) == 1 else text


def shipped_studies() -> list[str]:
    """Return the names of the studies that ship with the project."""
    folder = _package_folder()
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.toml"))


def _package_folder() -> Path:
    return Path(str(resources.files("search_spaces")))


def find_study(text: str) -> Path:
    """Return the path of a study file: this path if such a file exists, else that of the shipped study with this name.

    A dash is standard input; a pipe is a file, too.

    Raises:
        StudyError: there is neither.
    """
    if text == "-":
        return Path("/dev/stdin")
    try:
        path = expanded(text)
        if path.exists() and not path.is_dir():
            return path
    except (OSError, PathError) as error:
        raise StudyError(f"{text}: {getattr(error, 'strerror', None) or error}; expected a study file") from None
    name, shipped = text.removesuffix(".toml"), shipped_studies()
    if name in shipped:  # so nothing outside the package's folder is read
        return _package_folder() / f"{name}.toml"
    beside = Path(f"{text}.toml")
    hint = f"did you mean {beside}?" if beside.is_file() else suggestion(name, shipped)
    listed = "" if hint.startswith("expected") else f" expected a file or one of: {', '.join(shipped)}"
    found = "it is a folder" if path.is_dir() else "no such file"
    raise StudyError(f"{text}: {found}, and no study of that name ships with the project; {hint}{listed}")


def to_json(spec: StudySpec) -> str:
    """Return a study as JSON; ``from_json`` takes it back exactly."""
    return spec.model_dump_json(by_alias=True, exclude={"code"} if spec.code is None else None)


def from_json(text: str) -> StudySpec:
    """Return the study that ``to_json`` wrote. No code that it names is imported.

    Raises:
        StudyError: the text is no study, or a study that is no longer valid.
    """
    try:
        return StudySpec.model_validate_json(text, context={"trainer": _stored_trainer(text), "is_stored": True})
    except ValidationError as error:
        raise StudyError("\n".join(_lines(problems_of(error, _models), "stored study", {}))) from None


def _stored_trainer(text: str) -> Trainer:
    """Return the trainer of a stored study, known from its fields."""
    try:
        values = json.loads(text)
        fields = values["code"]["trainer"]
        if not fields:
            return find_trainer(None)
        schemas = {name: FieldSchema(**field) for name, field in fields.items()}
        return StoredTrainer(values["train"]["trainer"], schemas)
    except (ValueError, LookupError, TypeError, AttributeError):
        return find_trainer(None)


def identity(spec: StudySpec) -> dict[str, object]:
    """Return all that a study's results depend on, by dotted key. Studies of one identity have the same results.

    Left out are description, confirms, search.trials, search.finalists, search.retries, resources and keep. Also left
    out are keys without a value, the phase of a search, and stopping.freeze where it is false, so that older studies,
    from before these keys existed, keep their identity.
    """
    values = spec.model_dump(
        by_alias=True,
        exclude={
            **dict.fromkeys(("description", "confirms", "resources", "keep"), True),
            "code": {"trainer"},  # it follows from the code
            "search": {"trials", "retries", "finalists"},
            "phase": spec.phase == "search",
        },
    )
    if not spec.stopping.freeze:
        del values["stopping"]["freeze"]
    return dict(_flat("", values))


def _flat(key: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _flat(f"{key}.{name}" if key else name, item)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for i, item in enumerate(value):
            yield from _flat(f"{key}[{i}]", item)
    elif value is not None and value != []:
        yield key, _plain(value)


def _plain(value: object) -> object:
    """Return whole floats as ints, so that 1 and 1.0 in a file are the same."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return int_if_whole(value)


def study_hash(spec: StudySpec) -> str:
    """Return 12 hexadecimal digits of a hash of the study's identity."""
    text = json.dumps(identity(spec), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def differences(old: StudySpec, new: StudySpec) -> list[str]:
    """Return the differences of two identities, in lines such as ``space.lr.high: 0.002 -> 0.003``."""
    before, after = identity(old), identity(new)
    return [
        f"{key}: {_side(before, key)} -> {_side(after, key)}"
        for key in dict.fromkeys([*before, *after])
        if _side(before, key) != _side(after, key)
    ]


def _side(values: dict[str, object], key: str) -> str:
    return as_toml(values[key]) if key in values else "(absent)"
