"""CSV and TSV: rows go out as the bytes they came in, with fields appended."""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from batchsent.chunk import Chunk, Reject
from batchsent.errors import InputError, UsageError, printable
from batchsent.formats.reading import CHUNK_BYTES, MAX_COLUMNS, ReadOptions, Sink, Source, find_column, find_text_column
from batchsent.formats.records import Dialect, Records, scan, split
from batchsent.formats.streams import (
    BOMS,
    MULTIBYTE,
    WIDE,
    Compressed,
    InputStream,
    OutputFile,
    Transcoded,
    canonical_encoding,
)

DELIMITERS = (b",", b";", b"\t", b"|")


class CsvSource:
    """A CSV input whose header has been read."""

    format = "csv"

    def __init__(
        self, stream: InputStream, head: bytes, options: ReadOptions, gold_column: str | None, *, tabs: bool
    ) -> None:
        self._stream, self._options = stream, options
        self.name = stream.name
        self.encoding = self._find_encoding(head)
        reader: Any = stream
        if self.encoding in WIDE:
            reader = Transcoded(stream, self.encoding, head)
            head = reader.read(64 << 10)
        preamble, head = self._take_preamble(head, reader)
        self.dialect = self._find_dialect(head, tabs)
        if self.dialect.delimiter == b"\t":
            self.format = "tsv"
        self._runs = scan(
            reader,
            self.dialect,
            buffered=head,
            first_byte=len(preamble),
            first_line=1 + options.skip_lines,
            max_record_bytes=4 * max(options.max_field_bytes, 16 << 10),
            name=self.name,
        )
        first = next(self._runs)
        while not len(first) and (run := next(self._runs, None)) is not None:
            preamble += first.data[first.begin : first.stop]
            first = run
        if not len(first):
            raise InputError(f"{self.name}: there are only blank lines", hint="a header line, at least, is expected")
        width = int(first.widths[0])
        if width > MAX_COLUMNS:
            raise InputError(
                f"{self.name}, line {first.line(int(first.starts[0]))}: {width:,} columns, more than {MAX_COLUMNS:,}"
            )
        if problem := first.problems.get(0):
            raise InputError(f"{self.name}, line {first.line(problem.offset)}: {problem.what}", hint=self._hint(b""))
        top = first.slice(0, 1)
        if options.no_header:
            self.header, self._first = None, first
            self.columns = [f"column_{n + 1}" for n in range(width)]
            if options.text_column_index is None and options.text_column is None and width > 1:
                raise UsageError(
                    f"{self.name}: without a header the text column goes by its position",
                    hint=f"add --text-column-index N, with N from 1 to {width}",
                )
        else:
            self.header, self._first = top, first.slice(1, len(first))
            self.columns = [self._value(top.fields(n)[0]) for n in range(width)]
        self.preamble = preamble
        only = options.no_header and width == 1 and options.text_column is None
        self.text_index = 0 if only else find_text_column(self.columns, options, self.name)
        self._gold = None if gold_column is None else find_column(self.columns, gold_column, "--gold", self.name)
        self.schema = pa.schema([(column, pa.string()) for column in self.columns])
        self._invalid_rows = 0
        self._trailing_rows = 0

    def _find_encoding(self, head: bytes) -> str:
        marked = next((name for mark, name in BOMS if head.startswith(mark)), None) or unmarked(head)
        asked = self._options.encoding
        if asked == "auto":
            if marked:
                return marked
            try:
                codecs.getincrementaldecoder("utf-8")().decode(head)
            except UnicodeDecodeError:
                return "cp1252"
            return "utf-8"
        encoding = canonical_encoding(asked)
        if encoding == "utf-8" and marked:
            raise InputError(
                f"{self.name}: this looks like {marked[:6].upper()}, not UTF-8", hint=f"add --encoding {marked}"
            )
        # The mark tells the byte order, and is kept because it is decoded as the character it is.
        return (
            marked
            if marked and encoding in WIDE
            else f"{encoding}-le"
            if encoding in {"utf-16", "utf-32"}
            else encoding
        )

    def _take_preamble(self, head: bytes, reader: Any) -> tuple[bytes, bytes]:
        """Return the byte order mark with the lines to skip, and what is behind them."""
        mark = codecs.BOM_UTF8 if head.startswith(codecs.BOM_UTF8) else b""
        preamble, rest = mark, head[len(mark) :]
        for line in range(self._options.skip_lines):
            while b"\n" not in rest and (more := reader.read(64 << 10)) and len(rest) < 16 << 20:
                rest += more
            end = rest.find(b"\n") + 1
            if not end:
                raise UsageError(f"{self.name} has {line} whole line(s) only", hint="lower --skip-lines")
            preamble, rest = preamble + rest[:end], rest[end:]
        return preamble, rest

    def _find_dialect(self, head: bytes, tabs: bool) -> Dialect:
        options = self._options
        quote = one_byte("--quotechar", options.quotechar, self.encoding)
        escape = None if options.escapechar is None else one_byte("--escapechar", options.escapechar, self.encoding)
        if options.delimiter == "auto":
            return guess_dialect(head, Dialect(b",", quote, escape, options.skip_initial_space))
        typed = options.delimiter or ("\t" if tabs else ",")
        delimiter = one_byte("--delimiter", {"\\t": "\t", "tab": "\t"}.get(typed, typed), self.encoding)
        if len({delimiter, quote, escape} - {None}) < (2 if escape is None else 3):
            raise UsageError("--delimiter, --quotechar and --escapechar must differ")
        return Dialect(delimiter, quote, escape, options.skip_initial_space)

    def _value(self, raw: bytes) -> str:
        """Return a field as text; invalid bytes become U+FFFD."""
        return self.dialect.unquote(raw).decode("utf-8" if self.encoding in WIDE else self.encoding, "replace")

    def chunks(self) -> Iterator[Chunk]:
        """Yield the rows once, in order. Raises InputError for a bad row unless they are to be left out."""
        start = 0
        for group in cut(limited(self._sorted_out(), self._options.limit), self._options.chunk_rows):
            runs = tuple(piece for piece in group if isinstance(piece, Records))
            chunk = Chunk(
                start_row=start,
                texts=[text for run in runs for text in self._texts(run)],
                carried=CsvRows(runs, self.dialect, self._value),
                gold=None
                if self._gold is None
                else [self._value(raw) for run in runs for raw in run.fields(self._gold)],
                rejected=tuple(piece for piece in group if isinstance(piece, Reject)),
            )
            start += chunk.rows
            yield chunk

    def check(self) -> tuple[int, int]:
        """Read the whole input for its structure alone; return good and bad rows. This uses the source up.

        Raises InputError for the first bad row unless they are to be left out, at some 300 MB/s: ahead of a model
        that takes hours.
        """
        good = bad = 0
        for piece in limited(self._sorted_out(), self._options.limit):
            good, bad = (good, bad + 1) if isinstance(piece, Reject) else (good + len(piece), bad)
        while self._stream.read(1 << 20):  # behind a limit, for the hash
            pass
        return good, bad

    def _runs_with_first(self) -> Iterator[Records]:
        yield self._first
        yield from self._runs

    def _sorted_out(self) -> Iterator[Records | Reject]:
        """Yield runs of good rows and the bad rows between them, in file order."""
        for run in self._runs_with_first():
            first = 0
            for number, reason, offset, hint in self._bad_rows(run):
                if self._options.bad_rows == "error":
                    line = run.line(offset)
                    raise InputError(f"{self.name}, line {line}: {reason}", hint=hint, line=line)
                if first < number:
                    yield run.slice(first, number)
                begin, end = int(run.starts[number]), int(run.ends[number])
                yield Reject(run.line(begin), run.first_byte + begin, reason, run.data[begin:end])
                first = number + 1
            if first == 0 or first < len(run):
                yield run.slice(first, len(run))

    def _bad_rows(self, run: Records) -> Iterator[tuple[int, str, int, str]]:
        """Yield number, reason, offset of the trouble and hint of every row that cannot be taken."""
        width, longest = len(self.columns), self._options.max_field_bytes
        bad = run.widths != width
        bad[list(run.problems)] = True
        bad |= run.ends - run.starts > longest  # only such a record can hold such a field
        if self._options.encoding_errors == "strict":
            bad[[n for n in range(len(run)) if not self._decodes(run.data[run.starts[n] : run.ends[n]])]] = True
        for number in np.flatnonzero(bad).tolist():
            offset = int(run.starts[number])
            raw = run.data[offset : int(run.ends[number])]
            one = run.slice(number, number + 1)
            found = int(one.widths[0])
            if problem := run.problems.get(number):
                yield number, problem.what, problem.offset, self._hint(raw)
            elif found != width:
                yield number, f"{found} field(s) where {width} are expected", offset, self._hint(raw)
            elif (
                size := max(int(b - a) for a, b in (map(int, np.concatenate(one.bounds(n))) for n in range(width)))
            ) > longest:
                yield (
                    number,
                    f"a field of {size:,} bytes, more than {longest:,}",
                    offset,
                    self._hint(raw, "--max-field-bytes"),
                )
            elif not self._decodes(raw):
                yield number, f"bytes that are not valid {self.encoding}", offset, self._hint(raw, "--encoding")

    def _decodes(self, raw: bytes) -> bool:
        try:
            raw.decode("utf-8" if self.encoding in WIDE else self.encoding)
        except UnicodeDecodeError:
            return False
        return True

    def _hint(self, raw: bytes, flag: str | None = None) -> str:
        quote = self.dialect.quotechar
        if flag is not None:
            try_first = f"raise or change {flag}"
        elif b"\\" + quote in raw and self.dialect.escapechar is None:
            try_first = "if quotes are escaped with a backslash, add --escapechar '\\'"
        elif self.dialect.delimiter + b" " + quote in raw and not self.dialect.skip_initial_space:
            try_first = "if fields are quoted behind a space, add --skip-initial-space"
        else:
            try_first = "mend the line"
        return f"{try_first}, or add --bad-rows reject to leave such rows out"

    def _texts(self, run: Records) -> list[str | None]:
        """Decode the text column; the file keeps its bytes, whatever they are."""
        quote, unquote = self.dialect.quotechar, self.dialect.unquote
        plain = self.dialect.escapechar is None and not self.dialect.skip_initial_space
        encoding = "utf-8" if self.encoding in WIDE else self.encoding
        texts: list[str | None] = []
        for raw in run.fields(self.text_index):
            value = raw if plain and raw[:1] != quote else unquote(raw)
            try:
                texts.append(value.decode(encoding))
            except UnicodeDecodeError:
                self._invalid_rows += 1
                texts.append(value.decode(encoding, "replace"))
            # Text behind a closing quote is taken as csv takes it, but it may be a mistake.
            if raw[:1] == quote and raw[-1:] != quote:
                self._trailing_rows += 1
        return texts

    def facts(self) -> dict[str, Any]:
        """Return the input section of the summary."""
        dialect = self.dialect
        return {
            "path": self.name,
            "format": self.format,
            "bytes": self._stream.size,
            "sha256": self._stream.sha256,
            "compression": self._stream.compression,
            "dialect": {
                "delimiter": dialect.delimiter.decode("latin-1"),
                "quotechar": dialect.quotechar.decode("latin-1"),
                "escapechar": None if dialect.escapechar is None else dialect.escapechar.decode("latin-1"),
                "skip_initial_space": dialect.skip_initial_space,
                "encoding": self.encoding,
                "header": self.header is not None,
            },
            "columns": {
                "count": len(self.columns),
                "text": self.columns[self.text_index],
                "gold": None if self._gold is None else self.columns[self._gold],
            },
        }

    def warnings(self) -> list[dict[str, str]]:
        """Return what a person should know of what was read."""
        found = []
        if self._invalid_rows:
            found.append(
                {
                    "code": "invalid_encoding",
                    "message": f"{self._invalid_rows:,} text(s) hold bytes that are not valid {self.encoding}; "
                    "the model read U+FFFD in their place, the output keeps the bytes",
                    "hint": "give the right --encoding, or --encoding-errors strict to treat them as bad rows",
                }
            )
        if self._trailing_rows:
            found.append(
                {
                    "code": "text_after_quote",
                    "message": f"{self._trailing_rows:,} text(s) go on behind their closing quote",
                    "hint": "look at how the file quotes its fields",
                }
            )
        return found

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def unmarked(head: bytes) -> str | None:
    """Return the UTF-16 that a file without a mark begins in: every other byte of two ASCII characters is NUL."""
    zeros = "".join("0" if byte == 0 else "x" for byte in head[:4])
    return {"x0x0": "utf-16-le", "0x0x": "utf-16-be"}.get(zeros)


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
                sizes = np.cumsum(rest.nexts - rest.starts)
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
        return pa.array([self.value(raw) for run in self.runs for raw in run.fields(n)], pa.string())

    def table(self, schema: pa.Schema) -> pa.Table:
        """Return every column as strings, exact after unquoting."""
        return pa.Table.from_arrays([self.column(n) for n in range(len(schema))], schema=schema)


