"""JSON lines, written: lines go out as the bytes they came in, with members before the last brace.

Rows of other formats are written as objects of their values.
"""

from collections import Counter

import pyarrow as pa

from batchsent.chunk import Chunk
from batchsent.errors import UsageError
from batchsent.formats.json_values import joined_members
from batchsent.formats.jsonl import JsonLinesSource
from batchsent.formats.jsonl_rows import JsonRows
from batchsent.formats.lines import insert
from batchsent.formats.reading import Sink, Source
from batchsent.formats.streams import Compressed, OutputFile
from batchsent.text import printable


def open_jsonl_sink(file: OutputFile, path: str, source: Source, added: pa.Schema) -> Sink:
    """Return the sink that copies the bytes of JSON lines, and writes values of other formats.

    Raises UsageError for columns of the same name.
    """
    if isinstance(source.first, JsonLinesSource):
        return CopySink(file, path, source.first)
    repeated = [name for name, count in Counter(source.columns).items() if count > 1]
    if repeated:
        raise UsageError(
            f"{source.name} has two columns called {printable(repeated[0])}, of which readers of "
            "an object see one",
            hint="rename one of them, or write CSV or Parquet",
        )
    return ValueSink(file, path, source)


class CopySink:
    """Adds members to the objects of JSON lines and copies everything else, to the byte."""

    def __init__(self, file: OutputFile, path: str, source: JsonLinesSource) -> None:
        self._file = Compressed(file, path)
        self._file.write(source.preamble)

    def write(self, chunk: Chunk, added: pa.RecordBatch) -> None:
        """Write the rows of a chunk with the added members after the user's."""
        assert isinstance(chunk.carried, JsonRows)  # of a JsonLinesSource
        members = joined_members(added.schema.names, added.columns).to_pylist()
        done = 0
        for run in chunk.carried.runs:
            self._file.write(insert(run, members[done : done + len(run)]))
            done += len(run)

    def finish(self) -> None:
        """Write what the compressor holds back."""
        self._file.finish()


class ValueSink:
    """Writes rows as objects: text is strings; numbers, truth values, null, nested are JSON's."""

    def __init__(self, file: OutputFile, path: str, source: Source) -> None:
        self._file = Compressed(file, path)
        self._source_schema = source.schema

    def write(self, chunk: Chunk, added: pa.RecordBatch) -> None:
        """Write the rows of a chunk with the added columns after the user's."""
        table = chunk.carried.table(self._source_schema)
        names = [*self._source_schema.names, *added.schema.names]
        self._file.write(objects([*table.columns, *added.columns], names))

    def finish(self) -> None:
        """Write what the compressor holds back."""
        self._file.finish()


def objects(columns: list[pa.Array | pa.ChunkedArray], names: list[str]) -> bytes:
    """Return rows as lines with an object each."""
    if not len(columns[0]):
        return b""
    members = joined_members(names, columns).to_pylist()
    return ("{" + "}\n{".join(members) + "}\n").encode()


def write_jsonl_table(file: OutputFile, path: str, table: pa.Table) -> None:
    """Write a small finished table."""
    stream = Compressed(file, path)
    stream.write(objects(table.columns, table.column_names))
    stream.finish()
