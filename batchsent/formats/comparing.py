"""An input beside its output: the added columns row by row, while the user's are held against each other.

CSV that was copied is compared byte for byte, everything else value for value. Knows nothing of what is added.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from batchsent.chunk import Chunk
from batchsent.errors import InputError, UsageError, printable, reason
from batchsent.formats.csv import CsvSource, flat
from batchsent.formats.equality import first_difference, in_type_of
from batchsent.formats.opening import format_of, open_source
from batchsent.formats.parquet import ParquetSource
from batchsent.formats.reading import ReadOptions, Source
from batchsent.formats.records import Dialect, Records, count_lines, scan
from batchsent.formats.streams import WIDE, InputStream, Transcoded

SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class Place:
    """Where a difference is, as far as it has such a place."""

    row: int | None = None  # counted from 1
    line: int | None = None  # of the input, counted from 1
    column: str | None = None

    def __str__(self) -> str:
        parts = [] if self.row is None else [f"row {self.row:,}"]
        parts += [] if self.line is None else [f"line {self.line:,}"]
        return ", ".join(parts + ([] if self.column is None else [f"column {printable(self.column)}"]))


class Difference(Exception):
    """The first thing in an output that is not as the input has it, or as it should be."""

    def __init__(self, what: str, place: Place | None = None, given: Any = None, found: Any = None) -> None:
        self.what, self.place, self.given, self.found = what, place or Place(), given, found
        super().__init__(f"{self.place}: {what}" if str(self.place) else what)


def differs(place: Place, given: Any, found: Any) -> Difference:
    """Return the difference of two values."""
    return Difference(f"{shown(given)} in the input, {shown(found)} in the output", place, shown(given), shown(found))


def shown(value: Any) -> str:
    """Return a value for a message: printable and not too long."""
    if value is None:
        return "null"
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    text = printable(value)
    return f"'{text}'" if len(text) <= SHOWN_CHARACTERS else f"'{text[:SHOWN_CHARACTERS]}…'"


class Output(Protocol):
    """The rows of an output, taken in step with those of its input."""

    compared: str  # bytes or values
    added: list[str] | None  # names of the columns behind the user's; None where the file names none

    def take(self, chunk: Chunk) -> pa.Table:
        """Return the added columns of a chunk's rows, as text where the format knows only text. Raises Difference."""

    def finish(self) -> None:
        """Raise Difference if the output goes on."""

    def close(self) -> None:
        """Close the file."""


def open_output(path: str, source: Source, options: ReadOptions, output_format: str | None, label: str) -> Output:
    """Open an output to go through it beside `source`, which was opened with `options`.

    `label` is the name of the first column added. Raises InputError where the file is not there, Difference where its
    columns are not the user's and more.
    """
    try:
        Path(path).open("rb").close()
    except OSError as error:
        raise InputError(f"{printable(path)}: {reason(error)}", hint="name the output of batchsent batch") from error
    name = output_format or format_of(path, what="output") or source.format
    with damage():
        if name in {"csv", "tsv"}:
            tabs = name == "tsv"
            if isinstance(source, CsvSource) and tabs == (source.dialect.delimiter == b"\t"):
                return CopiedCsv(path, source, options)
            return CsvValues(path, source, options, tabs=tabs)
        return Tables(path, source, name, label)


def longest_record(options: ReadOptions) -> int:
    """Return the bytes of the longest record an output may have: twice what an input may, all quotes doubled."""
    return 8 * max(options.max_field_bytes, 16 << 10) + (1 << 20)


@contextlib.contextmanager
def damage() -> Iterator[None]:
    """Turn what cannot be read of an output, which is known to be there, into a Difference."""
    try:
        yield
    except InputError as error:
        raise Difference(f"the output is damaged: {error.message}") from error
    except UsageError as error:
        raise Difference(error.message) from error


class _Cursor:
    """Hands out the records of a file in the numbers asked for, and every byte between them."""

    def __init__(self, runs: Iterator[Records]) -> None:
        self._runs = runs
        self._run: Records | None = None  # begun, but not taken to its end

    def take(self, rows: int | None) -> list[Records]:
        """Return pieces with `rows` records, all that are left for None; fewer only at the end."""
        pieces = []
        while rows is None or rows > 0:
            run = self._run or next(self._runs, None)
            if run is None:
                break
            count = len(run) if rows is None else min(rows, len(run))
            pieces.append(run.slice(0, count) if count < len(run) else run)
            self._run = run.slice(count, len(run)) if count < len(run) else None
            rows = None if rows is None else rows - count
        return pieces

    def left(self) -> Iterator[Records]:
        """Yield what is left, piece by piece."""
        if self._run is not None:
            yield self._run
        yield from self._runs


