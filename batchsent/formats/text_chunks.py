"""Records of a text file -> chunks: where a chunk ends, and which rows of it are taken."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from batchsent.chunk import Reject
from batchsent.formats.reading import CHUNK_BYTES, Structure
from batchsent.formats.records import Records
from batchsent.formats.streams import InputStream

R = TypeVar("R", bound=Records)


def limited(pieces: Iterator[R | Reject], limit: int | None) -> Iterator[R | Reject]:
    """Yield pieces up to a number of good rows."""
    left = limit
    for piece in pieces:
        if left is not None and not isinstance(piece, Reject):
            if len(piece) >= left:
                yield piece.slice(0, left)
                return
            left -= len(piece)
        yield piece


def structure_of(pieces: Iterator[R | Reject], stream: InputStream) -> Structure:
    """Count the good and the bad rows of a regular file, read from its start, and rewind it."""
    good = bad = 0
    for piece in pieces:
        if isinstance(piece, Reject):
            bad += 1
        else:
            good += len(piece)
    while stream.read(1 << 20):  # rows after a limit, for the hash
        pass
    structure = Structure(good, bad, stream.sha256)
    stream.rewind()
    return structure


def cut(pieces: Iterator[R | Reject], chunk_rows: int) -> Iterator[list[R | Reject]]:
    """Group pieces into chunks of `chunk_rows` rows (rejected ones included) and about CHUNK_BYTES.

    Where a chunk ends is decided by the rows, never by how the file was read.
    """
    group: list[R | Reject] = []
    rows = size = 0
    for piece in pieces:
        rest: R | Reject | None = piece
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
    piece: R | Reject, rows_left: int, bytes_left: int
) -> tuple[R | Reject, R | None, int]:
    """Return the part of a piece that fits, one row at least; the rest; and the part's bytes."""
    if isinstance(piece, Reject):
        return piece, None, len(piece.raw)
    sizes = np.cumsum(piece.line_ends - piece.starts)
    fitting = int(np.searchsorted(sizes, bytes_left, side="right"))
    count = min(len(piece), rows_left, max(fitting, 1))
    if count == len(piece):
        return piece, None, int(sizes[-1]) if count else 0
    return piece.slice(0, count), piece.slice(count, len(piece)), int(sizes[count - 1])


def take_rows(runs: Sequence[R], rows: Sequence[int]) -> tuple[R, ...]:
    """Return some rows of a chunk, named by their rising numbers, without blank lines."""
    taken, first_row = [], 0
    waiting = list(reversed(rows))
    for run in runs:
        while waiting and waiting[-1] < first_row + len(run):
            number = waiting.pop() - first_row
            one = run.slice(number, number + 1)
            taken.append(replace(one, begin=int(one.starts[0])))
        first_row += len(run)
    return tuple(taken)
