"""Records of a CSV -> chunks: where a chunk ends, and what it carries of the file's bytes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from batchsent.chunk import Reject
from batchsent.formats.csv_fields import FieldDecoder
from batchsent.formats.reading import CHUNK_BYTES
from batchsent.formats.records import Records

Piece = Records | Reject


def limited(pieces: Iterator[Piece], limit: int | None) -> Iterator[Piece]:
    """Yield pieces up to a number of good rows."""
    left = limit
    for piece in pieces:
        if left is not None and isinstance(piece, Records):
            if len(piece) >= left:
                yield piece.slice(0, left)
                return
            left -= len(piece)
        yield piece


def cut(pieces: Iterator[Piece], chunk_rows: int) -> Iterator[list[Piece]]:
    """Group pieces into chunks of `chunk_rows` rows (rejected ones included) and about CHUNK_BYTES.

    Where a chunk ends is decided by the rows, never by how the file was read.
    """
    group: list[Piece] = []
    rows = size = 0
    for piece in pieces:
        rest: Piece | None = piece
        while rest is not None:
            taken, rest, taken_size = take_fitting(rest, chunk_rows - rows, CHUNK_BYTES - size)
            group.append(taken)
            rows += 1 if isinstance(taken, Reject) else len(taken)
            size += taken_size
            # A row that no longer fits ends the chunk, as a full count does.
            if rows >= chunk_rows or size >= CHUNK_BYTES or rest is not None:
                yield group
                group, rows, size = [], 0, 0
    if group:
        yield group


def take_fitting(
    piece: Piece, rows_left: int, bytes_left: int
) -> tuple[Piece, Records | None, int]:
    """Return the part of a piece that fits, one row at least; the rest; and the part's bytes."""
    if isinstance(piece, Reject):
        return piece, None, len(piece.raw)
    sizes = np.cumsum(piece.line_ends - piece.starts)
    fitting = int(np.searchsorted(sizes, bytes_left, side="right"))
    count = min(len(piece), rows_left, max(fitting, 1))
    if count == len(piece):
        return piece, None, int(sizes[-1]) if count else 0
    return piece.slice(0, count), piece.slice(count, len(piece)), int(sizes[count - 1])


@dataclass(frozen=True)
class CsvRows:
    """The rows of a chunk as they stand in the file."""

    runs: tuple[Records, ...]
    decoder: FieldDecoder

    def cells(self, position: int) -> list[str]:
        """Return a column as strings, exact after unquoting."""
        found: list[str] = []
        for run in self.runs:
            found += self.decoder.texts(run.fields(position))
        return found

    def column(self, position: int) -> pa.Array:
        """Return a column as an Arrow array of strings."""
        return pa.array(self.cells(position), pa.string())

    def take(self, rows: Sequence[int]) -> "CsvRows":
        """Return some rows of the chunk, named by their rising numbers, without blank lines."""
        runs, first_row = [], 0
        waiting = list(reversed(rows))
        for run in self.runs:
            while waiting and waiting[-1] < first_row + len(run):
                number = waiting.pop() - first_row
                one = run.slice(number, number + 1)
                runs.append(replace(one, begin=int(one.starts[0])))
            first_row += len(run)
        return replace(self, runs=tuple(runs))

    def table(self, schema: pa.Schema) -> pa.Table:
        """Return every column as strings."""
        return pa.Table.from_arrays([self.column(n) for n in range(len(schema))], schema=schema)
