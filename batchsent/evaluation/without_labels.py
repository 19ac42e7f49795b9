"""What a run says of its accuracy and its shares without gold labels, and when it does not.

The expected accuracy is the mean calibrated score: of rows with a score of 0.9, nine in ten are
right, where the temperature holds. It holds for texts like the held-out ones. On other texts the
scores, and with them this figure, fall less than the accuracy does; with extreme shares of the
labels it is a point or so off.

Corrected shares (corrected_share.py) require that the rows of each label look like the held-out
rows of that label, and that only their shares differ. Then the scores of the dump are a mixture of
the held-out rows' scores. The drift check takes the Kolmogorov-Smirnov distance between the two
over all cells (score_cells.py), ordered by label and score:

    distance <= 1.63 x sqrt(1 / N + sum over i of p_i^2 / m_i) + 0.02

The first term is what chance exceeds 1 time in 100, for N rows, m_i held-out rows of label i and
shares p_i; it is a little too large, because the shares were fitted. The second lets small
differences pass, which every large dump has.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.chunk import SCORED, Scores
from batchsent.evaluation.bins import FIXED, fixed, share
from batchsent.evaluation.corrected_share import Corrected, ErrorRates, adjusted_count, emq
from batchsent.evaluation.score_cells import ScoreCells
from batchsent.text import printable

# Of each label among the held-out rows, and of a dump or a group. With fewer the intervals are too
# wide to be of use, and the drift check lets crops of three sentences pass.
LEAST_ROWS = 100
KS_ONE_PERCENT = 1.63  # Kolmogorov's distribution at 0.99
SMALL_DRIFT = 0.02

SAMPLE = "label a sample by hand: batchsent sample, then batchsent evaluate --audit"
MEASURE_MORE = "measure on more rows when you train: batchsent finetune --eval FILE"


class WithoutLabels:
    """The counts of one run's calibrated scores; `section` may be asked at any time.

    `held_out` (labels, predicted, BINS) are the model's held-out rows by their calibrated scores;
    where it is None, `why_not` says why.
    """

    def __init__(
        self,
        labels: tuple[str, ...],
        held_out: NDArray[np.int64] | None = None,
        why_not: str | None = None,
    ) -> None:
        self.labels, self.held_out, self.why_not = tuple(labels), held_out, why_not
        self._rows = self._scores = 0  # scores in 1 / FIXED
        self.rates: ErrorRates | None = None
        if held_out is not None:
            self.rates = ErrorRates(held_out.sum(axis=2))
            self.why_not = why_not_from(self.rates, self.labels)
        self._cells = ScoreCells(len(labels)) if self.can_correct else None

    @property
    def can_correct(self) -> bool:
        """Tell whether the held-out rows determine corrected shares, whatever the dump is."""
        return self.rates is not None and self.why_not is None

    @property
    def rates_for_groups(self) -> ErrorRates | None:
        """The error rates, where they can correct shares."""
        return self.rates if self.can_correct else None

    def add(self, scores: Scores) -> None:
        """Count the calibrated scores of a chunk."""
        scored = scores.status == SCORED
        best = fixed(scores.best[scored])
        self._rows += len(best)
        self._scores += int(best.sum())
        if self._cells is not None:
            self._cells.add(scores.probabilities[scored])

    def section(self) -> dict[str, Any]:
        """Return what the section `predictions` of the summary says without gold labels."""
        return {
            "expected_accuracy": share(self._scores / FIXED, self._rows),
            "corrected": self._corrected(),
        }

    def _corrected(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "why_not": self.why_not,
            "hint": None,
            "held_out_rows": None if self.rates is None else int(self.rates.rows.sum()),
            "drift": None,
            "labels": [],
        }
        if self.why_not is not None or self._cells is None or self.rates is None:
            return found | {"hint": SAMPLE if self.rates is None else MEASURE_MORE}
        if self._rows < LEAST_ROWS:
            return found | {"why_not": f"{self._rows} rows have a score, {LEAST_ROWS} are required"}
        counted = self._cells.counts.sum(axis=1)
        corrected = adjusted_count(counted[None], self.rates)
        distance, limit = self._drift(self._cells.counts, corrected.shares[0])
        found["drift"] = {"distance": distance, "limit": limit}
        if distance > limit:
            why_not = (
                "the scores are not spread as those of the held-out rows, so the texts may be of "
                "another kind"
            )
            return found | {"why_not": why_not, "hint": SAMPLE}
        return found | {"labels": self._entries(counted, corrected)}

    def _entries(self, counted: NDArray[np.int64], corrected: Corrected) -> list[dict[str, Any]]:
        assert self._cells is not None
        assert self.rates is not None
        prior = self.rates.rows / self.rates.rows.sum()
        n = len(self.labels)
        check = emq(self._cells.counts.ravel(), self._cells.means.reshape(-1, n), prior)
        entries = []
        for i, label in enumerate(self.labels):
            entries.append(
                {
                    "label": label,
                    "counted": int(counted[i]) / self._rows,
                    "share": float(corrected.shares[0, i]),
                    "interval": [float(corrected.low[0, i]), float(corrected.high[0, i])],
                    "emq": float(check[i]),
                }
            )
        return entries

    def _drift(self, counts: NDArray[np.int64], shares: NDArray[np.float64]) -> tuple[float, float]:
        """Return the distance to the best mixture of held-out rows, and the largest allowed."""
        assert self.held_out is not None
        assert self.rates is not None
        by_label = self.held_out.reshape(len(self.labels), -1) / self.rates.rows[:, None]
        gaps = np.cumsum(counts.ravel() / self._rows) - np.cumsum(shares @ by_label)
        chance = (1 / self._rows + (shares**2 / self.rates.rows).sum()) ** 0.5
        return float(np.abs(gaps).max()), float(KS_ONE_PERCENT * chance + SMALL_DRIFT)


def why_not_from(rates: ErrorRates, labels: tuple[str, ...]) -> str | None:
    """Say why held-out rows cannot correct any share; None where they can."""
    fewest = int(rates.rows.argmin())
    if rates.rows[fewest] < LEAST_ROWS:
        name = printable(labels[fewest])[:40]
        return (
            f"the model has {rates.rows[fewest]:,} held-out rows of {name}, {LEAST_ROWS} of each "
            "label are required"
        )
    if not rates.is_invertible:
        return "the model hardly tells some of its labels apart on the held-out rows"
    return None


def corrected_groups(counted: NDArray[np.int64], rates: ErrorRates) -> Corrected:
    """Return the corrected shares of groups with these counts (groups, labels).

    They are NaN for groups of fewer than LEAST_ROWS rows.
    """
    found = adjusted_count(counted, rates)
    small = counted.sum(axis=1) < LEAST_ROWS
    for values in (found.shares, found.low, found.high):
        values[small] = np.nan
    return found
