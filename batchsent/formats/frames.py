"""Data frames of pandas, polars and Arrow: their rows in chunks, and new columns beside them."""

import sys
from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from batchsent.chunk import Chunk
from batchsent.errors import UsageError
from batchsent.formats.arrow import joined_schema, rechunk, table_chunks
from batchsent.formats.reading import RowOptions
from batchsent.formats.text_column import TableTexts, find_texts
from batchsent.formats.text_names import Usual
from batchsent.text import printable, without_surrogates
from batchsent.text_columns import TextColumns

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

# Rows converted to Arrow at once: few, so that a chunk of long texts ends where CHUNK_BYTES says.
BLOCK_ROWS = 1024
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


class PandasFrame:
    """A pandas frame. Its columns may have names that are not text, and several the same name."""

    def __init__(self, frame: "pd.DataFrame") -> None:
        self._frame = frame
        self.rows = len(frame)
        self.schema = pa.schema(
            [
                (column_name(label), pandas_type(frame.iloc[:, position]))
                for position, label in enumerate(frame.columns)
            ]
        )

    def head(self, rows: int) -> "PandasFrame":
        """Return the first rows."""
        return PandasFrame(self._frame.iloc[:rows])

    def column(self, position: int, start: int, stop: int) -> pa.Array | pa.ChunkedArray:
        """Return some rows of a column."""
        column, field = self._frame.iloc[start:stop, position], self.schema.field(position)
        if pa.types.is_null(field.type):
            return pa.nulls(stop - start)
        try:
            return pa.array(column, field.type, from_pandas=True)
        except (pa.ArrowException, TypeError, UnicodeEncodeError):
            if field.type != pa.large_string():
                raise
        # Cell by cell, for bytes, halves of surrogate pairs, and the place of what is not text.
        missing = column.isna().tolist()
        cells = [
            None if gone else cell for cell, gone in zip(column.tolist(), missing, strict=True)
        ]

        def row_name(row: int) -> str:
            return f"row {start + row + 1:,} (index {printable(column.index[row])[:60]})"

        return text_array(cells, row_name, field.name)

    def has_objects(self, position: int) -> bool:
        """Tell whether a column may hold anything."""
        import pandas as pd

        is_typed = isinstance(self._frame.dtypes.iloc[position], pd.StringDtype)
        return self.schema.field(position).type == pa.large_string() and not is_typed

    def joined(self, added: pa.Table) -> "pd.DataFrame":
        """Return a copy of the frame with new columns after its own; its index stays."""
        import pandas as pd

        values = {name: pandas_values(added.column(name)) for name in added.column_names}
        new = pd.DataFrame(values, index=self._frame.index)
        columns = self._frame.columns
        if isinstance(columns, pd.MultiIndex):
            rest = ("",) * (columns.nlevels - 1)
            new.columns = pd.MultiIndex.from_tuples([(name, *rest) for name in added.column_names])
        new.columns.names = columns.names
        new.attrs = self._frame.attrs
        return pd.concat([self._frame, new], axis=1)


def column_name(label: Hashable) -> str:
    """Return the name of a pandas column as text: of ("review", "text", "") it is review/text."""
    if isinstance(label, tuple):
        return "/".join(str(level) for level in label if level != "")
    return str(label)


def pandas_type(column: "pd.Series[Any]") -> pa.DataType:
    """Return the Arrow type of a column; large_string where its cells have to be looked at."""
    import pandas as pd

    dtype = column.dtype
    if isinstance(dtype, pd.ArrowDtype):
        return dtype.pyarrow_dtype
    cells = pd.StringDtype | pd.CategoricalDtype | pd.SparseDtype
    if dtype.kind == "O" or isinstance(dtype, cells):
        return pa.large_string()
    # pandas reads a column without any value as numbers.
    if dtype.kind == "f" and (not len(column) or pd.isna(column.iat[0])) and column.isna().all():
        return pa.null()
    try:
        return pa.array(column.iloc[:0], from_pandas=True).type
    except (pa.ArrowException, TypeError):
        return pa.large_string()


def pandas_values(column: pa.ChunkedArray) -> Any:
    """Return a new column as pandas takes it.

    Text gets pandas' own type for text. Whole numbers and booleans of which some are missing stay
    what they are; missing floats are NaN.
    """
    import pandas as pd

    if pa.types.is_string(column.type):
        return pd.array(column.to_pylist(), dtype=pd.Series(["text"]).dtype)
    if column.null_count and not pa.types.is_floating(column.type):
        kind = "boolean" if pa.types.is_boolean(column.type) else "Int32"
        return pd.array(column.to_pylist(), dtype=kind)
    return column.to_numpy()


def text_array(cells: list[Any], row_name: Any, name: str) -> pa.Array:
    """Return cells as an array of text.

    `row_name` gives the name of a row, counted from 0 among the cells. Bytes are read as UTF-8.
    Raises UsageError for what is neither text nor None.
    """
    texts = []
    for row, cell in enumerate(cells):
        text = cell.decode("utf-8", "replace") if isinstance(cell, bytes) else cell
        if not isinstance(text, str | None):
            raise UsageError(
                f"{row_name(row)}: column {printable(name)} is not text but "
                f"{type(cell).__name__}: {printable(repr(cell)[:60])}",
                hint="give None where there is no text",
            )
        texts.append(None if text is None else without_surrogates(text))
    return pa.array(texts, pa.large_string())


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
    if isinstance(given, list):
        return [text_column_of(frame, one) for one in given]
    if not isinstance(given, Hashable) or given not in frame.columns:
        return given
    return column_name(given)


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
