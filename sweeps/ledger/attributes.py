"""The names of this package's user attributes of studies and trials in Optuna's storage.

Ledgers of earlier versions hold these names, so none of them may change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Attributes of a study.
SPEC = "study"
"""The study's specification as JSON (`search_spaces.study.to_json`). It is written last: without it no study exists."""
IMPORTED = "imported"
"""Where an imported study comes from (`sweeps.study.origin.Origin`)."""
LENGTHENED = "lengthened"
"""How a confirmation's number of runs was decided: ``sequential``, or ``looked``; see `analysis.Study`."""

# Attributes of a trial.
NAME = "name"
"""The trial's name in the study."""
CONFIG = "config"
"""The trial's configuration (`TrialConfig.to_dict`)."""
RESULT = "result"
"""The trial's result (`sweeps.study.outcomes.Result.to_dict`)."""
LISTED = "listed"
"""The trial's index among the trials that the study file lists."""
RUN = "run"
"""The name of the listed run that the trial repeats."""
SEED = "seed"
"""The trial's seed, where the seed does not follow from the trial's number."""
FINALIST = "finalist"
"""Set where the trial repeats one of the study's best configurations with a fresh seed."""
RETRY_OF = "retry_of"
"""Optuna's number of the crashed trial that this trial retries."""
CONTINUES = "continues"
"""The number, in the study, of the stopped trial that this trial continues."""
THAWED = "thawed"
"""The number of epochs after which the continued trial had been stopped."""
WOULD_STOP = "would_stop"
"""By rule, the first epoch at which it would have stopped the trial; for running trials: a result holds it too."""
FORKED = "forked_from"
"""The study and the trial of which this trial is a copy, for the sampler of a forked study."""


def of_repetition(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a trial that repeats the run of another trial with the same seed."""
    kept = {key: attributes[key] for key in (RUN, NAME, LISTED, RETRY_OF, FINALIST) if key in attributes}
    return kept | {SEED: attributes[CONFIG]["seed"]} if CONFIG in attributes else kept
