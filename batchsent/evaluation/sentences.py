"""Sentences rolled up to their reviews: how many are clear, and the strongest of each side."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.chunk import SCORED, Scores, SentenceScores
from batchsent.evaluation.bins import share

# More than 0.5, or a sentence could be clearly both.
# A sentence is clearly positive, or negative, where that label has this probability at least. Under
# it a sentence is most often one that says nothing of the kind: "I saw it with my brother."
CLEAR = 0.8


@dataclass(frozen=True)
class Judged:
    """What the sentences of each row of a chunk say."""

    n_sentences: NDArray[np.int32]  # (rows,)
    n_positive: NDArray[np.int32]  # (rows,) clearly positive ones
    n_negative: NDArray[np.int32]  # (rows,) clearly negative ones
    # (rows,) number of the sentence, among those of the chunk, with the highest probability of the
    # label; the first of equal ones; -1 where no sentence is clear
    most_positive: NDArray[np.int64]
    most_negative: NDArray[np.int64]

    @property
    def mixed(self) -> NDArray[np.bool_]:
        """(rows,) whether there is a clearly positive and a clearly negative sentence."""
        return (self.n_positive > 0) & (self.n_negative > 0)


def judge(scored: SentenceScores, rows: int, positive: int, negative: int) -> Judged:
    """Roll the sentences of a chunk up to its rows.

    `positive` and `negative` are the numbers of these labels. A sentence without a finite number is
    counted and neither positive nor negative.
    """
    row_of = scored.sentences.row_of
    n_positive, most_positive = _clear(row_of, scored.scores.probabilities[:, positive], rows)
    n_negative, most_negative = _clear(row_of, scored.scores.probabilities[:, negative], rows)
    n_sentences = np.bincount(row_of, minlength=rows).astype(np.int32)
    return Judged(n_sentences, n_positive, n_negative, most_positive, most_negative)


def clear_sides(scores: Scores, positive: int, negative: int) -> list[str | None]:
    """Return of each row whether it is clearly "positive" or "negative", or neither: None."""
    sides: list[str | None] = [None] * len(scores.status)
    for side, label in (("positive", positive), ("negative", negative)):
        for row in np.flatnonzero(scores.probabilities[:, label] >= CLEAR).tolist():
            sides[row] = side
    return sides


def _clear(
    row_of: NDArray[np.int64], probability: NDArray[np.float32], rows: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return of each row how many sentences are clear, and the number of the clearest or -1."""
    clear = np.flatnonzero(probability >= CLEAR)
    # By row, in a row the highest first, of equal ones the first:
    #     row_of[clear]        0    0    2
    #     probability[clear]   .8   .9   .9
    #     order                1    0    2      sentences 1 and 2 are the first of their rows
    order = clear[np.lexsort((-probability[clear], row_of[clear]))]
    found, first = np.unique(row_of[order], return_index=True)
    strongest = np.full(rows, -1, dtype=np.int64)
    strongest[found] = order[first]
    return np.bincount(row_of[clear], minlength=rows).astype(np.int32), strongest


class SentenceTally:
    """The counts of a run's sentences, for the section "sentences" of its summary."""

    def __init__(self, positive: int, negative: int) -> None:
        """Take the numbers of the labels that are positive and negative."""
        self._positive, self._negative = positive, negative
        self._distinct = 0
        self._counts = np.zeros(4, dtype=np.int64)  # all, positive, negative, mixed rows

    def add(self, scores: Scores) -> None:
        """Count the sentences of a finished chunk."""
        assert scores.sentences is not None
        rows = len(scores.status)
        judged = judge(scores.sentences, rows, self._positive, self._negative)
        self._distinct += scores.sentences.scores.distinct
        mixed = judged.mixed & (scores.status == SCORED)
        for n, found in enumerate(
            (judged.n_sentences, judged.n_positive, judged.n_negative, mixed)
        ):
            self._counts[n] += found.sum(dtype=np.int64)

    def section(self, scored: int) -> dict[str, Any]:
        """Return the section; `scored` is how many rows have a score."""
        total, positive, negative, mixed = self._counts.tolist()
        return {
            "total": total,
            "distinct": self._distinct,
            "clear_at_least": CLEAR,
            "positive": positive,
            "negative": negative,
            "mixed_rows": mixed,
            "mixed_share": share(mixed, scored),
        }
