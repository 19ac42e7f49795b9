"""Cells that may hold any object of Python -> an Arrow array of text."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from batchsent.errors import UsageError
from batchsent.text import printable, without_surrogates


def text_array(cells: list[Any], row_name: Callable[[int], str], name: str) -> pa.Array:
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
