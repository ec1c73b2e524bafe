"""The names under which Optuna's storage holds what is ours: attributes of a study and of its trials.

Ledgers of earlier versions hold these names, so none of them may change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Attributes of a study.
SPEC = "study"
"""What the study asks, as JSON (`search_spaces.study.to_json`). It is written last: without it there is no study."""
IMPORTED = "imported"
"""Where an imported study comes from (`sweeps.study.origin.Origin`)."""
LENGTHENED = "lengthened"
"""How a confirmation came to its number of runs: ``sequential``, or ``looked``; see `analysis.Study`."""

# Attributes of a trial.
NAME = "name"
"""The trial's name in the study."""
CONFIG = "config"
"""What it trains (`TrialConfig.to_dict`)."""
RESULT = "result"
"""How it ended (`sweeps.study.outcomes.Result.to_dict`)."""
LISTED = "listed"
"""Its index among the trials that the study file names."""
RUN = "run"
"""The name of the listed run that it repeats."""
SEED = "seed"
"""The seed that it was given, where the seed does not follow from its number."""
FINALIST = "finalist"
"""Set where it repeats one of the study's best configurations with a fresh seed."""
RETRY_OF = "retry_of"
"""Optuna's number of the crashed trial that it tries again."""
CONTINUES = "continues"
"""The number, in the study, of the stopped trial that goes on in it."""
THAWED = "thawed"
"""The epochs after which that trial had been stopped."""
WOULD_STOP = "would_stop"
"""By rule, the first epoch at which it would have been stopped; of a running trial, since a result holds the same."""
FORKED = "forked_from"
"""The study and the trial that it is a copy of, for the sampler of a forked study."""


def of_repetition(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a trial that repeats the run of another one, with the same seed."""
    kept = {key: attributes[key] for key in (RUN, NAME, LISTED, RETRY_OF, FINALIST) if key in attributes}
    return kept | {SEED: attributes[CONFIG]["seed"]} if CONFIG in attributes else kept
