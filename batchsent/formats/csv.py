"""CSV and TSV, read: header, rows as bytes, and which field is the text."""

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from batchsent.chunk import Chunk, Reject
from batchsent.errors import InputError, UsageError
from batchsent.formats.csv_bad_rows import RowChecks
from batchsent.formats.csv_fields import FieldDecoder
from batchsent.formats.csv_proposal import propose
from batchsent.formats.csv_rows import CsvRows
from batchsent.formats.dialects import find_dialect, find_encoding, is_utf8_read_as
from batchsent.formats.opening import HEAD_BYTES
from batchsent.formats.reading import (
    MAX_COLUMNS,
    ReadOptions,
    SameColumns,
    Structure,
    cells_of,
    facts_of,
    find_column,
)
from batchsent.formats.records import Records
from batchsent.formats.splitting import ByteStream, scan
from batchsent.formats.streams import WIDE, InputStream, Transcoded
from batchsent.formats.text_chunks import cut, limited, structure_of
from batchsent.formats.text_names import (
    LOOKED_AT,
    Usual,
    find_text_columns,
    has_text_column,
    joint_of,
    with_usual,
)
from batchsent.text import visible
from batchsent.text_columns import TextColumns, join_texts


class CsvSource(SameColumns):
    """A CSV input whose header has been read."""

    format = "csv"

    def __init__(
        self,
        stream: InputStream,
        options: ReadOptions,
        gold_column: str | None,
        *,
        needs_text: bool,
        usual: Usual | None,
        tabs: bool,
    ) -> None:
        self._stream, self._options, self._tabs = stream, options, tabs
        self.name, self.version = stream.name, stream.version
        start = stream.peek(HEAD_BYTES)
        self.encoding = find_encoding(start, options.encoding, self.name)
        self._is_utf8 = is_utf8_read_as(self.encoding, start)
        # Records of UTF-16 and UTF-32 are found in their UTF-8.
        self._bytes_encoding = "utf-8" if self.encoding in WIDE else self.encoding
        first = self._begin()
        if self.dialect.delimiter == b"\t":
            self.format = "tsv"
        self.header = None if options.no_header else first.slice(0, 1)
        fields = int(first.field_counts[0])
        # Several of them, since `warnings` reports what the ones for the texts have counted: the
        # second one counts before any text is scored.
        self._texts_decoder = FieldDecoder(self.dialect, self._bytes_encoding)
        self._early_decoder = FieldDecoder(self.dialect, self._bytes_encoding)
        self._cells_decoder = FieldDecoder(self.dialect, self._bytes_encoding)
        self._checks = RowChecks(options, self.dialect, self._bytes_encoding, fields, self.name)
        self._check_header(first, fields)
        self.columns = self._column_names(fields)
        self._first = self._without_header(first)
        self.text_columns: TextColumns | None = None
        self._text_positions: list[int] = []
        self._find_texts(
            with_usual(options, self.columns.__contains__, usual), needs_text=needs_text
        )
        self._gold: int | None = None
        if gold_column is not None:
            self._gold = find_column(self.columns, gold_column, "--gold", self.name)
        self.schema = pa.schema([(column, pa.string()) for column in self.columns])
        self._look_for_invalid_bytes(self._checks.good_start(self._first))
        # The field of `extend` with the delimiter before it, and the line end of the file.
        self._extension: tuple[bytes, bytes] | None = None

    def _begin(self) -> Records:
        """Read the start of the stream up to its first records, and return these.

        What comes before them is `preamble`, how they are read `dialect`. Raises InputError where
        there are none.
        """
        reader: ByteStream = self._stream
        if self.encoding in WIDE:
            reader = Transcoded(self._stream, self.encoding)
        self.preamble, head = self._take_preamble(reader.read(HEAD_BYTES), reader)
        self._head = head
        self.dialect = find_dialect(head, self._options, self.encoding, tabs=self._tabs)
        self._runs = scan(
            reader,
            self.dialect,
            buffered=head,
            first_byte=len(self.preamble),
            first_line=1 + self._options.skip_lines,
            max_record_bytes=4 * max(self._options.max_field_bytes, 16 << 10),
            name=self.name,
        )
        for run in self._runs:
            if len(run):
                return run
            self.preamble += run.data[run.begin : run.stop]  # blank lines
        raise InputError(
            f"{self.name}: there are only blank lines", hint="a header line, at least, is expected"
        )

    def _take_preamble(self, head: bytes, reader: ByteStream) -> tuple[bytes, bytes]:
        """Return the byte order mark with the lines to skip, and what comes after them."""
        mark = codecs.BOM_UTF8 if head.startswith(codecs.BOM_UTF8) else b""
        preamble, rest = mark, head[len(mark) :]
        for line in range(self._options.skip_lines):
            while b"\n" not in rest and (more := reader.read(HEAD_BYTES)) and len(rest) < 16 << 20:
                rest += more
            end = rest.find(b"\n") + 1
            if not end:
                raise UsageError(
                    f"{self.name} has {line} whole line(s) only", hint="lower --skip-lines"
                )
            preamble, rest = preamble + rest[:end], rest[end:]
        return preamble, rest

    def _check_header(self, first: Records, fields: int) -> None:
        """Raise InputError for a first record that is too wide or whose quoting is damaged."""
        if fields > MAX_COLUMNS:
            raise InputError(
                f"{self.name}, line {first.line(int(first.starts[0]))}: {fields:,} columns, more "
                f"than {MAX_COLUMNS:,}"
            )
        if problem := first.problems.get(0):
            raise InputError(
                f"{self.name}, line {first.line(problem.offset)}: {problem.what}",
                hint=self._checks.hint(b""),
            )

    def _column_names(self, fields: int) -> list[str]:
        """Return the names in the header, or names by position."""
        if self.header is None:
            return [f"column_{n + 1}" for n in range(fields)]
        return [self._cells_decoder.text(self.header.fields(n)[0]) for n in range(fields)]

    def _without_header(self, first: Records) -> Records:
        return first if self.header is None else first.slice(1, len(first))

    def _find_texts(self, options: ReadOptions, *, needs_text: bool) -> None:
        """Find the text columns; there are none where they are not known and not needed."""
        width = len(self.columns)
        if options.no_header and options.text_column is None:
            if width == 1:
                options = replace(options, text_column_index=1)
            elif options.text_column_index is None and needs_text:
                raise UsageError(
                    f"{self.name}: without a header the text column goes by its position",
                    hint=f"add --text-column-index N, with N from 1 to {width}",
                )
        if not needs_text and not has_text_column(self.columns, options):
            return
        try:
            found = find_text_columns(self.columns, options, self.name, self._first_values)
        except UsageError as error:
            known = propose(self._head, self.dialect, self.encoding, self._options, self.name)
            if known is not None:
                error.hint, error.details["columns"] = known
            raise
        names = tuple(self.columns[position] for position in found)
        self.text_columns = TextColumns(names, joint_of(options, len(names)))
        self._text_positions = found

    def _first_values(self) -> dict[str, list[str]]:
        """Return the first values of each column, by its name."""
        rows = self._checks.good_start(self._first.slice(0, min(LOOKED_AT, len(self._first))))
        return {
            column: self._cells_decoder.texts(rows.fields(position))
            for position, column in enumerate(self.columns)
        }

    def raw(self, value: str) -> bytes:
        """Return a value as a field of this file. Raises UsageError where its encoding has none."""
        try:
            return self.dialect.quote(value.encode(self._bytes_encoding))
        except UnicodeEncodeError as error:
            raise UsageError(
                f"{visible(value)} cannot be written in {self._bytes_encoding}",
                hint="convert the input to utf-8",
            ) from error

    def extend(self, column: str, value: str) -> None:
        """Add a column that has the same value in every row; its last row gets a line end too."""
        example = self._first if self.header is None else self.header
        line_end = b""
        if len(example):
            line_end = example.data[example.ends[0] : example.line_ends[0]]
        line_end = line_end or b"\n"
        delimiter = self.dialect.delimiter
        if self.header is not None:
            self.header = self.header.with_field(delimiter + self.raw(column), line_end)
        self.columns = [*self.columns, column]
        self.schema = self.schema.append(pa.field(column, pa.string()))
        self._extension = delimiter + self.raw(value), line_end

    def chunks(self, columns: Sequence[str] = ()) -> Iterator[Chunk]:
        """Yield the rows once, in order, with the cells of `columns`.

        Raises InputError for a bad row unless they are to be left out.
        """
        start = 0
        for pieces in cut(self._pieces(), self._options.chunk_rows):
            runs = [piece for piece in pieces if isinstance(piece, Records)]
            if self._extension is not None:
                runs = [run.with_field(*self._extension) for run in runs]
            carried = CsvRows(tuple(runs), self._cells_decoder)
            chunk = Chunk(
                start_row=start,
                texts=self._texts(runs, self._texts_decoder),
                carried=carried,
                gold=None if self._gold is None else carried.cells(self._gold),
                rejected=tuple(piece for piece in pieces if isinstance(piece, Reject)),
                columns=cells_of(carried, self, columns),
            )
            start += chunk.rows
            yield chunk

    def check(self, utf8_columns: list[str]) -> Structure:
        """Read a regular file for its structure alone; `chunks` begins at its first row after that.

        In CSV bytes are bytes, so `utf8_columns` does not matter. Raises InputError for the first
        bad row unless they are to be left out. Some 300 MB/s, before a model that takes hours.
        """
        self._early_decoder.invalid = 0
        structure = structure_of(self._looked_through(), self._stream)
        self._first = self._without_header(self._begin())
        return structure

    def _looked_through(self) -> Iterator[Records | Reject]:
        """Yield the rows and the bad rows; texts that are not of the encoding are counted."""
        for piece in self._pieces():
            if isinstance(piece, Records):
                self._look_for_invalid_bytes(piece)
            yield piece

    def _look_for_invalid_bytes(self, run: Records) -> None:
        """Count the texts of a run that are not of the encoding; they are decoded only then."""
        if not self._checks.decodes(run.data[run.begin : run.stop]):
            self._texts([run], self._early_decoder)

    def _pieces(self) -> Iterator[Records | Reject]:
        """Yield runs of good rows, up to the limit, and the bad rows between them."""
        return limited(self._checks.sort_out(self._all_runs()), self._options.limit)

    def _all_runs(self) -> Iterator[Records]:
        yield self._first
        yield from self._runs

    def _texts(self, runs: list[Records], decoder: FieldDecoder) -> list[str | None]:
        """Return the texts of the rows; None where there is no text column."""
        texts: list[str | None] = []
        for run in runs:
            if self.text_columns is None:
                texts += [None] * len(run)
                continue
            columns = [decoder.texts(run.fields(position)) for position in self._text_positions]
            texts += join_texts(columns, self.text_columns.joint)
        return texts

    def facts(self) -> dict[str, Any]:
        """Return the input section of the summary."""
        dialect, stream = self.dialect, self._stream
        escapechar = None if dialect.escapechar is None else dialect.escapechar.decode("latin-1")
        return facts_of(
            self,
            self._gold,
            size=stream.size,
            sha256=stream.sha256,
            compression=stream.compression,
            dialect={
                "delimiter": dialect.delimiter.decode("latin-1"),
                "quotechar": dialect.quotechar.decode("latin-1"),
                "escapechar": escapechar,
                "skip_initial_space": dialect.skip_initial_space,
                "encoding": self.encoding,
                "header": self.header is not None,
            },
        )

    def warnings(self) -> list[dict[str, str]]:
        """Return what a person should know of what was read.

        Before the chunks are read: of what `check` has read, else of the first rows.
        """
        found = []
        invalid = self._texts_decoder.invalid or self._early_decoder.invalid
        trailing = self._texts_decoder.trailing
        if invalid:
            likely = "--encoding cp1252" if self.encoding == "utf-8" else "another --encoding"
            found.append(
                {
                    "code": "invalid_encoding",
                    "message": f"{invalid:,} text(s) hold bytes that are not valid "
                    f"{self.encoding}; the model reads U+FFFD in their place, the output keeps the "
                    "bytes",
                    "hint": f"if the file is from a spreadsheet, add {likely}; "
                    "--encoding-errors strict takes them as bad rows",
                }
            )
        if self._is_utf8:
            found.append(
                {
                    "code": "is_utf8",
                    "message": f"the file is utf-8, and is read as {self.encoding}",
                    "hint": "leave out --encoding",
                }
            )
        if trailing:
            found.append(
                {
                    "code": "text_after_quote",
                    "message": f"{trailing:,} text(s) have more after their closing quote",
                    "hint": "look at how the file quotes its fields",
                }
            )
        return found

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
