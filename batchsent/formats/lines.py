"""Lines of a file as records of one field each: how JSON lines are read and copied."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from batchsent.formats.json_members import closing_brace, has_members
from batchsent.formats.records import Records

LF, CR = 10, 13
OBJECT = ord("{")


@dataclass(frozen=True)
class Lines(Records):
    """A run of lines. Only LF ends a line: a CR before it belongs to the line end.

    Lines of white space are no records, but lie between them.
    """

    # (records,) the members of each line that are asked for; () where nothing was read yet
    members: tuple[dict[str, Any], ...] = ()

    def slice(self, first: int, last: int) -> Self:
        """Return the records first..last-1 with the blank lines before each."""
        return replace(super().slice(first, last), members=self.members[first:last])

    def line(self, offset: int) -> int:
        """Return the line that an offset lies on, counted from 1."""
        return self.first_line + self.data.count(b"\n", 0, offset)


def split_lines(data: bytes, *, at_end: bool, first_byte: int = 0, first_line: int = 1) -> Lines:
    """Return the complete lines of a piece that begins where a line does.

    At the end of the file, all of it.
    """
    found = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(found == LF)
    line_ends = ends + 1
    stop = int(line_ends[-1]) if len(line_ends) else 0
    if at_end and stop < len(data):  # a last line without its end
        stop = len(data)
        ends, line_ends = np.append(ends, stop), np.append(line_ends, stop)
    starts = np.concatenate([[0], line_ends])[:-1]
    ends = ends - ((ends > starts) & (found[ends - 1] == CR))
    kept = np.ones(len(starts), dtype=bool)
    for n in np.flatnonzero(found[starts] != OBJECT).tolist():
        kept[n] = bool(data[starts[n] : ends[n]].strip())
    starts, ends, line_ends = starts[kept], ends[kept], line_ends[kept]
    return Lines(
        data=data,
        begin=0,
        stop=stop,
        starts=starts,
        ends=ends,
        line_ends=line_ends,
        field_offsets=np.arange(len(starts) + 1),
        field_ends=ends,
        first_byte=first_byte,
        first_line=first_line,
    )


def insert(run: Lines, members: Iterable[str]) -> bytes:
    """Return the bytes of a run with members, given as text, at the end of each line's object."""
    data, at = run.data, run.begin
    pieces: list[bytes] = []
    for start, raw, new in zip(run.starts.tolist(), run.fields(0), members, strict=True):
        brace = closing_brace(raw)
        comma = ", " if has_members(raw, brace) else ""
        pieces += (data[at : start + brace], (comma + new).encode())
        at = start + brace
    pieces.append(data[at : run.stop])
    return b"".join(pieces)
