"""The rows on which weak labels and the model disagree most, in bounded memory; writes no file."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchsent.chunk import SCORED, Chunk, Scores
from batchsent.evaluation.gold import GoldRule
from batchsent.text import without_surrogates

MOST_ROWS = 1_000
# Enough of a review to judge it by; a thousand of them stay a file that opens in a spreadsheet.
TEXT_CHARACTERS = 2_000


class Disagreements:
    """Keeps the `most_rows` rows whose weak label the model finds least probable.

    `gold` says what the cells of the weak column mean. Chunks are added in order; equal
    probabilities go by row, so the rows kept depend on the input alone. Texts are cut at
    `characters`.
    """

    def __init__(
        self, gold: GoldRule, *, most_rows: int = MOST_ROWS, characters: int = TEXT_CHARACTERS
    ) -> None:
        self.gold, self.most_rows, self.characters = gold, most_rows, characters
        # (kept,) of the weak label, rising
        self._chances: NDArray[np.float32] = np.zeros(0, dtype=np.float32)
        self._entries: list[dict[str, Any]] = []  # (kept,)

    def add(self, chunk: Chunk, scores: Scores) -> None:
        """Look through a finished chunk, whose gold cells are those of the weak column."""
        assert chunk.gold is not None
        numbers = self.gold.numbers(chunk.gold)
        winners = scores.winners
        differ = np.flatnonzero((numbers >= 0) & (scores.status == SCORED) & (winners != numbers))
        chances = scores.probabilities[differ, numbers[differ]]
        if len(self._entries) == self.most_rows:
            # A later row with the same chance stays behind, so only a lower one can come in.
            better = chances < (self._chances[-1] if self.most_rows else -1.0)
            differ, chances = differ[better], chances[better]
        # The lowest of this chunk first, so that texts are copied for no more rows than are kept.
        lowest = np.argsort(chances, kind="stable")[: self.most_rows]
        rows, chances = differ[lowest], chances[lowest]
        entries = [
            self._entry(chunk, scores, row, int(numbers[row]), int(winners[row]))
            for row in rows.tolist()
        ]
        everyone = np.concatenate([self._chances, chances])
        merged = np.argsort(everyone, kind="stable")[: self.most_rows]
        self._entries = [(self._entries + entries)[place] for place in merged.tolist()]
        self._chances = everyone[merged]

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

        Columns: row, counted from 1 in the input without the rejected ones; gold, the cell as it
        stands; gold_label, what it means; label and score of the model; gold_probability, which the
        model gives the weak label; text.
        """
        kinds = {
            "row": pa.int64(),
            "gold": pa.string(),
            "gold_label": pa.string(),
            "label": pa.string(),
            "score": pa.float32(),
            "gold_probability": pa.float32(),
            "text": pa.string(),
        }
        columns = [
            pa.array([entry[name] for entry in self._entries], kind) for name, kind in kinds.items()
        ]
        return pa.Table.from_arrays(columns, names=list(kinds))
