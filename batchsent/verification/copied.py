"""A CSV beside the CSV it was copied from: same bytes, but for each record's end."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import pyarrow as pa

from batchsent.chunk import Chunk
from batchsent.formats.csv import CsvSource
from batchsent.formats.csv_rows import CsvRows
from batchsent.formats.reading import ReadOptions
from batchsent.formats.records import Records, count_lines
from batchsent.formats.splitting import scan
from batchsent.formats.streams import WIDE, InputStream, Transcoded
from batchsent.verification.differences import Difference, Location, as_difference, differs

R = TypeVar("R", bound=Records)


def longest_record(options: ReadOptions) -> int:
    """Return the bytes of the longest record of an output: an input's with quotes doubled."""
    return 8 * max(options.max_field_bytes, 16 << 10) + (1 << 20)


class Cursor(Generic[R]):
    """Hands out the records of a file in the numbers asked for, and every byte between them."""

    def __init__(self, runs: Iterator[R]) -> None:
        self._runs = runs
        self._run: R | None = None  # begun, but not taken to its end

    def peek(self) -> R | None:
        """Return the records that come next, without taking them; None at the end."""
        if self._run is None:
            self._run = next(self._runs, None)
        return self._run

    def take(self, rows: int) -> list[R]:
        """Return pieces with `rows` records, fewer only at the end."""
        pieces = []
        while rows > 0 and (run := self.peek()) is not None:
            count = min(rows, len(run))
            pieces.append(run.slice(0, count) if count < len(run) else run)
            self._run = run.slice(count, len(run)) if count < len(run) else None
            rows -= count
        return pieces

    def left(self) -> Iterator[R]:
        """Yield what is left, piece by piece."""
        if self._run is not None:
            yield self._run
        yield from self._runs


class BytesBetween:
    """The bytes of input and output, the added ones left out, compared with each other."""

    def __init__(self) -> None:
        self._ahead = b"", b""  # those that the other side has not shown yet

    def same(self, given: bytes, found: bytes) -> bool:
        """Take the next bytes of both; tell whether they are the same as far as both go.

        Blank lines at the edge of a piece may come with the next one on the other side.
        """
        given, found = self._ahead[0] + given, self._ahead[1] + found
        n = min(len(given), len(found))
        self._ahead = given[n:], found[n:]
        return given[:n] == found[:n]

    def finish(self, output: Cursor[R], rows: int) -> None:
        """Raise Difference if the output has more than these rows, or other bytes at its end."""
        rest = self._ahead[1]
        with as_difference():
            for piece in output.left():
                if len(piece):
                    raise Difference("a row that the input does not have", Location(rows + 1))
                rest += piece.data[piece.begin : piece.stop]
        if rest != self._ahead[0]:
            raise Difference("blank lines or line ends differ after the last row")


