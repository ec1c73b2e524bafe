"""What the commands share: the application, their options, and how they find a study."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from resnet_core.config import TrialConfig
from resnet_core.uris import without_password
from search_spaces.spec import StudySpec
from search_spaces.study import find_study, load_study
from search_spaces.tables import check_name
from sweeps.errors import InputError
from sweeps.home import Home

if TYPE_CHECKING:
    from analysis import Study

# torch, ray, optuna, mlflow and pandas take seconds to import: each command imports what it uses.

DONE, FAILED, WRONG_INPUT, CRASHES, INTERRUPTED = 0, 1, 2, 3, 130

app = typer.Typer(
    help="Hyperparameter sweeps for epochs-to-target: Ray Tune, Optuna, MLflow, PyTorch.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
stderr = Console(stderr=True)

HomeOption = Annotated[
    Path, typer.Option("--home", envvar="SWEEPS_HOME", help="Folder of all state.", show_default="./runs")
]
DataOption = Annotated[
    Path, typer.Option("--data", envvar="SWEEPS_DATA", help="Folder of CIFAR-10.", show_default="./data")
]
StudyArgument = Annotated[str, typer.Argument(help="A study file, or the name of a shipped one: quickstart.")]
NameArgument = Annotated[str, typer.Argument(help="Name of a study; see `sweeps ls`.")]
SetOption = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the study file, dotted.")
]
NameOption = Annotated[str, typer.Option("--name", help="Run the study under this name.", show_default="the file's")]
TrialsOption = Annotated[int | None, typer.Option("--trials", min=1, help="How many trials.")]
AddressOption = Annotated[
    str | None,
    typer.Option("--address", envvar="RAY_ADDRESS", help="Of a running Ray cluster; none starts one on this machine."),
]
MlflowOption = Annotated[
    str,
    typer.Option("--mlflow", envvar="SWEEPS_MLFLOW", help="MLflow's tracking URI.", show_default="the home's SQLite"),
]
LedgerOption = Annotated[
    str,
    typer.Option(
        "--ledger",
        envvar="SWEEPS_LEDGER",
        help="Database of the ledger: postgresql://USER@HOST/DATABASE, for several drivers.",
        show_default="the home's SQLite",
    ),
]
ReportOption = Annotated[
    bool,
    typer.Option("--report/--no-report", envvar="SWEEPS_REPORT", help="At the end, add the report to MLflow."),
]
RunOption = Annotated[str, typer.Option("--run", help="Which listed run.", show_default="the first")]
ThreadsOption = Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads.")]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu or cuda.", show_default="cuda if there")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show tracebacks, and what Ray and MLflow say.")]

HOME, DATA = Path("runs"), Path("data")


def read_study(study: str, name: str, trials: int | None, changes: list[str]) -> StudySpec:
    """Return a study file with the changes that options ask for."""
    overrides = list(changes)
    if name:
        overrides.append(f'name="{check_name(name)}"')
    if trials is not None:
        overrides.append(f"search.trials={trials}")
    return load_study(find_study(study), overrides)


def one_trial(spec: StudySpec, run: str) -> TrialConfig:
    """Return a study's first trial, or the first of the listed run of this name."""
    if run:
        from search_spaces.space import trial_config

        return trial_config(spec, {}, run=run)
    from sweeps.ledger.ledger import Ledger

    return Ledger.preview(spec).ask().config


def use_device(spec: StudySpec, threads: int | None, device: str) -> str:
    """Set the number of CPU threads, the study's unless given; return the device, a GPU if there is one."""
    import torch

    from sweeps.execution.cluster import available_cores

    wanted = threads or spec.resources.cpus_per_trial
    if wanted > available_cores():
        raise InputError(f"--threads {wanted}: there are {available_cores()} CPU cores")
    torch.set_num_threads(wanted)
    return device or ("cuda" if torch.cuda.is_available() else "cpu")


def open_home(home: Path, mlflow: str = "", ledger: str = "") -> Home:
    """Return the home folder, with MLflow's store and the ledger where options or the environment name others."""
    uri = mlflow or os.environ.get("SWEEPS_MLFLOW", "")
    if uri and not uri.startswith(("http://", "https://", "sqlite:///", "postgresql://", "postgresql+psycopg2://")):
        expected = "http://HOST:PORT, https://…, postgresql://USER@HOST/DATABASE or sqlite:////FILE"
        raise InputError(f"--mlflow {without_password(uri)}: expected {expected}")
    ledger = ledger or os.environ.get("SWEEPS_LEDGER", "")
    if ledger:
        from sweeps.ledger.database import sqlite_file

        sqlite_file(ledger)
    return Home(home.resolve(), uri, ledger)


def stored(home: Home, name: str, metrics: Sequence[str] | None = None) -> Study:
    """Return a study out of MLflow's store; of its epochs these metrics, or all."""
    from analysis.store import loader

    try:
        return loader.load(home.mlflow_uri, name, loader.METRICS if metrics is None else metrics)
    except loader.StoreError as error:
        raise InputError(str(error)) from error


def to_json(value: Any) -> str:
    """Return plain values as JSON; what is no number there becomes null."""

    def plain(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: plain(inner) for key, inner in item.items()}
        if isinstance(item, list | tuple):
            return [plain(inner) for inner in item]
        # JSON knows neither NaN nor infinity.
        return None if isinstance(item, float) and item - item != 0 else item

    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False)
