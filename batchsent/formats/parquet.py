"""Parquet, read: a few rows at a time, by columns, with its schema, codecs and row groups."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from batchsent.chunk import Chunk
from batchsent.errors import BatchsentError, InputError, UsageError
from batchsent.formats.arrow import (
    TypedSource,
    rechunk,
    table_chunks,
)
from batchsent.formats.objects import RangedFile, find_object
from batchsent.formats.reading import (
    ReadOptions,
    Structure,
    facts_of,
    find_column,
    list_columns,
)
from batchsent.formats.streams import InputStream
from batchsent.formats.text_column import find_texts
from batchsent.formats.text_names import LOOKED_AT, Usual
from batchsent.memory import shortage_of_reader
from batchsent.text import printable
from batchsent.urls import is_url

# Rows decoded at once. Few: a dictionary or a page can blow a kilobyte up to a gigabyte, a megabyte
# a row, and the file does not tell before it is decoded. More are not much faster: a row of 1.3 kB
# takes 3.7 us in batches of 16, 2.8 in batches of 32. 150 rows of 3 MB peak 70 MB lower with 16.
BATCH_ROWS = 16
# A page is decompressed whole. Columns of text become 2 to 20 times larger; what becomes this much
# larger is a bomb.
BOMB_BYTES = 256 << 20
BOMB_RATIO = 1000

# Codecs that pyarrow writes. It also reads the LZ4 of old Hadoop and Impala files, which it calls
# UNKNOWN; its "LZ4" is LZ4_RAW of the Parquet format.
WRITTEN_CODECS = ("NONE", "SNAPPY", "GZIP", "BROTLI", "ZSTD", "LZ4")
LZ4_RAW = "LZ4"


class ParquetSource(TypedSource):
    """A Parquet file whose footer has been read."""

    format = "parquet"

    def __init__(
        self,
        stream: InputStream,
        options: ReadOptions,
        gold_column: str | None,
        *,
        needs_text: bool,
        usual: Usual | None,
    ) -> None:
        self._options = options
        self.name, self.version = stream.name, stream.version
        stream.close()  # it was looked at; the library reads here and there in a file of its own
        file: str | RangedFile = stream.path
        if is_url(stream.path):
            file = RangedFile(find_object(stream.path))
            self.version = file.version
        try:
            if isinstance(file, RangedFile):
                self._file_size = file.size
            else:
                self._file_size = Path(file).stat().st_size
            # Without pre-buffering, a row group streams through buffers of 1 MB a column instead of
            # lying in memory.
            self._file = pq.ParquetFile(
                file, pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True
            )
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from error
        self._check_sizes()
        self.schema = self._file.schema_arrow
        self.columns = list(self.schema.names)
        if not self.columns:
            raise UsageError(f"{self.name} has no columns")
        self._texts = find_texts(
            self.schema,
            options,
            self.name,
            needs_text=needs_text,
            usual=usual,
            first=self._first_rows,
        )
        self.text_columns = None if self._texts is None else self._texts.text_columns
        self._gold: int | None = None
        if gold_column is not None:
            self._gold = find_column(self.columns, gold_column, "--gold", self.name)

    def _first_rows(self, columns: list[str]) -> pa.Table:
        """Return the first rows of some columns, to propose one. Raises InputError."""
        try:
            batches = self._file.iter_batches(batch_size=LOOKED_AT, columns=columns)
            found = [next(batches)] if self.rows else []
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from error
        return pa.Table.from_batches(found, pa.schema([self.schema.field(columns[0])]))

    def _check_sizes(self) -> None:
        """Refuse a column that is all but nothing on disk and fills the memory.

        Raises InputError.
        """
        metadata = self._file.metadata
        for group in (metadata.row_group(n) for n in range(metadata.num_row_groups)):
            if group.total_byte_size < BOMB_BYTES:
                continue
            for column in (group.column(n) for n in range(group.num_columns)):
                packed, unpacked = column.total_compressed_size, column.total_uncompressed_size
                if unpacked >= BOMB_BYTES and unpacked > BOMB_RATIO * packed:
                    raise InputError(
                        f"{self.name}: column {printable(column.path_in_schema)} has {packed:,} "
                        f"bytes that would become {unpacked:,}",
                        hint="a file made to fill the memory does this; write it again with "
                        "smaller row groups",
                    )

    def _damaged(self, error: Exception) -> BatchsentError:
        if short := shortage_of_reader(error):
            return short
        text = printable(error)
        if "encrypt" in text.lower():
            return InputError(f"{self.name}: the file is encrypted", hint="decrypt it first")
        if "UTF8" in text:  # a dictionary whose index is not int32 is converted as it is read
            return InputError(
                f"{self.name}: a dictionary column holds bytes that are not UTF-8",
                hint="write the file again with that column as plain text or binary",
            )
        return InputError(
            f"{self.name}: not a readable Parquet file: {text[:300]}",
            hint="if it is cut short, copy it again; if it is CSV, rename it or add "
            "--input-format csv",
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
        """Compression codec by column path, of the first row group, as the writer takes it."""
        if not self._file.metadata.num_row_groups:
            return {}
        found = {}
        group = self._file.metadata.row_group(0)
        for column in (group.column(n) for n in range(group.num_columns)):
            codec = "NONE" if column.compression == "UNCOMPRESSED" else column.compression
            found[column.path_in_schema] = codec if codec in WRITTEN_CODECS else LZ4_RAW
        if self._extension is not None and found:
            found[self._extension[0]] = next(iter(found.values()))
        return found

    def _deprecated_codecs(self) -> list[str]:
        """Return the paths of columns whose codec is read but not written any more."""
        metadata, known = self._file.metadata, {*WRITTEN_CODECS, "UNCOMPRESSED"}
        found = set()
        for group in (metadata.row_group(n) for n in range(metadata.num_row_groups)):
            for column in (group.column(n) for n in range(group.num_columns)):
                if column.compression not in known:
                    found.add(column.path_in_schema)
        return sorted(found)

    def _batches(self, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        rows = min(self._options.chunk_rows, BATCH_ROWS)
        try:
            yield from self._file.iter_batches(batch_size=rows, columns=columns, use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from error

    def chunks(self, columns: Sequence[str] = ()) -> Iterator[Chunk]:
        """Yield the rows once, in order, with the cells of `columns`.

        Raises InputError for a damaged page.
        """
        options = self._options
        read = self._file.schema_arrow
        tables = rechunk(self._batches(), read, options.chunk_rows, options.limit)
        return table_chunks(tables, self, self._texts, self._gold, columns, self._extension)

    def check(self, utf8_columns: list[str]) -> Structure:
        """Return the rows that will be read, by the footer, and no bad rows.

        Parquet does not enforce UTF-8: the columns named are read to see. Raises InputError that
        names the first row and column where text is not UTF-8.
        """
        there = set(self._file.schema_arrow.names)
        self._check_utf8([column for column in utf8_columns if column in there])
        limit = self._options.limit
        return Structure(self.rows if limit is None else min(self.rows, limit), 0, None)

    def _check_utf8(self, columns: list[str]) -> None:
        start, left = 0, self.rows if self._options.limit is None else self._options.limit
        for batch in self._batches(columns) if columns else ():
            batch = batch.slice(0, left - start)
            try:
                batch.validate(full=True)
            except pa.ArrowInvalid as error:
                # Arrow looks at the children of nested columns beyond the slice too.
                if found := first_undecodable(batch):
                    row, column = start + found[0] + 1, printable(found[1])
                    raise InputError(
                        f"{self.name}, row {row:,}: column {column} holds bytes that are not "
                        "UTF-8, which the output's format cannot hold",
                        hint="write Parquet, which copies them, or convert the column to binary "
                        "where the file is made",
                        row=row,
                    ) from error
            start += batch.num_rows
            if start >= left:
                return

    def facts(self) -> dict[str, Any]:
        """Return the input section of the summary."""
        # Read by columns, not from end to end, so the hash is not known here.
        return facts_of(self, self._gold, size=self._file_size)

    def warnings(self) -> list[dict[str, str]]:
        """Return what a person should know of what was read."""
        found = [] if self._texts is None else self._texts.warnings()
        deprecated = self._deprecated_codecs()
        if deprecated:
            found.append(
                {
                    "code": "deprecated_codec",
                    "message": f"{len(deprecated)} column(s) have the deprecated LZ4 "
                    f"codec ({list_columns(deprecated)}); Parquet output has LZ4_RAW instead",
                    "hint": "nothing has to be done: every reader of Parquet knows LZ4_RAW",
                }
            )
        return found

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def first_undecodable(batch: pa.RecordBatch) -> tuple[int, str] | None:
    """Return row and column of the first text in a batch that is not UTF-8, or None."""
    for row in range(batch.num_rows):
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            try:
                column[row].as_py()
            except UnicodeDecodeError:
                return row, name
            except ValueError:  # nanoseconds without pandas
                continue
    return None
