"""ROC and precision-recall from binned probabilities, with the largest error of the bins.

Both are computed from two arrays of counts, of positives and of negatives, from low to high.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Bins are equal in log-odds, not in probability: a sure model puts most rows within 0.001 of 0 or
# 1, where bins of equal probability would tie them all. The largest float32 below 1, 1 - 2**-24,
# has log-odds 16.6.
BINS = 16_384
HIGHEST = 17.0

POINTS = 100


def bin_numbers(probabilities: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the bin of each probability, 0 to BINS - 1; a larger one has no lower bin."""
    # A sum of float32 may be slightly above 1.
    p = np.clip(probabilities.astype(np.float64), 0.0, 1.0)
    with np.errstate(divide="ignore"):
        odds = np.log(p) - np.log1p(-p)
    place = (np.clip(odds, -HIGHEST, HIGHEST) + HIGHEST) * (BINS / (2 * HIGHEST))
    numbers: NDArray[np.int64] = np.minimum(place.astype(np.int64), BINS - 1)
    return numbers


def areas(positive: NDArray[np.int64], negative: NDArray[np.int64]) -> dict[str, float | None]:
    """Return ROC AUC and average precision, each with its largest possible error.

    A pair of a positive and a negative in one bin counts as half right, so that the ROC AUC is off
    by at most half the share of such pairs. The error of average precision follows from the best
    and the worst order of the rows within each bin. All figures are None without positives or
    without negatives.
    """
    positives, negatives = int(positive.sum()), int(negative.sum())
    if not positives or not negatives:
        return dict.fromkeys(
            ("roc_auc", "roc_auc_error", "average_precision", "average_precision_error")
        )
    # From high to low. With four bins, of which the last is the surest:
    #     positive, negative         0 1 1 2    2 1 0 0
    #     pos, neg                   2 1 1 0    0 0 1 2
    #     true_before, false_before  0 2 3 4    0 0 0 1    rows in surer bins
    #     tied                       (1 * 1) / (4 * 3): one pair of twelve shares a bin
    #     auc                        (2 * 3 + 1 * 3 + 1 * 2) / 12 + 1/12 / 2 = 0.958
    pos, neg = positive[::-1].astype(np.float64), negative[::-1].astype(np.float64)
    true_before, false_before = np.cumsum(pos) - pos, np.cumsum(neg) - neg
    pairs = float(positives) * float(negatives)
    tied = float(pos @ neg) / pairs
    auc = float(pos @ (negatives - false_before - neg)) / pairs + tied / 2

    here = pos > 0
    p, n, true, false = pos[here], neg[here], true_before[here], false_before[here]
    best = p * (true + p) / (true + p + false)
    # Worst: all negatives of the bin first. The sum of (t + j) / (t + j + d) for j = 1..p is p - d
    # * (H(t+d+p) - H(t+d)), and the difference of harmonic numbers is at most the logarithm of
    # their ratio.
    d = false + n
    with np.errstate(divide="ignore", invalid="ignore"):
        worst = np.where(d > 0, p - d * np.log((true + d + p) / (true + d)), p)
    # Between best and worst: the middle one of the bin's positives, with half of its negatives
    # before it. Exact for single rows.
    middle = true + (p + 1) / 2
    average = p * middle / (middle + false + n / 2)
    # A bin of one row has one order, and its value is exact.
    several = p + n > 1
    below = float(np.maximum(average - worst, 0)[several].sum()) / positives
    above = float(np.maximum(best - average, 0)[several].sum()) / positives
    return {
        "roc_auc": auc,
        "roc_auc_error": tied / 2,
        "average_precision": float(average.sum()) / positives,
        "average_precision_error": max(below, above),
    }


def points(positive: NDArray[np.int64], negative: NDArray[np.int64]) -> dict[str, Any] | None:
    """Return at most POINTS + 1 points of both curves, exact at those points.

    None without positives or negatives. The ROC points are evenly spaced along the curve (in false
    plus true positive rate), the others evenly in recall.
    """
    positives, negatives = int(positive.sum()), int(negative.sum())
    if not positives or not negatives:
        return None
    true = np.concatenate([[0], np.cumsum(positive[::-1])])
    false = np.concatenate([[0], np.cumsum(negative[::-1])])
    tpr, fpr = true / positives, false / negatives
    grid = np.linspace(0, 1, POINTS + 1)
    at = np.unique(np.searchsorted((tpr + fpr) / 2, grid - 1e-12))
    recall_at = np.unique(np.searchsorted(tpr, grid[1:] - 1e-12))
    precision = true[recall_at] / (true[recall_at] + false[recall_at])
    return {
        "roc": {"fpr": _short(fpr[at]), "tpr": _short(tpr[at])},
        "precision_recall": {"recall": _short(tpr[recall_at]), "precision": _short(precision)},
    }


def _short(values: NDArray[np.float64]) -> list[float]:
    """Return values with six decimals, which is finer than a screen shows."""
    return [round(float(v), 6) for v in values]
