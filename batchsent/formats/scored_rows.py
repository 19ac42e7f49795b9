"""The rows of scored files: texts, labels and scores block by block, of two files side by side."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.chunk import Chunk
from batchsent.errors import InputError, UsageError
from batchsent.formats.arrow import cells
from batchsent.formats.opening import open_source
from batchsent.formats.reading import ReadOptions, find_column
from batchsent.text import printable

# A column with more different values than this holds no labels.
MOST_LABELS = 1_000


@dataclass(frozen=True)
class ScoredRows:
    """Consecutive rows of a scored file."""

    start_row: int  # number of the first row, counted from 0
    texts: list[str | None]  # (rows,)
    labels: list[str | None]  # (rows,) None where the model gave no label
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
        self.source = open_source(path, options)
        self.name, self.labels = self.source.name, set[str]()
        try:
            self._columns = self._find(prefix, others)
        except BaseException:
            self.close()
            raise

    def _find(self, prefix: str, others: dict[str, str | None]) -> dict[str, int]:
        """Return the position of each column that is read, by name."""
        columns = self.source.columns
        try:
            found = {
                name: find_column(columns, prefix + name, "--prefix", self.name)
                for name in ("label", "score")
            }
        except UsageError as error:
            raise UsageError(
                error.message, hint="say which columns batchsent wrote with --prefix"
            ) from error
        for option, column in others.items():
            if column is not None:
                found[option] = find_column(columns, column, option, self.name)
        return found

    def chunks(self) -> Iterator[tuple[Chunk, ScoredRows]]:
        """Yield the chunks of the file, each with what its rows say.

        Raises InputError for a label without a score, a score that is no probability and a column
        of labels with more than MOST_LABELS values.
        """
        for chunk in self.source.chunks():
            read = {
                name: cells(chunk.carried.column(place), self.source.columns[place])
                for name, place in self._columns.items()
            }
            labels = [None if cell in (None, "") else str(cell) for cell in read.pop("label")]
            self._count_labels(labels)
            scores = self._scores(labels, read.pop("score"), chunk.start_row)
            yield chunk, ScoredRows(chunk.start_row, chunk.texts, labels, scores, read)

    def rows(self) -> Iterator[ScoredRows]:
        """Yield what the rows say, block by block. Raises InputError as `chunks` does."""
        for _, rows in self.chunks():
            yield rows

    def _count_labels(self, labels: Sequence[str | None]) -> None:
        self.labels.update(label for label in set(labels) if label is not None)
        if len(self.labels) > MOST_LABELS:
            raise InputError(
                f"{self.name}: the label column holds more than {MOST_LABELS:,} labels",
                hint="say which columns batchsent wrote with --prefix",
            )

    def _scores(
        self, labels: Sequence[str | None], given: Sequence[Any], start_row: int
    ) -> NDArray[np.float32]:
        """Return the scores; the decimals of a CSV read back to the same float32."""
        scores = np.full(len(labels), np.nan, dtype=np.float32)
        places = np.flatnonzero([label is not None for label in labels])
        wanted = [given[place] for place in places.tolist()]
        try:
            values = np.array(wanted, dtype=np.float64)
        except (TypeError, ValueError):
            values = np.array([_number(cell) for cell in wanted])
        wrong = np.flatnonzero(~((values >= 0) & (values <= 1)))
        if len(wrong):
            row = start_row + int(places[wrong[0]]) + 1
            cell = printable(str(wanted[wrong[0]])[:60])
            raise InputError(
                f"{self.name}, row {row:,}: the score '{cell}' is not a probability",
                hint="say which columns batchsent wrote with --prefix",
                row=row,
            )
        scores[places] = values
        return scores

    def close(self) -> None:
        """Close the file."""
        self.source.close()


def _number(cell: Any) -> float:
    try:
        return float(cell)
    except (TypeError, ValueError):
        return float("nan")


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
