"""The rows on which weak labels and the model disagree most, in bounded memory."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from batchsent.chunk import SCORED, Chunk, Scores
from batchsent.evaluation.gold import GoldRule
from batchsent.text import without_surrogates

MOST_ROWS = 1_000
# Enough of a review to judge it by; a thousand of them stay a file that opens in a spreadsheet.
TEXT_CHARACTERS = 2_000

# The columns of the table, columns of the input left out.
KINDS = {
    "row": pa.int64(),
    "gold": pa.string(),
    "gold_label": pa.string(),
    "label": pa.string(),
    "score": pa.float32(),
    "gold_probability": pa.float32(),
    "text": pa.string(),
}

# Row numbers of a chunk -> their cells, an array for each column that is kept.
Cells = Callable[[NDArray[np.intp]], list[pa.Array]]


class Disagreements:
    """Keeps the `most_rows` rows whose weak label the model finds least probable.

    `gold` says what the cells of the weak column mean, `columns` which columns of the input come
    along. Chunks are added in order; equal probabilities go by row, so the rows kept depend on the
    input alone. Texts are cut at `characters`.
    """

    def __init__(
        self,
        gold: GoldRule,
        columns: Sequence[str] = (),
        *,
        most_rows: int = MOST_ROWS,
        characters: int = TEXT_CHARACTERS,
    ) -> None:
        self.gold, self.columns = gold, tuple(columns)
        self.most_rows, self.characters = most_rows, characters
        # (kept,) of the weak label, rising
        self._chances: NDArray[np.float32] = np.zeros(0, dtype=np.float32)
        self._entries: list[dict[str, Any]] = []  # (kept,)
        self._cells: list[pa.Array] = []  # (kept,) for each of `columns`; none before the first row

    def add(self, chunk: Chunk, scores: Scores, cells: Cells | None = None) -> None:
        """Look through a finished chunk, whose gold cells are those of the weak column.

        `cells` gives those of `columns`, in types that CSV has.
        """
        assert chunk.gold is not None
        numbers = self.gold.numbers(chunk.gold)
        winners = scores.winners
        differ = np.flatnonzero((numbers >= 0) & (scores.status == SCORED) & (winners != numbers))
        chances = scores.probabilities[differ, numbers[differ]]
        if len(self._entries) == self.most_rows:
            # Of equal chances the earlier row is kept, so only a lower one can come in.
            better = chances < (self._chances[-1] if self.most_rows else -1.0)
            differ, chances = differ[better], chances[better]
        # The lowest of this chunk first, so that texts are copied for no more rows than are kept.
        lowest = np.argsort(chances, kind="stable")[: self.most_rows]
        rows, chances = differ[lowest], chances[lowest]
        if not len(rows):
            return
        entries = [
            self._entry(chunk, scores, row, int(numbers[row]), int(winners[row]))
            for row in rows.tolist()
        ]
        everyone = np.concatenate([self._chances, chances])
        merged = np.argsort(everyone, kind="stable")[: self.most_rows]
        self._entries = [(self._entries + entries)[place] for place in merged.tolist()]
        self._chances = everyone[merged]
        if self.columns:
            assert cells is not None
            self._keep_cells(cells(rows), pa.array(merged))

    def _keep_cells(self, cells: list[pa.Array], merged: pa.Array) -> None:
        """Take the cells of a chunk's rows; `merged` says which of all are kept, in what order."""
        new = [_cut(values, self.characters) for values in cells]
        if self._cells:
            new = [pa.concat_arrays(pair) for pair in zip(self._cells, new, strict=True)]
        self._cells = [values.take(merged) for values in new]

    def _entry(
        self, chunk: Chunk, scores: Scores, row: int, weak: int, winner: int
    ) -> dict[str, Any]:
        assert chunk.gold is not None
        text = chunk.texts[row] or ""
        cell = chunk.gold[row]
        return {
            "row": chunk.start_row + row + 1,
            "gold": cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell),
            "gold_label": self.gold.labels[weak],
            "label": self.gold.labels[winner],
            "score": scores.probabilities[row, winner],
            "gold_probability": scores.probabilities[row, weak],
            "text": without_surrogates(text[: self.characters]),
        }

    def table(self) -> pa.Table:
        """Return the rows kept, those that disagree most first.

        Columns: row, counted from 1 in the input without the rejected ones; the columns kept of the
        input; gold, the cell as it stands; gold_label, what it means; label and score of the model;
        gold_probability, which the model gives the weak label; text. A column of the input whose
        name is one of these has `input_` in front of it.
        """
        row, *others = [
            pa.array([entry[name] for entry in self._entries], kind) for name, kind in KINDS.items()
        ]
        kept = self._cells or [pa.array([], pa.string()) for _ in self.columns]
        names = [f"input_{name}" if name in KINDS else name for name in self.columns]
        first, *last = KINDS
        return pa.Table.from_arrays([row, *kept, *others], names=[first, *names, *last])


def _cut(values: pa.Array, characters: int) -> pa.Array:
    """Return text that is not longer than the texts of reviews; other values as they are."""
    kind = values.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return values
    if (pc.max(pc.binary_length(values)).as_py() or 0) <= characters:
        return values
    # As bytes first: a column of text may hold something else.
    cells = values.cast(pa.large_binary()).to_pylist()
    return pa.array([cell and cell.decode("utf-8", "replace")[:characters] for cell in cells], kind)
