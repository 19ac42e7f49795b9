"""The column polarity and the label NEUTRAL of an output, compared with its labels and scores."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from batchsent.errors import UsageError
from batchsent.evaluation.polarity import NEUTRAL, Sides, is_neutral, sides_of
from batchsent.formats.outputs import OutputOptions
from batchsent.formats.scored_columns import POLARITY_ERROR


def known_sides(labels: Sequence[str] | None, run: OutputOptions) -> Sides | None:
    """Return the numbers of the positive and negative label; None where they are not known."""
    if labels is None:
        return None
    try:
        return sides_of(labels, run.polarity_labels)
    except UsageError:
        return None


def leaning(
    texts: Sequence[str | None],
    values: NDArray[np.float32],
    labels: Sequence[str],
    sides: Sides,
) -> list[str | None]:
    """Return the labels of rows with the one a NEUTRAL row leans to in place of NEUTRAL.

    `values` (rows,) are polarities. A polarity of 0 leans to the first label, as the model does.
    """
    positive, negative = (labels[number] for number in sides)
    found = list(texts)
    for row, text in enumerate(texts):
        if text == NEUTRAL:
            found[row] = labels[0]
            if values[row] != 0:
                found[row] = positive if values[row] > 0 else negative
    return found


class NeutralBand:
    """Checks which rows are NEUTRAL, chunk by chunk: by the band, or without it by one another."""

    def __init__(self, band: float | None) -> None:
        self._band = band
        self._neutral_most, self._other_least = -1.0, 2.0

    def checks(
        self, neutral: NDArray[np.bool_], values: NDArray[np.float32]
    ) -> Iterator[tuple[NDArray[np.bool_], str]]:
        """Yield which rows (rows,) are right, and what is wrong with the others."""
        scored = ~np.isnan(values)
        if self._band is not None:
            words = f"NEUTRAL must stand where the polarity is nearer to 0 than {self._band:g}"
            yield ~scored | (neutral == is_neutral(values, self._band)), words
            return
        size = np.abs(values)
        most = np.max(size[neutral & scored], initial=np.float32(self._neutral_most))
        least = np.min(size[~neutral & scored], initial=np.float32(self._other_least))
        self._neutral_most, self._other_least = float(most), float(least)
        if most >= least:
            words = f"no band makes a polarity of {most:.6g} NEUTRAL and one of {least:.6g} not"
            yield ~scored | np.where(neutral, size < least, size > most), words


def polarity_checks(
    values: NDArray[np.float32],
    score: NDArray[np.float32],
    winners: NDArray[np.intp],
    sides: Sides | None,
    each: Sequence[NDArray[np.float32]] | None,
) -> Iterator[tuple[NDArray[np.bool_], str]]:
    """Yield which rows (rows,) have the right polarity, and what is wrong with the others.

    `values` are polarities and `score` scores, NaN where there is none; `winners` numbers of
    labels; `each` the probabilities of all labels, None where they are not in the file. Without
    them two labels are due: there the score tells the polarity.
    """
    yield np.isnan(values) == np.isnan(score), "label and polarity must come together"
    yield ~(np.abs(values) > 1), "not a number from -1 to 1"
    if sides is None:
        return
    positive, negative = sides
    if each is not None:
        due = each[positive] - each[negative]
        yield ~(values != due) | np.isnan(due), "not p(positive) - p(negative)"
        return
    due = np.where(winners == positive, 2 * score - 1, 1 - 2 * score)
    yield ~(np.abs(values - due) > POLARITY_ERROR), "not what label and score say"
