"""A study as one HTML file: its question, its result, the uncertainty of the result, and how to repeat the study.

What answers the question comes first; how a page is made stands in `analysis.report.page`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from analysis.plots.contour import plot_contour
from analysis.plots.curves import plot_best_trials, plot_curves
from analysis.plots.parallel import plot_parallel
from analysis.plots.predictions import plot_confusion
from analysis.plots.settings import sampled_parameters
from analysis.plots.slices import plot_slices
from analysis.plots.statistics import plot_best_so_far, plot_importance, plot_share_reached
from analysis.plots.timeline import plot_timeline
from analysis.report.page import Block, Section, figure_block, render_page
from analysis.statistics.estimates import share_reached
from analysis.store.loader import Study
from analysis.tables.columns import most_important
from analysis.tables.confirmation import build_confirmation
from analysis.tables.cost import build_cost, cost_footnotes
from analysis.tables.importance import build_importance, importance_footnotes
from analysis.tables.rendering import fold_constants, render
from analysis.tables.stopping import build_stopping, histories, stopping_footnotes
from analysis.tables.summary import build_summary, configurations, ended_runs, readable, summary_footnotes
from analysis.tables.trials import (
    build_table,
    count_outcomes,
    crash_notes,
    footnotes,
    is_setting,
    protocol_notes,
    split_notes,
)
from resnet_core.records import duration_text

_MOST_COLUMNS = 13  # of the table of trials, to fit on a page
_BEST = 5
_LONGEST_TABLE = 40  # rows
_NO_LEDGER = "Left out: the ledger that holds the study file is not here."
_NOT_RUN = "Left out: the trials ran elsewhere, and the imported file need not say all of what they trained."
_PROTOCOL = ("data", "model", "split", "optimizer", "batch_size", "precision", "train_limit", "val_limit")


@dataclass(frozen=True)
class Reproduction:
    """Information that is needed to repeat a study and is not in MLflow's store.

    Attributes:
        study_file: the study file, as text.
        commands: the commands to type, one per line.
        note: a sentence that says which results will be the same, and which will not.
    """

    study_file: str
    commands: str
    note: str = ""


@dataclass(frozen=True)
class BestNetwork:
    """What is known of the best network that was kept.

    Attributes:
        trial: name of its trial.
        epoch: the epoch after which it was kept.
        classes: names of the classes.
        confusion: of each true class (row), how many validation images were taken for which class (column).
    """

    trial: str
    epoch: int
    classes: Sequence[str]
    confusion: Sequence[Sequence[int]]


def build_report(
    study: Study,
    repeat: Reproduction | None = None,
    published: pd.DataFrame | None = None,
    made: datetime | None = None,
    network: BestNetwork | None = None,
) -> str:
    """Return a study's report: one HTML file, which needs no other file and no network.

    A section that has nothing to show says why.

    Args:
        study: what `load` returned.
        repeat: how to repeat the study; None without the ledger, which holds its study file.
        published: published runs to draw as well, in the form of `plot_best_trials`.
        made: time of the report; the default is now.
        network: the best network that was kept; None without one.
    """
    build = _Report(study, repeat, published, network)
    return render_page(study.name, study.description, build.sections(), made, study, order=build.table.index.tolist())


def report_sections(
    study: Study,
    repeat: Reproduction | None = None,
    published: pd.DataFrame | None = None,
    keys: Collection[str] | None = None,
    network: BestNetwork | None = None,
) -> list[Section]:
    """Return the sections of a study's report.

    Args:
        study: what `load` returned.
        repeat: see `build_report`.
        published: see `build_report`.
        keys: keys of the sections to make; None makes all.
        network: see `build_report`.
    """
    return _Report(study, repeat, published, network).sections(keys)


class _Report:
    def __init__(
        self,
        study: Study,
        repeat: Reproduction | None,
        published: pd.DataFrame | None,
        network: BestNetwork | None = None,
    ) -> None:
        self.study, self.repeat, self.published, self.network = study, repeat, published, network
        self.table = build_table(study)
        self.counts = count_outcomes(study, self.table)
        # One run says nothing about the spread of runs.
        summary = build_summary(study)
        self.summary = summary[summary["runs"] > 1]

    def sections(self, keys: Collection[str] | None = None) -> list[Section]:
        builders: Iterable[tuple[str, str, Callable[[], list[Block]]]] = (
            ("headline", "Result", self._headline),
            ("curves", "The best trials", self._best),
            ("results", "Trials", self._results),
            ("statistics", "Statistics", self._statistics),
            ("importance", "Which parameters mattered", self._importance),
            ("contour", "The two that mattered most", self._contour),
            ("parallel", "Parameters side by side", self._parallel),
            ("slices", "Parameters one by one", self._slices),
            ("trials", "All trials", self._all),
            ("progress", "The search over time", self._progress),
            ("stopping", "Stopping early", self._stopping),
            ("network", "The best network", self._network),
            ("protocol", "Protocol", self._protocol),
            ("cost", "Cost", self._cost),
            ("environment", "Environment", self._environment),
            ("repeat", "How to repeat it", self._repeat),
        )
        found = []
        for key, title, build in builders:
            if keys is not None and key not in keys:
                continue
            try:
                blocks = build()
            except ValueError as error:  # a table or plot that has nothing to show says why
                blocks = [_missing(f"Left out: {error}.")]
            found.append(Section(key, title, blocks))
        return found

    def _nothing(self) -> str:
        """Return why the study has no result."""
        return next(iter(crash_notes(self.study)), "No trial has run yet.")

    def _headline(self) -> list[Block]:
        study, counts, table = self.study, self.counts, self.table
        if not len(table):
            return [_missing(self._nothing())]
        best = table.iloc[0]
        sought = study.objective
        top = best[f"{sought.metric}_best"]
        if pd.isna(top):
            return [_missing("No trial has finished an epoch yet.")]
        if sought.target is None:
            first = (
                f"Trial {best['trial']} has the best {sought.label}: {sought.shown(top)} at epoch {best['epoch_best']}."
            )
        elif pd.notna(best["epochs_to_target"]):
            held = best["epochs_to_target_sustained"]
            told = f"sustained from epoch {held}"
            if pd.isna(held):
                of_trial = (
                    study.epochs[study.epochs["number"] == table.index[0]].sort_values("epoch")[sought.metric].tolist()
                )
                told = f"not sustained in the {best['epochs_run']} epochs that it ran"
                if not sought.sustained_is_known(of_trial):
                    told = "whether that was sustained is not known: it ended there"
            first = f"Trial {best['trial']} reached {sought.target_text} at epoch {best['epochs_to_target']} ({told})."
        else:
            first = (
                f"No trial reached {sought.target_text}; the best, {best['trial']}, came to {sought.shown(top)} at "
                f"epoch {best['epoch_best']}."
            )
        said = [first, *self._uncertainty()]
        # The statistics of several runs come first: they say more than the luckiest run.
        blocks = [_text(sentence) for sentence in (said[1:2] + said[:1] + said[2:] if len(self.summary) else said)]
        if counts.running:
            blocks.append(_text(f"{counts.running} trials have not ended: these figures are of an unfinished study."))
        return blocks

    def _uncertainty(self) -> Iterator[str]:
        """Yield sentences on the uncertainty of the result."""
        study, counts, table, sought = self.study, self.counts, self.table, self.study.objective
        if len(self.summary):
            first = readable(self.summary).iloc[0]
            if sought.target is None:
                yield (
                    f"{first['configuration']}: mean of the best {sought.label} of {first['runs']} runs "
                    f"{first['mean_best']} (95\u00a0% interval)."
                )
        if len(self.summary) and sought.target is not None:
            yield (
                f"{first['configuration']}: {first['reached']} of {first['runs']} runs reached {sought.target_text}, a "
                f"share of {first['share']}; median {first['median']} epochs, restricted mean "
                f"{first['restricted_mean']} (95\u00a0% intervals)."
            )
        if study.phase == "confirm":
            yield f"A confirmation of {study.confirms or 'a frozen configuration'}: fresh seeds, nothing was pruned."
            yield from self._accuracies()
            return
        if configurations(study)["configuration"].nunique() > 1:
            if not len(self.summary) and sought.target is not None:
                share = share_reached(counts.reached, len(table))
                yield (
                    f"{counts.reached} of {len(table)} trials reached it, a share of {share} (95\u00a0% interval), "
                    "over all that the search tried; it is no chance of any one configuration."
                )
            chosen = f"the best of {len(table)} trials is flattered by having been chosen for its result"
        else:
            chosen = f"{len(table)} run{'s' * (len(table) > 1)} of one configuration"
        # The file of an imported study may not say all that is needed to run it again.
        advice = "" if study.imported else f" `sweeps confirm {study.name}` repeats a configuration with fresh seeds."
        yield f"Exploratory: {chosen}.{advice}"

    def _accuracies(self) -> Iterator[str]:
        """Yield sentences on the values of a confirmation; also those on the test images, if it evaluated them."""
        if ended_runs(self.study).empty:
            return
        found = build_confirmation(self.study)
        final, best, label = found.final_value, found.best_value, found.objective.label
        yield f"{label[:1].upper()}{label[1:]} after the last epoch: {final}; the best of each run: {best}."
        if found.test_acc is not None:
            yield f"Test accuracy after the last epoch: {found.test_acc}."
        if found.test_first is not None:
            yield f"Reached {found.objective.target_text} on the test images: {found.test_first}."

    def _protocol(self) -> list[Block]:
        study, trials = self.study, self.study.trials
        shipped = study.is_shipped
        # What is the same in all trials of a trainer of somebody's own.
        same = [str(name) for name in trials if is_setting(str(name)) and trials[name].map(str).nunique() == 1]
        rows = {
            name: _values(trials[name])
            for name in (_PROTOCOL if shipped else same)
            if name in trials and trials[name].notna().any()
        }
        rows |= {"target": study.objective.target_words}
        if study.target is not None:
            rows["sustained"] = f"{study.sustained} epochs"
        rows |= {"phase": self.study.phase}
        if shipped:
            chosen = "official" in (study.split or "")
            rows["chosen on the test set"] = (
                "yes: the validation images are the test set's, so accuracies are optimistic" if chosen else "no"
            )
            if study.split is None:
                rows["chosen on the test set"] = "not known"
        notes = [*split_notes(study), *protocol_notes(study)]
        return [_pairs(rows, ("setting", "value"), "What all trials have in common"), Block("notes", notes)]

    def _results(self) -> list[Block]:
        if not len(self.table):
            return [_missing(self._nothing())]
        table, same = fold_constants(self.table.head(_LONGEST_TABLE))
        notes = [*footnotes(self.study, self.table), *same]
        if len(self.table) > _LONGEST_TABLE:
            notes.append(
                f"The best {_LONGEST_TABLE} of {len(self.table)}; `sweeps table {self.study.name}` has them all."
            )
        notes.append(f"All columns: `sweeps table {self.study.name} --format csv`.")
        columns = [str(name) for name in table]
        shown = most_important(columns, table.attrs["sampled"], _MOST_COLUMNS, self.study.objective)
        return [_table(table, "Trials, the best first", shown), self._notes(notes)]

    def _statistics(self) -> list[Block]:
        if not len(self.summary):
            return [
                _missing(
                    "Left out: no configuration has run more than once, so nothing is known of how runs of one differ."
                )
            ]
        notes = self._notes(summary_footnotes(self.study, self.summary))
        blocks = [_table(readable(self.summary.head(_LONGEST_TABLE)), "Configurations that ran more than once"), notes]
        if self.study.target is None:
            return blocks
        caption = "Share of runs that had reached the target, over epochs."
        figure = figure_block(plot_share_reached(self.study), "share", caption)
        return [*blocks, figure]

    def _best(self) -> list[Block]:
        published = self.published
        figure = plot_best_trials(self.study, _BEST, published)
        label, aimed = self.study.objective.label, self.study.target is not None
        crossings = ", with the epoch at which each reached the target" if aimed else ""
        scheduled = "schedule" in self.study.trials  # a trainer of somebody's own may have none
        rates = "," * aimed + " and their learning rates below" if scheduled else ""
        caption = f"The best trials: {label}{crossings}{rates}."
        if published is not None and len(published):
            caption += (
                f" Diamonds: {len(published)} published runs, of which only these points are known, and the schedule "
                "of the fastest of them."
            )
        result = "epochs_to_target" if aimed else f"{self.study.metric}_best"
        columns = ["trial", result, "schedule", "epochs_run", "outcome"]
        columns = [name for name in columns if name in self.table]
        return [figure_block(figure, "best", caption), _table(self.table.head(_BEST), "The best trials", columns)]

    def _all(self) -> list[Block]:
        figure = plot_curves(self.study)
        *others, last = [axes.get_ylabel().partition(" [")[0] for axes in figure.axes]
        shown = f"{', '.join(others)} and {last}" if others else last
        dashed = "validation solid, training dashed, " if {"loss", "acc"} & set(self.study.epochs) else ""
        caption = f"All trials over epochs: {shown}; {dashed}the best trial strong."
        return [figure_block(figure, "all", caption)]

    def _progress(self) -> list[Block]:
        what = "fewest epochs to target" if self.study.target is not None else f"best {self.study.objective.label}"
        figure = figure_block(
            plot_best_so_far(self.study), "progress", f"The {what} so far, over the epochs that all trials spent."
        )
        try:
            over_time = figure_block(
                plot_timeline(self.study),
                "timeline",
                "When each trial ran and how it ended; below, the epochs that were spent by then, and those that would "
                "have been had no rule stopped a trial.",
            )
        except ValueError as error:
            over_time = _missing(f"Left out: {error}.")
        return [figure, over_time]

    @cached_property
    def _importances(self) -> pd.DataFrame:
        return build_importance(self.study)

    def _importance(self) -> list[Block]:
        built = self._importances
        caption = "Importance of each sampled parameter, with the interval of its rank."
        figure = figure_block(plot_importance(built), "importance", caption)
        return [figure, _table(built, "Importance of the parameters"), self._notes(importance_footnotes(self.study))]

    def _contour(self) -> list[Block]:
        names = [str(name) for name in self._importances.dropna(subset=["importance"])["parameter"]]
        params = sampled_parameters(self.study)
        numbers = [name for name in names if pd.api.types.is_numeric_dtype(params[name])]
        if len(numbers) < 2:
            return [_missing("Left out: fewer than two parameters that vary are numbers.")]
        first, second = numbers[:2]
        caption = (
            f"{first} and {second}, the numbers that mattered most: what a Gaussian process expects of them, between "
            "the trials that it was fitted to. The stronger the colour, the better; the other parameters vary as well."
        )
        return [figure_block(plot_contour(self.study, (first, second)), "contour", caption)]

    def _parallel(self) -> list[Block]:
        caption = "Every trial as a line through its parameters to its result."
        return [figure_block(plot_parallel(self.study), "parallel", caption)]

    def _slices(self) -> list[Block]:
        caption = "Every trial's result over each parameter."
        if self.study.target is not None:
            caption += " An arrow upwards is a trial that did not reach the target, whenever it ended."
        return [figure_block(plot_slices(self.study), "slices", caption)]

    def _network(self) -> list[Block]:
        network = self.network
        if network is None:
            own = "" if self.study.is_shipped else "; what a trainer of one's own keeps says nothing of classes"
            return [
                _missing(
                    f"Left out: no kept network says how often which class was taken for which{own}. `[keep]` in the "
                    "study file says how many of the best are kept."
                )
            ]
        counts = np.array(network.confusion)
        right, images = int(np.trace(counts)), int(counts.sum())
        said = f"Trial {network.trial} after epoch {network.epoch}: {right:,} of {images:,} validation images right."
        wrong = counts * (1 - np.eye(len(counts), dtype=int))
        true, predicted = np.unravel_index(int(wrong.argmax()), wrong.shape)
        if wrong.max() > 1:  # with one mistake of each kind, none is the most frequent
            said += (
                f" Most often taken for another: {network.classes[int(true)]} for {network.classes[int(predicted)]}, "
                f"{wrong[true, predicted]} times."
            )
        caption = "Confusion matrix: of each true class (row), how many images were taken for which class (column)."
        return [_text(said), figure_block(plot_confusion(counts, network.classes), "confusion", caption)]

    def _stopping(self) -> list[Block]:
        study = self.study
        trials = histories(study)
        built = build_stopping(trials, study.objective.target_score, _BEST, study.stopping_rules)
        if len(built) <= 1:  # the row of all rules together
            return [_missing("Left out: no stopping rule was on, so every trial ran to its end.")]
        return [_table(built, "Stopping rules"), self._notes(stopping_footnotes(study, trials, built, _BEST))]

    def _cost(self) -> list[Block]:
        cost = build_cost(self.study)
        if not cost["epochs_run"].sum():
            return [_missing("Left out: no trial has finished an epoch.")]
        epochs, hours = cost["epochs_run"].sum(), cost["hours"].sum()
        energy = cost.get("energy_wh")  # a trainer of somebody's own may have no reading
        if cost["hours"].isna().all():
            return [_missing("Left out: the store does not say how long the epochs took.")]
        said = f"{epochs} epochs of training took {duration_text(3600 * hours)} in all"
        said += f" and {energy.sum() / 1000:.3g} kWh" if energy is not None and energy.notna().all() else ""
        span = self.study.trials["end_time"].max() - self.study.trials["start_time"].min()
        if pd.notna(span) and not self.study.imported:
            said += f", within {duration_text(span.total_seconds())} from the first trial's start to the last's end"
        blocks = [_text(said + ".")]
        if energy is not None and energy.isna().any():
            blocks.append(_missing("Energy is left out: not every epoch has a power reading, as without a GPU."))
        shown = cost.loc[self.table.index].head(_LONGEST_TABLE // 2)
        shown = shown.drop(columns=[name for name in shown if shown[name].isna().all()])
        notes = cost_footnotes(self.study, shown)
        if len(shown) < len(cost):
            all_of_them = f"`sweeps table {self.study.name} --view cost`"
            notes.append(f"Of the best {len(shown)} of {len(cost)} trials; {all_of_them} has them all.")
        return [*blocks, _table(shown, "What trials cost"), self._notes(notes)]

    def _environment(self) -> list[Block]:
        if not self.study.environment:
            return [_missing("Left out: the store does not say what the study ran with.")]
        return [_pairs(self.study.environment, ("what", "value"), "What the trials ran with")]

    def _repeat(self) -> list[Block]:
        if self.repeat is None:
            return [_missing(_NOT_RUN if self.study.imported else _NO_LEDGER)]
        seeds = self.study.trials["seed"].dropna() if "seed" in self.study.trials else pd.Series(dtype="int64")
        blocks = [
            _text(f"Save the study file below as {self.study.name}.toml, then:"),
            Block("code", self.repeat.commands),
            Block("code", self.repeat.study_file),
        ]
        if len(seeds):
            blocks.append(_text(f"Seeds of the trials: {_ranges(sorted({int(seed) for seed in seeds}))}."))
        return [*blocks, *([_text(self.repeat.note)] if self.repeat.note else [])]

    def _notes(self, notes: Sequence[str]) -> Block:
        """Return the notes on a table, except those that the section on the protocol has."""
        said = (*split_notes(self.study), *protocol_notes(self.study))
        return Block("notes", [note for note in notes if note not in said])


def _text(content: str) -> Block:
    return Block("text", content)


def _missing(content: str) -> Block:
    return Block("missing", content)


def _pairs(rows: dict[str, str], names: tuple[str, str], caption: str) -> Block:
    return _table(pd.DataFrame(list(rows.items()), columns=list(names), dtype="object"), caption)


def _table(table: pd.DataFrame, caption: str, columns: Sequence[str] | None = None) -> Block:
    return Block("table", render(table, "html", columns=columns, caption=caption), caption)


def _values(column: pd.Series[Any]) -> str:
    return ", ".join(
        dict.fromkeys(f"{value:g}" if isinstance(value, float) else str(value) for value in column.dropna())
    )


def _ranges(numbers: Sequence[int]) -> str:
    """Return whole numbers in rising order as text; several in a row as a range such as 3-7."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ", ".join("-".join(map(str, part)) for part in parts)
