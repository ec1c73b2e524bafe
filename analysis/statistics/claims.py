"""Claims on a confirmation, tested exactly: does the number of runs that reach the target by an epoch support them?

Grammar: ``median <= EPOCHS`` or ``share(EPOCHS) >= SHARE``. Both claims are on the share of runs that reach the target
by an epoch, p = P(T <= EPOCHS). T is epochs to target, infinite for a miss. The median is at most EPOCHS if and only if
p is 1/2 or more. After k of n runs with T <= EPOCHS, H0: p < SHARE is tested by the exact binomial test:

    P = P(Binomial(n, SHARE) >= k)

and the claim is supported if P <= 1 - confidence. This is equivalent to Clopper and Pearson's one-sided lower bound for
p (Biometrika 26, 1934) being SHARE or more. n must be fixed before the runs are seen.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
_MEDIAN = re.compile(rf"\s*median\s*<=\s*{_NUMBER}\s*", re.ASCII)
_SHARE = re.compile(rf"\s*share\s*\(\s*{_NUMBER}\s*\)\s*>=\s*{_NUMBER}\s*", re.ASCII)
_EXPECTED = 'expected median <= EPOCHS, such as "median <= 21", or share(EPOCHS) >= SHARE, such as "share(18) >= 0.9"'


@dataclass(frozen=True)
class Claim:
    """A claim that at least a share of all runs reaches the target by an epoch.

    Attributes:
        text: the claim as it was written.
        epochs: the epoch by which these runs reach the target, above 0.
        share: the claimed share, in (0, 1).
    """

    text: str
    epochs: float
    share: float


@dataclass(frozen=True)
class Verdict:
    """The result of testing a claim.

    Attributes:
        claim: the claim.
        runs: number of runs.
        within: number of runs that reached the target by the claim's epoch.
        p_value: probability of ``within`` or more if the true share were just below the claimed one.
        lower: Clopper and Pearson's one-sided lower bound for the share.
        confidence: confidence of the test, in (0, 1).
        supported: whether the runs support the claim.
        fewest: smallest number of runs that can support the claim, which they do if all reach the target in time.
    """

    claim: Claim
    runs: int
    within: int
    p_value: float
    lower: float
    confidence: float
    supported: bool
    fewest: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def __str__(self) -> str:
        said = "supported" if self.supported else "not supported"
        text = (
            f'claim "{self.claim.text}": {said} at {self.confidence:.0%}: {self.within} of {self.runs} runs reached '
            f"the target by epoch {self.claim.epochs:g} (exact binomial test, p = {self.p_value:.2g}; at least "
            f"{self.lower:.3f} of all runs do, where {self.claim.share:g} is claimed)"
        )
        if self.runs < self.fewest:
            text += f"; {self.fewest} runs could support it at the least, all of them in time"
        return text


def parse_claim(text: str) -> Claim:
    """Return the claim that a text makes.

    Raises:
        ValueError: the text is not in the grammar, or a number in it is out of bounds.

    >>> parse_claim("median <= 21")
    Claim(text='median <= 21', epochs=21.0, share=0.5)
    """
    if found := _MEDIAN.fullmatch(text):
        claim = Claim(text.strip(), float(found[1]), 0.5)
    elif found := _SHARE.fullmatch(text):
        claim = Claim(text.strip(), float(found[1]), float(found[2]))
    else:
        raise ValueError(f"{text!r}: {_EXPECTED}")
    if not 0 < claim.epochs < math.inf:
        raise ValueError(f"{text!r}: EPOCHS = {claim.epochs:g}: expected a number above 0")
    if not 0 < claim.share < 1:
        raise ValueError(
            f"{text!r}: SHARE = {claim.share:g}: expected a number between 0 and 1; no number of runs supports a share "
            "of 1"
        )
    return claim


def check_claim(claim: Claim, epochs: Sequence[float], confidence: float = 0.95) -> Verdict:
    """Test a claim; the module explains the test.

    Args:
        claim: the claim.
        epochs: epochs to target of each run, math.inf for a miss; shape (runs,).
        confidence: in (0, 1).

    Raises:
        ValueError: there is no run, a run's epochs are NaN, or the confidence is out of bounds.
    """
    from scipy.special import betainc, betaincinv

    if not len(epochs) or any(math.isnan(value) for value in epochs):
        raise ValueError("epochs: expected those of one run or more, math.inf for a miss")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence = {confidence!r}: expected a number between 0 and 1")
    n, k, alpha = len(epochs), sum(value <= claim.epochs for value in epochs), 1 - confidence
    # P(Binomial(n, p) >= k) is the regularised incomplete beta function I_p(k, n - k + 1).
    p_value = float(betainc(k, n - k + 1, claim.share)) if k else 1.0
    lower = float(betaincinv(k, n - k + 1, alpha)) if k else 0.0
    fewest = math.ceil(math.log(alpha) / math.log(claim.share))
    return Verdict(claim, n, k, p_value, lower, confidence, p_value <= alpha, fewest)
