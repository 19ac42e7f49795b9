"""Rows worth a look: the most wrong, least sure, most positive, most negative and mixed ones.

A few of each kind, in bounded memory, for the page of a run: it is the only place that holds texts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batchsent.chunk import SCORED, Chunk, Scores
from batchsent.evaluation.gold import GoldRule
from batchsent.evaluation.polarity import Sides
from batchsent.evaluation.sentences import Judged, judge

MOST_EXAMPLES = 100  # of each kind
# Of a text: a page with many examples stays one that a browser opens at once.
TEXT_CHARACTERS = 600


@dataclass(frozen=True)
class Example:
    """A row as the page shows it."""

    row: int  # counted from 1 in the input, rejected rows not counted
    label: str
    score: float
    gold: str | None  # the label that gold gives it
    # the text in parts, at most TEXT_CHARACTERS, and whether each is the strongest sentence
    parts: tuple[tuple[str, bool], ...]
    cut: bool  # whether the text goes on
    kept: tuple[str, ...]  # cells of the columns that come along


@dataclass(frozen=True)
class ShownExamples:
    """The examples of a page."""

    columns: tuple[str, ...]  # of the input, that come along
    kinds: dict[str, list[Example]]


# Row numbers of a chunk -> the cells of each in the columns that come along.
Cells = Callable[[NDArray[np.intp]], list[tuple[str, ...]]]


class Lowest:
    """The `most` entries with the lowest keys of a stream; of equal keys the first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._keys: NDArray[np.float64] = np.zeros(0)
        self.entries: list[Example] = []

    def add(
        self,
        keys: NDArray[np.float64],
        rows: NDArray[np.intp],
        make: Callable[[NDArray[np.intp]], list[Example]],
    ) -> None:
        """Look through rows (rows,) of a chunk with their keys; `make` returns those of some."""
        if len(self.entries) == self._most and self._most:
            better = keys < self._keys[-1]  # an equal key comes later in the input
            keys, rows = keys[better], rows[better]
        first = np.argsort(keys, kind="stable")[: self._most]
        if not len(first):
            return
        everyone = [*self.entries, *make(rows[first])]
        every_key = np.concatenate([self._keys, keys[first]])
        order = np.argsort(every_key, kind="stable")[: self._most]
        self._keys = every_key[order]
        self.entries = [everyone[place] for place in order.tolist()]


class Examples:
    """Looks through the chunks of a run, in order, for `most` rows of each kind.

    `gold` and `sides` (the positive and the negative label) where they are known. Equal scores go
    by row, so that the rows found depend on the input and its scores alone.
    """

    def __init__(
        self, labels: Sequence[str], most: int, gold: GoldRule | None, sides: Sides | None
    ) -> None:
        self._labels, self._gold, self._sides = tuple(labels), gold, sides
        kinds = ["wrong"] if gold is not None else []
        kinds += ["unsure"]
        kinds += ["positive", "negative", "mixed"] if sides is not None else []
        self._found = {kind: Lowest(most) for kind in kinds}

    def add(self, chunk: Chunk, scores: Scores, cells: Cells) -> None:
        """Look through a finished chunk."""
        gold = np.full(chunk.rows, -1)
        if self._gold is not None:
            assert chunk.gold is not None
            gold = self._gold.numbers(chunk.gold)
        view = _ChunkView(chunk, scores, self._labels, gold, cells)
        scored = np.flatnonzero(scores.status == SCORED)
        self._keep("unsure", view, scored, scores.best[scored])
        if self._gold is not None:
            wrong = scored[(gold[scored] >= 0) & (gold[scored] != scores.winners[scored])]
            self._keep("wrong", view, wrong, scores.probabilities[wrong, gold[wrong]])
        if self._sides is not None:
            self._add_sides(view, scored, self._sides)

    def _add_sides(self, view: "_ChunkView", scored: NDArray[np.intp], sides: Sides) -> None:
        positive, negative = sides
        probabilities = view.scores.probabilities
        strongest: dict[str, NDArray[np.int64]] = {}
        if view.scores.sentences is not None:
            judged = judge(view.scores.sentences, view.chunk.rows, positive, negative)
            strongest = {"positive": judged.most_positive, "negative": judged.most_negative}
            self._add_mixed(view, scored[judged.mixed[scored]], judged, sides)
        for side, label in (("positive", positive), ("negative", negative)):
            own = scored[view.scores.winners[scored] == label]
            self._keep(side, view, own, -probabilities[own, label], strongest.get(side))

    def _add_mixed(
        self, view: "_ChunkView", mixed: NDArray[np.intp], judged: Judged, sides: Sides
    ) -> None:
        """Keep the rows whose weaker strongest sentence is the strongest."""
        positive, negative = sides
        assert view.scores.sentences is not None
        each = view.scores.sentences.scores.probabilities
        weaker = np.minimum(
            each[judged.most_positive[mixed], positive], each[judged.most_negative[mixed], negative]
        )
        both = np.stack([judged.most_positive, judged.most_negative], axis=1)
        self._keep("mixed", view, mixed, -weaker, both)

    def _keep(
        self,
        kind: str,
        view: "_ChunkView",
        rows: NDArray[np.intp],
        keys: NDArray[np.float32],
        marked: NDArray[np.int64] | None = None,
    ) -> None:
        self._found[kind].add(
            keys.astype(np.float64), rows, lambda chosen: view.examples(chosen, marked)
        )

    def sections(self) -> dict[str, list[Example]]:
        """Return the rows found of each kind that has some."""
        return {kind: found.entries for kind, found in self._found.items() if found.entries}


@dataclass(frozen=True)
class _ChunkView:
    """A chunk with its scores, from which examples are made."""

    chunk: Chunk
    scores: Scores
    labels: tuple[str, ...]
    gold: NDArray[np.int64]  # (rows,)
    cells: Cells

    def examples(self, rows: NDArray[np.intp], marked: NDArray[np.int64] | None) -> list[Example]:
        """Return examples of rows.

        `marked` (all rows, ...) are numbers of sentences, -1 for none.
        """
        found = []
        for row, kept in zip(rows.tolist(), self.cells(rows), strict=True):
            winner, gold = int(self.scores.winners[row]), int(self.gold[row])
            text = self.chunk.texts[row] or ""
            spans = [] if marked is None else self._spans(np.atleast_1d(marked[row]))
            found.append(
                Example(
                    row=self.chunk.start_row + row + 1,
                    label=self.labels[winner],
                    score=float(self.scores.probabilities[row, winner]),
                    gold=self.labels[gold] if gold >= 0 else None,
                    parts=tuple(split_at(text[:TEXT_CHARACTERS], spans)),
                    cut=len(text) > TEXT_CHARACTERS,
                    kept=kept,
                )
            )
        return found

    def _spans(self, numbers: NDArray[np.int64]) -> list[tuple[int, int]]:
        """Return where sentences begin and end in their text."""
        assert self.scores.sentences is not None
        sentences = self.scores.sentences.sentences
        there = sorted({number for number in numbers.tolist() if number >= 0})
        return [(int(sentences.starts[n]), int(sentences.ends[n])) for n in there]


def split_at(text: str, spans: Sequence[tuple[int, int]]) -> list[tuple[str, bool]]:
    """Return a text in parts, each with whether it is one of the rising `spans`."""
    parts, place = [], 0
    for start, end in spans:
        parts += [(text[place:start], False), (text[start:end], True)]
        place = end
    parts.append((text[place:], False))
    return [part for part in parts if part[0]]
