"""Parquet, written: schema, codecs and row groups of the input, and new columns after its own."""

import mmap
import os
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from batchsent.chunk import Chunk
from batchsent.errors import UsageError
from batchsent.formats.arrow import joined_schema, joined_table
from batchsent.formats.parquet import ParquetSource
from batchsent.formats.reading import Source, list_columns
from batchsent.formats.streams import OutputFile
from batchsent.text import printable

# Row groups of a Parquet file made of an input that has none: large enough for column statistics to
# pay.
ROW_GROUP_ROWS = 65_536
ROW_GROUP_BYTES = 128 << 20
# A row group is written column by column, so all of it must be at hand: what is more than this
# waits on disk.
HELD_BYTES = 32 << 20


class SpillFile:
    """Rows of an unfinished row group, in an unnamed file that a crash removes too."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (it lives as long as this object)
        # A stream, not a file: batches may have dictionaries of their own.
        self._writer = pa.ipc.new_stream(self._file, schema)

    def write(self, tables: list[pa.Table]) -> None:
        """Add rows. Raises OSError."""
        for table in tables:
            self._writer.write_table(table)

    def read(self) -> list[pa.Table]:
        """Return the rows as mapped memory, which the kernel drops when it needs to."""
        self._writer.close()
        self._file.flush()
        mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        self._file.close()
        return [pa.ipc.open_stream(pa.BufferReader(pa.py_buffer(mapped))).read_all()]


class ParquetSink:
    """Writes Parquet with the row groups and codecs of a Parquet source, else its own.

    A complete row group is encoded in a thread of its own, at 7 us a review, while the next one
    comes in: pandas writes groups of 1,048,576 rows, for which a GPU would stand still otherwise.
    """

    def __init__(
        self,
        file: OutputFile,
        path: str,
        source: Source,
        added: pa.Schema,
        *,
        group_bytes: int = ROW_GROUP_BYTES,
    ) -> None:
        """Take where to write, what the rows are from, and the columns that are added.

        Of an input without row groups a group ends after ROW_GROUP_ROWS rows, or `group_bytes`.
        """
        self._source_schema = source.schema
        repeated = sorted({name for name in source.columns if source.columns.count(name) > 1})
        first = source.first
        if repeated and not isinstance(first, ParquetSource):
            raise UsageError(
                f"{source.name} has more than one column called {list_columns(repeated)}, which "
                "few read from Parquet",
                hint="write CSV, or rename them",
            )
        self._schema = joined_schema(source.schema, added)
        self._groups = iter(source.row_groups) if isinstance(source, ParquetSource) else None
        codecs: Any = "snappy"
        if isinstance(first, ParquetSource) and first.codecs:
            codecs = first.codecs | dict.fromkeys(added.names, next(iter(first.codecs.values())))
        try:
            self._writer = pq.ParquetWriter(
                pa.PythonFile(file, mode="w"), self._schema, compression=codecs
            )
        except pa.ArrowNotImplementedError as error:
            raise UsageError(
                f"{source.name} cannot be written as Parquet: {printable(error)}",
                hint="write an .arrow file",
            ) from error
        self._most_group_bytes = group_bytes
        self._folder = Path(os.path.realpath(path)).parent
        self._held: list[pa.Table] = []
        # of the row group that is not complete: its rows, its bytes, and those of them in memory
        self._held_rows = self._group_bytes = self._held_bytes = 0
        self._spill: SpillFile | None = None
        self._wanted = self._next_group()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encode")
        self._encoding: Future[None] | None = None

    def _next_group(self) -> int:
        return ROW_GROUP_ROWS if self._groups is None else next(self._groups, 0)

    def write(self, chunk: Chunk, added: pa.RecordBatch) -> None:
        """Take the rows of a chunk; they are written when their row group is complete."""
        table = joined_table(chunk, added, self._source_schema, self._schema)
        while self._held_rows + table.num_rows >= self._wanted > 0:
            first = table.slice(0, self._wanted - self._held_rows)
            table = table.slice(first.num_rows)
            self._hold(first)
            self._flush()
        self._hold(table)
        if self._groups is None and self._group_bytes >= self._most_group_bytes:
            self._flush()

    def _hold(self, table: pa.Table) -> None:
        if table.num_rows:
            self._held.append(table)
            self._held_rows += table.num_rows
            self._held_bytes += table.nbytes
            self._group_bytes += table.nbytes
        if self._held_bytes > HELD_BYTES:
            self._spill = self._spill or SpillFile(self._folder, self._schema)
            self._spill.write(self._held)
            self._held, self._held_bytes = [], 0

    def _flush(self) -> None:
        """Begin to write the row group that is complete, after the one before it."""
        self._wait()
        if self._held_rows:
            self._encoding = self._thread.submit(
                self._encode, self._spill, self._held, self._held_rows
            )
        self._held, self._spill = [], None
        self._held_rows = self._held_bytes = self._group_bytes = 0
        self._wanted = self._next_group()

    def _encode(self, spill: SpillFile | None, held: list[pa.Table], rows: int) -> None:
        before = [] if spill is None else spill.read()
        self._writer.write_table(pa.concat_tables([*before, *held]), row_group_size=rows)

    def _wait(self) -> None:
        """Wait for the row group that is being written. Raises what writing it raised."""
        encoding, self._encoding = self._encoding, None
        if encoding is not None:
            encoding.result()

    def finish(self) -> None:
        """Write the last row group and the footer."""
        self._flush()
        self._wait()
        self._thread.shutdown()
        self._writer.close()


def write_parquet_table(file: OutputFile, _: str, table: pa.Table) -> None:
    """Write a small finished table; its columns are compressed whatever the path."""
    pq.write_table(table, pa.PythonFile(file, mode="w"))
