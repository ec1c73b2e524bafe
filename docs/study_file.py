"""Writes the tables of keys in study-file.md from the docstrings of the classes that read them.

    python docs/study_file.py [--check]

A table stands between two marks: <!-- keys CLASS PREFIX --> or <!-- rules -->, and <!-- end -->. --check changes
nothing, and fails where a table is not what the docstrings say.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from resnet_core.config import TRIAL_CONFIG_FIELDS, TrialConfig
from resnet_core.data import DATASETS
from resnet_core.models import network_names
from resnet_core.optim import OPTIMIZERS
from search_spaces import tables
from search_spaces.plugins import rules, samplers
from search_spaces.stopping import Stopping, stopping_keys

PAGE = Path(__file__).with_name("study-file.md")
_TABLE = re.compile(r"(<!-- (?:keys (?P<name>\w+)(?: (?P<prefix>[\w.]+))?|rules) -->\n).*?(<!-- end -->)", re.DOTALL)
_NAMES = {"model": network_names(), "data": ", ".join(DATASETS), "optimizer": ", ".join(OPTIMIZERS)}
_ATTRIBUTE = re.compile(r"^    (\w+): ((?:.|\n        )+)", re.MULTILINE)


def meanings(kind: type) -> dict[str, str]:
    """Return what a class's docstring says of its attributes, by name, each on one line.

    Raises:
        ValueError: the docstring has no section of attributes.
    """
    text = inspect.cleandoc(kind.__doc__ or "")
    if "Attributes:\n" not in text:
        raise ValueError(f"{kind.__name__}: its docstring has no section `Attributes:`")
    section = text.split("Attributes:\n", 1)[1].split("\n\n", 1)[0]
    return {name: " ".join(said.split()) for name, said in _ATTRIBUTE.findall(section)}


def defaults(kind: type) -> dict[str, Any]:
    """Return the defaults of a dataclass or a pydantic model by field; PydanticUndefined where there is none."""
    if issubclass(kind, BaseModel):
        return {name: field.get_default(call_default_factory=True) for name, field in kind.model_fields.items()}
    return {
        field.name: PydanticUndefined if field.default is dataclasses.MISSING else field.default
        for field in dataclasses.fields(kind)
        if kind is not TrialConfig or field.name in TRIAL_CONFIG_FIELDS
    }


def table(kind: type, prefix: str = "", said: Mapping[str, str] | None = None) -> str:
    """Return the Markdown table of a class's keys.

    Args:
        kind: a dataclass or a pydantic model.
        prefix: what stands ahead of each key.
        said: what keys mean; by default what the class's docstring says.

    Raises:
        ValueError: a key has no meaning.
    """
    said = meanings(kind) if said is None else said
    lines = ["| key | default | meaning |", "|---|---|---|"]
    for key, default in defaults(kind).items():
        if key not in said:
            raise ValueError(f"{kind.__name__}.{key}: its docstring does not say what it is")
        # A study file has no None: a key that is left out is none.
        meaning = re.sub(r"\bNone\b", "none", said[key].replace("{samplers}", _samplers())).rstrip(".")
        if kind is TrialConfig and key in _NAMES:
            meaning += f": {_NAMES[key]}"
        meaning = meaning.replace("``", "`").replace("|", "\\|")
        lines.append(f"| `{prefix}{key}` | {_shown(default)} | {meaning} |")
    return "\n".join(lines) + "\n"


def rule_tables() -> str:
    """Return the table of ``[stopping]``, and one of the settings of each rule that has some."""
    keys = stopping_keys()
    said = {name: _first_sentence(rule) for name, rule in rules().items()}
    found = [table(keys, said=said | meanings(Stopping))]
    for name in keys.model_fields:
        if name in rules() and rules()[name].model_fields:
            found.append(table(rules()[name], f"{name}."))
    return "\n".join(found)


def _first_sentence(kind: type) -> str:
    line = inspect.cleandoc(kind.__doc__ or "").splitlines()[0]
    return line[:1].lower() + line[1:]


def _samplers() -> str:
    *names, last = (f"`{name}`" + (f" ({one.note})" if one.note else "") for name, one in samplers().items())
    return f"{', '.join(names)} or {last}"


def _shown(default: Any) -> str:
    """Return a default as a study file would have it."""
    if default is PydanticUndefined:
        return "required"
    if default in (None, [], {}):
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f'`"{default}"`' if isinstance(default, str) else f"`{default:g}`".replace("e-0", "e-")


def written(page: str) -> str:
    """Return the page with its tables written anew."""
    return _TABLE.sub(lambda found: found[1] + _between(found["name"], found["prefix"] or "") + found[4], page)


def _between(name: str | None, prefix: str) -> str:
    if name is None:
        return rule_tables()
    return table(TrialConfig if name == "TrialConfig" else getattr(tables, name), prefix)


def main() -> None:
    """Write the page, or check it."""
    page = PAGE.read_text()
    new = written(page)
    if sys.argv[1:] == ["--check"]:
        if new != page:
            sys.exit(f"{PAGE}: its tables are not what the docstrings say; run `make docs`")
        return
    PAGE.write_text(new)


if __name__ == "__main__":
    main()
