"""The application that the commands are registered with, how they end and print, and their groups of options."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Callable, Iterator
from typing import Annotated, Any, TypeVar, get_type_hints

import typer
from rich.console import Console

DONE, FAILED, WRONG_INPUT, CRASHES, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes."""

app = typer.Typer(
    help="Hyperparameter sweeps for epochs-to-target: Ray Tune, Optuna, MLflow, PyTorch.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
stderr = Console(stderr=True)

_Command = TypeVar("_Command", bound=Callable[..., None])


def command(name: str | None = None) -> Callable[[_Command], _Command]:
    """Register a function as a command: each of its parameters is an argument or an option.

    A parameter that is a dataclass stands for a group of options that several commands have: each field of it is one,
    and the function gets them in an object of the class.

    Args:
        name: name of the command; the function's name where it is None.
    """

    def register(function: _Command) -> _Command:
        hints = get_type_hints(function, include_extras=True)
        del hints["return"]

        def run(**values: Any) -> None:
            function(**{name: _value(hint, name, values) for name, hint in hints.items()})

        run.__name__, run.__doc__ = function.__name__, function.__doc__
        parameters = inspect.signature(function).parameters
        options = [option for name, hint in hints.items() for option in _options(name, hint, parameters[name].default)]
        run.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]  # what typer reads
        app.command(name)(run)
        return function

    return register


def _options(name: str, hint: Any, default: Any) -> Iterator[inspect.Parameter]:
    """Yield the parameter itself, or one for each field of the dataclass that it is."""
    if not dataclasses.is_dataclass(hint):
        yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)
        return
    hints = get_type_hints(hint, include_extras=True)
    for field in dataclasses.fields(hint):
        missing = field.default is dataclasses.MISSING
        yield from _options(field.name, hints[field.name], inspect.Parameter.empty if missing else field.default)


def _value(hint: Any, name: str, values: dict[str, Any]) -> Any:
    """Return the value of a parameter; an object of its dataclass where it is one."""
    if not dataclasses.is_dataclass(hint):
        return values[name]
    hints = get_type_hints(hint, include_extras=True)
    return hint(**{name: _value(hints[name], name, values) for name in hints})  # type: ignore[operator]


def _print_version(wanted: bool) -> None:
    if wanted:
        from sweeps.version import code_version

        typer.echo(f"sweeps {code_version()}")
        raise typer.Exit(DONE)


@app.callback()
def _application(
    version: Annotated[  # ended by its callback
        bool, typer.Option("--version", help="Print the version, and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None: ...


def print_json(value: Any) -> None:
    """Print plain values as JSON on stdout; NaN and infinity become null, which JSON has no number for."""

    def plain(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: plain(inner) for key, inner in item.items()}
        if isinstance(item, list | tuple):
            return [plain(inner) for inner in item]
        return None if isinstance(item, float) and item - item != 0 else item

    typer.echo(json.dumps(plain(value), ensure_ascii=False, allow_nan=False))


def tell(message: str) -> None:
    """Print a message on stderr, as it is: one line where it has one, however long."""
    stderr.print(message, markup=False, highlight=False, soft_wrap=True)
