"""The importance of a study's parameters, and the uncertainty of their ranking."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.store.loader import Study
from analysis.tables.trials import trial_curves
from resnet_core import schema
from resnet_core.records import Outcome

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

FEWEST_TRIALS = 20
"""With fewer trials the importances are only noise, and an error is raised."""

_FEWEST_ASKED = 10
"""A conditional parameter that fewer trials have gets no importance."""

_BEST = 5
_SHARE = 0.1
_RESAMPLES = 100
_MANY, _FEWER_RESAMPLES = 500, 40
"""Of so many trials, a resampled study takes long, and the ranks differ little."""

_COLUMNS = ("parameter", "importance", "rank", "rank_low", "rank_high")


def build_importance(study: Study, seed: int = 0) -> pd.DataFrame:
    """Return how much each sampled parameter determines which trials are among the best.

    PED-ANOVA (Watanabe, Bansal & Hutter, IJCAI 2023, arXiv 2304.10255; Optuna's PedAnovaImportanceEvaluator): how much
    the distribution of the best trials' values differs from that of all trials. The best are a tenth, at least five, by
    the number that the sampler minimises (`resnet_core.objective.Objective.minimised`). A trial that diverged, or that
    a rule stopped below the target, counts among all trials but never among the best. The ranks' intervals are the 2.5
    and 97.5 % quantiles over 100 studies of trials resampled with replacement, of more than 500 trials over 40: wide if
    the order of the parameters depends on a few trials. A conditional parameter is judged by the trials that have it,
    weighted by their share of the best and of all trials (arXiv 2601.20800); that only some have it does not count for
    it, but for the parameter that decides. Its importance is empty where fewer than ten trials have it.

    Args:
        study: what `load` returned. Ranges are those of `study.space`, or the observed ones if the store does not say.
        seed: seed of the resampling.

    Returns:
        Columns parameter, importance (shares of 1), rank (from 1), rank_low, rank_high (Int64), the most important
        first.

    Raises:
        ValueError: the study sampled nothing, too few of its trials ended, or too few of these ended without being
            stopped.
    """
    import optuna

    values, params, varied = _observations(study)
    names = [name for name in varied if params[name].count() >= _FEWEST_ASKED]
    spans = {name: _distribution(name, params[name], study.space) for name in names}
    rows = [{name: _plain(row[name]) for name in names if not pd.isna(row[name])} for row in params.to_dict("records")]
    trials = [_trial(number, value, row, spans) for number, (value, row) in enumerate(zip(values, rows, strict=True))]
    share = max(_SHARE, _BEST / len(trials))
    random = np.random.default_rng(seed)
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # else it logs a line for every study in memory
    try:
        found = _importances(trials, names, share)
        resamples = _RESAMPLES if len(trials) <= _MANY else _FEWER_RESAMPLES
        draws = random.integers(len(trials), size=(resamples, len(trials)))
        ranks = np.array([_ranks(_importances([trials[i] for i in draw], names, share)) for draw in draws])
    finally:
        optuna.logging.set_verbosity(level)
    low, high = np.quantile(ranks, (0.025, 0.975), axis=0, method="inverted_cdf")
    total = sum(found)
    table = pd.DataFrame(
        {
            "parameter": names,
            "importance": [value / total if total else 1 / len(names) for value in found],
            "rank": _ranks(found),
            "rank_low": low,
            "rank_high": high,
        },
        columns=list(_COLUMNS),
    )
    unknown = pd.DataFrame({"parameter": [name for name in varied if name not in names]}, columns=list(_COLUMNS))
    table = pd.concat([table, unknown], ignore_index=True) if len(unknown) else table
    table = table.astype(
        dict.fromkeys(("rank", "rank_low", "rank_high"), "Int64") | {"parameter": "object", "importance": float}
    )
    return table.sort_values(["rank", "parameter"], ignore_index=True)


def importance_footnotes(study: Study) -> list[str]:
    """Return the sentences a reader of the importances needs."""
    ranges = "the study file's ranges" if study.space else "the observed ranges, as the store has no others"
    return [
        f"PED-ANOVA over {ranges}: how unlike all trials the best tenth (5 at least) are in a parameter; shares of 1.",
        "rank_low, rank_high: 95% of resampled studies. Ranks whose intervals overlap are not told apart.",
        "It says which parameter made the difference within these ranges, not which value is good.",
    ]


def _observations(study: Study) -> tuple[list[float], pd.DataFrame, list[str]]:
    """Return objectives and parameters of the trials, and the names of the parameters that vary."""
    sampled = [name for name in study.trials.columns if name.startswith(schema.SAMPLED)]
    if not sampled:
        raise ValueError(f"study {study.name!r} sampled no parameter: it lists its runs")
    horizons = pd.to_numeric(study.trials["horizon"], errors="coerce")
    longest = float(horizons.max()) if horizons.notna().any() else 1.0
    values, rows, undisturbed = list[float](), list[dict[str, Any]](), 0
    for _, trial, curve in trial_curves(study):
        row = {name.removeprefix(schema.SAMPLED): trial[name] for name in sampled}
        if trial["outcome"] is None or all(pd.isna(value) for value in row.values()):
            continue
        stopped = trial["outcome"] in (Outcome.PRUNED, Outcome.DIVERGED)
        # Worse than any trial that was not stopped.
        found = None if stopped else study.objective.minimised(curve[study.metric].tolist(), longest)
        value = math.inf if found is None else found
        undisturbed += not stopped
        values.append(value)
        rows.append(row)
    if len(values) < FEWEST_TRIALS:
        raise ValueError(
            f"study {study.name!r}: {len(values)} trials ended; importances of fewer than {FEWEST_TRIALS} are noise"
        )
    needed = max(_BEST, math.ceil(_SHARE * len(values)))
    if undisturbed < needed:
        raise ValueError(
            f"study {study.name!r}: {undisturbed} of {len(values)} trials were not stopped by a rule; "
            f"expected {needed} or more, which the best are chosen from"
        )
    params = pd.DataFrame(rows)
    names = [str(name) for name in params if params[name].nunique() > 1]
    if sum(params[name].count() >= _FEWEST_ASKED for name in names) < 2:
        raise ValueError(f"study {study.name!r}: expected two or more parameters that vary, found {len(names)}")
    return values, params, names


def _distribution(name: str, values: pd.Series[Any], space: Mapping[str, Any] | None) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    values = values.dropna().infer_objects()
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    known = (space or {}).get(name)
    if known is not None and "choices" in known and set(values) <= set(known["choices"]):
        return CategoricalDistribution(known["choices"])
    if not numeric:
        return CategoricalDistribution(sorted(set(values), key=str))
    low, high = _plain(values.min()), _plain(values.max())
    log = False
    if known is not None and "low" in known:
        # Older trials of a forked study may lie outside the range.
        low, high, log = min(low, known["low"]), max(high, known["high"]), bool(known.get("log")) and low > 0
    if pd.api.types.is_integer_dtype(values) or (known or {}).get("int"):
        return IntDistribution(int(low), int(high), log=log)
    return FloatDistribution(low, high, log=log)


def _trial(number: int, value: float, params: dict[str, Any], spans: dict[str, BaseDistribution]) -> FrozenTrial:
    """Return a finished Optuna trial; the evaluator identifies trials by their number."""
    from optuna.trial import FrozenTrial, TrialState

    nothing: dict[str, Any] = {"user_attrs": {}, "system_attrs": {}, "intermediate_values": {}}
    times: dict[str, Any] = {"datetime_start": None, "datetime_complete": None}
    return FrozenTrial(
        number,
        TrialState.COMPLETE,
        value,
        params=params,
        distributions={name: spans[name] for name in params},
        trial_id=number,
        **nothing,
        **times,
    )


def _importances(trials: Sequence[FrozenTrial], names: Sequence[str], share: float) -> list[float]:
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator
    from optuna.storages import InMemoryStorage

    class Held(InMemoryStorage):
        """Returns the trials themselves, since adding copies took most of the time."""

        def get_all_trials(self, *_: Any, **__: Any) -> list[FrozenTrial]:
            return list(trials)

    study = optuna.create_study(storage=Held())
    asked = {name for trial in trials for name in trial.params}  # a resample may lack a conditional parameter
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of few trials with a parameter; a resample may have few
        evaluator = PedAnovaImportanceEvaluator(target_quantile=share)
        found = evaluator.evaluate(study, params=[name for name in names if name in asked])
    return [found.get(name, 0.0) for name in names]


def _ranks(importances: Sequence[float]) -> list[int]:
    """Return ranks, 1 for the highest; equal importances have the same, better rank."""
    return [1 + sum(other > value for other in importances) for value in importances]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
