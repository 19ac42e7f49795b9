"""A pandas frame: its columns as Arrow has them, and new columns in the types of pandas."""

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from batchsent.formats.object_cells import text_array
from batchsent.text import printable

if TYPE_CHECKING:
    import pandas as pd


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
