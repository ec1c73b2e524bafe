"""The ``sweeps`` command. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from resnet_core.config import ConfigError, TrialConfig
from resnet_core.schedule import ScheduleError, parse
from search_spaces.study import StudyError, StudySpec, check_name, find_study, load_study
from sweeps.errors import InputError, SweepError
from sweeps.home import Home

if TYPE_CHECKING:
    import pandas as pd

    from analysis import Study
    from sweeps.launch import End, Launch

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
    str | None, typer.Option("--address", help="Of a running Ray cluster; none starts one on this machine.")
]
MlflowOption = Annotated[
    str,
    typer.Option("--mlflow", envvar="SWEEPS_MLFLOW", help="MLflow's tracking URI.", show_default="the home's SQLite"),
]
RunOption = Annotated[str, typer.Option("--run", help="Which listed run.", show_default="the first")]
ThreadsOption = Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads.")]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu or cuda.", show_default="cuda if there")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show tracebacks, and what Ray and MLflow say.")]

_HOME, _DATA = Path("runs"), Path("data")


@app.command()
def launch(
    study: StudyArgument,
    name: NameOption = "",
    trials: TrialsOption = None,
    changes: SetOption = [],  # noqa: B006  typer wants a list
    fork: Annotated[
        str,
        typer.Option(
            "--fork", metavar="NEW", help="Run it under this name; its sampler knows the study's trials so far."
        ),
    ] = "",
    address: AddressOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before starting.")] = False,
    home: HomeOption = _HOME,
    mlflow: MlflowOption = "",
    data: DataOption = _DATA,
    debug: DebugOption = False,
) -> None:
    """Run a study to its end. One of this name that asks the same is continued."""
    spec = _read(study, name, trials, changes)
    source = spec.name
    if fork:
        spec = _read(study, fork, trials, changes)
    if not yes and sys.stdin.isatty() and stderr.is_terminal:
        from search_spaces.space import trial_count

        question = f"Start {spec.name}: {trial_count(spec)} trials? `sweeps plan {study}` shows them. [Y/n] "
        if stderr.input(question).strip().lower() not in ("", "y", "yes"):
            raise typer.Exit(DONE)
    _run(
        *(_home(home, mlflow), data, address, debug, spec.name),
        lambda launch: launch.fork(spec, source) if fork else launch.start(spec),
    )


@app.command()
def resume(
    name: NameArgument,
    trials: Annotated[
        str | None,
        typer.Option("--trials", metavar="[+]N", help="How many trials in all, or +N for N more than asked for."),
    ] = None,
    address: AddressOption = None,
    home: HomeOption = _HOME,
    mlflow: MlflowOption = "",
    data: DataOption = _DATA,
    debug: DebugOption = False,
) -> None:
    """Continue a study that was interrupted or killed; trials go on from their last epoch."""
    if trials is not None and not re.fullmatch(r"\+?0*[1-9][0-9]{0,8}", trials, re.ASCII):
        raise InputError(f"--trials {trials}: expected how many in all, such as 200, or how many more, such as +50")
    count = int(trials or 0)
    change = {"more" if trials.startswith("+") else "trials": count} if trials else {}
    _run(_home(home, mlflow), data, address, debug, name, lambda launch: launch.resume(name, **change))


@app.command()
def stop(
    name: NameArgument,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it has stopped.")] = True,
    home: HomeOption = _HOME,
) -> None:
    """Ask a running study to finish as Ctrl-C does: its trials are kept, and `resume` continues it."""
    where = _home(home)
    process = where.holder(name)
    from sweeps import views
    from sweeps.ledger import Ledger

    if process is None:
        Ledger.open(where.optuna_db, name)  # a wrong name is told as such
        raise SweepError(f"study {name!r} is not running; see `sweeps status {name}`")
    where.ask_to_stop(name)
    stderr.print(
        f"asked process {process} to stop; running trials finish their epoch first", highlight=False, soft_wrap=True
    )
    if not wait:
        return
    while where.holder(name) == process:
        time.sleep(0.2)
    typer.echo(views.describe_summary(views.summary(where, name)))


@app.command()
def plan(
    study: StudyArgument,
    name: NameOption = "",
    trials: TrialsOption = None,
    changes: SetOption = [],  # noqa: B006
    measure: Annotated[
        bool, typer.Option("--measure", help="Time more steps, and simulate what the stopping rules save.")
    ] = False,
    like: Annotated[
        str, typer.Option("--like", help="Take times and curves from this earlier study.", show_default="none")
    ] = "",
    as_json: JsonOption = False,
    home: HomeOption = _HOME,
) -> None:
    """Check a study and show what it would do; starts nothing."""
    if measure and like:
        raise InputError("--measure and --like: expected one of them")
    spec = _read(study, name, trials, changes)
    from sweeps import plan as plans

    if like:
        from sweeps.simulate import recorded

        planned = plans.like(spec, recorded(_home(home), like), _home(home))
    else:
        planned = plans.measured(spec, _home(home)) if measure else plans.plan(spec)
    typer.echo(_json(planned.to_dict()) if as_json else plans.describe(planned))


@app.command()
def simulate(
    study: StudyArgument,
    source: Annotated[
        str, typer.Option("--from", help="Replay the trials of this study.", show_default="the model")
    ] = "",
    model: Annotated[str, typer.Option("--model", help="Draw curves from this model.", show_default="post5")] = "",
    trials: TrialsOption = None,
    gpus: Annotated[int, typer.Option("--gpus", min=1, help="GPUs.")] = 4,
    per_gpu: Annotated[int, typer.Option("--per-gpu", min=1, help="Trials at once on a GPU.")] = 1,
    order: Annotated[
        str,
        typer.Option("--order", help="sampler or shuffled.", show_default="sampler; shuffled with --from"),
    ] = "",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of sampler, order and noise.")] = 0,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Studies to simulate, each with another seed.")] = 1,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds-per-epoch", help="Of one trial.", show_default="as recorded; 22 on the model"),
    ] = None,
    changes: SetOption = [],  # noqa: B006
    as_json: JsonOption = False,
    home: HomeOption = _HOME,
) -> None:
    """Show what a study's stopping rules would save and cost, on known curves; trains nothing."""
    if source and model:
        raise InputError("--from and --model: expected one of them")
    if order not in ("", "sampler", "shuffled"):
        raise InputError(f"--order {order}: expected sampler or shuffled")
    if seconds is not None and not 0 < seconds < float("inf"):
        raise InputError(f"--seconds-per-epoch {seconds:g}: expected seconds above 0")
    spec = _read(study, "", None, changes)
    from analysis.curve_model import MODELS
    from sweeps import simulate as simulation

    if (model or "post5") not in MODELS:
        raise InputError(f"--model {model}: expected one of {', '.join(MODELS)}")
    where = _home(home)
    setup = simulation.Setup(
        spec,
        simulation.recorded(where, source) if source else MODELS[model or "post5"],
        where,
        gpus=gpus,
        per_gpu=per_gpu,
        shuffled=order == "shuffled" or (not order and bool(source)),
        trials=trials,
        seed=seed,
        repeats=repeats,
        seconds_per_epoch=seconds,
    )
    result = simulation.simulate(setup)
    typer.echo(_json(result.to_dict()) if as_json else simulation.describe(result))


