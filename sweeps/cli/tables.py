"""Commands that print tables of a study, from MLflow's store."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from sweeps.cli.common import HOME, HomeOption, JsonOption, NameArgument, app, open_home, stderr, stored, to_json
from sweeps.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from analysis import Study


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
    published: Annotated[
        bool, typer.Option("--published", help="Published figures beside those of the runs that repeat them.")
    ] = False,
    trial: Annotated[list[str], typer.Option("--trial", help="Plot these trials only.")] = [],  # noqa: B006
    home: HomeOption = HOME,
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
    if published and (view != "results" or target is not None):
        raise InputError("--published: expected without --view and --target: it has rows and targets of its own")
    import analysis

    study = stored(open_home(home), name)
    if published:
        from sweeps.published import published_rows

        built = analysis.build_published(study, published_rows(name))
        notes = analysis.published_footnotes(study, built)
        if not as_json and style != "csv":
            built = analysis.published_text(built)
    elif view == "cost":
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
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A study of one configuration, or STUDY:TRIAL.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The other: a study, or STUDY:TRIAL.")],
    target: Annotated[
        float | None, typer.Option("--target", help="Another target, for both.", show_default="the studies'")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw both learning-curve bands into this file (png, pdf, svg).")
    ] = None,
    mix: Annotated[bool, typer.Option("--mix", help="Compare a search with a confirmation all the same.")] = False,
    as_json: JsonOption = False,
    home: HomeOption = HOME,
) -> None:
    """Compare two configurations: epochs to target seed by seed, and their learning curves as bands."""
    from analysis.comparison import PhaseError, arm, contrast

    if target is not None and not 0 < target <= 1:
        raise InputError(f"--target {target:g}: expected an accuracy above 0, up to 1")
    where = open_home(home)
    arms = []
    for text in (a, b):
        study, _, trial = text.partition(":")
        try:
            arms.append(arm(stored(where, study), trial, target))
        except ValueError as error:
            raise InputError(str(error)) from error
    try:
        found = contrast(arms[0], arms[1], mix=mix)
    except PhaseError as error:
        raise InputError(f"{error}; confirm both (`sweeps confirm`), or ask for it with --mix") from error
    except ValueError as error:
        raise InputError(f"{error} (--target)") from error
    if plot is not None:
        from analysis.plots_bands import plot_bands

        try:
            plot_bands(found, plot)
        except (ValueError, OSError) as error:
            raise InputError(f"--plot {plot}: {error}") from error
        stderr.print(f"curves drawn into {plot}", highlight=False)
    typer.echo(to_json(found.to_dict()) if as_json else str(found))


@app.command()
def stopping(
    name: NameArgument,
    keep: Annotated[int, typer.Option("--keep", min=1, help="How many trials count as the best.")] = 5,
    style: Annotated[str, typer.Option("--format", help="text, markdown, csv or latex.")] = "text",
    as_json: JsonOption = False,
    home: HomeOption = HOME,
) -> None:
    """Print what each stopping rule of a study saved, and what is known of its errors, from MLflow's store."""
    if style not in ("text", "markdown", "csv", "latex"):
        raise InputError(f"--format {style}: expected text, markdown, csv or latex")
    import analysis

    study = stored(open_home(home), name)
    built = analysis.build_stopping(analysis.histories(study), study.target, keep, study.stopping_rules)
    if as_json:
        typer.echo(analysis.render(built, "json"))
        return
    notes = analysis.stopping_footnotes(study, built, keep)
    typer.echo(analysis.render(built, style, notes=notes))  # type: ignore[arg-type]  # checked above


def _transitions(study: Study, levels: str) -> pd.DataFrame:
    """Return the table of transitions at the levels of --levels, or at post I's."""
    from analysis.transitions import LEVELS, build_transitions

    try:
        return build_transitions(study, [float(part) for part in levels.split(",")] if levels else LEVELS)
    except ValueError as error:
        raise InputError(
            f"--levels {levels}: expected accuracies above 0, up to 1, with commas between them ({error})"
        ) from error
