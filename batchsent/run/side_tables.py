"""What a run shows of its rows beside the output: groups, disagreements, examples of the page."""

import csv
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchsent.chunk import Chunk, Scores
from batchsent.errors import UsageError
from batchsent.evaluation.corrected_share import ErrorRates
from batchsent.evaluation.disagreements import Disagreements
from batchsent.evaluation.examples import Examples, ShownExamples
from batchsent.evaluation.gold import GoldRule
from batchsent.evaluation.groups import Groups
from batchsent.evaluation.polarity import Sides, neutral_rows
from batchsent.files.atomic import PendingFile
from batchsent.formats import Source
from batchsent.formats.csv_types import as_csv_type
from batchsent.formats.reading import find_column
from batchsent.formats.tables import write_table
from batchsent.run.options import BatchOptions
from batchsent.text import printable


@dataclass(frozen=True)
class WrittenTable:
    """A table that stands on the disk and waits for its name."""

    role: str  # groups or disagreements
    file: PendingFile
    rows: int
    facts: dict[str, Any] = field(default_factory=dict)  # what the summary keeps of it


class SideTables:
    """The tables and examples of one run, filled as its chunks pass.

    With error `rates` the groups have corrected shares.
    """

    def __init__(
        self,
        source: Source,
        labels: tuple[str, ...],
        gold: GoldRule | None,
        options: BatchOptions,
        paths: dict[str, Path],
        rates: ErrorRates | None = None,
        sides: Sides | None = None,
    ) -> None:
        self._options, self._paths, self._gold = options, paths, gold
        self._groups: Groups | None = None
        self._disagreements: Disagreements | None = None
        if options.group_by:
            self._column = find_column(source.columns, options.group_by, "--group-by", source.name)
            self._groups = Groups(
                labels,
                options.group_by,
                unsure_below=options.unsure_below,
                judged=gold is not None,
                rates=rates,
                neutral=_neutral(options, sides),
            )
            # The summary holds no review text.
            text = source.text_columns
            self._is_text = text is not None and options.group_by in text.names
        names = column_names(options.keep) if options.keep else []
        self._names = names
        self._kept = [find_column(source.columns, n, "--keep", source.name) for n in names]
        if options.disagreements:
            assert gold is not None  # checked with the options
            self._disagreements = Disagreements(gold, names)
        self._examples: Examples | None = None
        if options.report_examples:
            self._examples = Examples(labels, options.report_examples, gold, sides)

    def add(self, chunk: Chunk, scores: Scores) -> None:
        """Count a finished chunk."""
        if self._groups is not None and chunk.rows:
            gold = None
            if self._gold is not None:
                assert chunk.gold is not None
                gold = self._gold.numbers(chunk.gold)
            self._groups.add(chunk.carried.column(self._column), scores, gold)
        if self._disagreements is not None:
            self._disagreements.add(chunk, scores, functools.partial(self._cells, chunk))
        if self._examples is not None:
            self._examples.add(chunk, scores, functools.partial(self._shown_cells, chunk))

    def examples(self) -> ShownExamples | None:
        """Return the rows for the page; None where none were asked for."""
        if self._examples is None:
            return None
        return ShownExamples(tuple(self._names), self._examples.sections())

    def _shown_cells(self, chunk: Chunk, rows: NDArray[np.intp]) -> list[tuple[str, ...]]:
        """Return the cells of each of some rows in the columns of --keep, as a page shows them."""
        columns = [cells.to_pylist() for cells in self._cells(chunk, rows)]
        return [
            tuple("" if cells[n] is None else str(cells[n]) for cells in columns)
            for n in range(len(rows))
        ]

    def _cells(self, chunk: Chunk, rows: NDArray[np.intp]) -> list[pa.Array]:
        """Return the cells of some rows in the columns of --keep, in types that CSV has."""
        found = []
        for number in self._kept:
            column = pa.table([chunk.carried.column(number)], names=["cells"])
            # Slices, since Arrow's `take` has no kernel for string views.
            picked = pa.concat_tables([column.slice(row, 1) for row in rows.tolist()])
            cells = as_csv_type(picked.column(0))
            if isinstance(cells, pa.ChunkedArray):
                cells = cells.combine_chunks()
            found.append(cells)
        return found

    def write(self, *, like_held_out: bool) -> Iterator[WrittenTable]:
        """Write the tables one by one, each to be committed or closed by the caller.

        Corrected shares stay empty unless the scores are `like_held_out` rows'. Raises OSError.
        """
        # Each is computed once and let go: that of a million groups takes seconds and hundreds of
        # megabytes.
        if self._groups is not None:
            table = self._groups.table(correct=like_held_out)
            facts = {} if self._is_text else self._groups.section(table)
            yield self._written("groups", table, self._options.output_format, facts)
            del table
        if self._disagreements is not None:
            yield self._written("disagreements", self._disagreements.table(), "csv", {})

    def _written(
        self, role: str, table: pa.Table, output_format: str | None, facts: dict[str, Any]
    ) -> WrittenTable:
        file = PendingFile(self._paths[role])
        try:
            write_table(file, str(self._paths[role]), table, output_format)
        except BaseException:
            file.close()  # the caller has not got it yet
            raise
        return WrittenTable(role, file, table.num_rows, facts)

    def warnings(self) -> list[dict[str, str | None]]:
        """Return what a person should know of the tables."""
        return [] if self._groups is None else self._groups.warnings()


def _neutral(
    options: BatchOptions, sides: Sides | None
) -> Callable[[Scores], NDArray[np.bool_]] | None:
    """Return what tells which rows are within the neutral band; None without a band."""
    if options.neutral_band is None or sides is None:
        return None
    return functools.partial(neutral_rows, sides=sides, band=options.neutral_band)


def column_names(text: str) -> list[str]:
    """Return the names in a list such as `id,product`; one with a comma in it stands in quotes.

    Raises UsageError.
    """
    try:
        (names,) = csv.reader([text], skipinitialspace=True, strict=True)
    except (csv.Error, ValueError) as error:
        raise UsageError(
            f"--keep {printable(text)} is not a list of column names",
            hint="write them with commas between, such as id,product",
        ) from error
    if not all(names):
        raise UsageError(
            f"--keep {printable(text)}: one of the names is empty", hint="leave out the extra comma"
        )
    return list(dict.fromkeys(names))
