"""How well the scores agree with gold labels, in constant memory.

Every figure is made of counts and of sums in fixed point, so that it depends on the rows alone and
not on how they were divided into chunks.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.evaluation import curves
from batchsent.evaluation.bins import FIXED, count, fixed, share
from batchsent.evaluation.metrics import figures_of

# Models with more labels get the figures, but neither the whole confusion matrix nor curves, whose
# size grows with the square of the labels.
LABELS_IN_FULL = 100
CURVES_IN_FULL = 10

# Score bins for calibration and coverage: kept in hundredths, shown in twentieths. The edges are
# float32 as the scores are: the float32 that a file shows as 0.7 is slightly less than 0.7, and has
# to count as 0.7 or more.
FINE = 100
FINE_EDGES = (np.arange(FINE) / FINE).astype(np.float32)
SHOWN = 20
COVERAGE = (50, 60, 70, 80, 90, 95, 99)

# Buckets of text length in characters; the last one is open.
LENGTH_EDGES = (0, 50, 100, 200, 500, 1000, 2000, 5000)

# 97.5 % quantile of the normal distribution: 95 % intervals.
Z = 1.959963984540054


def interval(hits: int, rows: int) -> list[float] | None:
    """Return Wilson's 95 % interval of the share hits / rows (Wilson 1927); None for no rows."""
    if not rows:
        return None
    share, z2 = hits / rows, Z * Z
    middle = (share + z2 / (2 * rows)) / (1 + z2 / rows)
    half = Z / (1 + z2 / rows) * ((share * (1 - share) / rows + z2 / (4 * rows * rows)) ** 0.5)
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    # Rounding may leave 1e-17 instead of an exact 0 or 1.
    if hits == 0:
        low = 0.0
    if hits == rows:
        high = 1.0
    return [low, high]


