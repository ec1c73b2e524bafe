"""Statistics of a study's configurations: one row for all trials that differ only in their seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.statistics.estimates import (
    best_of_n,
    expected_running_time,
    mean_value,
    median_epochs,
    restricted_mean,
    share_reached,
)
from analysis.statistics.intervals import Estimate, mean_sd
from analysis.store.loader import Study
from analysis.tables.transitions import LEVELS
from analysis.tables.trials import is_setting, protocol_notes, split_notes
from resnet_core import schema
from resnet_core.objective import METRIC, Objective
from resnet_core.records import Outcome, metric_text

_CONFIDENCE = 0.95
_ESTIMATES = ("share", "median", "restricted_mean", "expected_running_time")
_WITH_TARGET = (
    *("configuration", "phase", "runs", "reached", "cut_short"),
    *(name + end for name in _ESTIMATES for end in ("", "_low", "_high")),
)
_WITHOUT_TARGET = ("configuration", "phase", "runs", "cut_short", "mean_best", "mean_best_low", "mean_best_high")
_TEXTS = ("configuration", "phase")
_COUNTS = ("runs", "reached", "cut_short")


def _value_columns(objective: Objective) -> tuple[str, str]:
    """Return the columns of the value after the last epoch, and of the best value."""
    return f"final_{objective.metric}", schema.best_metric(objective.metric)


def configurations(study: Study) -> pd.DataFrame:
    """Return the configuration of each trial. Trials with equal settings, except the seed, have the same one.

    Its name is that of its first trial, without the suffix ``-sSEED`` that a repeated run has.

    Args:
        study: what `load` returned.

    Returns:
        Column configuration (text); the index is the trial's number.
    """
    trials = study.trials.sort_values("number")
    names = [name for name in trials.columns if is_setting(name)]
    settings = trials[names].astype(object).where(trials[names].notna(), None)
    # The texts themselves, not their hashes: two configurations must never collide.
    rows = zip(*(map(str, settings[name].tolist()) for name in names), strict=True) if names else [()] * len(trials)
    group = pd.Series(["\x1f".join(row) for row in rows], index=trials.index, dtype=object)
    first = trials["trial"].groupby(group).transform("first") if len(trials) else trials["trial"]
    if "seed" in trials and len(trials):
        seeds = trials["seed"].groupby(group).transform("first")
        short = [name.removesuffix(f"-s{seed}") for name, seed in zip(first, seeds, strict=True)]
        # Two configurations must not get the same name.
        distinct = pd.Series(short, index=trials.index).groupby(group).first().is_unique
        first = pd.Series(short, index=trials.index) if distinct else first
    index = pd.Index(trials["number"], name="number", dtype="int64")
    return pd.DataFrame({"configuration": first.to_numpy(dtype=object)}, index=index)


def ended_runs(study: Study, target: float | None = None) -> pd.DataFrame:
    """Return one row for each trial that has ended and not crashed, by number: the data for all statistics.

    A trial is cut short if it ended without reaching the target, before the end of its schedule, without having
    diverged: a rule pruned it, or it ended at a lower target than ``target``. Its further course is not known, so it
    counts as a miss that spent the whole budget: that improves no estimate. A diverged trial is always a miss, and
    spent the epochs that it ran.

    Args:
        study: what `load` returned.
        target: value to reach; the default is the study's own.

    Returns:
        Columns trial, configuration, epochs_to_target (math.inf for a miss), reached, cut_short, diverged, epochs_run,
        epochs_spent (up to the target where reached), final_val_acc (NaN unless the schedule was run to its end),
        best_val_acc (both with the name of the metric that counts), horizon; the index is the trial's number.
        ``attrs["budget"]`` is the study's longest horizon.

    Raises:
        ValueError: the target is impossible: for val_acc, it is outside (0, 1].
    """
    sought = study.aimed(target)
    final, best = _value_columns(sought)
    trials = study.trials.sort_values("number").set_index("number")
    trials = trials[trials["outcome"].notna() & (trials["outcome"] != Outcome.CRASHED)]
    epochs = study.epochs[study.epochs["number"].isin(trials.index)]
    by_trial = epochs.groupby("number")
    run = by_trial["epoch"].max().reindex(trials.index).fillna(0).astype("float64")
    values, sign = epochs[sought.metric], 1 if sought.goal == "max" else -1
    at_target = sign * values >= (math.inf if sought.target_score is None else sought.target_score)
    at_target &= sought.target is not None
    crossing = epochs[at_target].groupby("number")["epoch"].min().reindex(trials.index)
    diverged = trials["outcome"] == Outcome.DIVERGED
    times = crossing.astype("float64").where(~diverged).fillna(math.inf)
    reached = np.isfinite(times)
    horizon = pd.to_numeric(trials["horizon"], errors="coerce") if "horizon" in trials else run
    horizon = horizon.astype("float64").fillna(run)
    to_the_end = ~diverged & ((trials["outcome"] == Outcome.EXHAUSTED) | (run >= horizon))
    cut_short = ~reached & ~diverged & ~to_the_end
    # The horizons of running trials count too, so that the budget does not grow while the study runs.
    planned = pd.to_numeric(study.trials["horizon"], errors="coerce").max() if "horizon" in study.trials else math.nan
    budget = max((float(value) for value in (run.max(), planned) if value >= 1), default=1.0)
    last = epochs[epochs["epoch"] == by_trial["epoch"].transform("max")].set_index("number")[sought.metric]
    finite = (sign * values.where(np.isfinite(values))).groupby(epochs["number"]).max()
    table = pd.DataFrame(
        {
            "trial": trials["trial"],
            "configuration": configurations(study)["configuration"].reindex(trials.index),
            "epochs_to_target": times,
            "reached": reached,
            "cut_short": cut_short,
            "diverged": diverged,
            "epochs_run": run,
            "epochs_spent": times.where(reached, run.where(~cut_short, budget)),
            final: last.reindex(trials.index).where(to_the_end),
            best: sign * finite.reindex(trials.index),
            "horizon": horizon,
        }
    )
    table.attrs.update(target=sought.target, budget=budget)
    return table


def build_summary(study: Study, target: float | None = None) -> pd.DataFrame:
    """Return the statistics of a study's configurations: one row each, the best first.

    Each estimate is followed by the ends of its 95 % interval. analysis.statistics.estimates has the formulas;
    `ended_runs` says what counts as a miss, and how many epochs a miss spends.

    Args:
        study: what `load` returned.
        target: value to reach; the default is the study's own.

    Returns:
        Columns configuration, phase, runs, reached, cut_short, then share, median, restricted_mean and
        expected_running_time (epochs; each followed by its _low and _high), final_val_acc_mean and _sd (missing unless
        every run completed its schedule), best_val_acc_mean and _sd, budget (epochs, the study's longest schedule).
        final_ and best_ have the name of the metric that counts. The row with the lowest restricted mean is first.
        Without a target, mean_best stands in place of reached and the estimates: the mean of the runs' best values,
        with its interval by Student's t. The row with the best one is first.
        Counts are Int64, others float64. ``attrs["target"]`` is the target.

    Raises:
        ValueError: the target is impossible: for val_acc, it is outside (0, 1].
    """
    found, sought = ended_runs(study, target), study.aimed(target)
    budget = found.attrs["budget"]
    # Arrays, since a data frame for each of 2,000 configurations would take seconds.
    values = {str(name): found[name].to_numpy() for name in found}
    places = found.groupby("configuration").indices
    rows = [
        _row(str(name), study.phase, {key: column[where] for key, column in values.items()}, budget, sought)
        for name, where in places.items()
    ]
    of_values = _value_columns(sought)
    columns = list(_WITHOUT_TARGET if sought.target is None else _WITH_TARGET)
    columns += [*(name + end for name in of_values for end in ("_mean", "_sd")), "budget"]
    table = pd.DataFrame(rows, columns=columns)
    kinds = {name: "object" if name in _TEXTS else "Int64" if name in _COUNTS else "float64" for name in columns}
    table = table.astype(kinds)
    orders = {"restricted_mean": True, "mean_best": sought.goal == "min", f"{of_values[1]}_mean": sought.goal == "min"}
    orders = {name: rising for name, rising in orders.items() if name in table}
    table = table.sort_values(list(orders), ascending=list(orders.values()), kind="stable", ignore_index=True)
    table.attrs.update(target=sought.target, budget=budget, metric=sought.metric)
    return table


def build_ladder(study: Study, levels: Sequence[float] | None = None) -> pd.DataFrame:
    """Return the statistics over a ladder of targets: one row per configuration and target, in `build_summary`'s order.

    Args:
        study: what `load` returned.
        levels: targets, without repeats; the default is post I's levels, which are accuracies.

    Returns:
        Column target after configuration; the others as in `build_summary`.

    Raises:
        ValueError: a level is impossible, or given twice; or there is none, and the metric is not val_acc.
    """
    if levels is None and not study.objective.is_accuracy:
        raise ValueError(f"expected levels of {study.metric}, such as --levels 0.5,0.4; post I's are accuracies")
    levels = LEVELS if levels is None else levels
    if not levels or len(set(levels)) < len(levels):
        raise ValueError(f"levels = {', '.join(f'{level:g}' for level in levels)}: expected every level once")
    order = build_summary(study)["configuration"].tolist()
    rungs = []
    for level in sorted(levels):
        rung = build_summary(study, level)
        rung.insert(1, "target", level)
        rungs.append(rung)
    table = pd.concat(rungs, ignore_index=True)
    places = table["configuration"].map({name: place for place, name in enumerate(order)})
    table = table.loc[places.sort_values(kind="stable").index].reset_index(drop=True)
    table.attrs.update(target=study.target, budget=rungs[0].attrs["budget"], metric=study.metric)
    return table


def build_best_of_n(study: Study, target: float | None = None) -> pd.DataFrame:
    """Return the median of the best of n runs, for every configuration and n: see `analysis.best_of_n`.

    Returns:
        Columns configuration, n (Int64, from 1 to its number of runs), epochs_to_target (math.inf for a miss).

    Raises:
        ValueError: the target is impossible: for val_acc, it is outside (0, 1].
    """
    rows = [
        {"configuration": name, "n": n, "epochs_to_target": best_of_n(group.tolist(), n)}
        for name, group in ended_runs(study, target).groupby("configuration", sort=False)["epochs_to_target"]
        for n in range(1, len(group) + 1)
    ]
    table = pd.DataFrame(rows, columns=["configuration", "n", "epochs_to_target"])
    return table.astype({"configuration": "object", "n": "Int64", "epochs_to_target": "float64"})


def build_best_so_far(study: Study, target: float | None = None) -> pd.DataFrame:
    """Return the fewest epochs to target so far, or the best value, against the epochs that all trials have spent.

    Trials are in the order in which they ended (by number if the store does not say when). Crashed and diverged trials
    spent their epochs too, and have no result: neither epochs to target nor a best value.

    Args:
        study: what `load` returned.
        target: value to reach; the default is the study's own.

    Returns:
        Columns trial, epochs_spent (Int64, this trial's included), epochs_to_target (Int64, the fewest so far,
        missing before the first that reached); one row per ended trial, with its number as index. Without a target, the
        best value so far stands in place of epochs_to_target, under its name in `ended_runs`.

    Raises:
        ValueError: the target is impossible: for val_acc, it is outside (0, 1].
    """
    sought, found = study.aimed(target), ended_runs(study, target)
    best_value = schema.best_metric(sought.metric)
    trials = study.trials[study.trials["outcome"].notna()].sort_values("number")
    if "end_time" in trials:
        trials = trials.sort_values("end_time", kind="stable")
    numbers = trials["number"]
    spent = study.epochs.groupby("number")["epoch"].max().reindex(numbers).fillna(0).cumsum()
    if sought.target is None:
        values = found[best_value].where(~found["diverged"]).reindex(numbers)
        name, best = best_value, values.cummax() if sought.goal == "max" else values.cummin()
    else:
        times = found["epochs_to_target"].reindex(numbers).fillna(math.inf).cummin()
        name, best = "epochs_to_target", times.replace(math.inf, math.nan)
    table = pd.DataFrame(
        {
            "trial": trials["trial"].to_numpy(dtype=object),
            "epochs_spent": spent.to_numpy(),
            name: best.to_numpy(),
        },
        index=pd.Index(numbers, name="number"),
    )
    return table.astype({"epochs_spent": "Int64", name: "float64" if sought.target is None else "Int64"})


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """Return a summary or a ladder for people: an estimate and its interval share a cell, and there are fewer columns.

    Args:
        table: what `build_summary` or `build_ladder` returned.

    Returns:
        Texts and counts: configuration, target (of a ladder), runs, reached, share, median, restricted_mean,
        expected_running_time (without a target mean_best) as ``20.5 [19, 22]``, final_val_acc and best_val_acc as
        ``0.9213 ± 0.0009``; cut_short only if a run was cut short. The footnotes give phase and budget.
    """
    shown = table[[name for name in ("configuration", "target", "runs", "reached") if name in table]].copy()
    if table["cut_short"].any():
        shown["cut_short"] = table["cut_short"]
    texts: dict[str, list[str]] = {}
    for name in (*_ESTIMATES, "mean_best"):
        if name not in table:
            continue
        parts = zip(table[name], table[f"{name}_low"], table[f"{name}_high"], strict=True)
        texts[name] = [str(Estimate(value, low, high, _CONFIDENCE)) for value, low, high in parts]
    metric = table.attrs.get("metric", METRIC)
    for name in (f"final_{metric}", schema.best_metric(metric)):
        means_and_sds = zip(table[f"{name}_mean"], table[f"{name}_sd"], strict=True)
        texts[name] = [_mean_and_sd(mean, sd, metric) for mean, sd in means_and_sds]
    return shown.assign(**{name: pd.Series(column, shown.index, dtype="object") for name, column in texts.items()})


def summary_footnotes(study: Study, table: pd.DataFrame) -> list[str]:
    """Return the sentences a reader of the statistics needs: split, phase, target, what is counted, how sure it is.

    Args:
        study: what `load` returned.
        table: what `build_summary` or `build_ladder` made of it.
    """
    budget, target = table.attrs.get("budget", math.nan), table.attrs.get("target", study.target)
    sought, notes = study.aimed(target), split_notes(study)
    if study.phase == "confirm":
        notes.append(f"Phase confirm: {study.confirms or 'a frozen configuration'}, fresh seeds.")
    elif table["configuration"].nunique() > 1:
        notes.append(
            "Phase search: the best of these configurations are the best by these very runs, and so flattered; confirm "
            "one with fresh seeds before calling it better."
        )
    else:
        notes.append("Phase search: exploratory; confirm the configuration with fresh seeds.")
    notes.append(
        (f"Target: {sought.target_words}. " if "target" not in table else "")
        + f"A configuration: trials equal but for the seed. Budget: {budget:g} epochs, the study's longest schedule. "
        f"[low, high]: {_CONFIDENCE:.0%} intervals over runs; ±: sample standard deviation."
    )
    if sought.target is None and "target" not in table:
        notes.append("mean_best: mean of the runs' best values, with Student's t; it needs 2 runs.")
    else:
        notes.append(
            "median: a miss counts as infinite (∞); its interval needs 6 runs. restricted_mean: of epochs to target, "
            "at most the budget. expected_running_time: epochs spent by all runs for each that reached."
        )
    cut = int(table["cut_short"].max()) if len(table) else 0
    if cut and sought.target is None and "target" not in table:
        notes.append(
            "cut_short: ended by a stopping rule. Their best values might have become better, so the figures may be "
            "too bad, and are not too good; their final values are not known."
        )
    elif cut:
        notes.append(
            "cut_short: ended by a stopping rule short of this target. What they would have done is not known: they "
            "count as misses that spent the whole budget, so the figures may be too bad, and are not too good; "
            "their final values are not known."
        )
    counts = _other_trials(study)
    if counts:
        notes.append(f"Left out: {counts}.")
    return notes + protocol_notes(study)


def _row(
    name: str, phase: str, group: Mapping[str, NDArray[Any]], budget: float, objective: Objective
) -> dict[str, Any]:
    final, best = _value_columns(objective)
    times, reached = group["epochs_to_target"].tolist(), group["reached"].tolist()
    if objective.target is None:
        estimates = {"mean_best": mean_value(group[best].tolist(), _CONFIDENCE)}
    else:
        estimates = {
            "share": share_reached(sum(reached), len(times), _CONFIDENCE),
            "median": median_epochs(times, _CONFIDENCE),
            "restricted_mean": restricted_mean(times, budget, _CONFIDENCE),
            "expected_running_time": expected_running_time(
                group["epochs_spent"].tolist(), reached, _CONFIDENCE, budget=budget
            ),
        }
    row: dict[str, Any] = {
        "configuration": name,
        "phase": phase,
        "runs": len(times),
        "reached": sum(reached),
        "cut_short": int(group["cut_short"].sum()),
        "budget": budget,
    }
    for column, estimate in estimates.items():
        row |= {column: estimate.value, f"{column}_low": estimate.low, f"{column}_high": estimate.high}
    for column in (final, best):
        values = group[column]
        # A mean over the completed runs would be biased, since the others were stopped for being bad.
        known = column != final or not np.isnan(values).any()
        row[f"{column}_mean"], row[f"{column}_sd"] = mean_sd(values.tolist()) if known else (math.nan, math.nan)
    return row


def _mean_and_sd(mean: float, sd: float, metric: str) -> str:
    if math.isnan(mean):
        return "-"
    return metric_text(metric, mean) + ("" if math.isnan(sd) else f" ± {metric_text(metric, sd)}")


def _other_trials(study: Study) -> str:
    outcomes = study.trials["outcome"]
    counts = {"crashed": int((outcomes == Outcome.CRASHED).sum()), "running": int(outcomes.isna().sum())}
    return ", ".join(f"{number} {words}" for words, number in counts.items() if number)
