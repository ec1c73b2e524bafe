"""A sequential test of which of two configurations is faster: it may be evaluated after every pair of runs.

A pair is two runs that share a seed. H0: given that one of the two is faster, it is A with probability 1/2. Ties are
left out, so that under H0 pairs are tosses of a fair coin. After w wins and l losses of A the e-value is

    E = ∫ p^w (1-p)^l dBeta(p; a, a) / (1/2)^(w+l) = 2^(w+l) B(a+w, a+l) / B(a, a)

the likelihood ratio of a mixture of all p against 1/2. The prior is symmetric, so the test is two-sided. Under H0, E is
a martingale that begins at 1, so by Ville's inequality (Étude critique de la notion de collectif, 1939; Ramdas,
Grünwald, Vovk & Shafer, Statistical Science 38, 2023) P(E ever reaches 1/alpha) <= alpha: the test may be stopped or
continued after any pair. A decision is final.

Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

ALPHA = 0.05
"""The highest probability of a false decision, however often the test is evaluated."""
PRIOR = 2.0
"""Both parameters of the beta prior. Chosen with tests/benchmarks/sequential.py: among priors with less than 2 % of
false decisions, it needs the fewest pairs for differences of 2 epochs and more."""


@dataclass(frozen=True)
class SequentialTest:
    """The state of the test after some pairs of runs.

    Attributes:
        pairs: number of pairs.
        wins: number of pairs in which A was faster.
        losses: number of pairs in which B was faster.
        ties: number of pairs in which both were equally fast, or both missed.
        e_value: the e-value after all pairs.
        faster: ``A`` or ``B`` if the test has decided; else None.
        decided_after: number of pairs up to the decision, ties included; None without a decision.
        alpha: highest probability of a false decision.
    """

    pairs: int
    wins: int
    losses: int
    ties: int
    e_value: float
    faster: str | None
    decided_after: int | None
    alpha: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def __str__(self) -> str:
        counts = f"A is faster in {self.wins} of {self.pairs} pairs, B in {self.losses}, ties {self.ties}"
        needed = f"e-value {self.e_value:.3g}; {1 / self.alpha:g} decides"
        if self.faster is None:
            return f"{counts}: not decided ({needed})"
        return f"{counts}: {self.faster} is faster, decided after {self.decided_after} pairs ({needed})"


def e_value(wins: int, losses: int, prior: float = PRIOR) -> float:
    """Return the e-value, the evidence against H0; the module has the formula.

    Args:
        wins: number of pairs that A won.
        losses: number of pairs that A lost.
        prior: both parameters of the beta prior, above 0.

    Raises:
        ValueError: a number is out of bounds.

    >>> round(e_value(9, 0), 2)
    23.27
    """
    if wins < 0 or losses < 0:
        raise ValueError(f"{wins} wins and {losses} losses: expected 0 or more")
    if not 0 < prior < math.inf:
        raise ValueError(f"prior = {prior!r}: expected a number above 0")
    pairs = wins + losses
    log = pairs * math.log(2) + _log_beta(prior + wins, prior + losses) - _log_beta(prior, prior)
    return math.exp(log) if log < _LARGEST else math.inf


def sequential_test(
    a: Sequence[float], b: Sequence[float], alpha: float = ALPHA, prior: float = PRIOR
) -> SequentialTest:
    """Go through pairs in order; decide at the first pair at which the e-value is 1/alpha or more.

    Args:
        a: epochs to target of A, math.inf for a miss; shape (pairs,). The order must not depend on the results.
        b: epochs to target of B; b[i] shares its seed with a[i]. Shape (pairs,).
        alpha: error probability, in (0, 1).
        prior: both parameters of the beta prior, above 0.

    Raises:
        ValueError: the shapes differ, an epoch is NaN, or alpha or prior is out of bounds.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} runs of A and {len(b)} of B: expected pairs that share a seed")
    if any(math.isnan(epochs) for epochs in (*a, *b)):
        raise ValueError("epochs: expected numbers, math.inf for a miss; there is a NaN")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha = {alpha!r}: expected a number between 0 and 1")
    wins = losses = 0
    faster, decided_after, evidence = None, None, e_value(0, 0, prior)
    for pair, (of_a, of_b) in enumerate(zip(a, b, strict=True), start=1):
        wins, losses = wins + (of_a < of_b), losses + (of_b < of_a)
        evidence = e_value(wins, losses, prior)
        if faster is None and evidence >= 1 / alpha:
            faster, decided_after = "A" if wins > losses else "B", pair
    ties = len(a) - wins - losses
    return SequentialTest(len(a), wins, losses, ties, evidence, faster, decided_after, alpha)


def fewest_pairs(alpha: float = ALPHA, prior: float = PRIOR) -> int:
    """Return the smallest number of pairs that can decide, if one side wins all of them.

    >>> fewest_pairs()
    9
    """
    pairs = 1
    while e_value(pairs, 0, prior) < 1 / alpha:
        pairs += 1
    return pairs


_LARGEST = math.log(1e300)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
