"""Commands that write a study file, and check or simulate it before it is launched."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from resnet_core import code
from resnet_core.code import CodeError
from resnet_core.data import DATASETS
from resnet_core.schedule import parse
from search_spaces.errors import as_toml
from search_spaces.study import shipped_studies
from search_spaces.tables import check_name
from search_spaces.trainers import OwnTrainer, find_trainer
from sweeps.api import DATA, data_folder, load_study
from sweeps.cli.app import command, print_json, print_message, print_result
from sweeps.cli.options import (
    DataOption,
    JsonOption,
    NameOption,
    SetOption,
    Store,
    StudyArgument,
    TrialsOption,
    choice,
    writing,
)
from sweeps.errors import InputError


@command()
def init(
    name: Annotated[str, typer.Argument(help="Name of the study; the file is NAME.toml.")],
    *,
    dataset: Annotated[str, choice("--dataset", *DATASETS, help="What it trains on: ")] = "digits",
    trainer: Annotated[
        str,
        typer.Option(
            "--trainer",
            metavar="MODULE:FUNCTION",
            help="A trainer of your own, instead of --dataset; its code is imported.",
            show_default="the one that ships",
        ),
    ] = "",
) -> None:
    """Write a study file to start from, NAME.toml.

    Its comments explain each table. With --trainer it has the fields of the trainer's configuration, with their types
    and defaults. A file that is there already is not overwritten.
    """
    check_name(name)
    import jinja2

    own = _own_trainer(trainer) if trainer else None
    loader = jinja2.PackageLoader("sweeps", "cli")
    environment = jinja2.Environment(loader=loader, keep_trailing_newline=True)
    if own is None:
        text = environment.get_template("study_file.toml.j2").render(
            name=name, dataset=dataset, digits=dataset == "digits"
        )
    else:
        text = environment.get_template("own_study_file.toml.j2").render(name=name, **_own_study(own))
    path = Path(f"{name}.toml")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text.lstrip())
    except FileExistsError:
        raise InputError(f"{path}: it is there already; choose another name, or move it away") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    print_result(path)
    print_message(f"check it with `sweeps plan {path}`, run it with `sweeps launch {path}`")


def _own_trainer(name: str) -> OwnTrainer | None:
    """Import a trainer; its module is looked for beside the file that is written. None is the one that ships."""
    code.search(Path.cwd())
    try:
        found = find_trainer(name)
    except CodeError as error:
        raise InputError(f"--trainer {name}: {error}") from error
    return found if isinstance(found, OwnTrainer) else None


def _own_study(trainer: OwnTrainer) -> dict[str, object]:
    """Return what the template of a study of somebody's own trainer needs."""
    scheduled = list(trainer.schedule_fields)
    first = "schedule" if "schedule" in scheduled else scheduled[0] if scheduled else None
    train, space = [], ["lr = { low = 1e-3, high = 1e-1, log = true }"] if first else []
    for name, field in trainer.fields.items():
        value, said = field.default, f"  # {field.type}"
        if name == first:
            train.append(f'{name} = "[lr, 0] lin[0, 10]"')
        elif field.required:
            needed = '"[0.1, 0] lin[0, 10]"' if field.schedule else "10" if name == "epochs" else ""
            train.append(f"{name} = {needed}{said}" if needed else f"# {name} ={said}; it has no default")
        else:
            train.append(f"# {name} ={said}" if value is None else f"# {name} = {as_toml(value)}{said}")
        if name not in ("epochs", "seed") and type(value) in (int, float) and value > 0:
            whole = ", int = true" if isinstance(value, int) else ""
            line = f"{name} = {{ low = {max(value // 2, 1) if whole else value / 2}, high = {2 * value}{whole} }}"
            space.append(line if not space else f"# {line}")
    return {
        "trainer": trainer.name,
        "trainer_text": as_toml(trainer.name),
        "owner": trainer.owner,
        "scheduled": bool(scheduled),
        "fields": train,
        "space": space,
    }


@command()
def studies(*, as_json: JsonOption = False) -> None:
    """List the studies that ship, to launch by their names."""
    rows = [{"study": name, "description": load_study(name).description} for name in shipped_studies()]
    if as_json:
        print_json(rows)
        return
    width = max(len(row["study"]) for row in rows)
    for row in rows:
        print_result(f"{row['study']:<{width}}  {row['description']}")


