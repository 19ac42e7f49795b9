"""Columns with types -> the JSON text of each value, and objects made of them."""

import json
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from batchsent.formats.csv_types import as_csv_type

# How Arrow writes floats that are not numbers, and how Python's json does.
CONSTANTS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
TEXT = pa.large_string()


def json_texts(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return (rows,) the JSON text of each value: null for null, floats in their shortest form.

    Nested values are JSON of their own; times and what else JSON lacks are strings, as in CSV.
    """
    kind = column.type
    while isinstance(kind, pa.BaseExtensionType) or pa.types.is_dictionary(kind):
        kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind.value_type
    plain = as_csv_type(column)
    if isinstance(plain, pa.ChunkedArray):
        plain = plain.combine_chunks()
    texts = pc.cast(plain, TEXT)
    if pa.types.is_floating(kind):
        for wrong, right in CONSTANTS.items():
            texts = pc.if_else(pc.equal(texts, wrong), pa.scalar(right, TEXT), texts)
    elif not (
        pa.types.is_integer(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_nested(kind)
    ):
        distinct = texts.dictionary_encode()
        quoted = pa.array([quote(text) for text in distinct.dictionary.to_pylist()], TEXT)
        texts = quoted.take(distinct.indices)
    return pc.fill_null(texts, "null")


def quote(text: str) -> str:
    """Return a text as a JSON string."""
    return json.dumps(text, ensure_ascii=False)


def joined_members(names: Sequence[str], columns: Sequence[pa.Array | pa.ChunkedArray]) -> pa.Array:
    """Return (rows,) the members of each row as text, without braces; one column at least."""
    # Not made at import: the first scalar of a process has pyarrow import pandas, 0.5 s.
    colon, comma = pa.scalar(": ", TEXT), pa.scalar(", ", TEXT)
    members = [
        pc.binary_join_element_wise(pa.scalar(quote(name), TEXT), json_texts(column), colon)
        for name, column in zip(names, columns, strict=True)
    ]
    return pc.binary_join_element_wise(*members, comma)
