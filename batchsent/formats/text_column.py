"""The text columns of a table with types: found by their names, also inside a struct, and read."""

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from batchsent.errors import UsageError
from batchsent.formats.reading import RowOptions, find_column
from batchsent.formats.text_names import (
    Usual,
    find_text_columns,
    has_text_column,
    joint_of,
    names_of_text,
    with_usual,
)
from batchsent.row_texts import ArrowTexts, Texts
from batchsent.text import printable
from batchsent.text_columns import TextColumns, join_texts


class TextColumn:
    """One text column of a schema, also inside a struct, as review.text."""

    def __init__(self, schema: pa.Schema, path: list[int | str], name: str) -> None:
        """`path` is a position and the names of the fields inside; they are there."""
        self.invalid_rows = 0
        self.path = path
        kind = kind_at(schema, path)
        assert kind is not None
        self.name = ".".join(map(str, [schema.names[path[0]], *path[1:]]))
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

    def texts(self, table: pa.Table) -> Texts:
        """Return the texts of the rows, None for null."""
        column = table.column(self.path[0])
        for step in self.path[1:]:
            column = pa.chunked_array([chunk.field(step) for chunk in _with_validity(column)])
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if not self.is_binary:
            if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
                column = column.combine_chunks()
            try:
                column.validate(full=True)
            except pa.ArrowInvalid:  # a file that says utf-8 and holds something else
                column = column.cast(pa.large_binary())
            else:
                whole = isinstance(column, pa.StringArray | pa.LargeStringArray)
                return ArrowTexts(column) if whole else list(column.to_pylist())
        texts: list[str | None] = []
        for raw in column.to_pylist():
            text = None if raw is None else raw.decode("utf-8", "replace")
            self.invalid_rows += (
                text is not None and "\ufffd" in text and raw.decode("utf-8", "ignore") != text
            )
            texts.append(text)
        return texts


class TableTexts:
    """Reads the texts of tables: of one column, or of several, joined."""

    def __init__(self, columns: Sequence[TextColumn], joint: str) -> None:
        self._columns = columns
        self.text_columns = TextColumns(tuple(column.name for column in columns), joint)

    @property
    def positions(self) -> list[int]:
        """Positions of the columns that are read."""
        return [int(column.path[0]) for column in self._columns]

    def texts(self, table: pa.Table) -> Texts:
        """Return the texts of the rows, None for null."""
        return join_texts([one.texts(table) for one in self._columns], self.text_columns.joint)

    def warnings(self) -> list[dict[str, str]]:
        """Return what a person should know of the texts."""
        invalid = sum(column.invalid_rows for column in self._columns)
        if not invalid:
            return []
        return [
            {
                "code": "invalid_encoding",
                "message": f"{invalid:,} text(s) hold bytes that are not valid utf-8; "
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


def find_texts(
    schema: pa.Schema,
    options: RowOptions,
    name: str,
    *,
    needs_text: bool,
    usual: Usual | None,
    first: Callable[[list[str]], pa.Table] | None = None,
) -> TableTexts | None:
    """Return how the texts are read; None where that is not known and not needed.

    `first` returns the first rows of some columns, where they can be looked at. Raises UsageError.
    """

    def values() -> dict[str, list[str]]:
        texts = [field.name for field in schema if is_text_type(field.type)]
        if first is None:
            return {column: ["x"] for column in texts}  # proposed where there is no other
        return {
            column: [str(value or "") for value in first([column]).column(0).to_pylist()]
            for column in texts
        }

    options = with_usual(options, lambda wanted: has_column(schema, wanted), usual)
    if not needs_text and not has_text_column(list(schema.names), options):
        return None
    paths = [find_path(schema, wanted, name) for wanted in names_of_text(options)]
    if not paths or options.text_column_index is not None:
        paths = [[position] for position in find_text_columns(schema.names, options, name, values)]
    columns = [TextColumn(schema, path, name) for path in paths]
    return TableTexts(columns, joint_of(options, len(columns)))


def find_path(schema: pa.Schema, wanted: str, name: str) -> list[int | str]:
    """Return where a named column is: its position, and the fields inside a struct.

    Raises UsageError.
    """
    if wanted in schema.names or "." not in wanted:
        return [find_column(schema.names, wanted, "--text-column", name)]
    outer, *inner = wanted.split(".")
    path: list[int | str] = [find_column(schema.names, outer, "--text-column", name), *inner]
    if kind_at(schema, path) is None:
        kind = schema.field(path[0]).type
        raise UsageError(
            f"{name} has no column called {printable(wanted)}", hint=f"the type is {kind}"
        )
    return path


def has_column(schema: pa.Schema, wanted: str) -> bool:
    """Tell whether there is a column of this name, or a field inside a struct."""
    if wanted in schema.names:
        return True
    outer, *inner = wanted.split(".")
    return (
        outer in schema.names and kind_at(schema, [schema.names.index(outer), *inner]) is not None
    )


def kind_at(schema: pa.Schema, path: Sequence[int | str]) -> pa.DataType | None:
    """Return the type of a column, or of a field inside a struct; None where there is none."""
    kind = schema.field(path[0]).type
    for step in path[1:]:
        if not pa.types.is_struct(kind) or kind.get_field_index(step) < 0:
            return None
        kind = kind.field(step).type
    return kind


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
