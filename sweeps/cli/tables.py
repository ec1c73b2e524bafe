"""Commands that print tables of a study, from MLflow's store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweeps.cli.app import command, print_json, print_json_text, print_message, print_result, terminal_width
from sweeps.cli.options import FormatOption, JsonOption, NameArgument, Store, check_figure, choice, writing
from sweeps.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from analysis import Study


@command()
def table(
    name: NameArgument,
    *,
    view: Annotated[
        str,
        choice("--view", "results", "statistics", "ladder", "importance", "noise", "cost", "transitions"),
    ] = "results",
    target: Annotated[
        float | None,
        typer.Option("--target", help="Another target, for results and statistics.", show_default="the study's"),
    ] = None,
    levels: Annotated[
        str,
        typer.Option("--levels", help="Accuracies, for transitions and ladder: 0.91,0.92.", show_default="post I's"),
    ] = "",
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw a figure into this file (png, pdf, svg).")] = None,
    figure: Annotated[
        str,
        choice(
            "--figure",
            *("curves", "slices", "importance", "best-so-far", "share-reached", "best-of-n", "schedules"),
            help="With --plot: ",
        ),
    ] = "curves",
    compare: Annotated[
        bool, typer.Option("--compare", help="With --plot: trials beside each other, in four panels.")
    ] = False,
    published: Annotated[
        bool, typer.Option("--published", help="Published figures beside those of the runs that repeat them.")
    ] = False,
    trial: Annotated[
        list[str],
        typer.Option("--trial", help="Plot the curves of these trials only.", default_factory=list, show_default=False),
    ],
    store: Store,
    style: FormatOption = "text",
    as_json: JsonOption = False,
) -> None:
    """Print a table of a study's trials, fastest first.

    --view prints another table. All values are read from MLflow's store.
    """
    if target is not None and view not in ("results", "statistics"):
        raise InputError(f"--target {target:g}: expected with --view results or statistics only")
    if levels and view not in ("transitions", "ladder"):
        raise InputError(f"--levels {levels}: expected with --view transitions or ladder only")
    if plot is None and (compare or figure != "curves"):
        raise InputError(f"{'--compare' if compare else '--figure'}: expected --plot FILE beside it")
    if figure != "curves" and (compare or trial):
        raise InputError(f"--figure {figure}: expected without --compare and --trial, which are for curves")
    if published and (view != "results" or target is not None):
        raise InputError("--published: expected without --view and --target: it has rows and targets of its own")
    check_figure(plot)
    import analysis
    from analysis.tables.columns import METRICS

    # Reading takes most of the time; only curves and other views need all metrics.
    little = view == "results" and plot is None and not published
    study = store.results(name, METRICS if little else None)
    _check_target(study, target)
    for_people = not as_json and style != "csv"
    if published:
        built, notes = _published(study, for_people)
    else:
        built, notes = _view(study, view, target, levels, for_people)
    notes = [*analysis.import_notes(study), *(_all_crashed(study) or notes)]
    if plot is not None:
        try:
            with writing("--plot", plot):
                if figure == "curves":
                    draw = analysis.plot_comparison if compare else analysis.plot_curves
                    draw(study, _numbers(study, trial), plot)
                else:
                    _draw(study, figure, plot)
        except InputError as error:
            if isinstance(error.__cause__, ValueError) and (crashed := _all_crashed(study)):
                raise InputError(f"--plot {plot}: {' '.join(crashed)}") from error
            raise
        print_message(f"{figure} drawn into {plot}")
    if as_json:
        print_json_text(analysis.render(built, "json"))
        return
    width = terminal_width() if style == "text" else None
    print_result(analysis.render(built, style, width=width, notes=notes))  # type: ignore[arg-type]  # one of its choices


@command()
def compare(
    sides: Annotated[
        list[str],
        typer.Argument(metavar="A B [C]...", help="Studies of one configuration, or STUDY:TRIAL; A with each other."),
    ],
    *,
    target: Annotated[
        float | None, typer.Option("--target", help="Another target, for all.", show_default="the studies'")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw both learning-curve bands of two sides into this file.")
    ] = None,
    mix: Annotated[bool, typer.Option("--mix", help="Compare a search with a confirmation all the same.")] = False,
    store: Store,
    as_json: JsonOption = False,
) -> None:
    """Compare configurations with the first, seed by seed.

    The command compares the share of runs that reach the target, and their epochs to target.
    """
    from analysis.tables.comparison import PhaseError, compare_configurations, configuration_runs

    if len(sides) < 2:
        raise InputError(f"{sides[0]}: expected two sides or more, each a study or STUDY:TRIAL")
    if plot is not None and len(sides) > 2:
        raise InputError(f"--plot {plot}: expected with two sides, not {len(sides)}")
    check_figure(plot)
    arms = []
    for text in sides:
        study, _, trial = text.partition(":")
        try:
            of_study = store.results(study)
            _check_target(of_study, target)
            arms.append(configuration_runs(of_study, trial, target))
        except ValueError as error:
            raise InputError(str(error)) from error
    try:
        found = compare_configurations(arms, mix=mix)
    except PhaseError as error:
        raise InputError(f"{error}; confirm them (`sweeps confirm`), or ask for it with --mix") from error
    except ValueError as error:
        raise InputError(f"{error} (--target)") from error
    if plot is not None:
        from analysis.plots.bands import plot_bands

        with writing("--plot", plot):
            plot_bands(found[0], plot)
        print_message(f"curves drawn into {plot}")
    if as_json:
        shown = [each.to_dict() for each in found]
        print_json(shown[0] if len(shown) == 1 else {"comparisons": shown})
        return
    print_result("\n\n".join(map(str, found)))


@command()
def stopping(
    name: NameArgument,
    *,
    keep: Annotated[int, typer.Option("--keep", min=1, help="How many trials count as the best.")] = 5,
    store: Store,
    style: FormatOption = "text",
    as_json: JsonOption = False,
) -> None:
    """Print what each stopping rule of a study saved.

    The table also counts the known errors of each rule. All values are read from MLflow's store.
    """
    import analysis
    from analysis.tables.stopping import METRICS

    study = store.results(name, METRICS)
    trials = analysis.histories(study)
    built = analysis.build_stopping(trials, study.objective.target_score, keep, study.stopping_rules)
    if as_json:
        print_json_text(analysis.render(built, "json"))
        return
    notes = _all_crashed(study) or analysis.stopping_footnotes(study, trials, built, keep)
    notes = [*analysis.import_notes(study), *notes]
    width = terminal_width() if style == "text" else None
    print_result(analysis.render(built, style, width=width, notes=notes))  # type: ignore[arg-type]  # one of its choices


def _all_crashed(study: Study) -> list[str]:
    """Return a sentence that takes the place of all others where every trial crashed."""
    from analysis.tables.trials import crash_notes
    from resnet_core.records import Outcome

    return crash_notes(study) if (study.trials["outcome"] == Outcome.CRASHED).all() else []


def _check_target(study: Study, target: float | None) -> None:
    if target is not None:
        try:
            study.aimed(target)
        except ValueError as error:
            raise InputError(f"--target {target:g}: {str(error).partition(': ')[2]}") from error


def _view(
    study: Study, view: str, target: float | None, levels: str, for_people: bool
) -> tuple[pd.DataFrame, list[str]]:
    """Return the table of a view and its footnotes."""
    import analysis

    if view == "cost":
        built = analysis.build_cost(study)
        return built, analysis.cost_footnotes(study, built)
    if view in ("noise", "importance"):
        try:
            if view == "noise":
                return analysis.build_noise(study), analysis.noise_footnotes(study)
            return analysis.build_importance(study), analysis.importance_footnotes(study)
        except ValueError as error:
            raise InputError(f"--view {view}: {' '.join(_all_crashed(study)) or error}") from error
    if view == "transitions":
        return _at_levels(analysis.build_transitions, study, view, levels), analysis.transition_footnotes(study)
    if view == "results":
        built = analysis.build_table(study, target)
        return built, analysis.footnotes(study, built)
    if view == "ladder":
        built = _at_levels(analysis.build_ladder, study, view, levels)
    else:
        built = analysis.build_summary(study, target)
    notes = analysis.summary_footnotes(study, built)
    return analysis.readable(built) if for_people else built, notes


def _at_levels(build: Callable[..., pd.DataFrame], study: Study, view: str, levels: str) -> pd.DataFrame:
    """Return a table at the levels of --levels; without any, at those of post I."""
    try:
        asked = [float(part) for part in levels.split(",")] if levels else []
    except ValueError as error:
        raise InputError(
            f"--levels {levels}: expected values of the metric with commas between them, such as 0.9,0.91 ({error})"
        ) from error
    try:
        return build(study, asked) if asked else build(study)
    except ValueError as error:
        raise InputError(f"--view {view}: {error}") from error


def _numbers(study: Study, names: list[str]) -> list[int] | None:
    """Return the numbers of the trials with these names; None if no names are given."""
    numbers = dict(zip(study.trials["trial"], study.trials["number"], strict=True))
    unknown = [name for name in names if name not in numbers]
    if unknown:
        raise InputError(f"--trial {unknown[0]}: expected one of {', '.join(numbers)}")
    return [numbers[name] for name in names] or None


def _draw(study: Study, figure: str, path: Path) -> None:
    import analysis

    if figure == "importance":
        analysis.plot_importance(analysis.build_importance(study), path)
        return
    drawn = {
        "slices": analysis.plot_slices,
        "best-so-far": analysis.plot_best_so_far,
        "share-reached": analysis.plot_share_reached,
        "best-of-n": analysis.plot_best_of_n,
        "schedules": analysis.plot_schedules,
    }
    drawn[figure](study, path)


def _published(study: Study, for_people: bool) -> tuple[pd.DataFrame, list[str]]:
    """Return the table that compares published figures with ours, and its footnotes."""
    import analysis
    from search_spaces.figures import published_rows

    built = analysis.build_published(study, published_rows(study.name))
    notes = analysis.published_footnotes(study, built)
    return (analysis.published_text(built) if for_people else built), notes
