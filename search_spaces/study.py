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
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from resnet_core import code, schema
from resnet_core.code import CodeError, Source
from search_spaces.errors import Location, StudyError, as_toml, problems_of, suggestion, unknown_name
from search_spaces.parameters import Choices, Range, int_if_whole
from search_spaces.plugins import resolve, rules
from search_spaces.spec import StudySpec
from search_spaces.stopping import stopping_keys
from search_spaces.tables import Code, Finalists, ObjectiveKeys, Resources, Run, Search
from search_spaces.trainers import GROUP as TRAINERS
from search_spaces.trainers import SHIPPED_NAME, FieldSchema, OwnTrainer, StoredTrainer, Trainer, find_trainer


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
        text = path.read_bytes().decode()
        values = tomllib.loads(text)
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file; expected a study file") from None
    except OSError as error:
        raise StudyError(f"{path}: {error.strerror}; expected a study file") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise StudyError(f"{path}: not UTF-8 in line {line}; expected TOML in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        lines = text.split("\n")
        end = f"at line {len(lines)}, column {len(lines[-1]) + 1}, the end of the file"
        raise StudyError(f"{path}: not TOML: {str(error).replace('at end of document', end)}") from None
    code.search(path.parent)
    return parse_study(values, str(path), overrides)


def parse_study(values: dict[str, Any], source: str, overrides: Sequence[str] = ()) -> StudySpec:
    """Return the study with these values; code that they name is imported.

    Args:
        values: as ``tomllib`` returns them; overrides are written into this dictionary.
        source: name of the file, for messages.
        overrides: as ``load_study`` takes them.

    Raises:
        StudyError: something in the values or in the overrides is wrong.
    """
    notes = {_override(values, override): f" (from --set {override})" for override in overrides}
    if "code" in values:
        key, text = unknown_name("code", values["code"], set(StudySpec.model_fields) - {"code"})
        raise StudyError(f"{source}: {key}{text}")
    trainer, found = _read_code(values, source)
    if found:
        fields = trainer.fields if isinstance(trainer, OwnTrainer) else {}
        versions = {name: of_name.version for name, of_name in found.items()}
        values = values | {"code": Code(versions=versions, trainer=dict(fields))}
    try:
        return StudySpec.model_validate(values, context={"trainer": trainer, "sources": found})
    except ValidationError as error:
        raise StudyError("\n".join(_lines(error, source, notes))) from None


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
    runs = values.get("run")
    tables = {"train": values.get("train")}
    tables |= {f"run[{i}]": run for i, run in enumerate(runs if isinstance(runs, list) else [])}
    found: list[tuple[str, str, Any]] = []
    for table, fields in tables.items():
        if isinstance(fields, dict):
            found += [(f"{table}.{key}", group, fields[key]) for key, group in _GROUPS.items() if key in fields]
    space = values.get("space")
    for key, group in _GROUPS.items():
        parameter = space.get(key) if isinstance(space, dict) else None
        choices = parameter.get("choices") if isinstance(parameter, dict) else None
        names = enumerate(choices if isinstance(choices, list) else [])
        found += [(f"space.{key}.choices[{i}]", group, name) for i, name in names]
    for key, group, name in found:
        if (group == TRAINERS and name != SHIPPED_NAME) or (
            isinstance(name, str) and (code.is_reference(name) or name in code.installed(group))
        ):
            yield key, group, name


def _lines(error: ValidationError, source: str, notes: dict[str, str]) -> Iterator[str]:
    """Yield a line for each error, with a note where an override caused it."""
    for key, text in problems_of(error, _models):
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

    Raises:
        StudyError: there is neither.
    """
    if Path(text).is_file():
        return Path(text)
    name, shipped = text.removesuffix(".toml"), shipped_studies()
    if name in shipped:  # so nothing outside the package's folder is read
        return _package_folder() / f"{name}.toml"
    beside = Path(f"{text}.toml")
    hint = f"did you mean {beside}?" if beside.is_file() else suggestion(name, shipped)
    listed = "" if hint.startswith("expected") else f" expected a file or one of: {', '.join(shipped)}"
    raise StudyError(f"{text}: no such file, and no study of that name ships with the project; {hint}{listed}")


def to_json(spec: StudySpec) -> str:
    """Return a study as JSON; ``from_json`` takes it back exactly."""
    return spec.model_dump_json(by_alias=True, exclude={"code"} if spec.code is None else None)


def from_json(text: str) -> StudySpec:
    """Return the study that ``to_json`` wrote. No code that it names is imported.

    Raises:
        StudyError: the text is no study, or a study that is no longer valid.
    """
    try:
        return StudySpec.model_validate_json(text, context={"trainer": _stored_trainer(text)})
    except ValidationError as error:
        raise StudyError("\n".join(_lines(error, "stored study", {}))) from None


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

    Left out are description, confirms, search.trials, search.finalists, search.retries and resources. Also left out
    are keys without a value, the phase of a search, and stopping.freeze where it is false, so that older studies, from
    before these keys existed, keep their identity.
    """
    values = spec.model_dump(
        by_alias=True,
        exclude={
            **dict.fromkeys(("description", "confirms", "resources"), True),
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
