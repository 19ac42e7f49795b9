"""The rows of a data frame, or of an Arrow reader, in chunks."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from batchsent.chunk import Chunk
from batchsent.errors import UsageError
from batchsent.formats.arrow import rechunk, table_chunks
from batchsent.formats.frames import Frame
from batchsent.formats.reading import RowOptions
from batchsent.formats.text_column import TableTexts, find_texts
from batchsent.formats.text_names import Usual
from batchsent.text_columns import TextColumns

# Rows converted to Arrow at once: few, so that a chunk of long texts ends where CHUNK_BYTES says.
BLOCK_ROWS = 1024


class FrameRows:
    """The rows of a frame, of which only the texts are looked at."""

    def __init__(
        self,
        frame: Frame,
        options: RowOptions,
        name: str = "the frame",
        usual: Usual | None = None,
    ) -> None:
        """Find the text columns and see that they hold text. Raises UsageError."""
        self._frame, self._options, self.name = frame, options, name
        self.schema = frame.schema
        self.columns = list(frame.schema.names)
        self._texts = texts_of(frame.schema, options, name, usual)
        self.text_columns: TextColumns | None = self._texts.text_columns
        self._read = pa.schema(
            field if n in self._texts.positions else pa.field(field.name, pa.null())
            for n, field in enumerate(frame.schema)
        )
        if any(frame.has_objects(position) for position in self._texts.positions):
            for _ in self._batches():  # a bad cell is found now, not after hours of scoring
                pass

    def _batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows with nulls in the columns that are not read."""
        empty = pa.nulls(BLOCK_ROWS)
        for start in range(0, self._frame.rows, BLOCK_ROWS):
            stop = min(start + BLOCK_ROWS, self._frame.rows)
            columns: list[Any] = [empty.slice(0, stop - start)] * len(self._read)
            for position in self._texts.positions:
                columns[position] = self._frame.column(position, start, stop)
            yield from pa.Table.from_arrays(columns, schema=self._read).to_batches()

    def chunks(self) -> Iterator[Chunk]:
        """Yield the rows once, in order."""
        options = self._options
        tables = rechunk(self._batches(), self._read, options.chunk_rows, options.limit)
        return table_chunks(tables, self, self._texts, None, ())

    def warnings(self) -> list[dict[str, str]]:
        """Return what a person should know of what was read."""
        return self._texts.warnings()

    def close(self) -> None:
        """Leave the frame, which is the user's, as it is."""


class ReaderRows:
    """The rows of an Arrow stream in memory, which can be read once."""

    def __init__(
        self, reader: pa.RecordBatchReader, options: RowOptions, usual: Usual | None = None
    ) -> None:
        """Find the text columns. Raises UsageError."""
        self._reader, self._options, self.name = reader, options, "the reader"
        self.schema = reader.schema
        self.columns = list(reader.schema.names)
        self._texts = texts_of(reader.schema, options, self.name, usual)
        self.text_columns: TextColumns | None = self._texts.text_columns

    def chunks(self) -> Iterator[Chunk]:
        """Yield the rows once, in order, all columns with them."""
        options = self._options
        tables = rechunk(self._reader, self.schema, options.chunk_rows, options.limit)
        return table_chunks(tables, self, self._texts, None, ())

    def warnings(self) -> list[dict[str, str]]:
        """Return what a person should know of what was read."""
        return self._texts.warnings()

    def close(self) -> None:
        """Close the reader."""
        self._reader.close()


def texts_of(schema: pa.Schema, options: RowOptions, name: str, usual: Usual | None) -> TableTexts:
    """Return how the texts of a frame are read.

    Raises UsageError for a frame without columns, and without the text column.
    """
    if not schema.names:
        raise UsageError(f"{name} has no columns", hint="a column with the texts is needed")
    found = find_texts(schema, options, name, needs_text=True, usual=usual)
    assert found is not None
    return found
