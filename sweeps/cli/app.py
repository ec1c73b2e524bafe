"""The application: how commands are added to it, their exit codes, and how they print."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import typer
from rich.console import Console
from typer.models import OptionInfo

from resnet_core.paths import NO_CURRENT_FOLDER, PathError, expanded
from sweeps import environment
from sweeps.errors import InputError

DONE, FAILED, WRONG_INPUT, CRASHES, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes."""

app = typer.Typer(
    help="Hyperparameter sweeps for epochs-to-target: Ray Tune, Optuna, MLflow, PyTorch.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
stderr = Console(stderr=True, emoji=False)  # rich takes the end of "nets:one:" for the name of an emoji

_Command = TypeVar("_Command", bound=Callable[..., None])


def command(name: str | None = None) -> Callable[[_Command], _Command]:
    """Add a function to the application as a command: each of its parameters is an argument or an option.

    A parameter whose type is a dataclass is a group of options: each field is an option, and the function gets an
    object of the dataclass. So the options that several commands share are defined once.

    Args:
        name: name of the command; None takes the function's name.
    """

    def register(function: _Command) -> _Command:
        hints = get_type_hints(function, include_extras=True)
        del hints["return"]

        def run(**values: Any) -> None:
            function(**_arguments(hints, values))

        run.__name__, run.__doc__ = function.__name__, function.__doc__
        parameters = inspect.signature(function).parameters
        options = [option for name, hint in hints.items() for option in _options(name, hint, parameters[name].default)]
        run.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]  # what typer reads
        app.command(name)(run)
        return function

    return register


def _options(name: str, hint: Any, default: Any) -> Iterator[inspect.Parameter]:
    """Yield the parameter itself; if its type is a dataclass, yield a parameter for each field instead."""
    if not _is_group(hint):
        _read_paths(hint)
        yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)
        return
    hints = get_type_hints(hint, include_extras=True)
    for field in dataclasses.fields(hint):
        missing = field.default is dataclasses.MISSING
        yield from _options(field.name, hints[field.name], inspect.Parameter.empty if missing else field.default)


def _read_paths(hint: Any) -> None:
    """Have an option or argument that is a path read as people type paths, if it is one."""
    kind, *about = get_args(hint)
    if get_origin(hint) is Annotated and (kind is Path or Path in get_args(kind)):
        about[0].metavar = "<path>"
        about[0].parser = _path_parser(str(about[0].default) if isinstance(about[0], OptionInfo) else "")


def _path_parser(option: str) -> Callable[[str], Path]:
    def path(typed: str) -> Path:
        try:
            return expanded(typed)
        except PathError as error:
            raise InputError(f"{option} {typed}: {error}".strip()) from None

    return path


def _arguments(hints: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Return the value of each parameter; an object if its type is a dataclass."""
    return {
        name: hint(**_arguments(get_type_hints(hint), values)) if _is_group(hint) else values[name]
        for name, hint in hints.items()
    }


def _is_group(hint: Any) -> bool:
    return dataclasses.is_dataclass(hint)


def _print_version(wanted: bool) -> None:
    if wanted:
        from sweeps.version import code_version

        print_result(f"sweeps {code_version()}")
        raise typer.Exit(DONE)


@app.callback()
def _application(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001  # not used here: its callback ends the command
        bool, typer.Option("--version", help="Print the version, and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    try:
        Path.cwd()
    except FileNotFoundError:
        raise InputError(NO_CURRENT_FOLDER) from None
    environment.for_person()
    if context.invoked_subcommand != "train":  # it runs the user's code in this process
        context.with_resource(environment.mild_warnings())


def print_json(value: Any) -> None:
    """Print plain values on stdout as JSON; NaN and infinity become null."""

    def plain(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: plain(inner) for key, inner in item.items()}
        if isinstance(item, list | tuple):
            return [plain(inner) for inner in item]
        return None if isinstance(item, float) and not math.isfinite(item) else item

    print_json_text(json.dumps(plain(value), ensure_ascii=False, allow_nan=False))


def print_json_text(text: str) -> None:
    """Print JSON on stdout; characters that stdout's encoding lacks are escaped, so that it stays the same JSON."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = re.sub(r"[^\x00-\x7f]", lambda found: json.dumps(found[0])[1:-1], text)
    print_result(text)


def print_result(text: object) -> None:
    """Print a result on stdout, at once, with a newline at its end if it has none."""
    print(str(text).removesuffix("\n"), flush=True)


def terminal_width() -> int | None:
    """Return the columns of the terminal that stdout is; None if it is none."""
    return (Console().width or 80) if sys.stdout.isatty() else None


def print_waiting(message: str) -> None:
    """Tell somebody at a terminal what takes its time."""
    if sys.stderr.isatty():
        print_message(message)


def print_message(message: str) -> None:
    """Print a message on stderr, without breaking its lines."""
    stderr.print(message, markup=False, highlight=False, soft_wrap=True)
