"""A file that batchsent has scored: which labels it has, and its scores read back."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from batchsent.chunk import Chunk, Scores
from batchsent.errors import InputError, UsageError
from batchsent.evaluation import summary
from batchsent.formats import ReadOptions, Source, open_source
from batchsent.formats.scored_columns import (
    BadCell,
    NeutralRows,
    label_numbers,
    label_texts,
    number,
    probabilities,
    to_scores,
    too_low,
)
from batchsent.formats.scored_rows import MOST_READ_LABELS, check_column
from batchsent.text import printable

TRUE_WORDS = {"true", "1", "1.0"}


def find_labels(
    paths: Sequence[str], options: ReadOptions, prefix: str, named: str | None
) -> tuple[str, ...]:
    """Return the labels of scored files in the model's order, as far as it is known.

    They are those `named`; else those of a summary beside a file or of its prob_ columns, where
    these have every label found; else the labels found, sorted.

    Raises InputError for a column that cannot be one of labels, UsageError for names that cannot be
    labels.
    """
    if named is not None:
        labels = tuple(label.strip() for label in named.split(","))
        if not all(labels) or len(set(labels)) < len(labels):
            raise UsageError(
                "--labels names a label twice, or an empty one",
                hint="such as --labels NEGATIVE,POSITIVE",
            )
        return labels
    found: set[str] = set()
    known: list[tuple[str, ...]] = []
    for path in paths:
        with closing(open_source(path, options, needs_text=False)) as source:
            own = summary.prefix_of_run(path, source.columns, prefix)
            found |= _distinct_labels(source, own)
            known += [_labels_of_summary(path), _labels_of_columns(source.columns, own)]
    for labels in known:
        if found <= set(labels):
            return labels
    if len(found) == 1:
        raise InputError(
            f"{printable(paths[0])}: {printable(next(iter(found)))} is the only label in it, so "
            "the others are not known",
            hint="name all labels of the model with --labels",
        )
    return tuple(sorted(found))


def _distinct_labels(source: Source, prefix: str) -> set[str]:
    """Return the labels in a label column. Raises UsageError, InputError for too many."""
    columns = LabelColumns.of(source, prefix)
    column = columns.label
    found: set[str] = set()
    for chunk in source.chunks(columns.names):
        try:
            found.update(text for text in columns.texts(chunk) if text)
        except BadCell as bad:
            raise UsageError(
                f"{source.name}: column {printable(column)} holds "
                f"'{printable(str(bad.cell)[:60])}', which is not text",
                hint="say which columns batchsent wrote with --prefix",
            ) from bad
        if len(found) > MOST_READ_LABELS:
            raise InputError(
                f"{source.name}: the column {printable(column)} holds more than "
                f"{MOST_READ_LABELS:,} labels",
                hint="say which columns batchsent wrote with --prefix",
            )
    return found


def _labels_of_summary(path: str) -> tuple[str, ...]:
    """Return the labels that the summary beside a file names; empty without such a summary."""
    try:
        labels = summary.read(f"{path}.summary.json")["model"].get("labels")
    except InputError:
        return ()
    usable = isinstance(labels, list) and all(isinstance(label, str) for label in labels)
    return tuple(labels) if usable and len(set(labels)) == len(labels) else ()


def _labels_of_columns(columns: list[str], prefix: str) -> tuple[str, ...]:
    """Return the labels that have a prob_ column, in the model's order."""
    start = f"{prefix}prob_"
    return tuple(column.removeprefix(start) for column in columns if column.startswith(start))


@dataclass(frozen=True)
class LabelColumns:
    """The columns that tell the model's label of a row, by their names."""

    label: str
    score: str
    polarity: str | None
    neutral: NeutralRows

    @classmethod
    def of(cls, source: Source, prefix: str) -> "LabelColumns":
        """Find them in a file. Raises UsageError."""
        label, score, polarity = (prefix + name for name in ("label", "score", "polarity"))
        for name in (label, score):
            check_column(source, name)
        there = polarity if polarity in source.columns else None
        return cls(label, score, there, NeutralRows())

    @property
    def names(self) -> list[str]:
        """Names of all of them."""
        return [self.label, self.score, *([self.polarity] if self.polarity else [])]

    def texts(self, chunk: Chunk) -> list[str | None]:
        """Return the label of each row; of one within a neutral band the model's own.

        Raises BadCell for a label that is not text.
        """
        texts = label_texts(chunk.columns[self.label])
        if self.polarity is None:
            return texts
        score = np.array([number(cell) for cell in chunk.columns[self.score]], dtype=np.float32)
        return self.neutral.resolve(texts, score, chunk.columns[self.polarity])


@dataclass(frozen=True)
class ScoredColumns:
    """The columns of a scored file that are judged, by their names."""

    of_label: LabelColumns
    each: tuple[str, ...]  # prob_<label> of every label; empty where they are not needed or there
    truncated: str | None
    labels: tuple[str, ...]

    @classmethod
    def find(cls, source: Source, labels: tuple[str, ...], prefix: str) -> "ScoredColumns":
        """Find the columns that batchsent wrote. Raises UsageError."""
        truncated = f"{prefix}truncated"
        each = tuple(f"{prefix}prob_{name}" for name in labels)
        # Of two labels the score tells both probabilities; of more only columns of their own do.
        if len(labels) == 2 or not set(each) <= set(source.columns):
            each = ()
        of_label = LabelColumns.of(source, prefix)
        return cls(of_label, each, truncated if truncated in source.columns else None, labels)

    @property
    def names(self) -> list[str]:
        """Names of all of them."""
        more = [self.truncated] if self.truncated else []
        return [*self.of_label.names, *self.each, *more]

    def scores(self, chunk: Chunk) -> Scores:
        """Put the scores of a chunk together again, as the model gave them. Raises InputError."""
        cells, first_row = chunk.columns, chunk.start_row
        try:
            winners = label_numbers(self.of_label.texts(chunk), self.labels)
        except BadCell as bad:
            raise InputError(
                f"the label '{printable(bad.cell)}' is not one of "
                f"{', '.join(map(printable, self.labels[:20]))}",
                hint="name all of them with --labels",
            ) from bad
        given = winners >= 0
        try:
            score = probabilities(cells[self.of_label.score], given)
            each = [probabilities(cells[name], given) for name in self.each]
        except BadCell as bad:
            raise InputError(
                f"row {first_row + bad.row + 1:,}: '{printable(str(bad.cell)[:60])}' is not a "
                "probability",
                hint="say which columns batchsent wrote with --prefix",
            ) from bad
        wrong = given & too_low(score, len(self.labels))
        for column in each:
            wrong |= column > score
        if wrong.any():
            row = int(wrong.argmax())
            raise InputError(
                f"row {first_row + row + 1:,}: its label cannot have the highest probability with "
                f"a score of {score[row]:.6g}",
                hint="the score must be the probability of the label; were the columns changed "
                "since they were written?",
            )
        truncated = None
        if self.truncated is not None:
            words = [str(cell).strip().lower() for cell in cells[self.truncated]]
            truncated = np.array([word in TRUE_WORDS for word in words], dtype=np.int32)
        return to_scores(
            winners,
            score,
            len(self.labels),
            each=np.stack(each, axis=1) if each else None,
            truncated=truncated,
        )
