"""Writes the tables of keys in study-file.md from the docstrings of the classes that read them.

    python docs/study_file.py [--check]

A table stands between two marks: <!-- keys CLASS PREFIX --> and <!-- end -->. --check changes nothing, and fails where
a table is not what the docstrings say.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from resnet_core.config import TrialConfig
from search_spaces import tables

PAGE = Path(__file__).with_name("study-file.md")
_TABLE = re.compile(r"(<!-- keys (?P<name>\w+)(?: (?P<prefix>[\w.]+))? -->\n).*?(<!-- end -->)", re.DOTALL)
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
    }


def table(name: str, prefix: str) -> str:
    """Return the Markdown table of a class's keys, each behind ``prefix``.

    Raises:
        ValueError: a key has no line in the docstring.
    """
    kind = TrialConfig if name == "TrialConfig" else getattr(tables, name)
    said = meanings(kind)
    lines = ["| key | default | meaning |", "|---|---|---|"]
    for key, default in defaults(kind).items():
        if key not in said:
            raise ValueError(f"{name}.{key}: its docstring does not say what it is")
        # A study file has no None: a key that is left out is none.
        meaning = re.sub(r"\bNone\b", "none", said[key]).rstrip(".").replace("``", "`").replace("|", "\\|")
        lines.append(f"| `{prefix}{key}` | {_shown(default)} | {meaning} |")
    return "\n".join(lines) + "\n"


def _shown(default: Any) -> str:
    """Return a default as a study file would have it."""
    if default is PydanticUndefined:
        return "required"
    if default is None or default == []:
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f'`"{default}"`' if isinstance(default, str) else f"`{default:g}`".replace("e-0", "e-")


def written(page: str) -> str:
    """Return the page with its tables written anew."""
    return _TABLE.sub(lambda found: found[1] + table(found["name"], found["prefix"] or "") + found[4], page)


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
