"""Records of a CSV -> chunks: where a chunk ends, and what it carries of the file's bytes."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from batchsent.chunk import Reject
from batchsent.formats.reading import CHUNK_BYTES
from batchsent.formats.records import Dialect, Records

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
        taken: Piece
        while rest is not None:
            if isinstance(rest, Reject):
                taken, rest = rest, None
                rows, size = rows + 1, size + len(taken.raw)
            else:
                sizes = np.cumsum(rest.line_ends - rest.starts)
                fitting = int(np.searchsorted(sizes, CHUNK_BYTES - size, side="right"))
                count = min(len(rest), chunk_rows - rows, max(fitting, 1))
                taken = rest.slice(0, count)
                rest = rest.slice(count, len(rest)) if count < len(rest) else None
                rows, size = rows + count, size + (int(sizes[count - 1]) if count else 0)
                # A row that no longer fits ends the chunk as surely as a full count does.
                size = max(size, CHUNK_BYTES) if rest is not None else size
            group.append(taken)
            if rows >= chunk_rows or size >= CHUNK_BYTES:
                yield group
                group, rows, size = [], 0, 0
    if group:
        yield group


@dataclass(frozen=True)
class CsvRows:
    """The rows of a chunk as they stand in the file."""

    runs: tuple[Records, ...]
    dialect: Dialect
    value: Any = field(repr=False)  # raw field -> str

    def column(self, n: int) -> pa.Array:
        """Return the column at a position, counted from 0, as strings, exact after unquoting."""
        return pa.array(
            [self.value(raw) for run in self.runs for raw in run.fields(n)], pa.string()
        )

    def table(self, schema: pa.Schema) -> pa.Table:
        """Return every column as strings, exact after unquoting."""
        return pa.Table.from_arrays([self.column(n) for n in range(len(schema))], schema=schema)
