"""Rows counted by the label given and the bin of its probability, streamed in constant memory.

Held-out rows and a dump are counted alike, to be compared with each other. A cell is one label and
one bin; the counts of all cells give the share of each label, and the rows above each of EDGES.
"""

import numpy as np
from numpy.typing import NDArray

from batchsent.evaluation.bins import count, fixed

# Hundredths; the last one, where most scores of a good model lie, is split into three.
EDGES = np.array([*(number / 100 for number in range(100)), 0.995, 0.999, 1.0])
BINS = len(EDGES) - 1


def cell_numbers(probabilities: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the cell of each row (rows,) of probabilities (rows, labels): label x BINS + bin.

    A bin contains its lower edge; the last one also contains 1.
    """
    winners = probabilities.argmax(axis=1)
    scores = probabilities[np.arange(len(winners)), winners].astype(np.float64)
    bins = (np.searchsorted(EDGES, scores, side="right") - 1).clip(0, BINS - 1)
    numbers: NDArray[np.int64] = winners * BINS + bins
    return numbers


class ScoreCells:
    """The counts of a stream of rows, and the mean probabilities of the rows in each cell.

    Memory is constant: (labels, BINS) counts and (labels, BINS, labels) sums. Sums are those of
    whole numbers, so that they are the same in any order of the rows.
    """

    def __init__(self, labels: int) -> None:
        self.labels = labels
        self._counts = np.zeros(labels * BINS, dtype=np.int64)
        self._sums = np.zeros((labels * BINS, labels), dtype=np.int64)  # in 1 / FIXED

    def add(self, probabilities: NDArray[np.float32]) -> None:
        """Count rows (rows, labels), all of them finite."""
        numbers = cell_numbers(probabilities)
        self._counts += count(numbers, len(self._counts))
        for label in range(self.labels):
            weights = fixed(probabilities[:, label])
            self._sums[:, label] += count(numbers, len(self._counts), weights)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self._counts.sum())

    @property
    def counts(self) -> NDArray[np.int64]:
        """(labels, BINS) rows of each cell."""
        return self._counts.reshape(self.labels, BINS)

    @property
    def means(self) -> NDArray[np.float64]:
        """(labels, BINS, labels) mean probabilities of the rows in each cell; 0 in empty cells.

        They sum to 1, whatever the last digits of the probabilities do.
        """
        sums = self._sums.astype(np.float64)
        means: NDArray[np.float64] = sums / np.maximum(sums.sum(axis=1, keepdims=True), 1)
        return means.reshape(self.labels, BINS, self.labels)