def one_byte(flag: str, character: str, encoding: str) -> bytes:
    """Return a dialect character as its byte. Raises UsageError where it has none, or no unmistakable one."""
    if len(character) != 1 or not character.isascii() or character in "\r\n":
        raise UsageError(f"{flag} {printable(character)}: one ASCII character is expected")
    if encoding in MULTIBYTE and ord(character) >= 0x40:
        raise UsageError(
            f"{flag} {printable(character)} can be half of a character in {encoding}", hint="convert the file to utf-8"
        )
    return character.encode()


def guess_dialect(head: bytes, like: Dialect) -> Dialect:
    """Return the dialect whose delimiter gives the widest rows of equal width in the first 64 kB."""
    best, width = like, 1
    for delimiter in DELIMITERS:
        dialect = Dialect(delimiter, like.quotechar, like.escapechar, like.skip_initial_space)
        found = split(head, dialect, at_end=len(head) < 64 << 10)
        widths = set(found.widths.tolist())
        if len(widths) == 1 and not found.problems and (this := widths.pop()) > width:
            best, width = dialect, this
    return best


def open_csv_sink(file: OutputFile, path: str, source: Source, added: pa.Schema, *, tabs: bool) -> Sink:
    """Return the sink that copies bytes where input and output are written alike, else one that writes values."""
    if isinstance(source, CsvSource) and tabs == (source.dialect.delimiter == b"\t"):
        return CopySink(file, path, source, added)
    return ValueSink(file, path, source, added, tabs=tabs)


