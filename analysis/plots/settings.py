"""The settings in which a study's trials differ, as figures show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.store.loader import Study
from resnet_core import schema
from resnet_core.schedule import parse

LONGEST_NAME = 14  # characters


def sampled_parameters(study: Study, numbers: Sequence[int] | None = None) -> pd.DataFrame:
    """Return the sampled parameters that vary, in the order of the study file; without any, the settings that vary.

    Numbers are numbers and all else texts, missing where a parameter was not asked.

    Args:
        study: what `load` returned.
        numbers: numbers of the trials; the default is all.

    Returns:
        One row per trial, with its number as index; a column per parameter.
    """
    numbers = study.trials["number"].tolist() if numbers is None else list(numbers)
    trials, space = study.trials.set_index("number").loc[numbers], study.space or {}
    names = [str(name).removeprefix(schema.SAMPLED) for name in trials if str(name).startswith(schema.SAMPLED)]
    order = {name: place for place, name in enumerate(space)}
    found = pd.DataFrame(index=trials.index)
    for name in sorted(names, key=lambda name: order.get(name, len(order))):
        values = trials[schema.SAMPLED + name].infer_objects()
        if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
            found[name] = values.astype(float)
        else:
            # A parameter that is always asked may have the choice None.
            asked = values.notna() | ("when" not in space.get(name, {}))
            found[name] = values.astype(object).where(values.notna(), None).map(str).where(asked)
    varying = found[[name for name in found if found[name].nunique() > 1]]
    return varying if names else varying_settings(study, numbers)


def varying_settings(study: Study, numbers: list[int]) -> pd.DataFrame:
    """Return the settings that vary and that a figure of slices shows; one row per trial."""
    trials = study.trials.set_index("number").loc[numbers]
    settings = pd.DataFrame(index=trials.index)
    for name in ("lr_alpha", "weight_decay"):
        if name in trials:
            settings[name] = _where_asked(trials, name)
    texts = list(trials.get("schedule", ()))
    scheduled = all(isinstance(text, str) for text in texts)  # a trainer of one's own may have none
    knots = [[knot.epoch for knot in parse(text).knots[1:]] for text in texts] if scheduled else []
    for i in range(min((len(epochs) for epochs in knots), default=0)):
        settings[f"breakpoint {i + 1} [epoch]"] = [epochs[i] for epochs in knots]
    for name in ("shift", *(name for name in study.space or {} if name not in settings)):
        if name in trials:
            is_number = pd.api.types.is_numeric_dtype(trials[name]) and not pd.api.types.is_bool_dtype(trials[name])
            settings[name] = _where_asked(trials, name) if is_number else _categories(trials, name, study.space or {})
    return settings[[name for name in settings if settings[name].nunique() > 1]]


def _categories(trials: pd.DataFrame, name: str, space: Mapping[str, Any]) -> pd.Series[Any]:
    """Return a setting as texts; NaN where it is a conditional parameter that the trial does not have."""
    texts, sampled = trials[name].astype(object).where(trials[name].notna(), None).map(str), schema.SAMPLED + name
    # A parameter that is always asked may have the choice None.
    conditional = sampled in trials and "when" in space.get(name, {})
    return texts.where(trials[sampled].notna()) if conditional else texts


def _where_asked(trials: pd.DataFrame, name: str) -> pd.Series[float]:
    """Return a setting as numbers; NaN where it is a conditional parameter that the trial does not have."""
    values = pd.to_numeric(trials[name], errors="coerce")
    sampled = schema.SAMPLED + name
    return values.where(trials[sampled].notna()) if sampled in trials else values


def is_log(values: pd.Series[float], known: Mapping[str, Any]) -> bool:
    """Return whether an axis of these values is logarithmic; ``known`` is what the study file says of the parameter."""
    low, high = float(values.min()), float(values.max())
    return low > 0 and (bool(known.get("log")) or high > 10 * low)


def pairs_text(values: Mapping[Any, Any]) -> str:
    """Return the parameters that a trial has as a text."""
    return ", ".join(f"{name} {value_text(value)}" for name, value in values.items() if not pd.isna(value))


def value_text(value: Any) -> str:
    """Return a value as a text of four digits, or as it is."""
    return f"{value:.4g}" if isinstance(value, (int, float, np.number)) else str(value)


def shortened_name(name: str) -> str:
    """Return a name of at most LONGEST_NAME characters; names often differ in how they end."""
    end = LONGEST_NAME // 2
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1 - end]}…{name[-end:]}"
