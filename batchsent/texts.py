"""Texts of a Python list in chunks, each checked to be text."""

from collections.abc import Iterator
from typing import Any, cast

from batchsent.chunk import Carried, Chunk
from batchsent.errors import UsageError
from batchsent.text import printable

# Texts scored together: enough to sort by length, little enough to hold beside a long list.
SLICE_ROWS = 8_192


def list_chunks(texts: list[Any]) -> Iterator[Chunk]:
    """Return the texts of a list in chunks.

    Raises UsageError for what is neither text nor None, before the first chunk.
    """
    for number, text in enumerate(texts):
        if text is not None and not isinstance(text, str):
            raise UsageError(
                f"text {number} is not text but {type(text).__name__}: "
                f"{printable(repr(text)[:60])}",
                hint="give None where there is no text",
            )
    carried = cast(Carried, None)  # no writer gets these chunks
    return (
        Chunk(start, texts[start : start + SLICE_ROWS], carried)
        for start in range(0, len(texts), SLICE_ROWS)
    )
