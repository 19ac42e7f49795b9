"""Which rows of a scored dump to label by hand: strata by label and score, and a seeded draw.

Every stratum is drawn from at random without replacement, so each of its rows stands for as many
rows as the stratum has by row drawn: that is its weight (Cochran 1977, chapter 5).
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Scores are counted in cells of a quarter of a logit, from -4 (0.018) to 16 (1 - 1e-7): most scores
# of a fine-tuned encoder lie above 0.99, where even cells of a hundredth would be one cell.
CELLS = 80
CELLS_PER_LOGIT = 4
LOWEST_LOGIT = -4
# A stratum holds a twentieth of the dump at least, and ten of the rows that are drawn: with fewer
# the variance within it cannot be told.
STRATUM_SHARE = 1 / 20
STRATUM_ROWS = 10
# A variance requires two rows.
LEAST_ROWS = 2
# Mistakes that are expected of a stratum, whatever its scores say: an overconfident model must not
# keep the rows it is sure of out of the sample.
LEAST_MISTAKES, MOST_MISTAKES = 0.05, 0.5


@dataclass(frozen=True)
class Strata:
    """The strata of a dump, numbered from 0 in the order of label and score."""

    number: Mapping[str, NDArray[np.int64]]  # label -> (CELLS,) stratum of each cell of scores
    rows: NDArray[np.int64]  # (strata,) rows of the dump
    drawn: NDArray[np.int64]  # (strata,) rows to draw

    def of(self, labels: Sequence[str | None], scores: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the stratum of each row, -1 for a row without a label."""
        found = np.full(len(labels), -1, dtype=np.int64)
        cells = score_cells(scores)
        for row, label in enumerate(labels):
            if label is not None:
                found[row] = self.number[label][cells[row]]
        return found

    def described(self) -> list[dict[str, Any]]:
        """Return labels, scores, rows and drawn rows of each stratum, numbered from 1."""
        edges = cell_edges()
        found = []
        for stratum, (rows, drawn) in enumerate(zip(self.rows, self.drawn, strict=True)):
            cells = {label: np.flatnonzero(of == stratum) for label, of in self.number.items()}
            labels = [label for label, within in cells.items() if len(within)]
            within = cells[labels[0]]
            found.append(
                {
                    "stratum": stratum + 1,
                    "labels": labels,
                    "score_from": float(edges[within[0]]),
                    "score_to": float(edges[within[-1] + 1]),
                    "rows": int(rows),
                    "drawn": int(drawn),
                }
            )
        return found

    @property
    def weights(self) -> NDArray[np.float64]:
        """(strata,) rows of the dump that one drawn row stands for."""
        return self.rows / np.maximum(self.drawn, 1)


class ScoreCounts:
    """Counts the rows of a dump by label and score, from which `strata` plans the sample."""

    def __init__(self) -> None:
        self._counts: dict[str, NDArray[np.int64]] = {}  # label -> (CELLS,)

    def add(self, labels: Sequence[str | None], scores: NDArray[np.float32]) -> None:
        """Count rows; those without a label do not count."""
        cells, names = (
            score_cells(scores),
            np.array([label or "" for label in labels], dtype=object),
        )
        for label in set(labels) - {None}:
            assert label is not None
            counts = np.bincount(cells[names == label], minlength=CELLS)
            self._counts[label] = self._counts.get(label, np.zeros(CELLS, dtype=np.int64)) + counts

    @property
    def rows(self) -> int:
        """Rows with a label."""
        return sum(int(counts.sum()) for counts in self._counts.values())

    def strata(self, sample_rows: int) -> Strata:
        """Return strata for a sample of that many rows, or of all rows where there are fewer.

        Cells of scores that follow each other are joined until a stratum is large enough. Labels
        with too few rows for a stratum of their own share one.
        """
        sample_rows = min(sample_rows, self.rows)
        least = max(STRATUM_SHARE, STRATUM_ROWS / max(sample_rows, 1)) * self.rows
        numbers, small = {}, []
        strata = 0
        for label in sorted(self._counts):
            if self._counts[label].sum() < least:
                small.append(label)
                continue
            within = _join(self._counts[label], least)
            numbers[label] = strata + within
            strata += int(within[-1]) + 1
        for label in small:
            numbers[label] = np.full(CELLS, strata, dtype=np.int64)
        strata += bool(small)
        rows, mistakes = np.zeros(strata, dtype=np.int64), np.zeros(strata)
        expected = 1 - cell_scores()
        for label, number in numbers.items():
            rows += np.bincount(number, self._counts[label], strata).astype(np.int64)
            mistakes += np.bincount(number, self._counts[label] * expected, strata)
        share = np.clip(mistakes / np.maximum(rows, 1), LEAST_MISTAKES, MOST_MISTAKES)
        return Strata(numbers, rows, allocate(rows, np.sqrt(share * (1 - share)), sample_rows))


