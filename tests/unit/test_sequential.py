"""The sequential test of pairs: its evidence, its decisions, what it refuses."""

import json
import math

import pytest

from analysis.statistics.sequential import e_value, fewest_pairs, sequential_test

MISS = math.inf


def test_without_pairs_there_is_no_evidence():
    assert e_value(0, 0) == pytest.approx(1)


def test_the_evidence_is_that_of_the_mixture():
    """Of the uniform prior: 2^n w! l! / (n + 1)!."""
    assert e_value(3, 2, prior=1.0) == pytest.approx(2**5 * 6 * 2 / 720)


def test_the_evidence_of_very_many_wins_is_infinite():
    assert e_value(5000, 0) == math.inf


def test_nine_wins_in_a_row_decide_and_eight_do_not():
    assert fewest_pairs() == 9
    assert sequential_test([1.0] * 8, [2.0] * 8).faster is None
    assert sequential_test([1.0] * 9, [2.0] * 9).faster == "A"
    assert sequential_test([2.0] * 9, [1.0] * 9).faster == "B"


def test_a_decision_stays_made():
    found = sequential_test([1.0] * 9 + [2.0] * 9, [2.0] * 9 + [1.0] * 9)
    assert (found.faster, found.decided_after, found.wins, found.losses) == ("A", 9, 9, 9)
    assert found.e_value < 1


def test_ties_are_left_out_and_two_misses_are_one():
    found = sequential_test([1.0, 3.0, MISS, 1.0], [2.0, 3.0, MISS, MISS])
    assert (found.wins, found.losses, found.ties, found.pairs) == (2, 0, 2, 4)
    assert found.e_value == e_value(2, 0)


def test_a_smaller_alpha_takes_more_pairs():
    assert fewest_pairs(0.001) > fewest_pairs(0.01) > fewest_pairs(0.05)


def test_the_text_tells_what_was_counted_and_what_decides():
    assert str(sequential_test([1.0] * 9, [2.0] * 9)) == (
        "A is faster in 9 of 9 pairs, B in 0, ties 0: A is faster, decided after 9 pairs (e-value 23.3; 20 decides)"
    )
    assert str(sequential_test([1.0], [2.0])) == (
        "A is faster in 1 of 1 pairs, B in 0, ties 0: not decided (e-value 1; 20 decides)"
    )


def test_as_plain_values_it_is_json():
    assert json.loads(json.dumps(sequential_test([1.0], [2.0]).to_dict()))["wins"] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([1.0], []), "1 runs of A and 0 of B"),
        (([math.nan], [1.0]), "NaN"),
        (([1.0], [1.0], 1.0), "alpha = 1.0: expected a number between 0 and 1"),
        (([1.0], [1.0], 0.05, 0.0), "prior = 0.0: expected a number above 0"),
    ],
)
def test_what_cannot_be_tested_is_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        sequential_test(*arguments)


def test_no_number_of_wins_is_negative():
    with pytest.raises(ValueError, match="-1 wins and 0 losses"):
        e_value(-1, 0)
