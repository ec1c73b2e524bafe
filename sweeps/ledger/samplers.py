"""The shipped samplers. Optuna is imported when a sampler is made, not when a study file is read."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from search_spaces.conditions import is_conditional
from search_spaces.parameters import Choices
from search_spaces.plugins import Sampler, find_sampler, is_own_sampler
from search_spaces.tables import SEEDS
from sweeps.ledger.attributes import FORKED

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

    from search_spaces.spec import StudySpec

_CMAES_NEEDS = 10  # trials to start from: it uses the best tenth of them


def _tpe(
    seed: int,
    trials: Sequence[FrozenTrial],  # noqa: ARG001
    *,
    n_startup_trials: int = 10,
    n_ei_candidates: int = 24,
    prior_weight: float | None = None,
    multivariate: bool = True,
    group: bool = False,
    constant_liar: bool = True,
) -> BaseSampler:
    from optuna.samplers import TPESampler

    return TPESampler(
        n_startup_trials=n_startup_trials,
        n_ei_candidates=n_ei_candidates,
        prior_weight=prior_weight,
        multivariate=multivariate,
        group=group and multivariate,
        constant_liar=constant_liar,
        seed=seed,
    )


def _gp(
    seed: int,
    trials: Sequence[FrozenTrial],  # noqa: ARG001
    *,
    n_startup_trials: int = 10,
    deterministic_objective: bool = False,
) -> BaseSampler:
    from optuna.samplers import GPSampler

    return GPSampler(n_startup_trials=n_startup_trials, deterministic_objective=deterministic_objective, seed=seed)


def _random(seed: int, trials: Sequence[FrozenTrial]) -> BaseSampler:  # noqa: ARG001
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


def _cmaes(
    seed: int,
    trials: Sequence[FrozenTrial],
    *,
    n_startup_trials: int = 1,
    sigma0: float | None = None,
    popsize: int | None = None,
    use_separable_cma: bool = False,
    with_margin: bool = False,
    lr_adapt: bool = False,
) -> BaseSampler:
    """Return CMA-ES. In a forked study, it starts from the older study's trials if there are enough.

    Other samplers treat copied trials as trials of this study. CMA-ES needs them as an argument, and uses only numeric
    parameters. It cannot start from them where it is told the first step, or keeps to the axes.
    """
    from optuna.samplers import CmaEsSampler
    from optuna.trial import TrialState

    known = [_numbers(t) for t in trials if FORKED in t.user_attrs and t.state is TrialState.COMPLETE]
    starts_from_known = len(known) >= _CMAES_NEEDS and sigma0 is None and not use_separable_cma
    return CmaEsSampler(
        n_startup_trials=n_startup_trials,
        sigma0=sigma0,
        popsize=popsize,
        use_separable_cma=use_separable_cma,
        with_margin=with_margin,
        lr_adapt=lr_adapt,
        source_trials=known if starts_from_known else None,
        seed=seed,
    )


def _numbers(trial: FrozenTrial) -> FrozenTrial:
    """Return a trial without its categorical parameters."""
    from optuna.distributions import CategoricalDistribution
    from optuna.trial import create_trial

    kinds = {n: d for n, d in trial.distributions.items() if not isinstance(d, CategoricalDistribution)}
    return create_trial(value=trial.value, params={name: trial.params[name] for name in kinds}, distributions=kinds)


SAMPLERS = (
    Sampler("tpe", _tpe, note="multivariate, aware of running trials", conditional={"group": True}),
    Sampler("gp", _gp, ignores_pruned=True),
    Sampler("random", _random, conditional={}),
    Sampler("cmaes", _cmaes, ignores_pruned=True, numbers_alone=True),
    Sampler("grid", _random, exhaustive=True, conditional={}),  # all points are listed; nothing is sampled
)
"""`search_spaces.plugins` adds the samplers of installed packages."""


def make_sampler(spec: StudySpec, trials: Sequence[FrozenTrial], shift: int = 0) -> BaseSampler:
    """Return Optuna's sampler of a study. A sampler of the user's own is imported.

    Args:
        spec: the study.
        trials: trials of the study so far, including those copied from another study. The seed depends on their
            number, so that a continued study does not repeat its first samples.
        shift: number that is added to the seed.

    Raises:
        CodeError: a sampler of the user's own cannot be used.
    """
    from optuna.exceptions import ExperimentalWarning

    sampler = find_sampler(spec.search.sampler)
    separate = separately_drawn(spec, sampler)
    settings = dict(spec.search.sampler_options)
    if is_conditional(spec.space):
        settings = {**(sampler.conditional or {}), **settings}
    with warnings.catch_warnings():
        for kind in (ExperimentalWarning, FutureWarning):  # Optuna deprecates settings in the latter
            warnings.simplefilter("ignore", kind)
        known = [_without(trial, separate) for trial in trials] if separate else trials
        made = sampler.make((spec.search.seed + len(trials) + shift) % SEEDS, known, **settings)
    if not separate:
        return made
    from sweeps.ledger.conditional import SeparateSampler

    return SeparateSampler(made, separate)


def _without(trial: FrozenTrial, names: Sequence[str]) -> FrozenTrial:
    """Return a trial without the parameters that a sampler does not see."""
    seen = copy.copy(trial)
    seen.params = {name: value for name, value in trial.params.items() if name not in names}
    seen.distributions = {name: kind for name, kind in trial.distributions.items() if name not in names}
    return seen


def separately_drawn(spec: StudySpec, sampler: Sampler) -> list[str]:
    """Return the parameters that a sampler draws one by one, since some trials lack them and it needs the same in all.

    They are the conditional parameters. It is empty where the sampler can draw these jointly, too.
    """
    if sampler.conditional is not None:
        return []
    return [name for name, parameter in spec.space.items() if parameter.when]


def sampler_notes(spec: StudySpec, at_once: int = 1) -> list[str]:
    """Return what a person should know of a study's sampler, in sentences; a sampler of the user's own is imported.

    Optuna's own warnings are not shown: they come in the middle of a study, and speak of the code that calls it.

    Args:
        spec: the study.
        at_once: how many trials run at the same time; 1 where that is not known.

    Raises:
        CodeError: a sampler of the user's own cannot be used.
    """
    notes = list(repeat_notes(spec))
    if not spec.is_sampled:
        return notes
    sampler = find_sampler(spec.search.sampler)
    separate = [name for name in separately_drawn(spec, sampler) if spec.space[name].size != 1]
    if separate:
        notes.append(
            f"{sampler.name} learns nothing about {', '.join(separate)}, which some trials do not have, and draws "
            "each by itself; tpe learns about them, too"
        )
    choices = [name for name, parameter in spec.space.items() if isinstance(parameter, Choices) and parameter.size > 1]
    if sampler.numbers_alone and choices:
        notes.append(
            f"{sampler.name} learns about numbers alone, and draws {', '.join(choices)} at random in every trial; tpe "
            "and gp learn about choices, too"
        )
    random, settings = _first_at_random(spec, sampler)
    trials = spec.search.trials
    if trials is not None and random and trials < random + at_once:
        advice = f"ask for more trials, or set {' and '.join(settings)} in [search.sampler_options]"
        begun = (
            f"draws its first {random} trials at random, and the study has {trials}: it learns nothing"
            if trials <= random
            else f"draws trials at random until {random} have ended, and with {at_once} at once all {trials} of the "
            "study have begun by then: it learns nothing"
        )
        notes.append(f"{sampler.name} {begun}; {advice}")
    if is_own_sampler(spec.search.sampler) and sampler.ignores_pruned:
        notes.append(
            f"{sampler.name} may learn from completed trials alone, so trials that a rule stops are told to it as "
            "completed"
        )
    return notes


def _first_at_random(spec: StudySpec, sampler: Sampler) -> tuple[int, list[str]]:
    """Return how many trials end before a sampler learns from any, and the settings that say so; 0 if none is known.

    An evolution strategy learns from whole generations.
    """
    known: dict[str, Any] = {name: one.default for name, one in sampler.parameters().items()}
    known |= spec.search.sampler_options
    if sampler.numbers_alone and "popsize" in known and known["popsize"] is None:
        separate = separately_drawn(spec, sampler)
        dimensions = [name for name, one in spec.space.items() if not isinstance(one, Choices) and name not in separate]
        known["popsize"] = 4 + math.floor(3 * math.log(len(dimensions))) if dimensions else 0  # as in CMA-ES itself
    counts: dict[str, int] = {}
    for name in ("n_startup_trials", "popsize", "population_size"):
        count = known.get(name)
        if isinstance(count, int) and count > 0:
            counts[name] = count
    return sum(counts.values()), list(counts)


def repeat_notes(spec: StudySpec) -> list[str]:
    """Return a sentence on trials that repeat others with the same seed, and so the same result; none without such."""
    from search_spaces.space import distinct_count, has_all, has_one_seed, same_trials  # imports Optuna

    if not spec.space:
        names = same_trials(spec)
        return [f"listed again, with the same settings and the same seed: {', '.join(names)}"] if names else []
    if not spec.is_sampled or not has_one_seed(spec):
        return []
    distinct, trials = distinct_count(spec), spec.search.trials
    if trials is None:
        return []
    if "seed" in spec.trainer.fields:
        why, advice = "all trials have the same seed", "leave the seed out of [train]"
    else:
        why, advice = f"{spec.trainer.name} has no field `seed`", "give it one"
    first = spec.search.first[:trials]
    same = [i for i, params in enumerate(first) if has_all(spec, params) and params in first[:i]]
    notes = [f"search.first[{i}] is there twice: {why}, so the trial repeats another; {advice}" for i in same]
    # Of draws with equal chances, these many repeat an earlier one; a sampler that learns repeats more of them.
    repeated = max(trials - distinct, _repeated_draws(trials, distinct)) if distinct < math.inf else 0
    if repeated < 1:
        return notes
    many = f"{trials - distinct} or more" if trials > distinct else f"about {round(repeated)} or more"
    listed = f'ask for {distinct} trials with sampler = "grid"' if trials > distinct else 'take sampler = "grid"'
    return [
        *notes,
        f"the space has {distinct} different configurations, and the study {trials} trials: {why}, so "
        f"{many} repeat others; {advice}, or {listed}",
    ]


def _repeated_draws(draws: int, values: float) -> float:
    """Return how many of some draws are expected to repeat an earlier one, where all values are as likely.

    >>> round(_repeated_draws(6, 6), 1)
    2.0
    """
    different = -values * math.expm1(draws * math.log1p(-1 / values)) if values > 1 else 1
    return draws - different