def score_cells(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the cell of each score, 0 for none."""
    wide = np.clip(np.nan_to_num(scores.astype(np.float64)), 1e-9, 1 - 1e-9)
    logits = np.log(wide) - np.log1p(-wide)
    cells: NDArray[np.float64] = np.floor((logits - LOWEST_LOGIT) * CELLS_PER_LOGIT)
    return cells.clip(0, CELLS - 1).astype(np.int64)


def cell_scores() -> NDArray[np.float64]:
    """Return the score in the middle of each cell, (CELLS,)."""
    logits = LOWEST_LOGIT + (np.arange(CELLS) + 0.5) / CELLS_PER_LOGIT
    middles: NDArray[np.float64] = 1 / (1 + np.exp(-logits))
    return middles


def cell_edges() -> NDArray[np.float64]:
    """Return the scores between the cells, (CELLS + 1,); the outer ones are 0 and 1."""
    logits = LOWEST_LOGIT + np.arange(1, CELLS) / CELLS_PER_LOGIT
    inner = 1 / (1 + np.exp(-logits))
    return np.array([0, *inner, 1])


def allocate(rows: NDArray[np.int64], spread: NDArray[Any], total: int) -> NDArray[np.int64]:
    """Return how many rows to draw from each stratum so that an estimate is as narrow as can be.

    `spread` is the expected standard deviation within each stratum. The best whole numbers are
    those of Neyman's allocation by priority values (Wright 2012, The American Statistician 66:217):
    the next row goes where rows x spread / sqrt(n (n + 1)) is largest. Each stratum gets LEAST_ROWS
    first, or all it has.
    """
    drawn = np.minimum(rows, LEAST_ROWS)

    def priority(stratum: int) -> tuple[float, int]:
        n = int(drawn[stratum])
        return -float(rows[stratum] * spread[stratum]) / (n * (n + 1)) ** 0.5, stratum

    waiting = [priority(stratum) for stratum in np.flatnonzero(rows > drawn).tolist()]
    heapq.heapify(waiting)
    for _ in range(total - int(drawn.sum())):
        if not waiting:
            break
        _, stratum = heapq.heappop(waiting)
        drawn[stratum] += 1
        if drawn[stratum] < rows[stratum]:
            heapq.heappush(waiting, priority(stratum))
    return drawn


class Draw:
    """The rows that a seed draws, picked as the dump is read a second time."""

    def __init__(self, strata: Strata, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.strata = strata
        self._seen = np.zeros(len(strata.rows), dtype=np.int64)
        # (strata,) the ranks within each stratum that are drawn, rising
        self._ranks = [
            np.sort(random.choice(int(rows), int(drawn), replace=False))
            for rows, drawn in zip(strata.rows, strata.drawn, strict=True)
        ]

    def knows(self, labels: Sequence[str | None]) -> bool:
        """Tell whether the strata were planned with all of these labels."""
        return {label for label in labels if label is not None} <= set(self.strata.number)

    def pick(
        self, labels: Sequence[str | None], scores: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows drawn from the next rows of the dump, rising, and their strata."""
        numbers = self.strata.of(labels, scores)
        picked = np.zeros(len(labels), dtype=bool)
        for stratum, ranks in enumerate(self._ranks):
            members = np.flatnonzero(numbers == stratum)
            first = int(self._seen[stratum])
            wanted = ranks[(ranks >= first) & (ranks < first + len(members))]
            picked[members[wanted - first]] = True
            self._seen[stratum] += len(members)
        rows = np.flatnonzero(picked)
        return rows, numbers[rows]

    @property
    def complete(self) -> bool:
        """Tell whether every row that the strata were planned for has been seen."""
        return bool((self._seen == self.strata.rows).all())


def _join(counts: NDArray[np.int64], least: float) -> NDArray[np.int64]:
    """Return the stratum of each cell, from 0: cells are joined until each stratum holds `least`.

    What is left at the end is joined to the last stratum:

        counts  3 1 1 0 5 1   least 4
        strata  0 0 1 1 1 1
    """
    strata = np.zeros(len(counts), dtype=np.int64)
    held, left = 0, int(counts.sum())
    for cell in range(1, len(counts)):
        held += int(counts[cell - 1])
        left -= int(counts[cell - 1])
        full = held >= least and left >= least
        strata[cell] = strata[cell - 1] + full
        held = 0 if full else held
    return strata
