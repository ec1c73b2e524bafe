"""Writes a study as TOML, so that a launch can be repeated from the file."""

from __future__ import annotations

import json
from collections.abc import Mapping

from search_spaces.spec import StudySpec


def to_toml(spec: StudySpec) -> str:
    """Return a study as the text of a study file, from which ``load_study`` reads the same study.

    Keys with their default value are left out, and what a study notes of its code, which is no key of a file.
    The values of ``--set`` are included.
    """
    values = spec.model_dump(by_alias=True, exclude_defaults=True, exclude={"code"})
    runs = values.pop("run", [])
    tables = {key: value for key, value in values.items() if isinstance(value, dict)}
    blocks = ["\n".join(_lines({key: value for key, value in values.items() if key not in tables}))]
    blocks += ["\n".join([f"[{key}]", *_lines(table)]) for key, table in tables.items()]
    blocks += ["\n".join(["[[run]]", *_lines(run)]) for run in runs]
    return "\n\n".join(blocks) + "\n"


def _lines(table: Mapping[str, object]) -> list[str]:
    return [f"{_key(key)} = {_value(value)}" for key, value in table.items() if value is not None]


def _value(value: object) -> str:
    """Return a value as TOML; a table is inline."""
    if isinstance(value, dict):
        inside = ", ".join(_lines(value))
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str):
        # JSON's escapes are TOML's too, but JSON leaves one control character as it is.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)


def _key(key: str) -> str:
    return key if key.isascii() and key.replace("_", "").replace("-", "").isalnum() else _value(key)
