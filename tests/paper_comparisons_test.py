"""What is called a difference, and what is read of a cell."""

import numpy as np
import pytest

from keras_l2e.paper.comparisons import Measured, Spread, difference, mastered, seeds_spread

SURE = 10**9  # test examples
CERTAIN = Spread(largest=0.0, deviation=0.0, degrees=4)


def rates(*values, count=SURE):
    return Measured(np.array(values), np.full(len(values), count))


def test_the_margin_counts_the_choice_of_test_examples():
    one = rates(0.5, count=10_000)
    # Each rate's standard error is 0.005, that of their difference 1.414 times it.
    assert difference(one, one, CERTAIN).margin == pytest.approx(1.96 * 0.00707, rel=0.01)
    # All seeds answer the same test examples.
    both = rates(0.5, 0.5, count=10_000)
    assert difference(both, both, CERTAIN).margin == pytest.approx(1.96 * 0.00707, rel=0.01)
    assert difference(rates(0.515, count=10_000), one, CERTAIN).significant
    assert not difference(rates(0.512, count=10_000), one, CERTAIN).significant
    # Rates of exactly 1 are not known exactly.
    assert 0 < difference(rates(1.0, count=100), rates(1.0, count=100), CERTAIN).margin < 0.1


def test_the_margin_counts_seeds():
    one, two = rates(0.5), rates(0.50, 0.53)
    spread = Spread(largest=0.01, deviation=0.02, degrees=4)
    # Student's t for four degrees of freedom is 2.776.
    assert difference(one, one, spread).margin == pytest.approx(2.776 * 0.02 * 2**0.5, rel=1e-3)
    assert difference(two, two, spread).margin == pytest.approx(2.776 * 0.02, rel=1e-3)
    # Never less than the range: a set of two seeds has its own, a set of one has the largest seen.
    little = Spread(largest=0.5, deviation=0.001, degrees=4)
    assert difference(two, two, little).margin == pytest.approx(0.03, rel=1e-3)
    assert difference(two, one, little).margin == 0.5
    # Nobody knows what another seed would have given.
    assert seeds_spread([one, one]) is None
    assert not difference(rates(0.9), one, None).significant
    # By themselves: (0.03 / sqrt(2)), one degree of freedom, for two and one.
    expected = 12.706 * 0.03 / 2**0.5 * 1.5**0.5
    assert difference(two, one, seeds_spread([two, one])).margin == pytest.approx(expected, 1e-3)


def test_the_spread_is_pooled_over_sets():
    spread = seeds_spread([rates(0.1, 0.3), rates(0.5, 0.5, 0.8), rates(0.9)])
    # Squares 0.02 and 0.06 over 1 + 2 degrees.
    assert spread == pytest.approx((0.3, (0.08 / 3) ** 0.5, 3))


def test_sets_at_the_ends_do_not_make_the_spread_small():
    between = [rates(x - 0.05, x + 0.05) for x in (0.1, 0.3, 0.5, 0.7, 0.9)]
    stuck = [rates(0.0, 0.002), rates(1.0, 0.999)] * 5
    assert seeds_spread(between + stuck) == seeds_spread(between)
    # Of few sets all are wanted.
    assert seeds_spread(between[1:] + stuck).degrees == 14


def test_one_equal_pair_in_twenty_is_called_different_at_most():
    rng = np.random.default_rng(1)
    for seeds, others in ((1, 4), (2, 8)):
        called = 0
        for _ in range(500):
            sets = [rates(*pair) for pair in rng.normal(0.5, 0.02, [2 + others, 2])]
            first, second = (rates(*measured.rates[:seeds]) for measured in sets[:2])
            among = sets[2:] if seeds == 1 else sets
            called += difference(first, second, seeds_spread(among)).significant
        assert called / 500 < 0.05 + 4 * (0.05 * 0.95 / 500) ** 0.5


def test_mastered_is_the_first_time_above_the_threshold():
    def line(seen, *accuracies):
        levels = [
            {"length": i, "nesting": 1, "token_accuracy": accuracy}
            for i, accuracy in enumerate(accuracies, start=1)
        ]
        return {"num_examples": seen, "levels": levels}

    history = [line(10, 0.9, 0.2, None), line(20, 0.96, 0.3, None), line(30, 0.5, 0.95, None)]
    assert [m["num_examples"] for m in mastered(history)] == [20, None, None]
    assert mastered([{"num_examples": 10}]) == []
