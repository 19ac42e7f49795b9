"""Compare two Arrow columns to the last bit: NaN is NaN, 0.0 is not -0.0."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

BITS = {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}

Column = Any  # pa.Array or pa.ChunkedArray, which have no types


def first_difference(a: Column, b: Column) -> int | None:
    """Return the first row in which two columns of one type differ, or that only one of them has.

    None for none.
    """
    one, other = whole(a), whole(b)
    rows = min(len(one), len(other))
    if same(one.slice(0, rows), other.slice(0, rows)):
        return None if len(one) == len(other) else rows
    low, high = 0, rows  # the first `low` rows are the same, the first `high` are not
    while high - low > 1:
        middle = (low + high) // 2
        if same(one.slice(low, middle - low), other.slice(low, middle - low)):
            low = middle
        else:
            high = middle
    return low


def in_type_of(kind: pa.DataType, column: Column) -> Column:
    """Return a column cast to another type, or as it is where it cannot be."""
    if column.type == kind:
        return column
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if isinstance(column.type, pa.BaseExtensionType):
        column = whole(column).storage
    if isinstance(kind, pa.BaseExtensionType):
        return kind.wrap_array(in_type_of(kind.storage_type, whole(column)))
    try:
        return column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return column


def whole(column: Column) -> pa.Array:
    """Return a column in one piece."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def same(a: Any, b: Any) -> bool:
    """Tell whether two arrays are the same, row by row."""
    a, b = plain(a), plain(b)
    kind = a.type
    if kind != b.type or len(a) != len(b):
        return False
    if not has_floats(kind):
        return bool(a.equals(b))
    if not a.is_null().equals(b.is_null()):
        return False
    if pa.types.is_floating(kind):
        return bool(a.view(BITS[kind.bit_width]).equals(b.view(BITS[kind.bit_width])))
    if pa.types.is_struct(kind):
        return all(same(x, y) for x, y in zip(a.flatten(), b.flatten(), strict=True))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        lengths = [pc.list_value_length(array) for array in (a, b)]
        return lengths[0].equals(lengths[1]) and same(pc.list_flatten(a), pc.list_flatten(b))
    # Maps, unions and the like: Python's notation of a float tells its bits too.
    return repr(a.to_pylist()) == repr(b.to_pylist())


def plain(array: Any) -> Any:
    """Return the plain values of an array: of a dictionary array, its decoded values."""
    if isinstance(array.type, pa.BaseExtensionType):
        return plain(array.storage)
    return plain(array.dictionary_decode()) if pa.types.is_dictionary(array.type) else array


def has_floats(kind: pa.DataType) -> bool:
    """Tell whether values of a type have floats in them."""
    if isinstance(kind, pa.BaseExtensionType):
        return has_floats(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return has_floats(kind.value_type)
    if pa.types.is_run_end_encoded(kind):
        return True  # compared by notation
    return pa.types.is_floating(kind) or any(
        has_floats(kind.field(n).type) for n in range(kind.num_fields)
    )