@app.command()
def train(
    study: StudyArgument,
    run: RunOption = "",
    changes: SetOption = [],  # noqa: B006
    checkpoint: Annotated[
        Path | None,
        typer.Option("--checkpoint", help="Save after each epoch to this file, and continue from it."),
    ] = None,
    threads: ThreadsOption = None,
    device: DeviceOption = "",
    data: DataOption = _DATA,
    as_json: JsonOption = False,
) -> None:
    """Train one run of a study here, without Ray, ledger or MLflow."""
    spec = _read(study, "", None, changes)
    import dataclasses

    from analysis.epochs_to_target import best, first_crossing
    from resnet_core import trainer
    from sweeps.drawing import draw_rates

    config = _one_trial(spec, run)
    device = _use(spec, threads, device)
    stderr.print(f"{config.model} on {config.data}: {config.schedule}\n{draw_rates(config)}", markup=False)
    records = []
    for record in trainer.train(config, data_dir=data.resolve(), device=device, checkpoint=checkpoint):
        records.append(record)
        stderr.print(
            f"epoch {record.epoch}/{config.horizon} loss {record.loss:.4f} acc {record.acc:.4f} "
            f"val_loss {record.val_loss:.4f} val_acc {record.val_acc:.4f} lr {record.lr:.3g} "
            f"{record.seconds:.1f} s",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    if as_json:
        typer.echo(_json({"config": config.to_dict(), "epochs": [dataclasses.asdict(r) for r in records]}))
        return
    val_accs = [record.val_acc for record in records]
    crossing, top = first_crossing(val_accs, spec.objective.target), best(val_accs)
    reached = f"reached at epoch {crossing}" if crossing else f"not reached in {len(records)} epochs"
    shown = f"{top[1]:.4f} at epoch {top[0]}" if top else "none"
    typer.echo(f"{spec.objective.target:g} {reached}; best val_acc {shown}")


@app.command()
def lr_range(
    study: StudyArgument,
    run: RunOption = "",
    low: Annotated[float, typer.Option("--from", help="Learning rate of the first step.")] = 1e-6,
    high: Annotated[float, typer.Option("--to", help="Learning rate it rises to.")] = 10.0,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Epochs it takes to rise.")] = 2,
    shape: Annotated[str, typer.Option("--shape", help="How it rises: exp or lin.")] = "exp",
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw loss and accuracy into this file (png, pdf, svg).")
    ] = None,
    changes: SetOption = [],  # noqa: B006
    threads: ThreadsOption = None,
    device: DeviceOption = "",
    data: DataOption = _DATA,
    as_json: JsonOption = False,
) -> None:
    """Train a study's first trial at rising learning rates and suggest bounds for its schedule."""
    if not 0 < low < high < float("inf"):
        raise InputError(f"--from {low:g} --to {high:g}: expected two learning rates above 0, the second the higher")
    if shape not in ("exp", "lin"):
        raise InputError(f"--shape {shape}: expected exp or lin")
    spec = _read(study, "", None, changes)
    import dataclasses

    from analysis.lr_range import RULES, suggest
    from analysis.plots import check_suffix, plot_lr_range
    from sweeps.lr_range import range_test, rising

    if plot is not None:
        try:
            check_suffix(plot)  # before any training
        except ValueError as error:
            raise InputError(f"--plot {error}") from error
    config = rising(_one_trial(spec, run), low, high, epochs, shape)
    device = _use(spec, threads, device)
    stderr.print(f"{config.model} on {config.data}: {config.schedule}", markup=False, soft_wrap=True)
    test = range_test(config, data.resolve(), device, stderr)
    refused, bounds = None, None
    try:
        bounds = suggest(test.lrs, test.losses, test.accs, test.beta)
    except ValueError as error:
        refused = str(error)
    suggested = None if bounds is None else dataclasses.asdict(bounds)
    if as_json:
        shown = {"config": config.to_dict(), "stopped": test.stopped, "bounds": suggested, "refused": refused}
        typer.echo(_json({**shown, "steps": [dataclasses.asdict(record) for record in test.records]}))
    elif suggested is not None:
        for name, rate in suggested.items():
            typer.echo(f"{name.replace('_', ' '):<8}  {rate:<8.3g}  {RULES[name]}")
    if plot is not None:
        title = f"{spec.name}: {config.model}, batch {config.batch_size}, {config.optimizer}"
        series = (test.lrs, test.losses, test.accs, bounds)
        try:
            plot_lr_range(*series, beta=test.beta, log=shape == "exp", title=title, path=plot)
        except OSError as error:
            raise InputError(f"--plot {plot}: {error}") from error
        stderr.print(f"loss and accuracy drawn into {plot}", highlight=False)
    if refused is not None:
        raise SweepError(f"no bound can be told: {refused}")


