"""Data frames: of which library one is, and those of polars and Arrow."""

import sys
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from batchsent.errors import UsageError
from batchsent.formats.arrow import joined_schema
from batchsent.formats.object_cells import text_array
from batchsent.formats.pandas_frame import PandasFrame, column_name
from batchsent.text import printable

if TYPE_CHECKING:
    import polars as pl

TAKEN = "pandas, polars and pyarrow frames, and any object with __arrow_c_stream__"


class Frame(Protocol):
    """A frame in memory. Positions of columns count from 0."""

    schema: pa.Schema  # the names of its columns as text, and their types as far as Arrow has them
    rows: int

    def head(self, rows: int) -> "Frame":
        """Return the first rows."""

    def column(self, position: int, start: int, stop: int) -> pa.Array | pa.ChunkedArray:
        """Return some rows of a column in the type of `schema`.

        Raises UsageError for a cell that is not text in a column of Python's objects.
        """

    def has_objects(self, position: int) -> bool:
        """Tell whether a column may hold anything, so that each cell has to be looked at."""

    def joined(self, added: pa.Table) -> Any:
        """Return the user's frame, of its own kind, with new columns after its own."""


class ArrowTable:
    """A pyarrow table."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self.schema, self.rows = table.schema, table.num_rows

    def head(self, rows: int) -> "ArrowTable":
        """Return the first rows."""
        return ArrowTable(self._table.slice(0, rows))

    def column(self, position: int, start: int, stop: int) -> pa.ChunkedArray:
        """Return some rows of a column."""
        return self._table.column(position).slice(start, stop - start)

    def has_objects(self, position: int) -> bool:
        """Tell that each column has a type."""
        return False

    def joined(self, added: pa.Table) -> pa.Table:
        """Return the table with new columns after its own."""
        schema = joined_schema(self.schema, added.schema)
        return pa.Table.from_arrays([*self._table.columns, *added.columns], schema=schema)


class ArrowBatch(ArrowTable):
    """A pyarrow record batch."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        super().__init__(pa.Table.from_batches([batch]))
        self._batch = batch

    def head(self, rows: int) -> "ArrowBatch":
        """Return the first rows."""
        return ArrowBatch(self._batch.slice(0, rows))

    def joined(self, added: pa.Table) -> pa.RecordBatch:
        """Return the batch with new columns after its own."""
        schema = joined_schema(self.schema, added.schema)
        new = [column.combine_chunks() for column in added.columns]
        return pa.RecordBatch.from_arrays([*self._batch.columns, *new], schema=schema)


class PolarsFrame:
    """A polars frame."""

    def __init__(self, frame: "pl.DataFrame") -> None:
        self._frame = frame
        self.rows = frame.height
        self.schema = pa.schema(
            [(column.name, self._arrow(column.head(0)).type) for column in frame.iter_columns()]
        )

    def head(self, rows: int) -> "PolarsFrame":
        """Return the first rows."""
        return PolarsFrame(self._frame.head(rows))

    def column(self, position: int, start: int, stop: int) -> pa.Array:
        """Return some rows of a column."""
        column = self._frame.to_series(position).slice(start, stop - start)
        return self._arrow(column, start)

    def has_objects(self, position: int) -> bool:
        """Tell whether a column may hold anything."""
        import polars as pl

        return bool(self._frame.dtypes[position] == pl.Object)

    def _arrow(self, column: "pl.Series", start: int = 0) -> pa.Array:
        """Return a column, categories as text, Python's objects as text too."""
        import polars as pl

        if column.dtype == pl.Object:
            cells = column.to_list()
            return text_array(cells, lambda row: f"row {start + row + 1:,}", column.name)
        if column.dtype in (pl.Categorical, pl.Enum):
            column = column.cast(pl.String)
        return column.to_arrow()

    def joined(self, added: pa.Table) -> "pl.DataFrame":
        """Return the frame with new columns after its own."""
        import polars as pl

        new = pl.from_arrow(added)
        assert isinstance(new, pl.DataFrame)
        return self._frame.hstack(new.get_columns())


def is_a(value: Any, library: str, name: str) -> bool:
    """Tell whether a value is of a class of pandas or polars, which are not imported for that."""
    kind = getattr(sys.modules.get(library), name, None)
    return kind is not None and isinstance(value, kind)


def is_column(value: Any) -> bool:
    """Tell whether a value is one column: a series or an array of pandas, polars or Arrow."""
    return (
        is_a(value, "pandas", "Series")
        or is_a(value, "pandas", "Index")
        or is_a(value, "pandas.api.extensions", "ExtensionArray")
        or is_a(value, "polars", "Series")
        or isinstance(value, pa.Array | pa.ChunkedArray)
    )


def is_frame(value: Any) -> bool:
    """Tell whether a value is a frame, or something else of a library of frames."""
    return (
        is_a(value, "pandas", "DataFrame")
        or is_a(value, "polars", "LazyFrame")
        or is_column(value)
        or hasattr(value, "__arrow_c_stream__")
    )


def open_frame(frame: Any) -> Frame | pa.RecordBatchReader:
    """Return a frame as what scoring needs of it; a reader stays one.

    An object without a kind of its own here becomes a pyarrow table. Raises UsageError for what is
    not a frame.
    """
    if is_column(frame):
        raise UsageError(
            f"a frame is required, not one column ({type(frame).__name__})",
            hint="load(model).predict takes one column",
        )
    if is_a(frame, "polars", "LazyFrame"):
        raise UsageError(
            "a LazyFrame has no rows before it is collected", hint="give frame.collect()"
        )
    if is_a(frame, "pandas", "DataFrame"):
        return PandasFrame(frame)
    if is_a(frame, "polars", "DataFrame"):
        return PolarsFrame(frame)
    if isinstance(frame, pa.RecordBatchReader):
        return frame
    if isinstance(frame, pa.RecordBatch):
        return ArrowBatch(frame)
    if isinstance(frame, pa.Table):
        return ArrowTable(frame)
    if not hasattr(frame, "__arrow_c_stream__"):
        raise UsageError(
            f"a frame is required, not {type(frame).__name__}", hint=f"these are taken: {TAKEN}"
        )
    try:
        return ArrowTable(pa.RecordBatchReader.from_stream(frame).read_all())
    except pa.ArrowInvalid as error:
        raise UsageError(
            f"the {type(frame).__name__} is not a frame: {printable(error)}",
            hint="a stream of rows is needed, not of one column",
        ) from error


def text_column_of(frame: Any, given: Any) -> Any:
    """Return the name of the text column as text, where a pandas frame has other names."""
    if not is_a(frame, "pandas", "DataFrame") or isinstance(given, str | None):
        return given
    if isinstance(given, Hashable) and given in frame.columns:
        return column_name(given)
    if isinstance(given, list | tuple):
        return [text_column_of(frame, one) for one in given]
    return given


def open_column(column: Any) -> Frame:
    """Return a series or an array as a frame of one column."""
    if is_a(column, "pandas", "Series"):
        return PandasFrame(column.to_frame("text"))
    if is_a(column, "pandas", "Index") or is_a(column, "pandas.api.extensions", "ExtensionArray"):
        import pandas as pd

        return PandasFrame(pd.DataFrame({"text": column}))
    if is_a(column, "polars", "Series"):
        return PolarsFrame(column.to_frame("text"))
    return ArrowTable(pa.table([column], ["text"]))
