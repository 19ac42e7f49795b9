"""Shares corrected by error rates: right by hand, by brute force, and 95 times of 100."""

import itertools

import numpy as np
import pytest

from batchsent.evaluation.corrected_share import ErrorRates, adjusted_count, emq
from batchsent.evaluation.score_cells import ScoreCells

# Of 100 held-out rows of each label the model gets 90 and 80 right.
HELD_OUT = ErrorRates(np.array([[90, 10], [20, 80]]))


def test_a_share_worked_by_hand():
    """30 % positive rows are counted as 0.7 x 10 % + 0.3 x 80 % = 31 %, and come back as 30 %."""
    found = adjusted_count(np.array([[690, 310]]), HELD_OUT)
    assert found.shares[0] == pytest.approx([0.7, 0.3])
    # Each end by the formula of Forman (2008): (counted - false positives) / (true - false).
    half = found.high[0, 1] - found.shares[0, 1]
    rates = (np.array([90.5, 10.5]) / 101, np.array([20.5, 80.5]) / 101)
    weights = [0.7**2 / 100 + 0.7 / 1_000, 0.3**2 / 100 + 0.3 / 1_000]
    variance = sum(w * r[0] * r[1] for w, r in zip(weights, rates, strict=True)) / 0.7**2
    assert half == pytest.approx(1.96 * variance**0.5, rel=1e-4)
    assert found.low[0, 1] == pytest.approx(0.3 - half)


def test_a_share_that_cannot_be_is_the_nearest_one_that_can():
    """Fewer positive labels than the false ones of no positive row at all: the share is 0."""
    found = adjusted_count(np.array([[950, 50]]), HELD_OUT)
    assert found.shares[0].tolist() == [1, 0]
    assert found.low[0, 1] == 0
    assert 0 <= found.high[0, 1] < 0.05


@pytest.mark.parametrize("counted", [[500, 300, 200], [900, 60, 40], [100, 0, 900], [0, 1000, 0]])
def test_three_labels_are_those_of_a_search(counted):
    """The shares minimize the squared distance over the simplex, as a fine grid finds it."""
    confusion = np.array([[80, 15, 5], [20, 60, 20], [2, 8, 90]])
    rates = confusion / 100
    found = adjusted_count(np.array([counted]), ErrorRates(confusion)).shares[0]
    said = np.array(counted) / sum(counted)
    grid = np.arange(0, 1.0001, 0.005)
    points = np.array([[a, b, 1 - a - b] for a, b in itertools.product(grid, grid) if a + b <= 1])
    distances = ((points @ rates - said) ** 2).sum(axis=1)
    assert ((found @ rates - said) ** 2).sum() <= distances.min() + 1e-12
    assert found == pytest.approx(points[distances.argmin()], abs=0.02)
    assert found.sum() == pytest.approx(1)


def test_many_groups_are_each_alone():
    """The shares and intervals of a group do not depend on the others."""
    counted = np.random.default_rng(0).integers(0, 500, (50, 2))
    whole = adjusted_count(counted, HELD_OUT)
    for i, group in enumerate(counted):
        alone = adjusted_count(group[None], HELD_OUT)
        assert alone.shares[0] == pytest.approx(whole.shares[i])
        assert alone.low[0] == pytest.approx(whole.low[i])


def test_rates_that_tell_nothing_are_known():
    """A model that calls everything the same, or a label without rows, corrects no share."""
    assert HELD_OUT.is_invertible
    assert not ErrorRates(np.array([[90, 10], [89, 11]])).is_invertible
    assert not ErrorRates(np.array([[90, 10], [0, 0]])).is_invertible


def drawn(random, shares, rows):
    """Labels with these shares, and calibrated probabilities of a model for shares of a half."""
    labels = random.choice(len(shares), rows, p=shares)
    signal = random.normal(0, 1, (rows, len(shares))) + 1.8 * np.eye(len(shares))[labels]
    e = np.exp(1.8 * signal)  # the likelihood ratio of unit normals 1.8 apart
    return (e / e.sum(axis=1, keepdims=True)).astype(np.float32), labels


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("rows", [150, 2_000])
def test_the_interval_holds_the_share_of_the_dump(share, rows):
    """95 times of 100, with held-out rows and a dump drawn anew each time (1,000 times)."""
    random = np.random.default_rng([int(100 * share), rows])
    held = 0
    for _ in range(1_000):
        right = random.binomial([200, 200], [0.9, 0.85])
        rates = np.array([[right[0], 200 - right[0]], [200 - right[1], right[1]]])
        positive = round(share * rows)
        false, true = random.binomial([rows - positive, positive], [0.1, 0.85])
        counted = np.array([[rows - false - true, false + true]])
        found = adjusted_count(counted, ErrorRates(rates))
        held += found.low[0, 1] <= positive / rows <= found.high[0, 1]
    assert 0.93 <= held / 1_000 <= 0.985


def test_intervals_of_three_labels_hold_too():
    """Each of three shares lies in its interval 95 times of 100 (1,000 times)."""
    random = np.random.default_rng(3)
    rates = np.array([[0.8, 0.15, 0.05], [0.2, 0.6, 0.2], [0.02, 0.08, 0.9]])
    held = np.zeros(3)
    for _ in range(1_000):
        confusion = np.array([random.multinomial(300, row) for row in rates])
        true = np.array([600, 250, 150])
        counted = sum(random.multinomial(n, row) for n, row in zip(true, rates, strict=True))
        found = adjusted_count(counted[None], ErrorRates(confusion))
        held += (found.low[0] <= true / 1_000) & (true / 1_000 <= found.high[0])
    assert (held / 1_000 >= 0.93).all()
    assert (held / 1_000 <= 0.97).all()


@pytest.mark.parametrize(
    ("shares", "coarse"), [((0.1, 0.9), 0.001), ((0.5, 0.5), 0.001), ((0.7, 0.2, 0.1), 0.02)]
)
def test_emq_is_that_of_the_rows_themselves(shares, coarse):
    """Cells in place of rows move the estimate by less than a tenth of a point for two labels, and
    by up to two points for three; it is right.
    """
    random = np.random.default_rng(1)
    n = len(shares)
    probabilities, labels = drawn(random, shares, 20_000)
    cells = ScoreCells(n)
    cells.add(probabilities)
    prior = np.full(n, 1 / n)
    found = emq(cells.counts.ravel(), cells.means.reshape(-1, n), prior)
    # Saerens et al. 2002, equation 2.9, row by row
    wanted = prior
    for _ in range(500):
        joint = probabilities * (wanted / prior)
        wanted = (joint / joint.sum(axis=1, keepdims=True)).mean(axis=0)
    assert found == pytest.approx(wanted, abs=coarse)
    assert wanted == pytest.approx(np.bincount(labels, minlength=n) / 20_000, abs=0.015)