@app.command()
def status(
    name: Annotated[str, typer.Argument(help="Name of a study; all without one.")] = "",
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every two seconds until it ends.")] = False,
    as_json: JsonOption = False,
    home: HomeOption = _HOME,
) -> None:
    """Show where a study stands, also from another terminal."""
    from sweeps import views

    where = _home(home)
    while True:
        rows = [views.summary(where, name)] if name else views.list_studies(where)
        for row in rows:
            row["running"] = views.running(where, row["study"])
        if as_json:
            typer.echo(_json(rows[0] if name else rows))
        else:
            typer.echo("\n".join(_status_lines(rows)) or f"no study in {where.root}")
        if not watch or all(row["state"] != "running" for row in rows):
            return
        time.sleep(2)


@app.command()
def ls(as_json: JsonOption = False, home: HomeOption = _HOME) -> None:
    """List the studies."""
    from sweeps import views

    rows = views.list_studies(_home(home))
    if as_json:
        typer.echo(_json(rows))
        return
    for row in rows:
        typer.echo(views.describe_summary(row))
    if not rows:
        typer.echo(f"no study in {_home(home).root}")


@app.command()
def best(name: NameArgument, as_json: JsonOption = False, home: HomeOption = _HOME) -> None:
    """Show the trial with the fewest epochs to target."""
    from sweeps import views
    from sweeps.ledger import Ledger

    entry = views.best_entry(Ledger.open(_home(home).optuna_db, name).entries())
    if entry is None:
        raise SweepError(f"study {name!r} has no trial that ended with a result yet; see `sweeps status {name}`")
    typer.echo(_json(views.trial_view(entry)) if as_json else views.describe_trial(entry))
    stderr.print("one run with one seed: exploratory, not confirmed", highlight=False)


