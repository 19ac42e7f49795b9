"""Columns of labels and scores, as a run adds them -> Scores: the way back of outputs.py."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.chunk import BLANK, SCORED, Scores
from batchsent.evaluation.polarity import NEUTRAL

# The winner of n labels has 1/n at least, but for rounding.
LEAST_WINNER = 1 - 1e-5
# Two float32 probabilities add up to 1 but for rounding.
POLARITY_ERROR = 1e-5


class BadCell(Exception):
    """A cell that no run writes into its column."""

    def __init__(self, row: int, cell: Any) -> None:
        """Take the row, counted from 0 among the cells, and what stands there."""
        super().__init__(row, cell)
        self.row, self.cell = row, cell


def label_texts(cells: Sequence[Any]) -> list[str | None]:
    """Return the labels of a column; None where there is none. Raises BadCell for other values."""
    texts: list[str | None] = []
    for row, cell in enumerate(cells):
        text = cell.decode("utf-8", "replace") if isinstance(cell, bytes) else cell
        if not isinstance(text, str | None):
            raise BadCell(row, cell)
        texts.append(text or None)
    return texts


def label_numbers(texts: Sequence[str | None], labels: Sequence[str]) -> NDArray[np.intp]:
    """Return (rows,) the number of each label, -1 where there is none. Raises BadCell."""
    numbers: dict[str | None, int] = {label: n for n, label in enumerate(labels)} | {None: -1}
    try:
        return np.fromiter((numbers[text] for text in texts), dtype=np.intp, count=len(texts))
    except KeyError:
        row = next(row for row, text in enumerate(texts) if text not in numbers)
        raise BadCell(row, texts[row]) from None


class NeutralRows:
    """Gives rows that a neutral band labelled NEUTRAL the label that the model gave them.

    There the score tells how far the polarity is from 0, and its sign which of the two labels it
    is. What the labels are called is learned from the other rows. A NEUTRAL that is a label of the
    model's own does not fit, and stays.
    """

    def __init__(self) -> None:
        self._names: dict[bool, str] = {}  # of positive polarity, and of negative

    def resolve(
        self, texts: list[str | None], score: NDArray[np.float32], polarity: Sequence[Any]
    ) -> list[str | None]:
        """Return the labels of rows (rows,) with scores and the cells of the column polarity."""
        values = np.array([number(cell) for cell in polarity])
        fits = np.abs(2 * score - 1 - np.abs(values)) < POLARITY_ERROR
        neutral = np.array([text == NEUTRAL for text in texts], dtype=bool)
        for side in (True, False):
            others = np.flatnonzero(fits & ~neutral & ((values > 0) == side) & (values != 0))
            if side not in self._names and len(others):
                self._names[side] = str(texts[others[0]])
        found = list(texts)
        if len(self._names) == 2:
            for row in np.flatnonzero(fits & neutral).tolist():
                found[row] = self._names[bool(values[row] > 0)]
        return found


def filled(cells: Sequence[Any]) -> NDArray[np.bool_]:
    """Return (rows,) whether there is anything in a cell."""
    return np.fromiter((cell not in (None, "") for cell in cells), bool, count=len(cells))


def probabilities(
    cells: Sequence[Any] | NDArray[np.float32], given: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return (rows,) probabilities, NaN for rows that are not `given`.

    The decimals of a CSV read back exactly. Raises BadCell where a given cell is not a number from
    0 to 1.
    """
    found = np.full(len(cells), np.nan, dtype=np.float32)
    rows = np.flatnonzero(given)
    chosen = cells[rows] if isinstance(cells, np.ndarray) else [cells[n] for n in rows.tolist()]
    try:
        values = np.array(chosen, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.array([number(cell) for cell in chosen])
    bad = np.flatnonzero(~((values >= 0) & (values <= 1)))
    if len(bad):
        row = int(rows[bad[0]])
        raise BadCell(row, cells[row])
    found[rows] = values.astype(np.float32)
    return found


def number(cell: Any) -> float:
    """Return a cell as a number, NaN where it is not one."""
    try:
        return float(cell)
    except (TypeError, ValueError):
        return float("nan")


def too_low(score: NDArray[np.float32], labels: int) -> NDArray[np.bool_]:
    """Tell which scores are lower than the highest of so many probabilities can be."""
    return score < LEAST_WINNER / max(labels, 1)


def to_scores(
    winners: NDArray[np.intp],
    score: NDArray[np.float32],
    labels: int,
    *,
    each: NDArray[np.float32] | None = None,
    status: NDArray[np.uint8] | None = None,
    n_tokens: NDArray[np.int32] | None = None,
    truncated: NDArray[np.int32] | None = None,
) -> Scores:
    """Put scores together again, as the model gave them.

    `winners` and `score` are what the columns label and score say, `each` (rows, labels) what the
    columns prob_<label> do. Without `each`, of two labels the score tells both probabilities; of
    more the others are 0. Rows without a label are blank where no `status` is given; counts of
    tokens that are not given are 0.
    """
    rows = len(winners)
    scored = np.flatnonzero(winners >= 0)
    found = np.full((rows, labels), np.nan, dtype=np.float32)
    if each is not None:
        found[scored] = each[scored]
    else:
        found[scored] = 0
        if labels == 2:
            # float32 softmax may give 0.5 and 0.49999997: the other label must not tie.
            best = score[scored]
            other = np.minimum(1 - best, np.nextafter(best, np.float32(0)))
            found[scored, 1 - winners[scored]] = other
        found[scored, winners[scored]] = score[scored]
    if status is None:
        status = np.where(winners >= 0, SCORED, BLANK).astype(np.uint8)
    zeros = np.zeros(rows, dtype=np.int32)
    return Scores(
        probabilities=found,
        n_tokens=zeros if n_tokens is None else n_tokens,
        truncated_tokens=zeros if truncated is None else truncated,
        status=status,
        distinct=0,
    )