@command()
def plan(
    study: StudyArgument,
    *,
    name: NameOption = "",
    trials: TrialsOption = None,
    changes: SetOption,
    measure: Annotated[
        bool, typer.Option("--measure", help="Time more steps, and simulate what the stopping rules save.")
    ] = False,
    like: Annotated[
        str, typer.Option("--like", help="Take times and curves from this earlier study.", show_default="none")
    ] = "",
    store: Store,
    data: DataOption = DATA,
    as_json: JsonOption = False,
) -> None:
    """Check a study and show what it would do.

    Nothing is started, but the code that the study file names is imported, and a trainer that offers no
    `seconds_per_epoch` trains one epoch.
    """
    if measure and like:
        raise InputError("--measure and --like: expected one of them")
    spec = load_study(study, name=name, trials=trials, changes=changes)
    from sweeps.inspection import plan as plans

    if like:
        from sweeps.simulation.curves import recorded_curves

        planned = plans.plan_from_earlier(spec, recorded_curves(store.open(), like), store.open())
    else:
        if sys.stderr.isatty():  # a large network takes a minute on a CPU
            print_message("timing an epoch on this machine …")
        planned = plans.measured_plan(spec, store.open()) if measure else plans.plan(spec, data_dir=data_folder(data))
    if as_json:
        print_json(planned.to_dict())
    else:
        print_result(plans.describe(planned))


@command()
def simulate(
    study: StudyArgument,
    *,
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
    gpus: Annotated[
        int, typer.Option("--gpus", min=1, help="How many GPUs; without GPUs, how many trials run at once.")
    ] = 4,
    per_gpu: Annotated[int, typer.Option("--per-gpu", min=1, help="How many trials run at once on a GPU.")] = 1,
    order: Annotated[
        str,
        choice("--order", "sampler", "shuffled", show_default="sampler; shuffled with --from"),
    ] = "",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the sampler, the order and the noise.")] = 0,
    repeats: Annotated[
        int, typer.Option("--repeats", min=1, help="How many studies to simulate, each with its seed.")
    ] = 1,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds-per-epoch",
            help="Seconds that an epoch of a trial takes.",
            show_default="as recorded; 22 on the model",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            "--epochs", min=1, help="How many epochs to spend, on as many trials as they last for.", show_default="all"
        ),
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
    changes: SetOption,
    store: Store,
    as_json: JsonOption = False,
) -> None:
    """Simulate a study: what its stopping rules save and cost.

    It also shows which configuration the study would pick. Nothing is trained: the curves come from a model, or from a
    study that has ended.
    """
    if source and model:
        raise InputError("--from and --model: expected one of them")
    if seconds is not None and not 0 < seconds < float("inf"):
        raise InputError(f"--seconds-per-epoch {seconds:g}: expected seconds above 0")
    spec = load_study(study, changes=changes)
    from sweeps.simulation import simulate as simulation
    from sweeps.simulation.curve_model import MODELS
    from sweeps.simulation.curves import find_curves
    from sweeps.simulation.setup import Setup

    if (model or "post5") not in MODELS:
        raise InputError(f"--model {model}: expected one of {', '.join(MODELS)}")
    home = store.open()
    setup = Setup(
        spec,
        find_curves(home, source) if source else MODELS[model or "post5"],
        home,
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
    if as_json:
        print_json(result.to_dict())
    else:
        print_result(simulation.describe(result))


@command()
def schedule(
    text: Annotated[str, typer.Argument(help="A schedule, such as '[1e-3, 0] cos[1e-5, 20]'.")],
    *,
    at: Annotated[str, typer.Option("--at", help="Epochs, such as 0,2.5,5.", show_default="the knots")] = "",
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw it into this file (png, pdf, svg).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a schedule, and print its canonical text and its values."""
    parsed = parse(text)
    try:
        epochs = [float(part) for part in at.split(",")] if at else [knot.epoch for knot in parsed.knots]
        values = [parsed.value(epoch) for epoch in epochs]
    except ValueError as error:
        raise InputError(f"--at {at}: expected epochs of 0 or more, with commas between them ({error})") from error
    if plot is not None:
        from analysis.plots.schedules import plot_schedule

        with writing("--plot", plot):
            plot_schedule(parsed, plot)
        print_message(f"schedule drawn into {plot}")
    if as_json:
        print_json({"schedule": str(parsed), "at": epochs, "values": values})
        return
    print_result(str(parsed))
    for epoch, value in zip(epochs, values, strict=True):
        print_result(f"epoch {epoch:g}: {value:.6g}")