class Quality:
    """Counts from which `section` makes the evaluation.

    With `winners_only` only the winner's probability is known and the others are given as 0; then
    the Brier score and the curves, which require them all, are None.
    """

    def __init__(
        self,
        labels: Sequence[str],
        unsure_below: float | None = None,
        *,
        winners_only: bool = False,
    ) -> None:
        self.labels = tuple(labels)
        self.unsure_below = unsure_below
        self.winners_only = winners_only
        n = len(self.labels)
        self.confusion = np.zeros((n, n), dtype=np.int64)  # (gold, predicted)
        self.rows_by_score = np.zeros(FINE, dtype=np.int64)
        self.hits_by_score = np.zeros(FINE, dtype=np.int64)
        self.score_sums = np.zeros(FINE, dtype=np.int64)  # in 1 / FIXED
        self.brier = 0  # in 1 / FIXED
        self.sure = [0, 0]  # rows and hits at or above unsure_below
        # The labels that have a curve. Two labels share one, that of the second; more have one
        # each, against all others.
        self.curved: tuple[int, ...] = ()
        if n == 2 and not winners_only:
            self.curved = (1,)
        elif n <= LABELS_IN_FULL and not winners_only:
            self.curved = tuple(range(n))
        # [label][is gold][bin]
        self.curve_bins = np.zeros((len(self.curved), 2, curves.BINS), dtype=np.int64)
        # [bucket][hit, gold, predicted][label]: length buckets, then whole, then truncated.
        self.buckets = np.zeros((len(LENGTH_EDGES) + 2, 3, n), dtype=np.int64)

    def add(
        self,
        gold: NDArray[np.int64],
        winners: NDArray[np.intp],
        probabilities: NDArray[np.float32],
        lengths: NDArray[np.int64],
        truncated: NDArray[np.bool_],
    ) -> None:
        """Add scored rows that have a gold label: (rows,) each, probabilities (rows, labels)."""
        rows, n = probabilities.shape
        if not rows:
            return
        hit = winners == gold
        score = probabilities[np.arange(rows), winners]
        # Pairs are counted as one number each. With two labels and three rows:
        #     gold              0  1  1
        #     winners           0  0  1
        #     gold * 2 + wins   0  2  3    place in the confusion matrix, read row by row
        #     confusion         [[1, 0], [1, 1]]
        self.confusion += count(gold * n + winners, n * n).reshape(n, n)
        self._add_scores(score, hit)
        self._add_brier(gold, probabilities)
        for place, label in enumerate(self.curved):
            side = (gold == label) * curves.BINS + curves.bin_numbers(probabilities[:, label])
            self.curve_bins[place] += count(side, 2 * curves.BINS).reshape(2, curves.BINS)
        by_length = np.searchsorted(LENGTH_EDGES, lengths, side="right") - 1
        self._add_buckets(by_length, gold, winners)
        self._add_buckets(len(LENGTH_EDGES) + truncated, gold, winners)

    def _add_scores(self, score: NDArray[np.float32], hit: NDArray[np.bool_]) -> None:
        """Count rows and hits by score: both are (rows,)."""
        fine = np.searchsorted(FINE_EDGES, score, side="right") - 1
        self.rows_by_score += count(fine, FINE)
        self.hits_by_score += count(fine[hit], FINE)
        self.score_sums += count(fine, FINE, fixed(score))
        if self.unsure_below is not None:
            sure = score >= self.unsure_below
            self.sure[0] += int(sure.sum())
            self.sure[1] += int((sure & hit).sum())

    def _add_brier(self, gold: NDArray[np.int64], probabilities: NDArray[np.float32]) -> None:
        """Add the squared distance of the probabilities from the gold labels (Brier 1950)."""
        exact = probabilities.astype(np.float64)
        if len(self.labels) == 2:
            errors = (exact[:, 1] - gold) ** 2
        else:
            exact[np.arange(len(gold)), gold] -= 1
            errors = (exact * exact).sum(axis=1)
        self.brier += int(fixed(errors).sum())

    def _add_buckets(
        self, bucket: NDArray[np.int64], gold: NDArray[np.int64], winners: NDArray[np.intp]
    ) -> None:
        """Count hits, gold labels and winners of each row's bucket, label by label."""
        n = len(self.labels)
        size = len(self.buckets) * n
        hit = winners == gold
        self.buckets[:, 0] += count((bucket * n + gold)[hit], size).reshape(-1, n)
        self.buckets[:, 1] += count(bucket * n + gold, size).reshape(-1, n)
        self.buckets[:, 2] += count(bucket * n + winners, size).reshape(-1, n)

    def section(self) -> dict[str, Any]:
        """Return every figure of the evaluation; a figure of no rows is None."""
        rows, hits = int(self.confusion.sum()), int(np.trace(self.confusion))
        figures = self._figures()
        areas = [curves.areas(bins[1], bins[0]) for bins in self.curve_bins]
        calibration_error, calibration = self._calibration()
        return {
            "rows": rows,
            "accuracy": figures["accuracy"],
            "accuracy_interval": interval(hits, rows),
            "balanced_accuracy": figures["balanced_accuracy"],
            "mcc": figures["mcc"],
            "macro": {name: figures[f"macro_{name}"] for name in ("precision", "recall", "f1")},
            "majority": self._majority(rows),
            "positive": self.labels[1] if len(self.labels) == 2 else None,
            "brier": None if self.winners_only else share(self.brier / FIXED, rows),
            **_mean_areas(areas),
            "calibration_error": calibration_error,
            "calibration": calibration,
            "coverage": self._coverage(rows),
            "labels": self._by_label(figures["per_class"], areas),
            "confusion": self._confusion(),
            "curves": self._curves(),
            "by_length": self._by_length(),
            "whole": _brief(self.buckets[-2]),
            "truncated": _brief(self.buckets[-1]),
        }

    def _majority(self, rows: int) -> dict[str, Any] | None:
        """Return the commonest gold label, and the accuracy of always giving it."""
        if not rows:
            return None
        gold = self.confusion.sum(axis=1)
        most = int(gold.argmax())
        return {"label": self.labels[most], "accuracy": int(gold[most]) / rows}

    def _by_label(
        self, per_class: dict[str, Any], areas: list[dict[str, float | None]]
    ) -> list[dict[str, Any]]:
        """Return the figures of each label; `per_class` is by the label's number."""
        gold, predicted = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        found = []
        for i, label in enumerate(self.labels):
            own, hit = per_class[str(i)], int(self.confusion[i, i])
            entry = {
                "label": label,
                "gold": int(gold[i]),
                "predicted": int(predicted[i]),
                "precision": own["precision"],
                "precision_interval": interval(hit, int(predicted[i])),
                "recall": own["recall"],
                "recall_interval": interval(hit, int(gold[i])),
                "f1": own["f1"],
            }
            if len(self.labels) > 2 and self.curved:
                entry["roc_auc"] = areas[i]["roc_auc"]
                entry["average_precision"] = areas[i]["average_precision"]
            found.append(entry)
        return found

    def _curves(self) -> list[dict[str, Any]]:
        """Return the points of the curves of the first CURVES_IN_FULL labels."""
        found = []
        for label, bins in zip(self.curved[:CURVES_IN_FULL], self.curve_bins, strict=False):
            points = curves.points(bins[1], bins[0])
            if points is not None:
                found.append({"label": self.labels[label], **points})
        return found

    def _by_length(self) -> list[dict[str, Any]]:
        """Return the main figures of each bucket of text lengths."""
        ends = (*LENGTH_EDGES[1:], None)
        found = []
        for start, end, bucket in zip(LENGTH_EDGES, ends, self.buckets, strict=False):
            found.append({"from": start, "to": end, **_brief(bucket)})
        return found

    def _figures(self) -> dict[str, Any]:
        """Return the figures of the confusion matrix."""
        # Numbers instead of names: two labels of one name would share an entry.
        names = [str(i) for i in range(len(self.labels))]
        return figures_of(self.confusion.astype(np.float64), names)

    def _confusion(self) -> dict[str, Any]:
        """Return the matrix (rows are gold labels) and the commonest mistakes."""
        wrong = self.confusion.copy()
        np.fill_diagonal(wrong, 0)
        flat = wrong.ravel()
        # Stable, so that equal counts come in the order of the labels.
        commonest = np.argsort(-flat, kind="stable")[:10]
        mistakes = []
        for cell in commonest[flat[commonest] > 0]:
            gold, predicted = divmod(int(cell), len(self.labels))
            mistakes.append(
                {
                    "gold": self.labels[gold],
                    "predicted": self.labels[predicted],
                    "count": int(flat[cell]),
                }
            )
        in_full = len(self.labels) <= LABELS_IN_FULL
        return {"counts": self.confusion.tolist() if in_full else None, "mistakes": mistakes}

    def _calibration(self) -> tuple[float | None, list[dict[str, Any]]]:
        """Return the expected calibration error (Naeini et al. 2015) and its bins."""
        fold = FINE // SHOWN
        rows = self.rows_by_score.reshape(SHOWN, fold).sum(axis=1).tolist()
        hits = self.hits_by_score.reshape(SHOWN, fold).sum(axis=1).tolist()
        sums = self.score_sums.reshape(SHOWN, fold).sum(axis=1).tolist()
        bins, gaps = [], 0.0
        for i in range(SHOWN):
            score_sum = sums[i] / FIXED
            gaps += abs(score_sum - hits[i])
            bins.append(
                {
                    "from": i / SHOWN,
                    "to": (i + 1) / SHOWN,
                    "rows": rows[i],
                    "mean_score": share(score_sum, rows[i]),
                    "accuracy": share(hits[i], rows[i]),
                }
            )
        return share(gaps, sum(rows)), bins

    def _coverage(self, rows: int) -> list[dict[str, Any]]:
        """Return for each threshold how many rows score that much or more, and their accuracy."""
        kept = {}  # threshold -> rows and hits
        for at in COVERAGE:
            kept[at / FINE] = (
                int(self.rows_by_score[at:].sum()),
                int(self.hits_by_score[at:].sum()),
            )
        if self.unsure_below is not None:
            kept[float(self.unsure_below)] = self.sure[0], self.sure[1]
        found = []
        for threshold, (sure, hits) in sorted(kept.items()):
            found.append(
                {
                    "score_at_least": threshold,
                    "rows": sure,
                    "share": share(sure, rows),
                    "accuracy": share(hits, sure),
                }
            )
        return found