@app.command()
def show(
    name: NameArgument,
    trial: Annotated[str, typer.Argument(help="Name or number of a trial.")],
    log: Annotated[bool, typer.Option("--log", help="Show what its worker printed and logged.")] = False,
    as_json: JsonOption = False,
    home: HomeOption = _HOME,
) -> None:
    """Show one trial: what it trained, its epochs, how it ended, its errors."""
    from sweeps import views
    from sweeps.ledger import Ledger

    where = _home(home)
    ledger = Ledger.open(where.optuna_db, name)
    entry = views.find_trial(ledger, trial)
    number = entry.job.number
    epochs = _epochs(where, name, number)
    tries = views.failed_tries(where, ledger, entry)
    error = next((row["error"] for row in reversed(tries) if row["number"] == number), None)
    if as_json:
        shown = {**views.trial_view(entry), "epochs": epochs, "error": error, "failed_tries": tries}
        typer.echo(_json({**shown, "log": views.logged(where, ledger, entry)} if log else shown))
        return
    if log:
        typer.echo(views.logged(where, ledger, entry), nl=False)
        return
    typer.echo(views.describe_trial(entry))
    for row in epochs:
        typer.echo(
            f"  epoch {row['epoch']:>3}  loss {row['loss']:.4f}  acc {row['acc']:.4f}  "
            f"val_loss {row['val_loss']:.4f}  val_acc {row['val_acc']:.4f}  lr {row['lr']:.3g}"
        )
    if tries:
        typer.echo("failed tries:")
    for row in tries:
        typer.echo(f"  {row['time']}  number {row['number']}: {row['summary']}")
    if error is not None:
        typer.echo(f"last error:\n{error}")
    if where.trial_log(name, number).exists():
        typer.echo(f"log: {where.trial_log(name, number)} (--log shows it)")


