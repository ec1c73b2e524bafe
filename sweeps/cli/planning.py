"""Commands that try something out before a study is launched."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resnet_core.schedule import parse
from sweeps.cli.options import (
    DATA,
    HOME,
    DataOption,
    DeviceOption,
    HomeOption,
    JsonOption,
    NameOption,
    RunOption,
    SetOption,
    StudyArgument,
    ThreadsOption,
    TrialsOption,
    app,
    one_trial,
    open_home,
    read_study,
    stderr,
    to_json,
    use_device,
)
from sweeps.errors import InputError, SweepError


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
    home: HomeOption = HOME,
) -> None:
    """Check a study and show what it would do; starts nothing."""
    if measure and like:
        raise InputError("--measure and --like: expected one of them")
    spec = read_study(study, name, trials, changes)
    from sweeps.inspection import plan as plans

    if like:
        from sweeps.simulation.curves import recorded

        planned = plans.like(spec, recorded(open_home(home), like), open_home(home))
    else:
        planned = plans.measured(spec, open_home(home)) if measure else plans.plan(spec)
    typer.echo(to_json(planned.to_dict()) if as_json else plans.describe(planned))


@app.command()
def simulate(
    study: StudyArgument,
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="NAME",
            help="Replay the trials of this study, or of a recording.",
            show_default="the model",
        ),
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
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", min=1, help="Epochs to spend, however many trials that makes.", show_default="all"),
    ] = None,
    against: Annotated[
        str,
        typer.Option(
            "--against",
            help="Other ways to search, given as many epochs: random, optuna-median, optuna-asha, optuna-hyperband; "
            "and first, the settings that the study begins with.",
            show_default="none",
        ),
    ] = "",
    changes: SetOption = [],  # noqa: B006
    as_json: JsonOption = False,
    home: HomeOption = HOME,
) -> None:
    """Show what a study's stopping rules would save and cost, and what it would pick; trains nothing."""
    if source and model:
        raise InputError("--from and --model: expected one of them")
    if order not in ("", "sampler", "shuffled"):
        raise InputError(f"--order {order}: expected sampler or shuffled")
    if seconds is not None and not 0 < seconds < float("inf"):
        raise InputError(f"--seconds-per-epoch {seconds:g}: expected seconds above 0")
    spec = read_study(study, "", None, changes)
    from sweeps.simulation import simulate as simulation
    from sweeps.simulation.curve_model import MODELS
    from sweeps.simulation.curves import recorded_in

    if (model or "post5") not in MODELS:
        raise InputError(f"--model {model}: expected one of {', '.join(MODELS)}")
    where = open_home(home)
    setup = simulation.Setup(
        spec,
        recorded_in(where, source) if source else MODELS[model or "post5"],
        where,
        gpus=gpus,
        per_gpu=per_gpu,
        shuffled=order == "shuffled" or (not order and bool(source)),
        trials=trials,
        seed=seed,
        repeats=repeats,
        seconds_per_epoch=seconds,
        epochs=epochs,
        against=[method.strip() for method in against.split(",") if method.strip()],
    )
    result = simulation.simulate(setup)
    typer.echo(to_json(result.to_dict()) if as_json else simulation.describe(result))


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
        from analysis.plots.schedules import plot_schedule

        try:
            plot_schedule(parsed, plot)
        except (ValueError, OSError) as error:
            raise InputError(f"--plot {plot}: {error}") from error
        stderr.print(f"schedule drawn into {plot}", highlight=False)
    if as_json:
        typer.echo(to_json({"schedule": str(parsed), "at": epochs, "values": values}))
        return
    typer.echo(str(parsed))
    for epoch, value in zip(epochs, values, strict=True):
        typer.echo(f"epoch {epoch:g}: {value:.6g}")


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
    data: DataOption = DATA,
    as_json: JsonOption = False,
) -> None:
    """Train one run of a study here, without Ray, ledger or MLflow."""
    spec = read_study(study, "", None, changes)
    import dataclasses

    from resnet_core import trainer
    from resnet_core.objective import best, first_crossing
    from sweeps.inspection.drawing import draw_rates

    config = one_trial(spec, run)
    device = use_device(spec, threads, device)
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
        typer.echo(to_json({"config": config.to_dict(), "epochs": [dataclasses.asdict(r) for r in records]}))
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
    data: DataOption = DATA,
    as_json: JsonOption = False,
) -> None:
    """Train a study's first trial at rising learning rates and suggest bounds for its schedule."""
    if not 0 < low < high < float("inf"):
        raise InputError(f"--from {low:g} --to {high:g}: expected two learning rates above 0, the second the higher")
    if shape not in ("exp", "lin"):
        raise InputError(f"--shape {shape}: expected exp or lin")
    spec = read_study(study, "", None, changes)
    import dataclasses

    from analysis.plots.canvas import check_suffix
    from analysis.plots.lr_range import plot_lr_range
    from analysis.statistics.lr_range import RULES, suggest
    from sweeps.inspection.ranges import range_test, rising

    if plot is not None:
        try:
            check_suffix(plot)  # before any training
        except ValueError as error:
            raise InputError(f"--plot {error}") from error
    config = rising(one_trial(spec, run), low, high, epochs, shape)
    device = use_device(spec, threads, device)
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
        typer.echo(to_json({**shown, "steps": [dataclasses.asdict(record) for record in test.records]}))
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