class CopiedCsv:
    """A CSV that should be its input with fields appended to every record."""

    compared = "bytes"

    def __init__(self, path: str, source: CsvSource, options: ReadOptions) -> None:
        self._source, self._stream = source, InputStream(path)
        self._width = len(source.columns)
        reader: Any = Transcoded(self._stream, source.encoding) if source.encoding in WIDE else self._stream
        head = b""
        while len(head) < len(source.preamble) and (more := reader.read(64 << 10)):
            head += more
        if not head.startswith(source.preamble):
            raise Difference("the bytes ahead of the header are not those of the input")
        self._records = _Cursor(
            scan(
                reader,
                source.dialect,
                buffered=head[len(source.preamble) :],
                first_line=1 + count_lines(source.preamble),
                max_record_bytes=longest_record(options),
                name="the output",
            )
        )
        self._rows = 0
        self._ahead = b"", b""  # bytes of input and output that the other side has not shown yet
        self.added: list[str] | None = None
        self._count: int | None = None
        if source.header is not None:
            pieces = self._records.take(1)
            if not pieces or not len(pieces[-1]):
                raise Difference("the output is empty")
            self._count = int(pieces[-1].widths[0]) - self._width
            self._compare([source.header], pieces, None)
            self.added = [self._value(pieces[-1].fields(self._width + n)[0]) for n in range(self._count)]

    def _value(self, raw: bytes) -> str:
        encoding = self._source.encoding
        return self._source.dialect.unquote(raw).decode("utf-8" if encoding in WIDE else encoding, "replace")

    def take(self, chunk: Chunk) -> pa.Table:
        """Return the added fields of a chunk's rows as text, empty as null. Raises Difference."""
        with damage():
            pieces = self._records.take(chunk.rows)
        if self._count is None:  # no header: the first record tells
            widths = [int(piece.widths[0]) for piece in pieces if len(piece)]
            self._count = widths[0] - self._width if widths else 0
        self._compare(list(chunk.carried.runs), pieces, chunk.start_row)
        self._rows += chunk.rows
        return as_texts(pieces, self._width, self._count, self._value)

    def _compare(self, runs: list[Records], pieces: list[Records], start_row: int | None) -> None:
        wanted = sum(map(len, runs))
        count = self._count or 0
        right = (count > 0 or not wanted) and sum(map(len, pieces)) == wanted
        right = right and all((p.widths == self._width + count).all() and not p.problems for p in pieces)
        if right:
            given = self._ahead[0] + b"".join(run.data[run.begin : run.stop] for run in runs)
            found = self._ahead[1] + b"".join(without_fields(piece, self._width) for piece in pieces)
            n = min(len(given), len(found))
            # Blank lines at the edge of a piece may come with the next one on the other side.
            right = given[:n] == found[:n]
            self._ahead = given[n:], found[n:]
        if not right:
            raise self._difference(runs, pieces, start_row, count)

    def _difference(self, runs: list[Records], pieces: list[Records], start: int | None, count: int) -> Difference:
        """Return the first difference of records that are known to differ somewhere."""
        ours = [(run, n) for run in runs for n in range(len(run))]
        theirs = [(piece, n) for piece in pieces for n in range(len(piece))]
        columns, width = self._source.columns, self._width
        ending: Difference | None = None
        for number, (run, n) in enumerate(ours):
            row = None if start is None else start + number + 1
            line = run.line(int(run.starts[n]))
            if number >= len(theirs):
                return Difference(f"the output ends ahead of this row: it has {row and row - 1} rows", Place(row, line))
            piece, m = theirs[number]
            one, other = run.slice(n, n + 1), piece.slice(m, m + 1)
            found = int(other.widths[0])
            for c in range(min(width, found)):
                given_raw, found_raw = one.fields(c)[0], other.fields(c)[0]
                if given_raw != found_raw:
                    return differs(Place(row, line, columns[c]), given_raw, found_raw)
            if other.problems:
                return Difference(next(iter(other.problems.values())).what, Place(row, line))
            if found != width + max(count, 1):
                wanted = f"{width + count}" if count > 0 else f"more than {width}"
                return Difference(f"{found} field(s) in the output where {wanted} are expected", Place(row, line))
            ends = [r.data[r.ends[i] : r.nexts[i]] for r, i in ((run, n), (piece, m))]
            if ends[0] != ends[1] and ending is None:
                ending = differs(Place(row, line, None), *ends)
        where = "the header" if start is None else f"rows {start + 1:,} to {start + len(ours):,}"
        return ending or Difference(f"blank lines or line ends differ in {where}")

    def finish(self) -> None:
        """Raise Difference if the output goes on."""
        rest = self._ahead[1]
        with damage():
            for piece in self._records.left():
                if len(piece):
                    raise Difference("a row that the input does not have", Place(self._rows + 1))
                rest += piece.data[piece.begin : piece.stop]
        if rest != self._ahead[0]:
            raise Difference("blank lines or line ends differ behind the last row")

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def as_texts(pieces: list[Records], first: int, count: int, value: Callable[[bytes], str]) -> pa.Table:
    """Return `count` columns of fields from the `first` on as text, null for a field of no bytes."""
    columns = [
        pa.array([value(raw) if raw else None for piece in pieces for raw in piece.fields(first + n)], pa.string())
        for n in range(count)
    ]
    return pa.table(columns, names=[str(n) for n in range(count)])


