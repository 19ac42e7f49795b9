"""CSV and TSV, written: rows go out as the bytes they came in, with fields appended.

Rows of other formats are written as values.
"""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from batchsent.chunk import Chunk
from batchsent.formats.csv import CsvSource
from batchsent.formats.csv_rows import CsvRows
from batchsent.formats.csv_types import as_csv_type
from batchsent.formats.reading import Sink, Source
from batchsent.formats.records import Dialect, Records
from batchsent.formats.streams import WIDE, Compressed, OutputFile


def open_csv_sink(
    file: OutputFile, path: str, source: Source, added: pa.Schema, *, tabs: bool
) -> Sink:
    """Return the sink that copies bytes where both sides are written alike, else values."""
    first = source.first
    if isinstance(first, CsvSource) and tabs == (first.dialect.delimiter == b"\t"):
        return CopySink(file, path, first, added)
    return ValueSink(file, path, source, added, tabs=tabs)


class CopySink:
    """Appends fields to the records of a CSV and copies everything else, to the byte."""

    def __init__(self, file: OutputFile, path: str, source: CsvSource, added: pa.Schema) -> None:
        self._file = Compressed(file, path)
        self._dialect, self._raw = source.dialect, source.raw
        self._wide = source.encoding if source.encoding in WIDE else None
        self._write(source.preamble)
        if source.header is not None:
            names = b"".join(source.dialect.delimiter + self._raw(name) for name in added.names)
            self._write(append(source.header, [names]))

    def _write(self, data: bytes) -> None:
        self._file.write(data if self._wide is None else data.decode("utf-8").encode(self._wide))

    def write(self, chunk: Chunk, added: pa.RecordBatch) -> None:
        """Write the rows of a chunk with the added columns after the user's."""
        assert isinstance(chunk.carried, CsvRows)  # of a CsvSource
        columns = [pc.fill_null(self._fields(column), b"") for column in added.columns]
        delimiter, nothing = (
            pa.scalar(value, pa.binary()) for value in (self._dialect.delimiter, b"")
        )
        # An empty field goes first, so that every new field has a delimiter before it.
        fields = pc.binary_join_element_wise(nothing, *columns, delimiter).to_pylist()
        done = 0
        for run in chunk.carried.runs:
            self._write(append(run, fields[done : done + len(run)]))
            done += len(run)

    def _fields(self, column: pa.Array) -> pa.Array:
        """Return a new column as raw fields, null where it is null."""
        if not pa.types.is_string(column.type):
            # Arrow writes the shortest decimal that reads back to the same float32 or float64.
            return pc.cast(pc.cast(column, pa.string()), pa.binary())
        encoded = column.dictionary_encode()
        raw = pa.array([self._raw(value) for value in encoded.dictionary.to_pylist()], pa.binary())
        return raw.take(encoded.indices)

    def finish(self) -> None:
        """Write what the compressor holds back."""
        self._file.finish()


def append(run: Records, fields: list[bytes]) -> bytes:
    """Return the bytes of a run with `fields[n]` added at the end of record n."""
    data, at = run.data, run.begin
    pieces: list[bytes] = []
    for end, new in zip(run.ends.tolist(), fields, strict=True):
        pieces += (data[at:end], new)
        at = end
    pieces.append(data[at : run.stop])
    return b"".join(pieces)


class ValueSink:
    """Writes values as CSV: strings quoted, nulls empty and unquoted, nested as JSON."""

    def __init__(
        self, file: OutputFile, path: str, source: Source, added: pa.Schema, *, tabs: bool
    ) -> None:
        self._file = Compressed(file, path)
        self._source_schema = source.schema
        self._tabs = tabs
        write_header(self._file, [*source.schema.names, *added.names], tabs=tabs)

    def write(self, chunk: Chunk, added: pa.RecordBatch) -> None:
        """Write the rows of a chunk with the added columns after the user's."""
        table = chunk.carried.table(self._source_schema)
        write_values(self._file, [*table.columns, *added.columns], tabs=self._tabs)

    def finish(self) -> None:
        """Write what the compressor holds back."""
        self._file.finish()


def write_csv_table(file: OutputFile, path: str, table: pa.Table, *, tabs: bool) -> None:
    """Write a small finished table as values."""
    stream = Compressed(file, path)
    write_header(stream, table.column_names, tabs=tabs)
    write_values(stream, table.columns, tabs=tabs)
    stream.finish()


def write_header(file: Compressed, names: Sequence[str], *, tabs: bool) -> None:
    """Write a line of column names."""
    dialect = Dialect(b"\t" if tabs else b",")
    file.write(dialect.delimiter.join(dialect.quote(name.encode()) for name in names) + b"\n")


def write_values(
    file: Compressed, columns: Sequence[pa.Array | pa.ChunkedArray], *, tabs: bool
) -> None:
    """Write rows: strings quoted, nulls empty and unquoted, nested values as JSON."""
    # Numbers as names: Arrow refuses a table with the same name twice, which the user's may have.
    names = [str(n) for n in range(len(columns))]
    options = pa.csv.WriteOptions(include_header=False, delimiter="\t" if tabs else ",")
    pa.csv.write_csv(
        pa.table([as_csv_type(column) for column in columns], names=names), file, options
    )
