"""Which texts look like those that a model has learned, by the pieces that its tokenizer makes.

A WordPiece vocabulary has the common words of what it was made from as one piece each. Of other
languages, codes and noise it makes many continuation pieces (##) and unknown ones. Their share of a
text, compared with that of the model's held-out rows, tells such texts without another model.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.evaluation.bins import share

# A shorter text says too little: one unusual word would be half of it.
LEAST_PIECES = 8
# The held-out rows have at most this share of rows beyond the limit.
BEYOND = 0.001
# Room for texts that are shorter than the held-out ones, whose shares are spread more widely.
MARGIN = 0.05
# So many rows are named, for a person to look at.
FIRST_ROWS = 3


def limit_of(odd: NDArray[Any], pieces: NDArray[Any]) -> float | None:
    """Return the share of odd pieces above which a text is unfamiliar; None without texts.

    `odd` and `pieces` (rows,) are counts of held-out texts: of continuation and unknown pieces, and
    of all. The limit is the quantile 1 - BEYOND of their shares, plus MARGIN.
    """
    shares = odd_shares(odd, pieces)
    if not len(shares):
        return None
    found = float(np.quantile(shares, 1 - BEYOND, method="higher")) + MARGIN
    return round(min(found, 1.0), 4)


def odd_shares(odd: NDArray[Any], pieces: NDArray[Any]) -> NDArray[np.float64]:
    """Return the share of odd pieces of each text that has LEAST_PIECES or more."""
    long_enough = pieces >= LEAST_PIECES
    found: NDArray[np.float64] = odd[long_enough] / pieces[long_enough]
    return found


class FamiliarityTally:
    """The counts of a run's rows for `text.unfamiliar` in its summary."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._rows = self._judged = self._unfamiliar = 0
        self._first: list[int] = []  # numbers of the first unfamiliar rows, counted from 1

    def add(self, odd: NDArray[np.int32], pieces: NDArray[np.int32]) -> None:
        """Count the next rows (rows,) by their odd pieces and all pieces; blank ones have none."""
        shares = odd_shares(odd, pieces)
        unfamiliar = np.flatnonzero(pieces >= LEAST_PIECES)[shares > self._limit]
        self._judged += len(shares)
        self._unfamiliar += len(unfamiliar)
        wanted = FIRST_ROWS - len(self._first)
        self._first += [self._rows + row + 1 for row in unfamiliar[:wanted].tolist()]
        self._rows += len(pieces)

    def section(self) -> dict[str, Any]:
        """Return the section."""
        return {
            "rows": self._unfamiliar,
            "judged": self._judged,
            "share": share(self._unfamiliar, self._judged),
            "first_rows": list(self._first),
            "odd_pieces_above": self._limit,
            "least_pieces": LEAST_PIECES,
        }