@app.command()
def table(
    name: NameArgument,
    view: Annotated[str, typer.Option("--view", help="results, cost or transitions.")] = "results",
    style: Annotated[str, typer.Option("--format", help="text, markdown, csv or latex.")] = "text",
    as_json: JsonOption = False,
    target: Annotated[
        float | None, typer.Option("--target", help="Another target, for results.", show_default="the study's")
    ] = None,
    levels: Annotated[
        str,
        typer.Option("--levels", help="Accuracies, for transitions: 0.91,0.92.", show_default="post I's"),
    ] = "",
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw the curves into this file (png, pdf, svg).")] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="With --plot: trials beside each other, in four panels.")
    ] = False,
    trial: Annotated[list[str], typer.Option("--trial", help="Plot these trials only.")] = [],  # noqa: B006
    home: HomeOption = _HOME,
) -> None:
    """Print a table of a study, from MLflow's store: epochs to target, what they cost, or transition epochs."""
    if view not in ("results", "cost", "transitions"):
        raise InputError(f"--view {view}: expected results, cost or transitions")
    if style not in ("text", "markdown", "csv", "latex"):
        raise InputError(f"--format {style}: expected text, markdown, csv or latex")
    if target is not None and not 0 < target <= 1:
        raise InputError(f"--target {target:g}: expected an accuracy above 0, up to 1")
    if target is not None and view != "results":
        raise InputError(f"--target {target:g}: expected with --view results only")
    if levels and view != "transitions":
        raise InputError(f"--levels {levels}: expected with --view transitions only")
    if compare and plot is None:
        raise InputError("--compare: expected --plot FILE beside it")
    import analysis

    study = _stored(_home(home), name)
    if view == "cost":
        built, notes = analysis.build_cost(study), analysis.cost_footnotes(study)
    elif view == "transitions":
        built, notes = _transitions(study, levels), analysis.transition_footnotes(study)
    else:
        built = analysis.build_table(study, target)
        notes = analysis.footnotes(study, built)
    if plot is not None:
        numbers = dict(zip(study.trials["trial"], study.trials["number"], strict=True))
        unknown = [text for text in trial if text not in numbers]
        if unknown:
            raise InputError(f"--trial {unknown[0]}: expected one of {', '.join(numbers)}")
        try:
            draw = analysis.plot_comparison if compare else analysis.plot_curves
            draw(study, [numbers[text] for text in trial] or None, plot)
        except (ValueError, OSError) as error:
            raise InputError(f"--plot {plot}: {error}") from error
        stderr.print(f"curves drawn into {plot}", highlight=False)
    if as_json:
        typer.echo(analysis.render(built, "json"))
        return
    width = Console().width if style == "text" and sys.stdout.isatty() else None
    typer.echo(analysis.render(built, style, width=width, notes=notes))  # type: ignore[arg-type]  # checked above


@app.command()
def stopping(
    name: NameArgument,
    keep: Annotated[int, typer.Option("--keep", min=1, help="How many trials count as the best.")] = 5,
    style: Annotated[str, typer.Option("--format", help="text, markdown, csv or latex.")] = "text",
    as_json: JsonOption = False,
    home: HomeOption = _HOME,
) -> None:
    """Print what each stopping rule of a study saved, and what is known of its errors, from MLflow's store."""
    if style not in ("text", "markdown", "csv", "latex"):
        raise InputError(f"--format {style}: expected text, markdown, csv or latex")
    import analysis

    study = _stored(_home(home), name)
    built = analysis.build_stopping(analysis.histories(study), study.target, keep, study.stopping_rules)
    if as_json:
        typer.echo(analysis.render(built, "json"))
        return
    notes = analysis.stopping_footnotes(study, built, keep)
    typer.echo(analysis.render(built, style, notes=notes))  # type: ignore[arg-type]  # checked above


