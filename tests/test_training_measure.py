"""The difference of two models on the same rows, and which mistakes are named."""

import numpy as np
import pytest

from batchsent.training.examples import Examples
from batchsent.training.measure import mistakes, paired_difference


def test_the_difference_is_of_the_same_rows():
    """Only rows where one model alone is right count; exchanged models give the opposite."""
    tuned = np.array([True] * 70 + [True] * 20 + [False] * 10)
    base = np.array([True] * 70 + [False] * 20 + [True] * 5 + [False] * 5)
    difference, (low, high) = paired_difference(tuned, base)
    assert difference == pytest.approx(0.15)
    # Agresti and Min (2005): 20.5 and 5.5 of 102 rows
    half = 1.959964 * np.sqrt(26 - 15**2 / 102) / 102
    assert (low, high) == pytest.approx((15 / 102 - half, 15 / 102 + half), abs=1e-6)
    opposite, (other_low, other_high) = paired_difference(base, tuned)
    assert (opposite, other_low, other_high) == pytest.approx((-difference, -high, -low))


def test_the_interval_holds_in_95_of_100_samples():
    """Drawn again and again, samples of 150 rows have intervals that hold the true difference."""
    draws = np.random.default_rng(3).random((4_000, 150))
    tuned, base = draws < 0.92, (draws > 0.07) & (draws < 0.95)
    held = 0
    for one, other in zip(tuned, base, strict=True):
        low, high = paired_difference(one, other)[1]
        held += low <= 0.92 - 0.88 <= high
    assert 0.93 < held / len(draws) < 0.985


def test_the_surest_mistakes_come_first():
    """Wrong answers by score, the first row first of equals, numbered as in their file."""
    examples = Examples(list("abcde"), [0, 0, 1, 1, 0], {}, None, [3, 5, 8, 9, 12])
    probabilities = np.array(
        [[0.2, 0.8], [0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.05, 0.95]], np.float32
    )
    found = mistakes(["NEGATIVE", "POSITIVE"], examples, probabilities)
    assert [mistake["row"] for mistake in found] == [12, 3, 8]
    assert found[0] == {"row": 12, "label": "NEGATIVE", "predicted": "POSITIVE", "score": 0.95}
