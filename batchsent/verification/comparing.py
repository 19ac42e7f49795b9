"""An input beside its output: the user's columns are compared, the added ones yielded.

CSV and JSON lines that were copied are compared byte for byte, everything else value for value.
COMPARISONS says for each format how.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from batchsent.chunk import Chunk
from batchsent.errors import InputError, reason
from batchsent.formats import FORMATS, receipt
from batchsent.formats.csv import CsvSource
from batchsent.formats.csv_types import as_csv_type
from batchsent.formats.opening import format_of, open_source
from batchsent.formats.parquet import ParquetSource
from batchsent.formats.reading import ReadOptions, Source
from batchsent.formats.records import Dialect
from batchsent.formats.splitting import scan
from batchsent.formats.streams import InputStream
from batchsent.text import printable
from batchsent.verification.copied import CopiedCsv, Cursor, as_texts, longest_record
from batchsent.verification.differences import Difference, Location, as_difference, differs
from batchsent.verification.equality import first_difference, in_type_of
from batchsent.verification.json_lines import AddedMembers


class Output(Protocol):
    """The rows of an output, taken in step with those of its input."""

    compared: str  # bytes or values
    # names of the columns after the user's; None where the file has no header
    added: list[str] | None
    keeps_receipt: bool  # whether the format has a place for one
    receipt: dict[str, Any] | None  # what the output says of its scores; None where it says nothing

    def take(self, chunk: Chunk) -> pa.Table:
        """Return the added columns of a chunk's rows, as text where the format knows only text.

        Raises Difference.
        """

    def finish(self) -> None:
        """Raise Difference if the output has more rows."""

    def close(self) -> None:
        """Close the file."""


def open_output(
    path: str, source: Source, options: ReadOptions, output_format: str | None, label: str
) -> Output:
    """Open an output to go through it beside `source`, which was opened with `options`.

    `label` is the name of the first column added. Raises InputError where the file is not there,
    Difference where its columns are not the user's and more.
    """
    try:
        Path(path).open("rb").close()
    except OSError as error:
        raise InputError(
            f"{printable(path)}: {reason(error)}", hint="name the output of batchsent batch"
        ) from error
    except ValueError as error:
        raise InputError(f"{printable(path)}: no file can have this name") from error
    name = output_format or format_of(path, what="output") or source.format
    source.restrict([], fixed_columns=FORMATS[name].fixed_columns)
    with as_difference():
        return COMPARISONS[name](path, source, options, label)


def open_csv(path: str, source: Source, options: ReadOptions, _: str, *, tabs: bool) -> Output:
    """Open a CSV beside an input: one of the same kind was copied, others were made of values."""
    stream = InputStream(path)
    try:
        first = source.first
        if isinstance(first, CsvSource) and tabs == (first.dialect.delimiter == b"\t"):
            return CopiedCsv(stream, first, options)
        return CsvValues(stream, source, options, tabs=tabs)
    except BaseException:
        stream.close()  # otherwise the output closes it
        raise


def open_jsonl(path: str, source: Source, options: ReadOptions, label: str) -> Output:
    """Open JSON lines beside an input: those of JSON lines were copied, others made of values."""
    stream = InputStream(path)
    try:
        return AddedMembers(stream, source, options, label)
    except BaseException:
        stream.close()  # otherwise the output closes it
        raise


def open_typed(
    path: str,
    source: Source,
    _: ReadOptions,
    label: str,
    *,
    name: str,
    rows: Callable[[Source, Source], Output],
) -> Output:
    """Open an output of the typed format `name` beside an input; `rows` compares the two."""
    output = open_source(path, ReadOptions(text_column=label, input_format=name))
    try:
        return rows(output, source)
    except BaseException:
        output.close()  # otherwise the comparison closes it
        raise


class CsvValues:
    """A CSV made of another format: fields are compared with the text of the values."""

    compared = "values"
    keeps_receipt = False
    receipt: dict[str, Any] | None = None

    def __init__(
        self, stream: InputStream, source: Source, options: ReadOptions, *, tabs: bool
    ) -> None:
        self._source, self._stream, self._dialect = source, stream, Dialect(b"\t" if tabs else b",")
        self._records = Cursor(
            scan(
                self._stream,
                self._dialect,
                max_record_bytes=longest_record(options),
                name="the output",
            )
        )
        self._rows, self._width = 0, len(source.columns)
        header = self._records.take(1)
        if not header or not len(header[-1]):
            raise Difference("the output is empty")
        found = [
            self._dialect.unquote(header[-1].fields(n)[0]).decode("utf-8", "replace")
            for n in range(int(header[-1].field_counts[0]))
        ]
        self.added: list[str] | None = added_names(source.columns, found)
        self._count = len(found) - self._width

    def take(self, chunk: Chunk) -> pa.Table:
        """Return the added fields of a chunk's rows as text, empty as null. Raises Difference."""
        with as_difference():
            pieces = self._records.take(chunk.rows)
        for piece in pieces:
            wrong = (piece.field_counts != self._width + self._count).nonzero()[0].tolist() + list(
                piece.problems
            )
            if wrong:
                row = self._rows + min(wrong) + 1
                raise Difference(
                    f"{piece.field_counts[min(wrong)]} field(s) in the output where "
                    f"{self._width + self._count} are expected",
                    Location(row),
                )
            self._rows += len(piece)
        unquote, table = self._dialect.unquote, chunk.carried.table(self._source.schema)

        def column(n: int) -> pa.Array:
            cells: list[bytes | None] = []
            for piece in pieces:
                cells += [unquote(raw) if raw else None for raw in piece.fields(n)]
            return pa.array(cells, pa.large_binary())

        # What is compared is bytes: a column may say utf-8 and hold something else.
        given = [
            in_type_of(pa.large_string(), as_csv_type(each)).cast(pa.large_binary())
            for each in table.columns
        ]
        compare_columns(self._source.columns, given, [column(n) for n in range(self._width)], chunk)
        return as_texts(
            pieces, self._width, self._count, lambda raw: unquote(raw).decode("utf-8", "replace")
        )

    def finish(self) -> None:
        """Raise Difference if the output has more rows."""
        with as_difference():
            if any(len(piece) for piece in self._records.left()):
                raise Difference("a row that the input does not have", Location(self._rows + 1))

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