@app.command()
def schedule(
    text: Annotated[str, typer.Argument(help="A schedule, such as '[1e-3, 0] cos[1e-5, 20]'.")],
    at: Annotated[str, typer.Option("--at", help="Epochs, such as 0,2.5,5.", show_default="the knots")] = "",
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw it into this file (png, pdf, svg).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a schedule; print its canonical text and its values."""
    parsed = parse(text)
    try:
        epochs = [float(part) for part in at.split(",")] if at else [knot.epoch for knot in parsed.knots]
        values = [parsed.value(epoch) for epoch in epochs]
    except ValueError as error:
        raise InputError(f"--at {at}: expected epochs of 0 or more, with commas between them ({error})") from error
    if plot is not None:
        from analysis.plots import plot_schedule

        try:
            plot_schedule(parsed, plot)
        except (ValueError, OSError) as error:
            raise InputError(f"--plot {plot}: {error}") from error
        stderr.print(f"schedule drawn into {plot}", highlight=False)
    if as_json:
        typer.echo(_json({"schedule": str(parsed), "at": epochs, "values": values}))
        return
    typer.echo(str(parsed))
    for epoch, value in zip(epochs, values, strict=True):
        typer.echo(f"epoch {epoch:g}: {value:.6g}")


@app.command()
def ui(
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port on 127.0.0.1.")] = 5000,
    home: HomeOption = _HOME,
) -> None:
    """Open MLflow's UI on the studies, at http://127.0.0.1:5000."""
    where = _home(home)
    if not where.mlflow_db.exists():
        raise InputError(f"no study in {where.root} yet; launch one, or name its folder with --home")
    stderr.print(f"MLflow's UI: http://127.0.0.1:{port} (Ctrl-C ends it)", highlight=False)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", where.mlflow_uri, "--default-artifact-root", where.artifacts.as_uri()]
    command += ["--workers", "1"]
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.execv(sys.executable, command)


@app.command()
def doctor(as_json: JsonOption = False, home: HomeOption = _HOME, data: DataOption = _DATA) -> None:
    """Say what this machine has, and whether a sweep can run on it."""
    import dataclasses

    from sweeps.doctor import examine

    checks = examine(_home(home), data.resolve())
    if as_json:
        typer.echo(_json([dataclasses.asdict(check) for check in checks]))
    else:
        for check in checks:
            mark = {True: "ok", False: "NO", None: ""}[check.ok]
            typer.echo(f"{mark:>2}  {check.name:<13} {check.found}")
    if any(check.ok is False for check in checks):
        raise typer.Exit(FAILED)


def _read(study: str, name: str, trials: int | None, changes: list[str]) -> StudySpec:
    overrides = list(changes)
    if name:
        overrides.append(f'name="{check_name(name)}"')
    if trials is not None:
        overrides.append(f"search.trials={trials}")
    return load_study(find_study(study), overrides)


def _one_trial(spec: StudySpec, run: str) -> TrialConfig:
    """Return a study's first trial, or the first of the listed run of this name."""
    if run:
        from search_spaces.space import trial_config

        return trial_config(spec, {}, run=run)
    from sweeps.ledger import Ledger

    return Ledger.preview(spec).ask().config


def _use(spec: StudySpec, threads: int | None, device: str) -> str:
    """Set the number of CPU threads, the study's unless given; return the device, a GPU if there is one."""
    import torch

    from sweeps.placement import available_cores

    wanted = threads or spec.resources.cpus_per_trial
    if wanted > available_cores():
        raise InputError(f"--threads {wanted}: there are {available_cores()} CPU cores")
    torch.set_num_threads(wanted)
    return device or ("cuda" if torch.cuda.is_available() else "cpu")


def _home(home: Path, mlflow: str = "") -> Home:
    uri = mlflow or os.environ.get("SWEEPS_MLFLOW", "")
    if uri and not uri.startswith(("http://", "https://", "sqlite:///")):
        raise InputError(f"--mlflow {uri}: expected http://HOST:PORT, https://… or sqlite:////FILE")
    return Home(home.resolve(), uri)


def _run(
    where: Home, data: Path, address: str | None, debug: bool, name: str, started: Callable[[Launch], End]
) -> None:
    """Run or continue a study, then print what came out."""
    import analysis
    from sweeps import views
    from sweeps.launch import End, Launch
    from sweeps.ledger import Ledger

    end = started(Launch(where, data.resolve(), address, stderr, debug))
    if where.mlflow_uri.startswith("sqlite"):
        study = _stored(where, name)
        built = analysis.build_table(study)
        width = Console().width if sys.stdout.isatty() else None
        typer.echo(analysis.render(built, "text", width=width, notes=analysis.footnotes(study, built)))
    entry = views.best_entry(Ledger.open(where.optuna_db, name).entries())
    if entry is not None:
        typer.echo("\nbest so far: " + views.describe_trial(entry))
    option = "" if where.root == _HOME.resolve() else f" --home {where.root}"
    typer.echo(f"\nlook at it:  {where.mlflow if where.mlflow else 'sweeps ui' + option}")
    option += f" --mlflow {where.mlflow}" if where.mlflow else ""
    if end is not End.DONE:
        again = {
            End.INTERRUPTED: "interrupted; continue with",
            End.CRASHES: "some trials crashed; try them again with",
        }
        typer.echo(f"{again[end]}:  sweeps resume {name}{option}")
    sys.stdout.flush()
    raise typer.Exit({End.DONE: DONE, End.CRASHES: CRASHES, End.INTERRUPTED: INTERRUPTED}[end])


def _stored(home: Home, name: str) -> Study:
    """Return a study out of MLflow's store."""
    import analysis

    try:
        return analysis.load(home.mlflow_db, name)
    except analysis.StoreError as error:
        raise InputError(str(error)) from error


def _transitions(study: Study, levels: str) -> pd.DataFrame:
    """Return the table of transitions at the levels of --levels, or at post I's."""
    from analysis.transitions import LEVELS, build_transitions

    try:
        return build_transitions(study, [float(part) for part in levels.split(",")] if levels else LEVELS)
    except ValueError as error:
        raise InputError(
            f"--levels {levels}: expected accuracies above 0, up to 1, with commas between them ({error})"
        ) from error


def _epochs(home: Home, name: str, number: int) -> list[dict[str, Any]]:
    """Return a trial's epochs from MLflow's store; none where it holds none yet."""
    try:
        epochs = _stored(home, name).epochs
    except InputError:
        return []
    rows = epochs[epochs["number"] == number].drop(columns="number").to_dict("records")
    return [{str(key): value for key, value in row.items()} for row in rows]


def _status_lines(rows: list[dict[str, Any]]) -> list[str]:
    from sweeps import views

    lines = []
    for row in rows:
        lines.append(views.describe_summary(row))
        for trial in row["running"]:
            shown = "-" if trial["val_acc"] is None else f"{trial['val_acc']:.4f}"
            lines.append(f"  trial {trial['trial']}: epoch {trial['epoch']}/{trial['horizon']}, val_acc {shown}")
    return lines


def _json(value: Any) -> str:
    def plain(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: plain(inner) for key, inner in item.items()}
        if isinstance(item, list | tuple):
            return [plain(inner) for inner in item]
        # JSON knows neither NaN nor infinity.
        return None if isinstance(item, float) and item - item != 0 else item

    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False)


