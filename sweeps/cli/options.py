"""The options that several commands share.

Every command lists its options in this order: the study, how it runs, folders and databases, the output.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnet_core.paths import check_target
from search_spaces.study import shipped_studies
from sweeps.api import DATA, HOME, load_results, open_home, open_launcher
from sweeps.cli.app import print_message
from sweeps.errors import InputError
from sweeps.execution import fork_server
from sweeps.home import Home

if TYPE_CHECKING:
    from analysis import Study
    from sweeps.execution.launch import Launch

# torch, Ray, Optuna, MLflow and pandas take seconds to import: each command imports what it uses.


def _complete_study(incomplete: str) -> Iterator[str]:
    """Yield the shipped studies, study files and folders whose names begin with the typed text."""
    yield from (name for name in shipped_studies() if name.startswith(incomplete))
    for path in sorted(Path().glob(f"{incomplete}*")) if not incomplete.startswith(("/", "~")) else ():
        if path.is_dir():
            yield f"{path}/"
        elif path.suffix == ".toml":
            yield str(path)


def complete_name(ctx: typer.Context, incomplete: str) -> Iterator[str]:
    """Yield the studies in the home folder whose names begin with the typed text."""
    home = open_home(ctx.params.get("home"))
    yield from sorted(path.name for path in home.studies.glob("*/") if path.name.startswith(incomplete))


def choice(flag: str, *words: str, help: str = "", show_default: str | bool = True) -> Any:
    """Return an option whose value is one of these words; shells complete them.

    Args:
        flag: the option, such as ``--format``.
        words: the allowed values.
        help: the purpose of the option; the words are added to it.
        show_default: the help's text for a default that is not one of the words.
    """
    listed = f"{', '.join(words[:-1])} or {words[-1]}"

    def check(param: typer.CallbackParam, value: str) -> str:
        if value not in (*words, param.default):
            raise InputError(f"{flag} {value}: expected {listed}")
        return value

    def complete(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    about = f"{help}{listed}."
    return typer.Option(flag, help=about, show_default=show_default, callback=check, autocompletion=complete)


# The study.
StudyArgument = Annotated[
    str,
    typer.Argument(help="A study file, or the name of a shipped one: quickstart.", autocompletion=_complete_study),
]
NameArgument = Annotated[str, typer.Argument(help="Name of a study; see `sweeps ls`.", autocompletion=complete_name)]
NameOption = Annotated[str, typer.Option("--name", help="Run the study under this name.", show_default="the file's")]
TrialsOption = Annotated[int | None, typer.Option("--trials", min=1, help="How many trials.")]
SetOption = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a key of the study file, dotted.",
        default_factory=list,
        show_default=False,
    ),
]

# How it runs.
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        envvar="RAY_ADDRESS",
        callback=lambda typed: (typed or "").strip() or None,
        help="Address of a running Ray cluster.",
        show_default="Ray is started on this machine",
    ),
]

# Folders and databases.
HomeOption = Annotated[
    Path, typer.Option("--home", envvar="SWEEPS_HOME", help="Folder of all state.", show_default="./runs")
]
DataOption = Annotated[
    Path, typer.Option("--data", envvar="SWEEPS_DATA", help="Folder of the images.", show_default="./data")
]

# The output.
FormatOption = Annotated[str, choice("--format", "text", "markdown", "csv", "latex")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def check_figure(plot: Path | None) -> None:
    """Check before the work for it that the file of --plot can be written, if one is asked for.

    Raises:
        InputError: it cannot, or is not named as a figure.
    """
    if plot is not None:
        from analysis.plots.canvas import check_suffix

        with writing("--plot", plot):
            check_suffix(plot)
            check_target(plot)


@contextlib.contextmanager
def writing(option: str, path: Path) -> Iterator[None]:
    """Say of an error in the block which option's file cannot be written."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{option} {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{option} {path}: {str(error).removeprefix(f'{path}: ')}") from error


@dataclass(frozen=True, kw_only=True)
class Store:
    """The options for the folders and databases that hold the studies."""

    home: HomeOption = HOME
    mlflow: Annotated[
        str,
        typer.Option(
            "--mlflow", envvar="SWEEPS_MLFLOW", help="MLflow's tracking URI.", show_default="the home's SQLite"
        ),
    ] = ""
    ledger: Annotated[
        str,
        typer.Option(
            "--ledger",
            envvar="SWEEPS_LEDGER",
            help="Database of the ledger: postgresql://USER@HOST/DATABASE, for several drivers.",
            show_default="the home's SQLite",
        ),
    ] = ""

    def open(self) -> Home:
        """Return the home folder."""
        return open_home(self.home, self.mlflow, self.ledger)

    def results(self, name: str, metrics: Sequence[str] | None = None) -> Study:
        """Return a study from MLflow's store, with the given metrics of its epochs and the one that counts in it.

        None reads all metrics. A message names trials that are left out.
        """
        from analysis.tables.trials import deleted_notes

        found = load_results(name, home=self.home, mlflow=self.mlflow, metrics=metrics)
        if metrics is not None and found.metric not in metrics:
            found = load_results(name, home=self.home, mlflow=self.mlflow, metrics=[*metrics, found.metric])
        for note in deleted_notes(found):
            print_message(f"study {name!r}: {note}")
        return found


@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """The options of a launch."""

    address: AddressOption = None
    report: Annotated[
        bool,
        typer.Option("--report/--no-report", envvar="SWEEPS_REPORT", help="At the end, add the report to MLflow."),
    ] = False
    store: Store
    data: DataOption = DATA
    quiet: Annotated[bool, typer.Option("--quiet", help="Print no progress, only warnings and errors.")] = False
    verbose: Annotated[
        bool,
        typer.Option("--verbose", envvar="SWEEPS_VERBOSE", help="Print a line for every epoch, not a live table."),
    ] = False
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks, and what Ray and MLflow say.")] = False

    def open_launcher(self) -> Launch:
        """Return a launcher of studies with these options."""
        fork_server.start(self.address)
        return open_launcher(self.store.open(), self.data, self.address, **self._shown())

    def to_arguments(self) -> dict[str, Any]:
        """Return the options as arguments of `sweeps.launch` and `sweeps.resume`."""
        places = {"home": self.store.home, "mlflow": self.store.mlflow, "ledger": self.store.ledger, "data": self.data}
        return {**places, "address": self.address, **self._shown()}

    def tell(self, message: str) -> None:
        """Print a message on stderr that is neither a warning nor an error."""
        if not self.quiet:
            print_message(message)

    def _shown(self) -> dict[str, bool]:
        return {"quiet": self.quiet, "verbose": self.verbose, "debug": self.debug}
