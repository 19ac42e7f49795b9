"""The rows that sample wrote, read back with the labels that a person gave them."""

import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.commands.sample import ROW, STRATUM, STRATUM_ROWS, TEXT, WEIGHT
from batchsent.errors import InputError, UsageError
from batchsent.formats.opening import open_source
from batchsent.formats.reading import ReadOptions, Source, find_column
from batchsent.text import printable

# A row number or a count, which pandas may have written as 12.0.
WHOLE_NUMBER = re.compile(r"[1-9][0-9]{0,14}(\.0*)?", re.ASCII)


@dataclass(frozen=True)
class Sampled:
    """The rows of a sample, by rising number in the dump."""

    name: str
    row: NDArray[np.int64]  # (rows,) number in the dump, counted from 0
    stratum: NDArray[np.int64]  # (rows,) counted from 0, none left out
    stratum_rows: NDArray[np.int64]  # (strata,)
    marks: list[str]  # (rows,) of the texts
    cells: list[Any]  # (rows,) gold labels as they were typed
    lines: NDArray[np.int64]  # (rows,) number in the file of the sample, counted from 1
    removed: int  # rows that were drawn and are not in the file any more


def _open_sampled(path: str, options: ReadOptions) -> Source:
    """Open a sample, whatever program saved it since: its delimiter and encoding are detected.

    A delimiter that is not among those that are tried is the one of the scored file. Raises
    UsageError for a file without the columns of a sample.
    """
    reading = replace(
        options,
        text_column=TEXT,
        text_joint=None,
        text_column_index=None,
        input_format=None,
        encoding="auto",
        limit=None,
    )
    for delimiter in ("auto", options.delimiter):
        try:
            return open_source(path, replace(reading, delimiter=delimiter))
        except UsageError as error:
            if TEXT not in error.message:
                raise
    raise UsageError(
        f"{printable(path)} is not a sample: it has no column {TEXT}",
        hint="give the file that batchsent sample wrote, with labels in audit_gold",
    )


def read_sampled(path: str, gold: str, options: ReadOptions) -> Sampled:
    """Read the rows of a sample. Raises UsageError for missing columns, InputError for damage."""
    source = _open_sampled(path, options)
    with closing(source):
        read: dict[str, list[Any]] = {ROW: [], STRATUM: [], STRATUM_ROWS: [], WEIGHT: [], gold: []}
        for name in read:
            find_column(source.columns, name, "--gold" if name == gold else "--audit", path)
        marks: list[str] = []
        for chunk in source.chunks(list(read)):
            marks += [(mark or "").strip() for mark in chunk.texts]
            for name, cells in chunk.columns.items():
                read[name] += cells
    row, stratum, stratum_rows = (
        _whole_numbers(read[name], name, source.name) for name in (ROW, STRATUM, STRATUM_ROWS)
    )
    order = np.argsort(row, kind="stable")
    repeated = np.flatnonzero(np.diff(row[order]) == 0)
    if len(repeated):
        raise InputError(
            f"{source.name}: {ROW} {int(row[order[repeated[0]]]):,} is there twice",
            hint="keep each row that batchsent sample wrote, once",
        )
    names, numbers = np.unique(stratum, return_inverse=True)
    sizes = np.zeros(len(names), dtype=np.int64)
    sizes[numbers] = stratum_rows
    wrong = np.flatnonzero(sizes[numbers] != stratum_rows)
    if len(wrong):
        raise InputError(
            f"{source.name}, row {int(wrong[0]) + 1:,}: {STRATUM_ROWS} is not the same in all rows "
            f"of stratum {int(stratum[wrong[0]])}",
            hint="leave the audit_ columns but audit_gold as batchsent sample wrote them",
        )
    return Sampled(
        source.name,
        row[order] - 1,
        numbers[order],
        sizes,
        [marks[place] for place in order.tolist()],
        [read[gold][place] for place in order.tolist()],
        order + 1,
        _removed_rows(read[WEIGHT], stratum_rows, numbers, source.name),
    )


def _removed_rows(
    weights: Sequence[Any], stratum_rows: NDArray[np.int64], numbers: NDArray[np.int64], file: str
) -> int:
    """Return how many rows of the sample are missing: of each stratum rows / weight were drawn."""
    drawn: dict[int, int] = {}
    for place, cell in enumerate(weights):
        try:
            weight = float(cell)
        except (TypeError, ValueError):
            weight = 0.0
        if not 1 <= weight <= stratum_rows[place]:
            found = printable(str(cell)[:60])
            raise InputError(
                f"{file}, row {place + 1:,}: {WEIGHT} '{found}' is not a number from 1 to "
                f"{STRATUM_ROWS}",
                hint="leave the audit_ columns but audit_gold as batchsent sample wrote them",
            )
        drawn[int(numbers[place])] = round(stratum_rows[place] / weight)
    return max(0, sum(drawn.values()) - len(weights))


def _whole_numbers(values: Sequence[Any], name: str, file: str) -> NDArray[np.int64]:
    """Return the cells of a column as whole numbers from 1; pandas may have written 12 as 12.0."""
    found = np.zeros(len(values), dtype=np.int64)
    for place, cell in enumerate(values):
        if not WHOLE_NUMBER.fullmatch(str(cell)):
            raise InputError(
                f"{file}, row {place + 1:,}: {name} '{printable(str(cell)[:60])}' is not a whole "
                "number from 1",
                hint="leave the audit_ columns but audit_gold as batchsent sample wrote them",
            )
        found[place] = int(float(cell))
    return found
