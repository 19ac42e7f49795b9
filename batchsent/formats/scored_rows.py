"""The rows of scored files: texts, labels and scores block by block, of two files side by side."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.chunk import Chunk
from batchsent.errors import InputError, UsageError
from batchsent.evaluation.summary import prefix_of_run, text_columns_of_run
from batchsent.formats.opening import open_source
from batchsent.formats.reading import ReadOptions, Source, find_column
from batchsent.formats.scored_columns import BadCell, NeutralRows, label_texts, probabilities
from batchsent.text import printable

HINT = "say which columns batchsent wrote with --prefix"
# A column with more different values than this holds no labels.
MOST_READ_LABELS = 1_000


@dataclass(frozen=True)
class ScoredRows:
    """Consecutive rows of a scored file."""

    start_row: int  # number of the first row, counted from 0
    texts: list[str | None]  # (rows,)
    # (rows,) None where the model gave no label; of a row within a neutral band the model's own
    labels: list[str | None]
    scores: NDArray[np.float32]  # (rows,) probability of the label, NaN where there is none
    others: dict[str, list[Any]]  # (rows,) cells of each further column that was asked for

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.texts)

    def part(self, first: int, last: int) -> "ScoredRows":
        """Return the rows first..last-1 of the block."""
        return ScoredRows(
            self.start_row + first,
            self.texts[first:last],
            self.labels[first:last],
            self.scores[first:last],
            {name: values[first:last] for name, values in self.others.items()},
        )

    def joined(self, after: "ScoredRows") -> "ScoredRows":
        """Return the block with the rows that follow it in the file."""
        return ScoredRows(
            self.start_row,
            [*self.texts, *after.texts],
            [*self.labels, *after.labels],
            np.concatenate([self.scores, after.scores]),
            {name: [*self.others.get(name, []), *values] for name, values in after.others.items()},
        )


class ScoredFile:
    """A scored file whose columns `label` and `score` have been found.

    `others` maps an option, such as ``--gold``, to the further column that it names. Raises
    UsageError for a column that the file does not have, InputError for a file that cannot be read.
    """

    def __init__(
        self, path: str, options: ReadOptions, prefix: str, others: dict[str, str | None]
    ) -> None:
        if path == "-":
            raise UsageError(
                "a scored file cannot be read from stdin", hint="save it to a file first"
            )
        self.source = open_source(path, options, usual=lambda: text_columns_of_run(path))
        self.name, self._found = self.source.name, set[str]()
        prefix = prefix_of_run(path, self.source.columns, prefix)
        self._label, self._score = prefix + "label", prefix + "score"
        self._polarity = prefix + "polarity"
        self._neutral = NeutralRows() if self._polarity in self.source.columns else None
        self._others = {option: column for option, column in others.items() if column is not None}
        try:
            self._check_columns()
        except BaseException:
            self.close()
            raise

    def _check_columns(self) -> None:
        for column in (self._label, self._score):
            check_column(self.source, column)
        for option, column in self._others.items():
            find_column(self.source.columns, column, option, self.name)

    def chunks(self) -> Iterator[tuple[Chunk, ScoredRows]]:
        """Yield the chunks of the file, each with what its rows say.

        Raises InputError for a label without a score, a score that is no probability and a column
        of labels with more than MOST_READ_LABELS values.
        """
        columns = [self._label, self._score, *self._others.values()]
        if self._neutral is not None:
            columns.append(self._polarity)
        for chunk in self.source.chunks(list(dict.fromkeys(columns))):
            labels = self._labels(chunk)
            given = np.array([label is not None for label in labels], dtype=bool)
            scores = self._scores(chunk, given)
            if self._neutral is not None:
                labels = self._neutral.resolve(labels, scores, chunk.columns[self._polarity])
            others = {option: chunk.columns[name] for option, name in self._others.items()}
            yield chunk, ScoredRows(chunk.start_row, list(chunk.texts), labels, scores, others)

    def rows(self) -> Iterator[ScoredRows]:
        """Yield what the rows say, block by block. Raises InputError as `chunks` does."""
        for _, rows in self.chunks():
            yield rows

    def _labels(self, chunk: Chunk) -> list[str | None]:
        """Return the labels of a chunk, and count how many the file has."""
        try:
            labels = label_texts(chunk.columns[self._label])
        except BadCell as bad:
            raise self._bad_cell(chunk, bad, "label", "text") from bad
        self._found.update(label for label in set(labels) if label is not None)
        if len(self._found) > MOST_READ_LABELS:
            raise InputError(
                f"{self.name}: the label column holds more than {MOST_READ_LABELS:,} labels",
                hint=HINT,
            )
        return labels

    def _scores(self, chunk: Chunk, given: NDArray[np.bool_]) -> NDArray[np.float32]:
        try:
            return probabilities(chunk.columns[self._score], given)
        except BadCell as bad:
            raise self._bad_cell(chunk, bad, "score", "a probability") from bad

    def _bad_cell(self, chunk: Chunk, bad: BadCell, what: str, expected: str) -> InputError:
        row = chunk.start_row + bad.row + 1
        cell = printable(str(bad.cell)[:60])
        return InputError(
            f"{self.name}, row {row:,}: the {what} '{cell}' is not {expected}", hint=HINT, row=row
        )

    def close(self) -> None:
        """Close the file."""
        self.source.close()


def check_column(source: Source, name: str) -> None:
    """Refuse a file without a column that batchsent writes. Raises UsageError."""
    try:
        find_column(source.columns, name, "--prefix", source.name)
    except UsageError as error:
        raise UsageError(error.message, hint=HINT) from error


def side_by_side(
    old: ScoredFile, new: ScoredFile
) -> Iterator[tuple[Chunk, ScoredRows, ScoredRows]]:
    """Yield the chunks of `old`, each with what its rows say and what the same rows of `new` say.

    The two files are cut into chunks at different rows where their columns differ in size. Raises
    InputError that names the first row whose text differs, or after which one file ends.
    """
    following = new.rows()
    held = ScoredRows(0, [], [], np.zeros(0, dtype=np.float32), {})
    for chunk, rows in old.chunks():
        while held.rows < rows.rows:
            block = next(following, None)
            if block is None:
                raise _ends_early(new, old, rows.start_row + held.rows)
            held = held.joined(block)
        beside = held.part(0, rows.rows)
        held = held.part(rows.rows, held.rows)
        _check_texts(old, new, rows, beside)
        yield chunk, rows, beside
    if not held.rows:
        held = next((block for block in following if block.rows), held)
    if held.rows:
        raise _ends_early(old, new, held.start_row)


def _ends_early(short: ScoredFile, long: ScoredFile, rows: int) -> InputError:
    return InputError(
        f"{short.name} ends after row {rows:,}, {long.name} does not",
        hint="compare two files that were scored from the same input",
        row=rows,
    )


def _check_texts(old: ScoredFile, new: ScoredFile, rows: ScoredRows, beside: ScoredRows) -> None:
    """Refuse rows whose texts differ; null and the empty text are the same, as they are in CSV."""
    if rows.texts == beside.texts:
        return
    for place, (before, after) in enumerate(zip(rows.texts, beside.texts, strict=True)):
        if (before or "") != (after or ""):
            row = rows.start_row + place + 1
            raise InputError(
                f"row {row:,}: the text of {old.name} differs from that of {new.name}",
                hint="compare two files that were scored from the same input",
                row=row,
            )
