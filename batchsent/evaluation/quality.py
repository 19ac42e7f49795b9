"""How well the scores agree with gold labels, in constant memory.

Knows label numbers, not what gold cells look like. Every figure is made of counts and of sums in
fixed point, so it depends on the rows alone, not on how they were cut into chunks.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.evaluation import curves
from batchsent.evaluation.bins import FIXED, count, fixed

# Models with more labels get the figures, but neither the whole confusion matrix nor curves: those
# grow with the square of the labels and would bury the summary.
LABELS_IN_FULL = 100
CURVES_IN_FULL = 10

# Score bins for calibration and coverage: kept in hundredths, shown in twentieths. The edges are
# float32 like the scores: the score that a file shows as 0.7 lies a hair under 0.7, and counts as
# at least 0.7 to whoever reads it.
FINE = 100
FINE_EDGES = (np.arange(FINE) / FINE).astype(np.float32)
SHOWN = 20
COVERAGE = (50, 60, 70, 80, 90, 95, 99)

# Buckets of text length in characters; the last one is open.
LENGTH_EDGES = (0, 50, 100, 200, 500, 1000, 2000, 5000)

# 97.5 % quantile of the normal distribution: 95 % intervals.
Z = 1.959963984540054


def interval(hits: int, rows: int) -> list[float] | None:
    """Return Wilson's 95 % interval of the share hits / rows (Wilson 1927); None of no rows."""
    if not rows:
        return None
    share, z2 = hits / rows, Z * Z
    middle = (share + z2 / (2 * rows)) / (1 + z2 / rows)
    half = Z / (1 + z2 / rows) * ((share * (1 - share) / rows + z2 / (4 * rows * rows)) ** 0.5)
    # Rounding may leave 1e-17 where the interval touches its end.
    return [
        max(0.0, middle - half) if hits else 0.0,
        min(1.0, middle + half) if hits < rows else 1.0,
    ]


