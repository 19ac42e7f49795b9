"""Texts that a Python program gives other than in a list: a series or an array of a library."""

import warnings
from collections.abc import Iterator, Mapping, Set
from typing import Any

from batchsent.chunk import Chunk
from batchsent.errors import UsageError
from batchsent.formats.frame_rows import FrameRows
from batchsent.formats.frames import is_column, is_frame, open_column
from batchsent.formats.reading import RowOptions
from batchsent.formats.text_column import is_text_type
from batchsent.texts import list_chunks


def text_chunks(texts: Any) -> Iterator[Chunk]:
    """Return texts in chunks; a missing value of a series is None.

    Raises UsageError for what is not a list or a series of texts, before the first chunk.
    """
    if is_column(texts):
        return series_chunks(texts)
    if is_frame(texts):
        raise UsageError(
            f"predict takes one column of texts, not a frame ({type(texts).__name__})",
            hint="write predict(frame['text']), or score the frame: score_frame(frame)",
        )
    if isinstance(texts, str | bytes):
        raise UsageError("predict takes a list of texts", hint="write predict([text])")
    try:
        given = None if isinstance(texts, Mapping | Set) else iter(texts)
    except TypeError:
        given = None
    if given is None:
        raise UsageError(
            f"predict takes a list of texts, not {type(texts).__name__}",
            hint="write predict([text]); a series or an array is taken too",
        )
    return list_chunks(list(given))


def series_chunks(series: Any) -> Iterator[Chunk]:
    """Return the texts of a series; warns, at the end, of bytes that are not UTF-8."""
    frame = open_column(series)
    kind = frame.schema.field(0).type
    if not is_text_type(kind):
        raise UsageError(f"the series holds {kind}, not text", hint="predict takes texts")
    rows = FrameRows(frame, RowOptions(text_column_index=1), "the series")

    def chunks() -> Iterator[Chunk]:
        yield from rows.chunks()
        for found in rows.warnings():
            warnings.warn(found["message"], stacklevel=2)

    return chunks()