class CopySink:
    """Appends fields to the records of a CSV and copies everything else, to the byte."""

    def __init__(self, file: OutputFile, path: str, source: CsvSource, added: pa.Schema) -> None:
        self._file = Compressed(file, path)
        self._dialect = source.dialect
        self._encoding = "utf-8" if source.encoding in WIDE else source.encoding
        self._wide = source.encoding if source.encoding in WIDE else None
        self._quoted: dict[str, bytes] = {}
        self._write(source.preamble)
        if source.header is not None:
            names = b"".join(source.dialect.delimiter + self._raw(name) for name in added.names)
            self._write(append(source.header, [names]))

    def _write(self, data: bytes) -> None:
        self._file.write(data if self._wide is None else data.decode("utf-8").encode(self._wide))

    def _raw(self, value: str) -> bytes:
        """Return a new value as a field of this file."""
        if value not in self._quoted:
            try:
                self._quoted[value] = self._dialect.quote(value.encode(self._encoding))
            except UnicodeEncodeError as error:
                raise UsageError(
                    f"{printable(value)} cannot be written in {self._encoding}", hint="convert the input to utf-8"
                ) from error
        return self._quoted[value]

    def write(self, chunk: Chunk, added: pa.RecordBatch) -> None:
        """Write the rows of a chunk with the added columns behind the user's."""
        columns = []
        for column in added.columns:
            if pa.types.is_string(column.type):
                columns.append([b"" if value is None else self._raw(value) for value in column.to_pylist()])
            else:
                # Arrow writes the shortest decimal that reads back to the same float32 or float64.
                texts = pc.fill_null(pc.cast(column, pa.string()), "").to_pylist()
                columns.append([text.encode("ascii") for text in texts])
        delimiter = self._dialect.delimiter
        fields = [delimiter + delimiter.join(row) for row in zip(*columns, strict=True)]
        done = 0
        for run in chunk.carried.runs:
            self._write(append(run, fields[done : done + len(run)]))
            done += len(run)

    def finish(self) -> None:
        """Write what the compressor holds back."""
        self._file.finish()


