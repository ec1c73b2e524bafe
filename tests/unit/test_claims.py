"""Claims on confirmations: their grammar, and the exact test of them."""

import json
import math

import pytest
from scipy.stats import binomtest

from analysis.statistics.claims import Claim, check_claim, parse_claim

MISS = math.inf


@pytest.mark.parametrize("text", ["median <= 21", "median<=21", "  median  <=  21.0 "])
def test_a_median_is_claimed(text):
    assert parse_claim(text) == Claim(text.strip(), 21, 0.5)


@pytest.mark.parametrize("text", ["share(18) >= 0.9", "share ( 18 )>=0.90"])
def test_a_share_is_claimed(text):
    assert parse_claim(text) == Claim(text, 18, 0.9)


@pytest.mark.parametrize(
    "text",
    ["", "median < 21", "median >= 21", "mean <= 21", "median <= -1", "median <= nan", "share(18) <= 0.9",
     "share >= 0.9", "share(18) >= 90%", "median <= 21; share(18) >= 0.9", "Median <= 21", "median <= ٢"],
)  # fmt: skip
def test_anything_else_is_refused_with_what_was_expected(text):
    with pytest.raises(ValueError, match=r'expected median <= EPOCHS, such as "median <= 21", or share\(EPOCHS\)'):
        parse_claim(text)


def test_numbers_out_of_bounds_are_refused():
    with pytest.raises(ValueError, match="EPOCHS = 0: expected a number above 0"):
        parse_claim("median <= 0")
    with pytest.raises(ValueError, match="SHARE = 1: expected a number between 0 and 1; no number of runs"):
        parse_claim("share(18) >= 1")
    with pytest.raises(ValueError, match="SHARE = 90: expected"):
        parse_claim("share(18) >= 90")


@pytest.mark.parametrize(("within", "misses", "p", "supported"), [
    (7, 0, 0.0078125, True), (5, 0, 0.03125, True), (4, 0, 0.0625, False), (7, 1, 9 / 256, True), (0, 3, 1, False),
])  # fmt: skip
def test_a_median_is_supported_by_enough_runs_within(within, misses, p, supported):
    found = check_claim(parse_claim("median <= 21"), [21.0] * within + [MISS] * misses)
    assert (found.p_value, found.supported) == (pytest.approx(p), supported)


@pytest.mark.parametrize(("k", "n"), [(0, 4), (3, 9), (28, 29), (29, 29), (10, 10)])
def test_the_test_is_scipys(k, n):
    found = check_claim(parse_claim("share(18) >= 0.9"), [18.0] * k + [18.5] * (n - k))
    theirs = binomtest(k, n, 0.9, alternative="greater")
    assert found.p_value == pytest.approx(theirs.pvalue)
    assert found.lower == pytest.approx(theirs.proportion_ci(0.95, method="exact").low)
    assert found.supported == (found.lower >= 0.9)


def test_the_smallest_number_of_runs_that_could_support_a_claim_is_reported():
    claim = parse_claim("share(18) >= 0.9")
    assert check_claim(claim, [17.0] * 10).fewest == 29
    assert not check_claim(claim, [17.0] * 28).supported
    assert check_claim(claim, [17.0] * 29).supported
    assert "29 runs could support it at the least" in str(check_claim(claim, [17.0] * 10))
    assert "at the least" not in str(check_claim(claim, [17.0] * 29))


def test_the_verdict_says_on_what_it_rests():
    assert str(check_claim(parse_claim("median <= 21"), [20.0] * 7)) == (
        'claim "median <= 21": supported at 95%: 7 of 7 runs reached the target by epoch 21 (exact binomial test, '
        "p = 0.0078; at least 0.652 of all runs do, where 0.5 is claimed)"
    )
    assert json.loads(json.dumps(check_claim(parse_claim("median <= 21"), [MISS]).to_dict()))["within"] == 0


def test_without_runs_there_is_no_verdict():
    with pytest.raises(ValueError, match="expected those of one run or more"):
        check_claim(parse_claim("median <= 21"), [])
    with pytest.raises(ValueError, match="expected those of one run or more"):
        check_claim(parse_claim("median <= 21"), [math.nan])
    with pytest.raises(ValueError, match="confidence = 1"):
        check_claim(parse_claim("median <= 21"), [1.0], confidence=1)