class Quality:
    """Counts from which `section` makes the evaluation.

    With `winners_only` the probabilities hold the winner's alone (zero elsewhere): what needs the
    others, the Brier score and the curves, is None then.
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
        # Two labels share one curve: the second one's. More have one each, against all others.
        self.curved: tuple[int, ...] = ()
        if n <= LABELS_IN_FULL and not winners_only:
            self.curved = (1,) if n == 2 else tuple(range(n))
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
        every = np.arange(rows)
        hit = winners == gold
        score = probabilities[every, winners]
        self.confusion += count(gold * n + winners, n * n).reshape(n, n)

        fine = np.searchsorted(FINE_EDGES, score, side="right") - 1
        self.rows_by_score += count(fine, FINE)
        self.hits_by_score += count(fine[hit], FINE)
        self.score_sums += count(fine, FINE, fixed(score))
        if self.unsure_below is not None:
            sure = score >= self.unsure_below
            self.sure[0] += int(sure.sum())
            self.sure[1] += int((sure & hit).sum())

        if n == 2:
            self.brier += int(fixed((probabilities[:, 1].astype(np.float64) - gold) ** 2).sum())
        else:
            wide = probabilities.astype(np.float64)
            wide[every, gold] -= 1
            self.brier += int(fixed((wide * wide).sum(axis=1)).sum())

        for place, label in enumerate(self.curved):
            side = (gold == label) * curves.BINS + curves.bin_numbers(probabilities[:, label])
            self.curve_bins[place] += count(side, 2 * curves.BINS).reshape(2, curves.BINS)

        by_length = np.searchsorted(LENGTH_EDGES, lengths, side="right") - 1
        for bucket in (by_length, len(LENGTH_EDGES) + truncated):
            for kind, chosen, index in (
                (0, hit, gold),
                (1, slice(None), gold),
                (2, slice(None), winners),
            ):
                where = bucket[chosen] * n + index[chosen]
                self.buckets[:, kind] += count(where, len(self.buckets) * n).reshape(-1, n)

    def section(self) -> dict[str, Any]:
        """Return every figure of the evaluation; a figure of no rows is None."""
        n, rows = len(self.labels), int(self.confusion.sum())
        hits = int(np.trace(self.confusion))
        gold, predicted = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        figures = self._figures()
        section: dict[str, Any] = {
            "rows": rows,
            "accuracy": figures["accuracy"],
            "accuracy_interval": interval(hits, rows),
            "balanced_accuracy": figures["balanced_accuracy"],
            "mcc": figures["mcc"],
            "macro": {name: figures[f"macro_{name}"] for name in ("precision", "recall", "f1")},
            "majority": None,
            "positive": self.labels[1] if n == 2 else None,
            "brier": self.brier / FIXED / rows if rows and not self.winners_only else None,
        }
        if rows:
            most = int(gold.argmax())
            section["majority"] = {"label": self.labels[most], "accuracy": int(gold[most]) / rows}
        areas = [curves.areas(bins[1], bins[0]) for bins in self.curve_bins]
        for name in ("roc_auc", "roc_auc_error", "average_precision", "average_precision_error"):
            # Macro: the mean over the labels that have both rows of their own and others.
            values = [value for area in areas if (value := area[name]) is not None]
            section[name] = sum(values) / len(values) if values else None
        section["calibration_error"], section["calibration"] = self._calibration()
        section["coverage"] = self._coverage(rows)
        section["labels"] = []
        for i, label in enumerate(self.labels):
            own, hit = figures["per_class"][str(i)], int(self.confusion[i, i])
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
            if n > 2 and self.curved:
                entry |= {name: areas[i][name] for name in ("roc_auc", "average_precision")}
            section["labels"].append(entry)
        section["confusion"] = self._confusion()
        section["curves"] = [
            {"label": self.labels[label], **drawn}
            for label, bins in zip(self.curved[:CURVES_IN_FULL], self.curve_bins, strict=False)
            if (drawn := curves.points(bins[1], bins[0])) is not None
        ]
        ends = (*LENGTH_EDGES[1:], None)
        section["by_length"] = [
            {"from": start, "to": end, **_brief(bucket)}
            for start, end, bucket in zip(LENGTH_EDGES, ends, self.buckets, strict=False)
        ]
        section["whole"], section["truncated"] = _brief(self.buckets[-2]), _brief(self.buckets[-1])
        return section

    def _figures(self) -> dict[str, Any]:
        """Compute the package's metric from the confusion matrix, one weighted pair a cell."""
        from batchsent.evaluation.metrics import classification

        gold, predicted = np.nonzero(self.confusion)
        # Numbers instead of names: two labels of one name would share an entry.
        names = [str(i) for i in range(len(self.labels))]
        return classification(predicted, gold, self.confusion[gold, predicted], names)

    def _confusion(self) -> dict[str, Any]:
        """Return the matrix (rows are gold labels) and the commonest mistakes."""
        wrong = self.confusion.copy()
        np.fill_diagonal(wrong, 0)
        flat = wrong.ravel()
        # Stable, so that equal counts come in the order of the labels.
        commonest = np.argsort(-flat, kind="stable")[:10]
        mistakes = [divmod(int(cell), len(self.labels)) for cell in commonest if flat[cell]]
        return {
            "counts": self.confusion.tolist() if len(self.labels) <= LABELS_IN_FULL else None,
            "mistakes": [
                {"gold": self.labels[g], "predicted": self.labels[p], "count": int(wrong[g, p])}
                for g, p in mistakes
            ],
        }

    def _calibration(self) -> tuple[float | None, list[dict[str, Any]]]:
        """Return the expected calibration error (Naeini et al. 2015) and its bins."""
        fold = FINE // SHOWN
        rows, hits, sums = (
            values.reshape(SHOWN, fold).sum(axis=1)
            for values in (self.rows_by_score, self.hits_by_score, self.score_sums)
        )
        bins = [
            {
                "from": i / SHOWN,
                "to": (i + 1) / SHOWN,
                "rows": int(rows[i]),
                "mean_score": int(sums[i]) / FIXED / int(rows[i]) if rows[i] else None,
                "accuracy": int(hits[i]) / int(rows[i]) if rows[i] else None,
            }
            for i in range(SHOWN)
        ]
        total = int(rows.sum())
        error = (
            sum(abs(int(s) / FIXED - int(h)) for s, h in zip(sums, hits, strict=True)) / total
            if total
            else None
        )
        return error, bins

    def _coverage(self, rows: int) -> list[dict[str, Any]]:
        """Return for each threshold how many rows score that much, and their accuracy."""
        kept = {
            at / FINE: (int(self.rows_by_score[at:].sum()), int(self.hits_by_score[at:].sum()))
            for at in COVERAGE
        }
        if self.unsure_below is not None:
            kept[float(self.unsure_below)] = self.sure[0], self.sure[1]
        return [
            {
                "score_at_least": at,
                "rows": sure,
                "share": sure / rows if rows else None,
                "accuracy": hits / sure if sure else None,
            }
            for at, (sure, hits) in sorted(kept.items())
        ]


def _brief(bucket: NDArray[np.int64]) -> dict[str, Any]:
    """Return the main figures of one bucket from its counts, each (labels,)."""
    hit, gold, predicted = bucket.astype(np.float64)
    rows, hits = int(gold.sum()), int(hit.sum())
    names = ("accuracy", "accuracy_interval", "balanced_accuracy", "macro_f1", "mcc")
    if not rows:
        return {"rows": 0, **dict.fromkeys(names)}
    occurs = (gold + predicted) > 0
    # Matthews' coefficient for any number of classes (Gorodkin 2004).
    spread = (rows**2 - predicted @ predicted) * (rows**2 - gold @ gold)
    values = (
        hits / rows,
        interval(hits, rows),
        float((hit[gold > 0] / gold[gold > 0]).mean()),
        float((2 * hit[occurs] / (gold + predicted)[occurs]).mean()),
        float((hits * rows - predicted @ gold) / spread**0.5) if spread > 0 else 0.0,
    )
    return {"rows": rows, **dict(zip(names, values, strict=True))}