class TypedRows:
    """An output with types and values, against those of the input."""

    compared = "values"
    keeps_receipt = True

    def __init__(self, output: Source, source: Source) -> None:
        self._source, self._output = source, output
        self._width, self._rows = len(source.columns), 0
        self.added: list[str] | None = added_names(source.columns, self._output.columns)
        self._check_schema()
        self._tables = (chunk.carried.table(self._output.schema) for chunk in self._output.chunks())
        self._held: pa.Table | None = None

    def _check_schema(self) -> None:
        source, output = self._source, self._output
        wanted = source.schema
        if output.format != source.format:
            wanted = self._as_kept(wanted)
        for n, given in enumerate(wanted):
            if not output.schema.field(n).equals(given, check_metadata=True):
                raise differs(Location(column=given.name), given, output.schema.field(n))
        if receipt.without_receipt(wanted.metadata) != receipt.without_receipt(
            output.schema.metadata
        ):
            raise Difference("the metadata of the schema are not those of the input")
        try:
            self.receipt: dict[str, Any] | None = receipt.read(output.schema)
        except ValueError as error:
            raise Difference(f"the receipt cannot be read: {printable(error)}") from error

    def _as_kept(self, schema: pa.Schema) -> pa.Schema:
        """Return a schema as the output's format keeps it: an Arrow stream names parts of maps."""
        return pa.ipc.read_schema(pa.py_buffer(schema.serialize()))

    def _take_rows(self, rows: int) -> pa.Table:
        pieces = []
        while rows:
            with as_difference():
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
        compare_columns(self._source.columns, given.columns, found, chunk)
        self._rows += chunk.rows
        added = table.columns[self._width :]
        return pa.table(added, names=[str(n) for n in range(len(added))])

    def finish(self) -> None:
        """Raise Difference if the output has more rows."""
        if self._take_rows(1).num_rows:
            raise Difference("a row that the input does not have", Location(self._rows + 1))

    def close(self) -> None:
        """Close the file."""
        self._output.close()


class ParquetRows(TypedRows):
    """A Parquet output; made of Parquet it has the row groups and codecs of the input too."""

    def _as_kept(self, schema: pa.Schema) -> pa.Schema:
        """Return a schema as it comes out of a Parquet file: that has no seconds, for instance."""
        file = pa.BufferOutputStream()
        pq.write_table(schema.empty_table(), file)
        return pq.read_schema(pa.BufferReader(file.getvalue()))

    def finish(self) -> None:
        """Raise Difference if the output has more rows, or other row groups or codecs."""
        super().finish()
        source, output = self._source, self._output
        if not isinstance(output, ParquetSource):
            return
        if isinstance(source, ParquetSource) and source.row_groups != output.row_groups:
            raise Difference(
                f"{len(output.row_groups)} row groups in the output, {len(source.row_groups)} "
                "in the input, or other rows in one of them"
            )
        first = source.first
        if isinstance(first, ParquetSource):
            for column, codec in first.codecs.items():
                if output.codecs.get(column, codec) != codec:
                    raise differs(Location(column=column), codec, output.codecs[column])


# (path, source, options, label): the output in each format, with the keys of FORMATS.
COMPARISONS: dict[str, Callable[[str, Source, ReadOptions, str], Output]] = {
    "csv": partial(open_csv, tabs=False),
    "tsv": partial(open_csv, tabs=True),
    "parquet": partial(open_typed, name="parquet", rows=ParquetRows),
    "arrow": partial(open_typed, name="arrow", rows=TypedRows),
    "jsonl": open_jsonl,
}


def added_names(columns: list[str], found: list[str]) -> list[str]:
    """Return the names after the user's.

    Raises Difference where the user's are not there, in order.
    """
    for n, name in enumerate(columns):
        if n >= len(found):
            raise Difference("the output does not have this column", Location(column=name))
        if found[n] != name:
            raise differs(Location(column=name), name, found[n])
    return found[len(columns) :]


def compare_columns(names: list[str], given: list[Any], found: list[Any], chunk: Chunk) -> None:
    """Compare the columns of a chunk.

    Raises Difference for the first row that differs or is missing.
    """
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
            f"the output ends before this row: it has {chunk.start_row + row:,} rows",
            Location(chunk.start_row + row + 1),
        )
    raise differs(
        Location(chunk.start_row + row + 1, column=names[n]),
        value(given[n], row),
        value(found[n], row),
    )


def value(column: Any, row: int) -> Any:
    """Return one value for a message."""
    try:
        return column[row].as_py()
    except (ValueError, UnicodeDecodeError):  # nanoseconds without pandas, bytes that are no text
        return str(column[row])
