"""Arrow IPC streams: typed rows through a pipe; every batch is checked before it is believed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from batchsent.chunk import Chunk
from batchsent.errors import InputError
from batchsent.formats.reading import (
    CHUNK_BYTES,
    ReadOptions,
    Rows,
    SameColumns,
    Source,
    Structure,
    cells_of,
    facts_of,
    find_column,
)
from batchsent.formats.receipt import without_receipt
from batchsent.formats.streams import Compressed, InputStream, OutputFile
from batchsent.formats.text_column import TableTexts, find_texts
from batchsent.formats.text_names import Usual
from batchsent.memory import shortage_of_reader
from batchsent.text import printable

END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
FILE_MARK = b"ARROW1\0\0"


@dataclass(frozen=True)
class TableRows:
    """The rows of a chunk as an Arrow table."""

    rows: pa.Table

    def cells(self, position: int) -> list[Any]:
        """Return a column as Python values."""
        return cells(self.rows.column(position), self.rows.schema.names[position])

    def column(self, position: int) -> pa.ChunkedArray:
        """Return a column."""
        return self.rows.column(position)

    def take(self, rows: Sequence[int]) -> "TableRows":
        """Return some rows of the chunk, named by their rising numbers."""
        # Slices, because not every type of column can be taken from.
        parts = [self.rows.slice(row, 1) for row in rows]
        return TableRows(pa.concat_tables(parts) if parts else self.rows.slice(0, 0))

    def table(self, schema: pa.Schema) -> pa.Table:
        """Return the rows; `schema` is the one they have."""
        return self.rows.cast(schema) if self.rows.schema != schema else self.rows


def cells(column: pa.ChunkedArray, name: str) -> list[Any]:
    """Return values as Python has them; bytes in a text column that are not UTF-8 become U+FFFD.

    Raises InputError where such bytes stand inside nested values.
    """
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError as error:
        if pa.types.is_nested(column.type):
            raise InputError(f"column {printable(name)} holds bytes that are not UTF-8") from error
    return [
        None if raw is None else raw.decode("utf-8", "replace")
        for raw in column.cast(pa.large_binary()).to_pylist()
    ]


def rechunk(
    batches: Iterator[pa.RecordBatch], schema: pa.Schema, rows: int, limit: int | None
) -> Iterator[pa.Table]:
    """Yield tables of `rows` rows, or fewer that reach CHUNK_BYTES, whatever the batches."""
    held: list[pa.RecordBatch] = []
    count = size = 0
    left = limit
    for batch in batches:
        rest = batch if left is None else batch.slice(0, left)
        left = None if left is None else left - rest.num_rows
        while rest.num_rows:
            per_row = max(1, rest.nbytes // rest.num_rows)
            fitting = max(1, (CHUNK_BYTES - size) // per_row)
            taken = rest.slice(0, min(rows - count, fitting))
            rest = rest.slice(taken.num_rows)
            held.append(taken)
            count, size = count + taken.num_rows, size + taken.num_rows * per_row
            if count >= rows or size >= CHUNK_BYTES:
                yield pa.Table.from_batches(held, schema)
                held, count, size = [], 0, 0
        if left == 0:
            break
    if held:
        yield pa.Table.from_batches(held, schema)


def table_chunks(
    tables: Iterator[pa.Table],
    source: Rows,
    texts: TableTexts | None,
    gold: int | None,
    columns: Sequence[str],
    extension: tuple[str, str] | None = None,
) -> Iterator[Chunk]:
    """Yield the chunks of a source whose rows come as tables.

    `gold` is a position, `extension` name and value of a column that the tables get.
    """
    start = 0
    for read in tables:
        table = read
        if extension is not None:
            name, value = extension
            table = read.append_column(name, pa.repeat(pa.scalar(value), read.num_rows))
        carried = TableRows(table)
        yield Chunk(
            start_row=start,
            texts=[None] * table.num_rows if texts is None else texts.texts(table),
            carried=carried,
            gold=None if gold is None else carried.cells(gold),
            columns=cells_of(carried, source, columns),
        )
        start += table.num_rows


class TypedSource(SameColumns):
    """A source whose rows come as Arrow tables."""

    columns: list[str]
    schema: pa.Schema
    _extension: tuple[str, str] | None = None  # name and value of the column of `extend`

    def extend(self, column: str, value: str) -> None:
        """Add a column of text that has the same value in every row."""
        self._extension = column, value
        self.columns = [*self.columns, column]
        self.schema = self.schema.append(pa.field(column, pa.string()))


class ArrowSource(TypedSource):
    """An Arrow IPC stream whose schema has been read."""

    format = "arrow"

    def __init__(
        self,
        stream: InputStream,
        options: ReadOptions,
        gold_column: str | None,
        *,
        needs_text: bool,
        usual: Usual | None,
    ) -> None:
        self._stream, self._options = stream, options
        self.name, self.version = stream.name, stream.version
        # The file format is a stream between a mark and a table of contents, which reading in order
        # does not need.
        if stream.peek(len(FILE_MARK)) == FILE_MARK:
            stream.read(len(FILE_MARK))
        self._bytes = _Watched(stream)
        self._whole = True
        try:
            self._reader = pa.ipc.open_stream(pa.PythonFile(self._bytes, mode="r"))
        except (pa.ArrowException, OSError) as error:
            if short := shortage_of_reader(error):
                raise short from error
            raise InputError(f"{self.name}: not an Arrow stream: {printable(error)}") from error
        self.schema = self._reader.schema
        self.columns = list(self.schema.names)
        self._texts = find_texts(
            self.schema, options, self.name, needs_text=needs_text, usual=usual
        )
        self.text_columns = None if self._texts is None else self._texts.text_columns
        self._gold: int | None = None
        if gold_column is not None:
            self._gold = find_column(self.columns, gold_column, "--gold", self.name)

    def check(self, utf8_columns: list[str]) -> Structure:
        """Return that the rows are not known: a stream has no table of contents.

        Its readers check each batch, UTF-8 included.
        """
        return Structure(None, 0, None)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self._reader:
                # Offsets that point outside their buffers would crash the process, or read what is
                # not theirs.
                batch.validate(full=True)
                yield batch
            self._whole = self._bytes.last.endswith(END_OF_STREAM)
        except (pa.ArrowException, MemoryError, OSError) as error:
            if short := shortage_of_reader(error):
                raise short from error
            raise InputError(f"{self.name}: damaged Arrow stream: {printable(error)}") from error

    def chunks(self, columns: Sequence[str] = ()) -> Iterator[Chunk]:
        """Yield the rows once, in order, with the cells of `columns`.

        Raises InputError for a damaged stream.
        """
        options = self._options
        tables = rechunk(self._batches(), self._reader.schema, options.chunk_rows, options.limit)
        return table_chunks(tables, self, self._texts, self._gold, columns, self._extension)

    def facts(self) -> dict[str, Any]:
        """Return the input section of the summary."""
        stream = self._stream
        return facts_of(
            self,
            self._gold,
            size=stream.size,
            sha256=stream.sha256,
            compression=stream.compression,
        )

    def warnings(self) -> list[dict[str, str]]:
        """Return what a person should know of what was read."""
        found = [] if self._texts is None else self._texts.warnings()
        if not self._whole:
            found.append(
                {
                    "code": "no_end_of_stream",
                    "message": "the Arrow stream stopped without its end mark; rows may be missing",
                    "hint": "see whether the program that wrote it came to its end",
                }
            )
        return found

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()


class _Watched:
    """A stream whose last bytes are known; closing it leaves the stream open."""

    closed = False

    def __init__(self, stream: InputStream) -> None:
        self._stream = stream
        self.last = b""  # the last bytes read

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.last = (self.last + data)[-len(END_OF_STREAM) :]
        return data

    def close(self) -> None:
        self.closed = True


class ArrowSink:
    """Writes an Arrow IPC stream, a batch or more a chunk."""

    def __init__(self, file: OutputFile, path: str, source: Source, added: pa.Schema) -> None:
        self._file = Compressed(file, path)
        self._source_schema = source.schema
        self._schema = joined_schema(source.schema, added)
        self._writer = pa.ipc.new_stream(pa.PythonFile(self._file, mode="w"), self._schema)

    def write(self, chunk: Chunk, added: pa.RecordBatch) -> None:
        """Write the rows of a chunk with the added columns after the user's."""
        self._writer.write_table(joined_table(chunk, added, self._source_schema, self._schema))

    def finish(self) -> None:
        """End the stream."""
        self._writer.close()
        self._file.finish()


def joined_schema(schema: pa.Schema, added: pa.Schema) -> pa.Schema:
    """Return the user's schema, metadata and all, with the new fields after it.

    A receipt of an earlier run gives way to that of `added`, if there is one.
    """
    metadata = without_receipt(schema.metadata) | (added.metadata or {})
    for new in added:
        schema = schema.append(new)
    return schema.with_metadata(metadata or None)


def joined_table(
    chunk: Chunk, added: pa.RecordBatch, source_schema: pa.Schema, schema: pa.Schema
) -> pa.Table:
    """Return the rows of a chunk with the new columns after the user's."""
    table = chunk.carried.table(source_schema)
    return pa.Table.from_arrays([*table.columns, *added.columns], schema=schema)


def write_arrow_table(file: OutputFile, path: str, table: pa.Table) -> None:
    """Write a small finished table."""
    stream = Compressed(file, path)
    with pa.ipc.new_stream(pa.PythonFile(stream, mode="w"), table.schema) as writer:
        writer.write_table(table)
    stream.finish()