def without_fields(run: Records, width: int) -> bytes:
    """Return the bytes of a run with the fields behind the first `width` taken out of every record."""
    if not len(run):
        return run.data[run.begin : run.stop]
    data, at = run.data, run.begin
    pieces = []
    for a, b in zip(run.bounds(width - 1)[1].tolist(), run.ends.tolist(), strict=True):
        pieces.append(data[at:a])
        at = b
    pieces.append(data[at : run.stop])
    return b"".join(pieces)


class CsvValues:
    """A CSV made of another format: fields against the text of the values, null an empty field without quotes."""

    compared = "values"

    def __init__(self, path: str, source: Source, options: ReadOptions, *, tabs: bool) -> None:
        self._source, self._stream, self._dialect = source, InputStream(path), Dialect(b"\t" if tabs else b",")
        self._records = _Cursor(
            scan(self._stream, self._dialect, max_record_bytes=longest_record(options), name="the output")
        )
        self._rows, self._width = 0, len(source.columns)
        header = self._records.take(1)
        if not header or not len(header[-1]):
            raise Difference("the output is empty")
        found = [
            self._dialect.unquote(header[-1].fields(n)[0]).decode("utf-8", "replace")
            for n in range(int(header[-1].widths[0]))
        ]
        self.added: list[str] | None = added_names(source.columns, found)
        self._count = len(found) - self._width

    def take(self, chunk: Chunk) -> pa.Table:
        """Return the added fields of a chunk's rows as text, empty as null. Raises Difference."""
        with damage():
            pieces = self._records.take(chunk.rows)
        for piece in pieces:
            wrong = (piece.widths != self._width + self._count).nonzero()[0].tolist() + list(piece.problems)
            if wrong:
                row = self._rows + min(wrong) + 1
                raise Difference(
                    f"{piece.widths[min(wrong)]} field(s) in the output where {self._width + self._count} are expected",
                    Place(row),
                )
            self._rows += len(piece)
        unquote, table = self._dialect.unquote, chunk.carried.table(self._source.schema)

        def column(n: int) -> pa.Array:
            raws = (raw for piece in pieces for raw in piece.fields(n))
            return pa.array([unquote(raw) if raw else None for raw in raws], pa.large_binary())

        # What is compared is bytes: a column may say utf-8 and hold something else.
        given = [in_type_of(pa.large_string(), flat(each)).cast(pa.large_binary()) for each in table.columns]
        hold(self._source.columns, given, [column(n) for n in range(self._width)], chunk)
        return as_texts(pieces, self._width, self._count, lambda raw: unquote(raw).decode("utf-8", "replace"))

    def finish(self) -> None:
        """Raise Difference if the output goes on."""
        with damage():
            if any(len(piece) for piece in self._records.left()):
                raise Difference("a row that the input does not have", Place(self._rows + 1))

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


