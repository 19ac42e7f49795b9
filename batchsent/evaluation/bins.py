"""Distributions in constant memory: lengths in fine bins, sums that do not depend on order; knows no reviews."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Probabilities are summed as whole multiples of 2**-30: integer sums are the same however rows are grouped, so a run
# resumed in other pieces writes the same summary. Exact for float32 scores of 0.5 and more; 8 billion rows fit.
FIXED = 1 << 30

# Lengths below EXACT have a bin each; above, every doubling has EXACT / 2 bins: quantiles within 1/4096 (0.025 %).
EXACT = 4096
EXACT_BITS = 12
LONGEST_BITS = 40

QUANTILES = (0.01, 0.05, 0.25, 0.50, 0.75, 0.95, 0.99)

# Edges of the histogram that is shown: four to a doubling, so that ten words and ten pages both have a shape.
SHOWN_EDGES = [0, 1, 2, 3, *(base * quarter for base in (1 << i for i in range(19)) for quarter in (4, 5, 6, 7))]


def fixed(values: NDArray[Any]) -> NDArray[np.int64]:
    """Return values in 0 to 2 as whole multiples of 1 / FIXED."""
    return np.rint(values.astype(np.float64) * FIXED).astype(np.int64)


def count(numbers: NDArray[Any], size: int, weights: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Count how often each of 0..size-1 occurs, or sum its integer weights (below 2**53 in all, so exactly)."""
    return np.bincount(numbers, weights=weights, minlength=size).astype(np.int64)


class Lengths:
    """Lengths of any number of texts: count, sum and longest exactly, quantiles from 61,440 bins (480 kB)."""

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
            # Keep the 12 leading bits: the number of bits beyond them picks the doubling.
            beyond = np.maximum(np.frexp(lengths.astype(np.float64))[1] - EXACT_BITS, 0)
            bins = np.minimum((lengths >> beyond) + beyond * (EXACT // 2), len(self.counts) - 1)
        self.counts += np.bincount(bins, minlength=len(self.counts))
        self.total += int(lengths.sum())
        self.longest = max(self.longest, longest)

    def section(self) -> dict[str, Any]:
        """Return count, mean, quantiles (nearest rank), longest and a histogram on SHOWN_EDGES."""
        rows = int(self.counts.sum())
        section: dict[str, Any] = {"count": rows, "total": self.total, "mean": self.total / rows if rows else None}
        upto = np.cumsum(self.counts)
        for share in QUANTILES:
            rank = max(1, int(np.ceil(share * rows)))
            section[f"p{share * 100:.0f}"] = self._length(int(np.searchsorted(upto, rank))) if rows else None
        section["max"] = self.longest if rows else None
        shown = _shown_bins(len(self.counts))
        # float64 weights count exactly up to 2**53 rows
        folded = np.bincount(shown, weights=self.counts, minlength=len(SHOWN_EDGES)).astype(np.int64)
        section["histogram"] = {"edges": SHOWN_EDGES, "counts": folded.tolist()}
        return section

    def _length(self, number: int) -> int:
        """Return the middle of a bin, never more than the longest seen."""
        return min((_start(number) + _start(number + 1) - 1) // 2, self.longest)


@lru_cache
def _shown_bins(count: int) -> NDArray[np.int64]:
    """Return for each bin the place on SHOWN_EDGES that it belongs to."""
    starts = np.array([_start(number) for number in range(count)])
    return np.searchsorted(SHOWN_EDGES, starts, side="right") - 1


def _start(number: int) -> int:
    """Return the smallest length of a bin."""
    if number < EXACT:
        return number
    beyond = (number - EXACT // 2) // (EXACT // 2)
    return (number - beyond * (EXACT // 2)) << beyond
