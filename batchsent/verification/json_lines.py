"""JSON lines beside their input: the same lines, but for the members before each closing brace.

Of another format the lines are those that its values make.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from batchsent.chunk import Chunk
from batchsent.formats.json_members import (
    BadLine,
    Number,
    closing_brace,
    has_members,
    member_texts,
    read_object,
)
from batchsent.formats.json_values import quote
from batchsent.formats.jsonl import JsonLinesSource
from batchsent.formats.jsonl_rows import JsonRows
from batchsent.formats.jsonl_sinks import objects
from batchsent.formats.lines import Lines, split_lines
from batchsent.formats.reading import ReadOptions, Source
from batchsent.formats.sentence_columns import STRONGEST
from batchsent.formats.splitting import scan_records
from batchsent.formats.streams import InputStream
from batchsent.text import printable
from batchsent.verification.copied import BytesBetween, Cursor, longest_record, numbered
from batchsent.verification.differences import Difference, Location, as_difference, differs

# The added columns that are strings; the others are numbers and truth values.
STRINGS = {"label", *(name for name, kind in STRONGEST.items() if kind == pa.string())}


class AddedMembers:
    """JSON lines that should be given lines with members added to each object."""

    keeps_receipt = False
    receipt: dict[str, Any] | None = None

    def __init__(
        self, stream: InputStream, source: Source, options: ReadOptions, label: str
    ) -> None:
        self._source, self._stream = source, stream
        self._prefix = label.removesuffix("label")
        first = source.first
        is_copy = isinstance(first, JsonLinesSource)
        self.compared = "bytes" if is_copy else "values"
        preamble = first.preamble if isinstance(first, JsonLinesSource) else b""
        if stream.read(len(preamble)) != preamble:
            raise Difference("the bytes before the first line are not those of the input")
        self._lines = Cursor(
            scan_records(
                stream, split_lines, max_record_bytes=longest_record(options), name="the output"
            )
        )
        self._rows = 0
        self._between = BytesBetween()
        self.added: list[str] | None = self._names(label)
        source.restrict(self.added or [], fixed_columns=False)

    def _names(self, label: str) -> list[str] | None:
        """Return the names of the added members, from the first line; None without one."""
        first = self._lines.peek()
        if first is None or not len(first):
            return None
        names = list(_members(first.fields(0)[0], Location(1)))
        return names[names.index(label) :] if label in names else []

    def take(self, chunk: Chunk) -> pa.Table:
        """Return the added members of a chunk's rows as text. Raises Difference."""
        with as_difference():
            pieces = self._lines.take(chunk.rows)
        runs = self._given(chunk)
        given = iter(numbered(runs))
        added: list[str] = []
        without: list[bytes] = []  # what the output would be without the added members
        for piece in pieces:
            at = piece.begin
            for number, found in enumerate(piece.fields(0)):
                run, n = next(given)
                raw = run.data[run.starts[n] : run.ends[n]]
                line = run.line(int(run.starts[n]))
                location = Location(chunk.start_row + len(added) + 1, line)
                added.append(added_part(raw, found, location))
                without += (piece.data[at : piece.starts[number]], raw)
                at = piece.ends[number]
            without.append(piece.data[at : piece.stop])
        if len(added) < chunk.rows:
            rows = chunk.start_row + len(added)
            raise Difference(
                f"the output ends before this row: it has {rows} rows", Location(rows + 1)
            )
        before = b"".join(run.data[run.begin : run.stop] for run in runs)
        if not self._between.same(before, b"".join(without)):
            first, last = chunk.start_row + 1, chunk.start_row + chunk.rows
            raise Difference(f"blank lines or line ends differ in rows {first:,} to {last:,}")
        self._rows += chunk.rows
        return self._table(added, chunk.start_row)

    def _given(self, chunk: Chunk) -> Sequence[Lines]:
        """Return the lines that the output should have, but for the added members."""
        if isinstance(chunk.carried, JsonRows):
            return chunk.carried.runs
        table = chunk.carried.table(self._source.schema)
        return [split_lines(objects(table.columns, table.column_names), at_end=True)]

    def _table(self, added: Sequence[str], start: int) -> pa.Table:
        """Return the added members as columns. Raises Difference for other names or strings."""
        rows = [_members(text.encode(), Location(start + n + 1)) for n, text in enumerate(added)]
        if self.added is None:
            self.added = list(rows[0]) if rows else None
        names = self.added or []
        for n, row in enumerate(rows):
            if list(row) != names:
                here, first = (", ".join(map(printable, each)) for each in (row, names))
                raise Difference(
                    f"the members added are {here}, in the first row {first}",
                    Location(start + n + 1),
                )
            if added[n] != "{" + ", ".join(map(_written, row.items())) + "}":
                raise Difference(
                    "the members added are not written as a run writes them",
                    Location(start + n + 1),
                )
        columns = []
        for name in names:
            is_string = name.removeprefix(self._prefix) in STRINGS
            cells = [_cell(row[name], is_string=is_string) for row in rows]
            columns.append(pa.array(cells, pa.string()))
        return pa.table(columns, names=[str(n) for n in range(len(names))])

    def finish(self) -> None:
        """Raise Difference if the output has more rows."""
        self._between.finish(self._lines, self._rows)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def added_part(given: bytes, found: bytes, location: Location) -> str:
    """Return the members that a line has more than the given one, as an object.

    Raises Difference where it is not the given one with members before its closing brace.
    """
    brace = closing_brace(given)
    end = len(found) - (len(given) - brace)
    comma = b", " if has_members(given, brace) else b""
    inside = found[brace:end]
    same = found[:brace] == given[:brace] and found[end:] == given[brace:] and end > brace
    if not same or not inside.startswith(comma):
        raise _difference(given, found, location)
    return "{" + inside[len(comma) :].decode("utf-8", "replace") + "}"


def _difference(given: bytes, found: bytes, location: Location) -> Difference:
    """Return the first difference of a line that is known to differ."""
    members = _members(found, location)
    ours = member_texts(given.decode("utf-8", "replace"))
    theirs = member_texts(found.decode("utf-8", "replace"))
    for name, text in ours.items():
        at = Location(location.row, location.line, name)
        if name not in members:
            return Difference("the output does not have this member", at)
        if theirs[name] != text:
            return differs(at, text, theirs[name])
    return Difference("the line is not the input's with members at its end", location)


def _members(line: bytes, location: Location) -> dict[str, Any]:
    """Return the members of a line. Raises Difference for one that is no object."""
    try:
        return read_object(line.decode("utf-8", "replace"))
    except BadLine as error:
        raise Difference(f"not a JSON object: {error}", location) from error


def _written(member: tuple[str, Any]) -> str:
    """Return a member as a run writes it."""
    name, value = member
    if value is None or isinstance(value, (bool, Number)):
        text = _cell(value, is_string=False) or "null"
    else:
        text = quote(value) if isinstance(value, str) else repr(value)
    return f"{quote(name)}: {text}"


def _cell(value: Any, *, is_string: bool) -> str | None:
    """Return an added value as text; a string in the place of a number keeps its quotes."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and (isinstance(value, Number) != is_string):
        return str(value)
    return repr(value)
