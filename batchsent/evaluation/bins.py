"""Distributions in constant memory: lengths in fine bins, sums that do not depend on order."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Probabilities are summed as whole multiples of 2**-30: integer sums are the same in any order, so
# that a resumed run writes the same summary. Exact for float32 scores of 0.5 and more; 8 billion
# rows fit.
FIXED = 1 << 30

# Lengths below EXACT have a bin each; above, every doubling has EXACT / 2 bins, so that quantiles
# are right within 1/4096 (0.025 %).
EXACT = 4096
EXACT_BITS = 12
LONGEST_BITS = 40

QUANTILES = (0.01, 0.05, 0.25, 0.50, 0.75, 0.95, 0.99)

# Edges of the histogram that is shown: four to each doubling, so that it has a shape for ten words
# and for ten pages. From EXACT up they are multiples of the bins' width: no bin crosses an edge.
SHOWN_EDGES = [0, 1, 2, 3, *(round(2 ** (k / 4)) for k in range(8, 4 * EXACT_BITS))]
for octave in range(9):
    SHOWN_EDGES += [base << octave for base in (4096, 4870, 5792, 6888)]


def fixed(values: NDArray[Any]) -> NDArray[np.int64]:
    """Return values in 0 to 2 as whole multiples of 1 / FIXED."""
    return np.rint(values.astype(np.float64) * FIXED).astype(np.int64)


def share(part: float, whole: int) -> float | None:
    """Return part / whole; None where the whole is 0."""
    return part / whole if whole else None


def count(
    numbers: NDArray[Any], size: int, weights: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Count each number from 0 to size - 1, or sum its integer weights (exact below 2**53)."""
    return np.bincount(numbers, weights=weights, minlength=size).astype(np.int64)


class Lengths:
    """Lengths of texts: exact count, sum and maximum; quantiles from 61,440 bins."""

    def __init__(self) -> None:
        self.counts = np.zeros(EXACT + (LONGEST_BITS - EXACT_BITS) * EXACT // 2, dtype=np.int64)
        self.total = 0
        self.longest = 0

    def add(self, lengths: NDArray[np.int64]) -> None:
        """Add lengths, each 0 or more."""
        if not len(lengths):
            return
        longest = int(lengths.max())
        bins = lengths
        if longest >= EXACT:
            # A length keeps its 12 leading bits; how many bits it has beyond them is its doubling:
            #     lengths                        4095  4096  8191  8192
            #     bits beyond the first 12          0     1     1     2
            #     lengths >> beyond              4095  2048  4095  2048
            #     bins: + beyond * EXACT / 2     4095  4096  6143  6144
            beyond = np.maximum(np.frexp(lengths.astype(np.float64))[1] - EXACT_BITS, 0)
            bins = np.minimum((lengths >> beyond) + beyond * (EXACT // 2), len(self.counts) - 1)
        self.counts += np.bincount(bins, minlength=len(self.counts))
        self.total += int(lengths.sum())
        self.longest = max(self.longest, longest)

    def merge(self, others: "Lengths") -> None:
        """Add the lengths that were added to others."""
        self.counts += others.counts
        self.total += others.total
        self.longest = max(self.longest, others.longest)

    def section(self) -> dict[str, Any]:
        """Return count, mean, quantiles (nearest rank), longest and a histogram on SHOWN_EDGES."""
        rows = int(self.counts.sum())
        section: dict[str, Any] = {
            "count": rows,
            "total": self.total,
            "mean": share(self.total, rows),
        }
        up_to = np.cumsum(self.counts)
        for quantile in QUANTILES:
            found = None
            if rows:
                rank = max(1, int(np.ceil(quantile * rows)))
                found = self._length(int(np.searchsorted(up_to, rank)))
            section[f"p{quantile * 100:.0f}"] = found
        section["max"] = self.longest if rows else None
        starts = _starts(np.arange(len(self.counts)))
        shown = np.searchsorted(SHOWN_EDGES, starts, side="right") - 1
        folded = count(shown, len(SHOWN_EDGES), self.counts)
        section["histogram"] = {"edges": SHOWN_EDGES, "counts": folded.tolist()}
        return section

    def _length(self, number: int) -> int:
        """Return the middle of a bin, or the longest length where that is less."""
        first, next_first = map(int, _starts(np.array([number, number + 1])))
        return min((first + next_first - 1) // 2, self.longest)


def _starts(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the smallest length of each of these bins."""
    beyond = np.maximum((numbers - EXACT // 2) // (EXACT // 2), 0)
    starts: NDArray[np.int64] = (numbers - beyond * (EXACT // 2)) << beyond
    return starts