def append(run: Records, fields: list[bytes]) -> bytes:
    """Return the bytes of a run with `fields[n]` put in at the end of record n, ahead of its line end."""
    data, at = run.data, run.begin
    pieces: list[bytes] = []
    for end, new in zip(run.ends.tolist(), fields, strict=True):
        pieces += (data[at:end], new)
        at = end
    pieces.append(data[at : run.stop])
    return b"".join(pieces)


class ValueSink:
    """Writes values as CSV: strings quoted, nulls as empty unquoted fields, nested values as JSON."""

    def __init__(self, file: OutputFile, path: str, source: Source, added: pa.Schema, *, tabs: bool) -> None:
        self._file = Compressed(file, path)
        self._source_schema = source.schema
        self._options = pa.csv.WriteOptions(include_header=False, delimiter="\t" if tabs else ",")
        dialect = Dialect(b"\t" if tabs else b",")
        names = [*source.schema.names, *added.names]
        self._file.write(dialect.delimiter.join(dialect.quote(name.encode()) for name in names) + b"\n")

    def write(self, chunk: Chunk, added: pa.RecordBatch) -> None:
        """Write the rows of a chunk with the added columns behind the user's."""
        table = chunk.carried.table(self._source_schema)
        arrays = [flat(column) for column in (*table.columns, *added.columns)]
        # Numbers as names: arrow would refuse a table with the same name twice, which the user's may have.
        named = pa.table(arrays, names=[str(n) for n in range(len(arrays))])
        pa.csv.write_csv(named, self._file, self._options)

    def finish(self) -> None:
        """Write what the compressor holds back."""
        self._file.finish()


def flat(column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """Return a column in a type that CSV has: dictionaries decoded, nested values as JSON, bytes as text."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        column = column.cast(kind.storage_type)
        kind = column.type
    if pa.types.is_dictionary(kind):
        return flat(column.cast(kind.value_type))
    if pa.types.is_string_view(kind):
        return column.cast(pa.large_string())
    if pa.types.is_binary_view(kind):
        return flat(column.cast(pa.large_binary()))
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.array([None if v is None else v.decode("utf-8", "replace") for v in column.to_pylist()], pa.string())
    if pa.types.is_nested(kind):
        import json

        texts = [None if v is None else json.dumps(v, default=str, ensure_ascii=False) for v in column.to_pylist()]
        return pa.array(texts, pa.string())
    if pa.types.is_interval(kind):
        return pa.array([None if v is None else str(v) for v in column.to_pylist()], pa.string())
    if pa.types.is_null(kind):
        return column.cast(pa.string())
    return column
