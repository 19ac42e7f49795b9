"""What the model that comes with batchsent learns from: whole reviews and crops of them.

A whole review's target is what the linear teacher says of it, a crop's the label of its review, or
of a review without a label the teacher's view of the whole.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from batchsent.training.crops import SENTENCES, crops_of

# Of a crop's target so much is that of its review, the rest an even chance.
CROP_SHARE = 0.95
# How often each length of crops, SENTENCES, in that order.
SHARES = (0.45, 0.3, 0.25)


@dataclass
class Rows:
    """Texts, and how likely each is positive."""

    texts: list[str] = field(default_factory=list)
    positive: list[float] = field(default_factory=list)

    def add(self, text: str, chance: float) -> None:
        """Add a text."""
        self.texts.append(text)
        self.positive.append(chance)

    def add_crops(
        self, text: str, chance: float, lengths: Iterable[int], random: np.random.Generator
    ) -> None:
        """Add a crop of a review for each of these numbers of sentences."""
        for sentences in lengths:
            for crop in crops_of(text, sentences, 1, random):
                self.add(crop, CROP_SHARE * chance + (1 - CROP_SHARE) / 2)


class Reviews:
    """The reviews that may be learned, with what the linear teacher says of each."""

    def __init__(self, taught: Path, train: str) -> None:
        table = pq.read_table(train, columns=["text", "label"])
        labels = dict(zip(table["text"].to_pylist(), table["label"].to_pylist(), strict=True))
        table = pq.read_table(taught, columns=["text", "prob_POSITIVE"])
        rows = list(zip(table["text"].to_pylist(), table["prob_POSITIVE"].to_pylist(), strict=True))
        # text, taught probability, label
        self.labelled = [(text, chance, labels[text]) for text, chance in rows if text in labels]
        # text, taught probability
        self.others = [(text, chance) for text, chance in rows if text not in labels]


def first_rows(reviews: Reviews, random: np.random.Generator) -> Rows:
    """Return the labelled reviews, and a crop of each length of each."""
    rows = Rows()
    for text, chance, label in reviews.labelled:
        rows.add(text, chance)
        rows.add_crops(text, label, SENTENCES, random)
    return rows


def second_rows(reviews: Reviews, random: np.random.Generator, whole: int, cropped: int) -> Rows:
    """Return the labelled reviews with two new crops of each, `whole` reviews without a label, and
    a crop of `cropped` others.
    """
    rows = Rows()
    for text, chance, label in reviews.labelled:
        rows.add(text, chance)
        rows.add_crops(text, label, some_lengths(2, random), random)
    others = shuffled(reviews.others, random)
    for text, chance in others[:whole]:
        rows.add(text, chance)
    for text, chance in others[whole : whole + cropped]:
        rows.add_crops(text, chance, some_lengths(1, random), random)
    return rows


def third_rows(
    reviews: Reviews, random: np.random.Generator, whole: int, others_whole: int
) -> Rows:
    """Return three new crops of each labelled review and two of each other one, and `whole` and
    `others_whole` of them as they are.
    """
    rows = Rows()
    for place, (text, chance, label) in enumerate(shuffled(reviews.labelled, random)):
        if place < whole:
            rows.add(text, chance)
        rows.add_crops(text, label, some_lengths(3, random), random)
    for place, (text, chance) in enumerate(shuffled(reviews.others, random)):
        if place < others_whole:
            rows.add(text, chance)
        rows.add_crops(text, chance, some_lengths(2, random), random)
    return rows


def some_lengths(count: int, random: np.random.Generator) -> Iterator[int]:
    """Return different lengths of crops, in sentences."""
    found = random.choice(SENTENCES, count, replace=False, p=SHARES)
    return iter(found.tolist())


def shuffled(rows: list[Any], random: np.random.Generator) -> list[Any]:
    """Return rows in a random order."""
    return [rows[place] for place in random.permutation(len(rows)).tolist()]
