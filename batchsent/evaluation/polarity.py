"""Polarity: how much more probable positive is than negative, and which rows that leaves neutral.

Polarity is p(positive) - p(negative), from -1 to 1. Rows whose polarity is nearer to 0 than the
neutral band are labelled NEUTRAL: the model leans to one side there, and too little to count on.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.chunk import SCORED, Scores
from batchsent.errors import UsageError
from batchsent.evaluation.bins import count, share
from batchsent.text import printable

NEUTRAL = "NEUTRAL"
NAMED = "--polarity-labels negative=LABEL,positive=LABEL"

# Numbers of the positive and of the negative label.
Sides = tuple[int, int]


def sides_of(labels: Sequence[str], named: str | None = None) -> Sides:
    """Return the numbers of the positive and of the negative label.

    They are those `named`, as ``negative=LABEL,positive=LABEL``, else the labels of these names in
    any case. Raises UsageError.
    """
    if named is not None:
        return _named_sides(labels, named)
    names = [label.lower() for label in labels]
    try:
        return names.index("positive"), names.index("negative")
    except ValueError:
        raise UsageError(
            "--polarity, --neutral-band and --sentences require a positive and a negative label; "
            f"this model has {_listed(labels)}",
            hint=f"name them: {NAMED}",
        ) from None


def _named_sides(labels: Sequence[str], named: str) -> Sides:
    """Return the numbers of the labels that --polarity-labels names. Raises UsageError."""
    sides: dict[str, str] = {}
    for entry in named.split(","):
        side, _, label = entry.partition("=")
        sides[side.strip().lower()] = label.strip()
    if set(sides) != {"positive", "negative"} or len(set(sides.values())) < 2:
        raise UsageError(
            f"--polarity-labels {printable(named)} does not name two labels",
            hint=f"such as {NAMED}",
        )
    for label in sides.values():
        if label not in labels:
            raise UsageError(
                f"--polarity-labels: the model has no label {printable(label)}",
                hint=f"its labels are {_listed(labels)}",
            )
    labels = list(labels)
    return labels.index(sides["positive"]), labels.index(sides["negative"])


def check_band(band: float | None, labels: Sequence[str]) -> None:
    """Refuse a band that is no share, and one for a model without exactly two labels.

    Raises UsageError. Of three labels the third may be the most probable one in the band.
    """
    if band is None:
        return
    if not 0 < band < 1:
        raise UsageError(f"--neutral-band {band:g} is not between 0 and 1", hint="such as 0.3")
    if NEUTRAL in {label.upper() for label in labels}:
        raise UsageError(
            f"--neutral-band is for models without a neutral label; this one has {_listed(labels)}",
            hint="leave --neutral-band out: the model's own label is written",
        )
    if len(labels) != 2:
        raise UsageError(
            f"--neutral-band requires a model with two labels; this one has {_listed(labels)}",
            hint="use --unsure-below with this model",
        )


def polarity(probabilities: NDArray[np.float32], sides: Sides) -> NDArray[np.float32]:
    """Return (rows,) p(positive) - p(negative) of probabilities (rows, labels)."""
    positive, negative = sides
    found: NDArray[np.float32] = probabilities[:, positive] - probabilities[:, negative]
    return found


def is_neutral(values: NDArray[np.float32], band: float) -> NDArray[np.bool_]:
    """Return (rows,) whether a polarity is within the band; False where it is NaN."""
    found: NDArray[np.bool_] = np.abs(values.astype(np.float64)) < band
    return found


def neutral_rows(scores: Scores, sides: Sides, band: float) -> NDArray[np.bool_]:
    """Return (rows,) whether a row has a score and its polarity is within the band."""
    found = is_neutral(polarity(scores.probabilities, sides), band)
    found &= scores.status == SCORED
    return found


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(map(printable, labels[:6]))


class NeutralTally:
    """The counts of a run's neutral rows, for `predictions.neutral` in its summary.

    `held_out` is how many held-out rows of the model lie outside the band, how many of these are
    right, and how many held-out rows there are; None where that is not known.
    """

    def __init__(
        self,
        labels: Sequence[str],
        sides: Sides,
        band: float,
        held_out: tuple[int, int, int] | None = None,
    ) -> None:
        self._labels, self._sides, self._band = tuple(labels), sides, band
        self._held_out = held_out
        self._by_label = np.zeros(len(labels), dtype=np.int64)
        self._gold = np.zeros(3, dtype=np.int64)  # outside the band, right there, all

    def add(self, scores: Scores, gold: NDArray[np.int64] | None) -> None:
        """Count a finished chunk; `gold` (rows,) are label numbers, below 0 where there is none."""
        scored = scores.status == SCORED
        neutral = neutral_rows(scores, self._sides, self._band)
        self._by_label += count(scores.winners[neutral], len(self._labels))
        if gold is not None:
            judged = scored & (gold >= 0)
            kept = judged & ~neutral
            right = kept & (scores.winners == gold)
            self._gold += [kept.sum(), right.sum(), judged.sum()]

    def section(self, scored: int) -> dict[str, Any]:
        """Return the section; `scored` is how many rows have a score."""
        rows = int(self._by_label.sum())
        by_label = [
            {"label": label, "count": int(found)}
            for label, found in zip(self._labels, self._by_label, strict=True)
        ]
        others = None
        kept, right, judged = self._gold.tolist()
        if judged:
            others = _accuracy_outside("gold", kept, right, judged)
        elif self._held_out is not None:
            others = _accuracy_outside("held_out", *self._held_out)
        return {
            "band": self._band,
            "rows": rows,
            "share": share(rows, scored),
            "by_label": by_label,
            "others": others,
        }


def _accuracy_outside(source: str, kept: int, right: int, judged: int) -> dict[str, Any]:
    return {
        "source": source,
        "rows": kept,
        "share": share(kept, judged),
        "accuracy": share(right, kept),
    }
