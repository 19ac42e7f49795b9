"""Parquet: same schema, same values, same codec, same row groups, and new columns behind."""

import os
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from batchsent.chunk import Chunk
from batchsent.errors import InputError, UsageError, printable, reason
from batchsent.formats.arrow import TableRows, TextColumn, joined_schema, joined_table, rechunk
from batchsent.formats.reading import ReadOptions, Source, find_column, list_columns
from batchsent.formats.streams import OutputFile

# Row groups of a Parquet file made of an input that has none: large enough for column statistics to pay.
ROW_GROUP_ROWS = 65_536
ROW_GROUP_BYTES = 128 << 20


class ParquetSource:
    """A Parquet file whose footer has been read."""

    format = "parquet"

    def __init__(self, path: str, options: ReadOptions, gold_column: str | None) -> None:
        self.path, self._options = path, options
        self.name = printable(path)
        try:
            self._file_size = os.stat(path).st_size  # noqa: PTH116 (Path.stat gives the same)
        except OSError as error:
            raise InputError(f"{self.name}: {reason(error)}", hint="check the spelling") from error
        if self._file_size == 0:
            raise InputError(f"{self.name}: empty input", hint="a Parquet file is expected")
        try:
            # Without pre-buffering, a row group streams through buffers of 1 MB a column instead of lying in memory.
            self._file = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True)
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from error
        self.schema = self._file.schema_arrow
        self.columns = list(self.schema.names)
        if not self.columns:
            raise UsageError(f"{self.name} has no columns")
        self.text = TextColumn(self.schema, options, self.name)
        self._gold = None if gold_column is None else find_column(self.columns, gold_column, "--gold", self.name)

    def _damaged(self, error: Exception) -> InputError:
        text = printable(error)
        if "encrypt" in text.lower():
            return InputError(f"{self.name}: the file is encrypted", hint="decrypt it first")
        return InputError(
            f"{self.name}: not a readable Parquet file: {text[:300]}",
            hint="if it is cut short, copy it again; if it is CSV, rename it or add --input-format csv",
        )

    @property
    def rows(self) -> int:
        """Number of rows, from the footer."""
        return int(self._file.metadata.num_rows)

    @property
    def row_groups(self) -> list[int]:
        """Rows of each row group that will be read."""
        left = self.rows if self._options.limit is None else self._options.limit
        sizes = []
        for n in range(self._file.metadata.num_row_groups):
            size = min(left, self._file.metadata.row_group(n).num_rows)
            left -= size
            if size:
                sizes.append(size)
        return sizes

    @property
    def codecs(self) -> dict[str, str]:
        """Compression codec by column path, of the first row group."""
        if not self._file.metadata.num_row_groups:
            return {}
        group = self._file.metadata.row_group(0)
        columns = [group.column(n) for n in range(group.num_columns)]
        return {c.path_in_schema: "NONE" if c.compression == "UNCOMPRESSED" else c.compression for c in columns}

    def _batches(self) -> Iterator[pa.RecordBatch]:
        # Small batches: a dictionary page can blow a kilobyte up to a gigabyte, and only what is decoded counts.
        try:
            yield from self._file.iter_batches(batch_size=min(self._options.chunk_rows, 4096), use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from error

    def chunks(self) -> Iterator[Chunk]:
        """Yield the rows once, in order. Raises InputError for a damaged page."""
        start = 0
        for table in rechunk(self._batches(), self.schema, self._options.chunk_rows, self._options.limit):
            gold = None if self._gold is None else table.column(self._gold).to_pylist()
            yield Chunk(start, self.text.texts(table), TableRows(table), gold)
            start += table.num_rows

    def facts(self) -> dict[str, Any]:
        """Return the input section of the summary."""
        return {
            "path": self.name,
            "format": self.format,
            "bytes": self._file_size,
            "sha256": None,  # read by columns, not from end to end; the check ahead of the run hashed it
            "compression": None,
            "dialect": None,
            "columns": {
                "count": len(self.columns),
                "text": self.text.name,
                "gold": None if self._gold is None else self.columns[self._gold],
            },
        }

    def warnings(self) -> list[dict[str, str]]:
        """Return what a person should know of what was read."""
        return self.text.warnings()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class ParquetSink:
    """Writes Parquet with the row groups and codecs of a Parquet source, or its own for other inputs."""

    def __init__(self, file: OutputFile, source: Source, added: pa.Schema) -> None:
        self._source_schema = source.schema
        repeated = sorted({name for name in source.columns if source.columns.count(name) > 1})
        if repeated:
            raise UsageError(
                f"{source.name} has more than one column called {list_columns(repeated)}, which Parquet cannot hold",
                hint="write CSV, or rename them",
            )
        self._schema = joined_schema(source.schema, added)
        self._groups = iter(source.row_groups) if isinstance(source, ParquetSource) else None
        codecs: Any = "snappy"
        if isinstance(source, ParquetSource) and source.codecs:
            codecs = source.codecs | dict.fromkeys(added.names, next(iter(source.codecs.values())))
        self._writer = pq.ParquetWriter(pa.PythonFile(file, mode="w"), self._schema, compression=codecs)
        self._held: list[pa.Table] = []
        self._held_rows = self._held_bytes = 0
        self._wanted = self._next_group()

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
        if self._groups is None and self._held_bytes >= ROW_GROUP_BYTES:
            self._flush()

    def _hold(self, table: pa.Table) -> None:
        if table.num_rows:
            self._held.append(table)
            self._held_rows += table.num_rows
            self._held_bytes += table.nbytes

    def _flush(self) -> None:
        if self._held:
            whole = pa.concat_tables(self._held)
            self._writer.write_table(whole, row_group_size=max(1, whole.num_rows))
        self._held, self._held_rows, self._held_bytes = [], 0, 0
        self._wanted = self._next_group()

    def finish(self) -> None:
        """Write the last row group and the footer."""
        self._flush()
        self._writer.close()
