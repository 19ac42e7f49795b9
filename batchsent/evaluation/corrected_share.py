"""The share of each label in a dump, corrected by the error rates of held-out rows.

A model that is wrong equally often on both labels counts a true 90 % as 83 %: counted shares lean
to the middle. The adjusted count undoes that (Forman 2008, "Quantifying counts and costs via
classification"). With R[i, j] the share of held-out rows of label i that the model calls j, the
counted shares are q = R^T p, so p solves a linear system; where its solution has a negative share,
p is the point of the simplex whose R^T p is nearest to q.

The 95 % interval is by the delta method. Held-out rows of label i are m_i, the dump has N rows:

    covariance of p = R^-T (sum over i of (p_i^2 / m_i + p_i / N) x (diag(R_i) - R_i R_i^T)) R^-1

The first term is the error of the rates. The second is that of this one dump's counts, given its
true labels: the share in this dump is estimated, not that in all dumps like it.

As a check, the shares are estimated from the probabilities too, by EMQ (Saerens, Latinne and
Decaestecker 2002, "Adjusting the outputs of a classifier to new a priori probabilities"): the
shares under which the mean of the probabilities, adjusted to these shares, gives the shares again.
The rows of one cell (score_cells.py) stand for their mean probabilities: of two labels this moves
the estimate by less than a tenth of a point, of three by up to two points, since a cell says
nothing of how the other labels share the rest.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batchsent.evaluation.quality import Z

Shares = NDArray[np.float64]

# Rates that hardly differ between two labels cannot be inverted.
LARGEST_CONDITION = 50.0
PROJECTED_STEPS = 2_000
EMQ_STEPS = 1_000
EMQ_CHANGE = 1e-7


@dataclass(frozen=True)
class ErrorRates:
    """What a model calls the rows of each label, from held-out rows."""

    confusion: NDArray[np.int64]  # (labels, predicted) held-out rows

    @property
    def rows(self) -> NDArray[np.int64]:
        """(labels,) held-out rows of each label."""
        found: NDArray[np.int64] = self.confusion.sum(axis=1)
        return found

    @property
    def rates(self) -> NDArray[np.float64]:
        """(labels, predicted) share of the rows of a label that the model calls each label."""
        rates: NDArray[np.float64] = self.confusion / self.rows[:, None]
        return rates

    @property
    def is_invertible(self) -> bool:
        """Tell whether counted shares determine true ones."""
        return bool(self.rows.all() and np.linalg.cond(self.rates) <= LARGEST_CONDITION)


@dataclass(frozen=True)
class Corrected:
    """Shares with their 95 % intervals, of one dump or of many groups of it."""

    shares: Shares  # (groups, labels)
    low: Shares  # (groups, labels)
    high: Shares  # (groups, labels)


def adjusted_count(counted: NDArray[np.int64], held_out: ErrorRates) -> Corrected:
    """Return the true shares behind counts (groups, labels) of the labels that the model gave.

    Groups without rows get NaN. The rates must be invertible.
    """
    rows = counted.sum(axis=1)
    with np.errstate(invalid="ignore"):
        said = counted / rows[:, None]
    inverse = np.linalg.inv(held_out.rates).astype(np.float64)
    solved = said @ inverse
    shares = _on_simplex(solved, said, held_out.rates)
    half = Z * np.sqrt(_variances(shares, rows, inverse, held_out))
    # Around the solution, not around its nearest possible share: with -2 % +- 3 the share may be
    # up to 1 %.
    low = np.minimum((solved - half).clip(0, 1), shares)
    high = np.maximum((solved + half).clip(0, 1), shares)
    return Corrected(shares, low, high)


def _variances(
    shares: Shares, rows: NDArray[np.int64], inverse: NDArray[np.float64], held_out: ErrorRates
) -> Shares:
    """Return the variances (groups, labels) of corrected shares."""
    # Half a row more in each cell: with no mistake among 50 rows the rate is not known to be 0.
    smooth = held_out.confusion + 0.5
    rates = smooth / smooth.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore"):
        weights = shares**2 / held_out.rows + shares / rows[:, None]
    # The variance of label k from the rows of label i, with b = column k of R^-1:
    #   b^T (diag(R_i) - R_i R_i^T) b = sum R_ij b_j^2 - (sum R_ij b_j)^2
    by_label = rates @ inverse**2 - (rates @ inverse) ** 2
    variances: Shares = weights @ by_label.clip(0)
    return variances


def _on_simplex(solved: Shares, said: Shares, rates: NDArray[np.float64]) -> Shares:
    """Return `solved` (groups, labels), with each row that has a negative share replaced.

    The replacement is the point p of the simplex that minimizes |R^T p - said|^2, by accelerated
    projected gradients (Beck and Teboulle 2009).
    """
    outside = np.flatnonzero((solved < 0).any(axis=1))
    if not len(outside):
        return solved
    target = said[outside]
    step = 1 / np.linalg.norm(rates, 2) ** 2
    shares = ahead = _project(solved[outside])
    momentum = 1.0
    if rates.shape[0] > 2:  # of two labels the projection is the answer already
        for _ in range(PROJECTED_STEPS):
            before, pace = shares, momentum
            shares = _project(ahead - step * (ahead @ rates - target) @ rates.T)
            momentum = (1 + (1 + 4 * pace**2) ** 0.5) / 2
            ahead = shares + (pace - 1) / momentum * (shares - before)
    found = solved.copy()
    found[outside] = shares
    return found


def _project(points: Shares) -> Shares:
    """Return the nearest points of the simplex (Duchi et al. 2008): (groups, labels)."""
    falling = -np.sort(-points, axis=1)
    excess = falling.cumsum(axis=1) - 1
    number = np.arange(1, points.shape[1] + 1)
    used = (falling - excess / number > 0).sum(axis=1)
    shift = excess[np.arange(len(points)), used - 1] / used
    projected: Shares = (points - shift[:, None]).clip(0)
    return projected


def emq(counts: NDArray[np.int64], means: NDArray[np.float64], prior: Shares) -> Shares:
    """Return the shares (labels,) that the probabilities themselves give, by EMQ.

    `counts` (cells,) are the rows of each cell, `means` (cells, labels) their mean probabilities,
    calibrated on rows with the shares `prior` (labels,), all above 0.
    """
    used = counts > 0
    weights, ratios = counts[used] / counts.sum(), means[used] / prior
    shares = prior
    for _ in range(EMQ_STEPS):
        joint = ratios * shares
        total = joint.sum(axis=1, keepdims=True)
        found: Shares = weights @ (joint / total)
        if np.abs(found - shares).max() < EMQ_CHANGE:
            return found
        shares = found
    return shares