class Tables:
    """A Parquet file or an Arrow stream: types and values against the input's."""

    compared = "values"

    def __init__(self, path: str, source: Source, name: str, label: str) -> None:
        self._source = source
        self._output = open_source(path, ReadOptions(text_column=label, input_format=name))
        self._width, self._rows = len(source.columns), 0
        self.added: list[str] | None = added_names(source.columns, self._output.columns)
        self._check_schema()
        self._tables = (chunk.carried.table(self._output.schema) for chunk in self._output.chunks())
        self._held: pa.Table | None = None

    def _check_schema(self) -> None:
        source, output = self._source, self._output
        wanted = source.schema
        if output.format != source.format:
            wanted = as_parquet_has_it(wanted) if isinstance(output, ParquetSource) else as_arrow_has_it(wanted)
        for n, given in enumerate(wanted):
            if not output.schema.field(n).equals(given, check_metadata=True):
                raise differs(Place(column=given.name), given, output.schema.field(n))
        if (wanted.metadata or {}) != (output.schema.metadata or {}):
            raise Difference("the metadata of the schema are not those of the input")
        if isinstance(source, ParquetSource) and isinstance(output, ParquetSource):
            if source.row_groups != output.row_groups:
                raise Difference(
                    f"{len(output.row_groups)} row groups in the output, {len(source.row_groups)} in the input, or "
                    "other rows in one of them"
                )
            for column, codec in source.codecs.items():
                if output.codecs.get(column, codec) != codec:
                    raise differs(Place(column=column), codec, output.codecs[column])

    def _take_rows(self, rows: int) -> pa.Table:
        pieces = []
        while rows:
            with damage():
                table = self._held if self._held is not None else next(self._tables, None)
            if table is None:
                break
            pieces.append(table.slice(0, rows))
            self._held = table.slice(rows) if table.num_rows > rows else None
            rows -= pieces[-1].num_rows
        return pa.concat_tables(pieces) if pieces else self._output.schema.empty_table()

    def take(self, chunk: Chunk) -> pa.Table:
        """Return the added columns of a chunk's rows. Raises Difference."""
        table = self._take_rows(chunk.rows)
        given = chunk.carried.table(self._source.schema)
        found = [in_type_of(a.type, b) for a, b in zip(given.columns, table.columns, strict=False)]
        hold(self._source.columns, given.columns, found, chunk)
        self._rows += chunk.rows
        added = table.columns[self._width :]
        return pa.table(added, names=[str(n) for n in range(len(added))])

    def finish(self) -> None:
        """Raise Difference if the output goes on."""
        if self._take_rows(1).num_rows:
            raise Difference("a row that the input does not have", Place(self._rows + 1))

    def close(self) -> None:
        """Close the file."""
        self._output.close()


def added_names(columns: list[str], found: list[str]) -> list[str]:
    """Return the names behind the user's. Raises Difference where the user's are not there, in order."""
    for n, name in enumerate(columns):
        if n >= len(found):
            raise Difference("the output does not have this column", Place(column=name))
        if found[n] != name:
            raise differs(Place(column=name), name, found[n])
    return found[len(columns) :]


def as_parquet_has_it(schema: pa.Schema) -> pa.Schema:
    """Return a schema as it comes out of a Parquet file: that has no seconds, for instance."""
    file = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), file)
    return pq.read_schema(pa.BufferReader(file.getvalue()))


def as_arrow_has_it(schema: pa.Schema) -> pa.Schema:
    """Return a schema as it comes out of an Arrow stream: that has its own names for the parts of a map."""
    return pa.ipc.read_schema(pa.py_buffer(schema.serialize()))


def hold(names: list[str], given: list[Any], found: list[Any], chunk: Chunk) -> None:
    """Hold columns of a chunk against each other. Raises Difference for the first row that differs, or is not there."""
    first: tuple[int, int] | None = None
    for n, (a, b) in enumerate(zip(given, found, strict=True)):
        row = first_difference(a, b)
        if row is not None and (first is None or row < first[0]):
            first = row, n
    if first is None:
        return
    row, n = first
    if row >= len(found[n]):
        raise Difference(
            f"the output ends ahead of this row: it has {chunk.start_row + row:,} rows",
            Place(chunk.start_row + row + 1),
        )
    raise differs(Place(chunk.start_row + row + 1, column=names[n]), value(given[n], row), value(found[n], row))


def value(column: Any, row: int) -> Any:
    """Return one value for a message."""
    try:
        return column[row].as_py()
    except (ValueError, UnicodeDecodeError):  # nanoseconds without pandas, bytes that are no text
        return str(column[row])
