"""The text column of a table with types: found by its name, also inside a struct, and read."""

from typing import Any

import pyarrow as pa

from batchsent.errors import UsageError
from batchsent.formats.reading import RowOptions, find_column, find_text_column, has_text_column
from batchsent.text import printable


class TextColumn:
    """Finds the text column of a schema (also inside a struct, as review.text) and reads it."""

    def __init__(self, schema: pa.Schema, options: RowOptions, name: str) -> None:
        self.invalid_rows = 0
        wanted = options.text_column
        self.path: list[int | str] = []
        if wanted is not None and wanted not in schema.names and "." in wanted:
            outer, *inner = wanted.split(".")
            self.path = [find_column(schema.names, outer, "--text-column", name), *inner]
        else:
            self.path = [find_text_column(schema.names, options, name)]
        kind = schema.field(self.path[0]).type
        for step in self.path[1:]:
            if not pa.types.is_struct(kind) or kind.get_field_index(step) < 0:
                raise UsageError(
                    f"{name} has no column called {printable(wanted)}", hint=f"the type is {kind}"
                )
            kind = kind.field(step).type
        self.name = ".".join(map(str, [schema.names[self.path[0]], *self.path[1:]]))
        self.is_binary = is_binary_type(kind)
        if not is_text_type(kind):
            inside = (
                [f"{self.name}.{field.name}" for field in kind] if pa.types.is_struct(kind) else []
            )
            raise UsageError(
                f"{name}: column {printable(self.name)} is {kind}, not text",
                hint=f"name the text inside it, one of {', '.join(map(printable, inside))}"
                if inside
                else "name the column with the reviews with --text-column",
            )

    @property
    def positions(self) -> list[int]:
        """Positions of the columns that are read."""
        return [int(self.path[0])]

    def texts(self, table: pa.Table) -> list[str | None]:
        """Return the texts of the rows, None for null."""
        column = table.column(self.path[0])
        for step in self.path[1:]:
            column = pa.chunked_array([chunk.field(step) for chunk in _with_validity(column)])
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if not self.is_binary:
            try:
                return list(column.to_pylist())
            except UnicodeDecodeError:  # a file that says utf-8 and holds something else
                column = column.cast(pa.large_binary())
        texts = []
        for raw in column.to_pylist():
            text = None if raw is None else raw.decode("utf-8", "replace")
            self.invalid_rows += (
                text is not None and "\ufffd" in text and raw.decode("utf-8", "ignore") != text
            )
            texts.append(text)
        return texts

    def warnings(self) -> list[dict[str, str]]:
        """Return what a person should know of the texts."""
        if not self.invalid_rows:
            return []
        return [
            {
                "code": "invalid_encoding",
                "message": f"{self.invalid_rows:,} text(s) hold bytes that are not valid utf-8; "
                "the model read U+FFFD in their place, the output keeps the bytes",
                "hint": "convert the column to text where the dump is made",
            }
        ]


def is_binary_type(kind: pa.DataType) -> bool:
    """Tell whether values are bytes."""
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_binary(value) or pa.types.is_large_binary(value))


def is_text_type(kind: pa.DataType) -> bool:
    """Tell whether values can be read as texts: text, bytes, or nothing but nulls."""
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return (
        is_binary_type(value)
        or pa.types.is_string(value)
        or pa.types.is_large_string(value)
        or pa.types.is_string_view(value)
        or pa.types.is_null(value)
    )


def find_text(
    schema: pa.Schema, options: RowOptions, name: str, *, needs_text: bool
) -> TextColumn | None:
    """Return the text column; None where it is not known and not needed. Raises UsageError."""
    if not needs_text and not has_text_column(list(schema.names), options):
        return None
    return TextColumn(schema, options, name)


def _with_validity(column: pa.ChunkedArray) -> list[Any]:
    """Return the chunks of a struct column with a null struct's fields made null."""
    import pyarrow.compute as pc

    chunks = []
    for chunk in column.chunks:
        if chunk.null_count:
            fields = [pc.if_else(chunk.is_valid(), child, None) for child in chunk.flatten()]
            chunk = pa.StructArray.from_arrays(fields, fields=list(chunk.type))
        chunks.append(chunk)
    return chunks
