"""Chunk and Scores: what travels between files, model and summary."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from batchsent.sentences import sentence_spans

if TYPE_CHECKING:
    import pyarrow as pa

# What became of a row. PENDING never reaches a file: it marks rows of an unfinished chunk.
PENDING, SCORED, BLANK, NONFINITE = 0, 1, 2, 3

# Characters without a glyph that str.strip keeps: zero-width space, (non-)joiner, word joiner, BOM,
# soft hyphen.
INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"))


def is_blank(text: str | None) -> bool:
    """Tell whether a row has nothing to score: null, empty, white space or invisible only."""
    if text is None:
        return True
    # Nearly every text answers here: its first character is visible.
    if text and not text[0].isspace() and ord(text[0]) not in INVISIBLE:
        return False
    return not text or text.isspace() or not text.translate(INVISIBLE).strip()


@dataclass(frozen=True)
class Reject:
    """A row that cannot be taken."""

    line: int  # counted from 1, where the row begins
    byte_offset: int  # of its first byte, counted from 0 in the decompressed input
    reason: str
    raw: bytes  # the record as it stands, line end excluded


class Carried(Protocol):
    """The rows of a chunk as its format keeps them, for a writer to give them back unchanged.

    Positions of columns count from 0. Raises InputError for values that cannot be decoded.
    """

    def cells(self, position: int) -> list[Any]:
        """Return a column as Python values; those of a text format are all strings."""

    def column(self, position: int) -> "pa.Array | pa.ChunkedArray":
        """Return a column as an Arrow array."""

    def take(self, rows: Sequence[int]) -> "Carried":
        """Return some rows of the chunk, named by their rising numbers in it."""

    def table(self, schema: "pa.Schema") -> "pa.Table":
        """Return all columns as an Arrow table of this schema, which is the source's."""


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of one input, read together."""

    # number of the first row in the input, counted from 0, rejected rows not counted
    start_row: int
    # (rows,) the model's copy of each text; None where the cell is null (row_texts.py)
    texts: Sequence[str | None]
    carried: Carried
    gold: list[Any] | None = None  # (rows,) cells of the gold column, where one was asked for
    rejected: tuple[Reject, ...] = ()  # rows among these that are left out
    # (rows,) cells of each column that `Source.chunks` was asked for, by its name
    columns: Mapping[str, list[Any]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.texts)


@dataclass(frozen=True)
class Sentences:
    """Where the sentences of a chunk's texts are: those of its first row first, each in order."""

    row_of: NDArray[np.int64]  # (sentences,) rising numbers of rows; blank rows have no sentence
    starts: NDArray[np.int32]  # (sentences,) in characters of the row's text
    ends: NDArray[np.int32]  # (sentences,)
    texts: list[str]  # (sentences,)

    @classmethod
    def of(cls, texts: Sequence[str | None]) -> "Sentences":
        """Find the sentences of some texts."""
        row_of, starts, ends, found = [], [], [], []
        for row, text in enumerate(texts):
            if text is None or is_blank(text):
                continue
            for start, end in sentence_spans(text):
                row_of.append(row)
                starts.append(start)
                ends.append(end)
                found.append(text[start:end])
        return cls(
            np.array(row_of, np.int64), np.array(starts, np.int32), np.array(ends, np.int32), found
        )


@dataclass(frozen=True)
class SentenceScores:
    """What the model said of the sentences of a chunk, each judged by itself."""

    sentences: Sentences
    scores: "Scores"  # rows are sentences


@dataclass(frozen=True)
class Scores:
    """What the model said of a chunk, row by row."""

    probabilities: NDArray[np.float32]  # (rows, labels); NaN where status is not SCORED
    # (rows,) tokens the model read, special tokens included; 0 for blank rows
    n_tokens: NDArray[np.int32]
    # (rows,) tokens beyond the model's limit, which it did not read
    truncated_tokens: NDArray[np.int32]
    status: NDArray[np.uint8]  # (rows,) PENDING, SCORED, BLANK or NONFINITE
    distinct: int  # texts, each counted once
    # (rows,) pieces that continue a word or stand for an unknown one, where the tokenizer tells
    odd_pieces: NDArray[np.int32] | None = None
    sentences: "SentenceScores | None" = None  # of all texts, where they were asked for
    # (rows,) whose probabilities are those of an earlier output, as they stand there; None for none
    reused: NDArray[np.bool_] | None = None
    # (rows,) whose score the main model of a cascade gave; None without a cascade
    escalated: NDArray[np.bool_] | None = None

    @classmethod
    def pending(cls, rows: int, labels: int) -> "Scores":
        """Return the scores of a chunk of which nothing is known yet."""
        return cls(
            probabilities=np.full((rows, labels), np.nan, np.float32),
            n_tokens=np.zeros(rows, np.int32),
            truncated_tokens=np.zeros(rows, np.int32),
            status=np.full(rows, PENDING, np.uint8),
            distinct=0,
        )

    @property
    def best(self) -> NDArray[np.float32]:
        """(rows,) probability of the most probable label; NaN where there is no score."""
        winners = self.winners
        found = np.full(len(winners), np.nan, dtype=np.float32)
        scored = np.flatnonzero(winners >= 0)
        found[scored] = self.probabilities[scored, winners[scored]]
        return found

    @property
    def winners(self) -> NDArray[np.intp]:
        """(rows,) index of the most probable label; -1 where there is no score."""
        scored = self.status == SCORED
        best = np.full(len(self.status), -1, dtype=np.intp)
        if scored.any():
            best[scored] = self.probabilities[scored].argmax(axis=1)
        return best