class CopiedCsv:
    """A CSV that should be its input with fields appended to every record."""

    compared = "bytes"
    keeps_receipt = False
    receipt: dict[str, Any] | None = None

    def __init__(self, stream: InputStream, source: CsvSource, options: ReadOptions) -> None:
        self._source, self._stream = source, stream
        self._width = len(source.columns)
        reader: Any = (
            Transcoded(self._stream, source.encoding) if source.encoding in WIDE else self._stream
        )
        head = b""
        while len(head) < len(source.preamble) and (more := reader.read(64 << 10)):
            head += more
        if not head.startswith(source.preamble):
            raise Difference("the bytes before the header are not those of the input")
        self._records = Cursor(
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
        self._between = BytesBetween()
        self.added: list[str] | None = None
        self._count: int | None = None
        if source.header is not None:
            pieces = self._records.take(1)
            if not pieces or not len(pieces[-1]):
                raise Difference("the output is empty")
            self._count = int(pieces[-1].field_counts[0]) - self._width
            self._compare([source.header], pieces, None)
            self.added = [
                self._value(pieces[-1].fields(self._width + n)[0]) for n in range(self._count)
            ]

    def _value(self, raw: bytes) -> str:
        encoding = self._source.encoding
        return self._source.dialect.unquote(raw).decode(
            "utf-8" if encoding in WIDE else encoding, "replace"
        )

    def take(self, chunk: Chunk) -> pa.Table:
        """Return the added fields of a chunk's rows as text, empty as null. Raises Difference."""
        with as_difference():
            pieces = self._records.take(chunk.rows)
        if self._count is None:  # no header: the width of the first record
            field_counts = [int(piece.field_counts[0]) for piece in pieces if len(piece)]
            self._count = field_counts[0] - self._width if field_counts else 0
        assert isinstance(chunk.carried, CsvRows)  # of a CsvSource
        self._compare(list(chunk.carried.runs), pieces, chunk.start_row)
        self._rows += chunk.rows
        return as_texts(pieces, self._width, self._count, self._value)

    def _compare(self, runs: list[Records], pieces: list[Records], start_row: int | None) -> None:
        wanted = sum(map(len, runs))
        count = self._count or 0
        right = (count > 0 or not wanted) and sum(map(len, pieces)) == wanted
        right = right and all(
            (p.field_counts == self._width + count).all() and not p.problems for p in pieces
        )
        if right:
            right = self._between.same(
                b"".join(run.data[run.begin : run.stop] for run in runs),
                b"".join(without_fields(piece, self._width) for piece in pieces),
            )
        if not right:
            raise self._difference(runs, pieces, start_row, count)

    def _difference(
        self, runs: list[Records], pieces: list[Records], start: int | None, count: int
    ) -> Difference:
        """Return the first difference of records that are known to differ somewhere."""
        ours, theirs = numbered(runs), numbered(pieces)
        columns, width = self._source.columns, self._width
        ending: Difference | None = None
        for number, (run, n) in enumerate(ours):
            row = None if start is None else start + number + 1
            line = run.line(int(run.starts[n]))
            if number >= len(theirs):
                return Difference(
                    f"the output ends before this row: it has {row and row - 1} rows",
                    Location(row, line),
                )
            piece, m = theirs[number]
            one, other = run.slice(n, n + 1), piece.slice(m, m + 1)
            found = int(other.field_counts[0])
            for c in range(min(width, found)):
                given_raw, found_raw = one.fields(c)[0], other.fields(c)[0]
                if given_raw != found_raw:
                    return differs(Location(row, line, columns[c]), given_raw, found_raw)
            if other.problems:
                return Difference(next(iter(other.problems.values())).what, Location(row, line))
            if found != width + max(count, 1):
                wanted = f"{width + count}" if count > 0 else f"more than {width}"
                return Difference(
                    f"{found} field(s) in the output where {wanted} are expected",
                    Location(row, line),
                )
            ends = [r.data[r.ends[i] : r.line_ends[i]] for r, i in ((run, n), (piece, m))]
            if ends[0] != ends[1] and ending is None:
                ending = differs(Location(row, line, None), *ends)
        where = "the header" if start is None else f"rows {start + 1:,} to {start + len(ours):,}"
        return ending or Difference(f"blank lines or line ends differ in {where}")

    def finish(self) -> None:
        """Raise Difference if the output has more rows."""
        self._between.finish(self._records, self._rows)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def numbered(runs: Sequence[R]) -> list[tuple[R, int]]:
    """Return every record of some runs as its run and its number in it."""
    records: list[tuple[R, int]] = []
    for run in runs:
        records += [(run, n) for n in range(len(run))]
    return records


def as_texts(
    pieces: list[Records], first: int, count: int, value: Callable[[bytes], str]
) -> pa.Table:
    """Return `count` columns of fields from `first` on as text; empty ones are null."""
    columns = []
    for n in range(count):
        cells: list[str | None] = []
        for piece in pieces:
            cells += [value(raw) if raw else None for raw in piece.fields(first + n)]
        columns.append(pa.array(cells, pa.string()))
    return pa.table(columns, names=[str(n) for n in range(count)])


def without_fields(run: Records, width: int) -> bytes:
    """Return the bytes of a run with only the first `width` fields of each record."""
    if not len(run):
        return run.data[run.begin : run.stop]
    data, at = run.data, run.begin
    pieces = []
    for a, b in zip(run.bounds(width - 1)[1].tolist(), run.ends.tolist(), strict=True):
        pieces.append(data[at:a])
        at = b
    pieces.append(data[at : run.stop])
    return b"".join(pieces)