def _mean_areas(areas: list[dict[str, float | None]]) -> dict[str, float | None]:
    """Return the macro areas: the mean over the labels that have rows of their own and others."""
    found = {}
    for name in ("roc_auc", "roc_auc_error", "average_precision", "average_precision_error"):
        values = [area[name] for area in areas]
        known = [value for value in values if value is not None]
        found[name] = share(sum(known), len(known))
    return found


def _brief(bucket: NDArray[np.int64]) -> dict[str, Any]:
    """Return the main figures of one bucket from its counts, each (labels,)."""
    hit, gold, predicted = bucket.astype(np.float64)
    rows, hits = int(gold.sum()), int(hit.sum())
    names = ("accuracy", "accuracy_interval", "balanced_accuracy", "macro_f1", "mcc")
    if not rows:
        return {"rows": 0, **dict.fromkeys(names)}
    has_gold, occurs = gold > 0, (gold + predicted) > 0
    # Matthews' coefficient for any number of classes (Gorodkin 2004); 0 where a side is constant.
    spread = (rows**2 - predicted @ predicted) * (rows**2 - gold @ gold)
    correlation = 0.0
    if spread > 0:
        correlation = float((hits * rows - predicted @ gold) / spread**0.5)
    values = (
        hits / rows,
        interval(hits, rows),
        float((hit[has_gold] / gold[has_gold]).mean()),
        float((2 * hit[occurs] / (gold + predicted)[occurs]).mean()),
        correlation,
    )
    return {"rows": rows, **dict(zip(names, values, strict=True))}
