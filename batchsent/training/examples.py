"""Rows with label cells -> examples to learn from, with what was left out and why.

All rows are held in memory: Hugging Face's Trainer shuffles them, and labelled reviews are few
beside the dump.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.chunk import is_blank
from batchsent.errors import UsageError
from batchsent.evaluation.gold import LEFT_OUT, MISSING, GoldRule
from batchsent.training.labels import refuse_unknown
from batchsent.training.read_labelled import Table


@dataclass(frozen=True)
class Examples:
    """Rows that can be learned from or measured on."""

    texts: list[str]  # (rows,) none blank
    labels: list[int]  # (rows,) class numbers
    facts: dict[str, Any]  # where they came from, what was left out
    # (rows, labels) a teacher's probabilities, to learn in place of labels
    targets: NDArray[np.float32] | None = None
    # (rows,) their numbers in the source, counted from 1; () where they are not needed
    numbers: Sequence[int] = ()

    def take(self, rows: Sequence[int], **facts: Any) -> "Examples":
        """Return the examples of the given row numbers, in that order."""
        targets = None if self.targets is None else self.targets[np.array(rows, dtype=np.int64)]
        return Examples(
            [self.texts[i] for i in rows],
            [self.labels[i] for i in rows],
            self.facts | facts,
            targets,
            [self.numbers[i] for i in rows] if self.numbers else (),
        )

    def join(self, other: "Examples") -> "Examples":
        """Return these examples and then those of the same source, with these examples' facts."""
        targets = None
        if self.targets is not None and other.targets is not None:
            targets = np.concatenate([self.targets, other.targets])
        return Examples(
            self.texts + other.texts,
            self.labels + other.labels,
            self.facts,
            targets,
            [*self.numbers, *other.numbers],
        )

    def by_number(self) -> dict[int, str]:
        """Return the texts by their row numbers in the source."""
        return dict(zip(self.numbers, self.texts, strict=True))

    def counts(self, names: Sequence[str]) -> dict[str, int]:
        """Return how many examples each class has."""
        found = Counter(self.labels)
        return {name: found[i] for i, name in enumerate(names)}

    def sha256(self) -> str:
        """Return a hash over exactly these texts and class numbers, in this order."""
        digest = hashlib.sha256()
        for text, label in zip(self.texts, self.labels, strict=True):
            data = text.encode("utf-8", "surrogatepass")
            digest.update(b"%d %d " % (label, len(data)))
            digest.update(data)
        if self.targets is not None:
            digest.update(self.targets.tobytes())
        return digest.hexdigest()


def select_examples(
    table: Table, rule: GoldRule, targets: NDArray[np.float32] | None = None
) -> Examples:
    """Keep the rows that have a text and a class, and count the others by reason.

    Raises UsageError for label values that the rule does not cover: silence would be a smaller,
    wrong data set.
    """
    # An unhashable cell (a list in Parquet) is no label; its text says so in the error.
    cells = [
        cell if isinstance(cell, str | int | float | None) else str(cell) for cell in table.cells
    ]
    numbers = rule.numbers(cells).tolist()
    refuse_unknown(table, rule, cells, numbers)
    taught: NDArray[np.bool_] = np.ones(len(numbers), dtype=np.bool_)
    if targets is not None:
        taught = np.logical_and.reduce(~np.isnan(targets), axis=1)
    blank = [is_blank(text) for text in table.texts]
    labelled = [i for i, number in enumerate(numbers) if number >= 0]
    rows = [i for i in labelled if not blank[i] and taught[i]]
    left_out = {
        "without_label": numbers.count(MISSING),
        "outside_rule": numbers.count(LEFT_OUT),
        "without_text": sum(blank[i] for i in labelled),
    }
    if targets is not None:
        left_out["without_probabilities"] = int((~taught).sum())
    texts = [encodable(str(table.texts[i])) for i in rows]
    facts = table.facts | {"rows_read": len(numbers), "left_out": left_out}
    return Examples(
        texts,
        [numbers[i] for i in rows],
        facts,
        None if targets is None else targets[rows],
        [i + 1 for i in rows],
    )


def encodable(text: str) -> str:
    """Return the text with U+FFFD for lone surrogates, which tokenizers refuse."""
    return (
        text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if not text.isascii()
        else text
    )


def sample(
    examples: Examples, count: int | None, seed: int, rows: Sequence[int] | None = None
) -> Examples:
    """Take a seeded random `count` of the examples, or of the given `rows` of them.

    All where `count` is None.
    """
    allowed = range(len(examples.texts)) if rows is None else rows
    if count is None:
        return examples.take(allowed)
    # The rows that datasets.Dataset.shuffle(seed).select(range(count)) takes, but for those not
    # allowed: notebooks get the same sample.
    known = set(allowed)
    shuffled = np.random.default_rng(seed).permutation(len(examples.texts)).tolist()
    return examples.take([row for row in shuffled if row in known][:count])


def hold_out(examples: Examples, share: float, seed: int) -> tuple[Examples, Examples]:
    """Split off a seeded share of every class for evaluation, at least one example a class.

    Copies of one text go to the same side: a review that was learned by heart measures nothing.
    Raises UsageError for a class that has too few different texts for both sides.
    """
    generator = np.random.default_rng(seed)
    held: list[int] = []
    labels = np.array(examples.labels)
    first_row: dict[str, int] = {}
    first = np.array([first_row.setdefault(text, i) for i, text in enumerate(examples.texts)])
    for label in sorted(set(examples.labels)):
        distinct = np.unique(first[labels == label])
        if len(distinct) < 2:
            raise UsageError(
                "a class with a single text cannot be learned and measured",
                hint="give a file of its own with --eval FILE, or more examples",
            )
        count = min(max(1, round(share * len(distinct))), len(distinct) - 1)
        held += generator.permutation(distinct)[:count].tolist()
    chosen = np.isin(first, held)
    # Evaluation in file order: it has nothing to gain from a shuffle, and the eye finds the rows
    # again.
    evaluated, trained = np.flatnonzero(chosen).tolist(), np.flatnonzero(~chosen).tolist()
    return examples.take(trained), examples.take(evaluated, held_out=share)


def describe(examples: Examples, names: Sequence[str]) -> dict[str, Any]:
    """Return what metrics.json says of a side: source, rows, classes and a hash."""
    return examples.facts | {
        "rows": len(examples.texts),
        "labels": examples.counts(names),
        "rows_sha256": examples.sha256(),
    }