def main() -> None:
    """Run the command line: one line for an error, unless --debug asks for its traceback."""
    debug = "--debug" in sys.argv
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, format="%(levelname)s %(message)s")
    logging.getLogger("sweeps").setLevel(logging.DEBUG if debug else logging.WARNING)
    try:
        # A command that ends by typer.Exit has its code returned; any other returns None.
        code = app(standalone_mode=False) or DONE
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except (StudyError, ConfigError, ScheduleError) as error:
        code = _complain(error, WRONG_INPUT, debug)
    except SweepError as error:
        code = _complain(error, error.exit_code, debug)
    except Exception as error:
        # What typer says of wrong arguments is an exception of the click it uses, installed or its own.
        usage = getattr(error, "show", None)
        if usage is not None:
            usage()
            code = WRONG_INPUT
        else:
            code = _complain(error, FAILED, debug)
    sys.exit(code)


def _complain(error: Exception, code: int, debug: bool) -> int:
    if debug:
        stderr.print_exception()
    text = str(error).strip() or type(error).__name__
    # Errors that are not ours say little by their text alone.
    ours = type(error).__module__.split(".")[0] in ("sweeps", "search_spaces", "resnet_core", "analysis")
    typer.echo(
        f"sweeps: {text}" if ours else f"sweeps: {type(error).__name__}: {text} (--debug shows where)",
        err=True,
    )
    return code
