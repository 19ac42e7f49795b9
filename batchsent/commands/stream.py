"""Scored rows of a file for a Python program, batch by batch, with nothing written."""

from os import PathLike, fspath
from typing import Any

import pyarrow as pa

from batchsent.errors import UsageError
from batchsent.formats import open_source
from batchsent.formats.opening import check_read_options
from batchsent.options import build
from batchsent.run.models import Models, OneModel
from batchsent.run.options import StreamOptions
from batchsent.run.streaming import ScoredRows


def stream(
    input: str | PathLike[str],  # noqa: A002 (what it is)
    *,
    models: Models | None = None,
    **options: Any,
) -> pa.RecordBatchReader:
    """Score the reviews of a file while they are read: returns an Arrow reader.

    Its batches have the rows of the file in their order, with the new columns after the file's own;
    those of CSV and JSON lines are text. `input` is a path or a URL, `-` is stdin. The options are
    those of `batch` that are not about an output. Nothing is written, and at most ten chunks are in
    memory, whatever the size of the file. With `bad_rows="reject"` rows that cannot be taken are
    left out and a warning counts them. What is wrong with file, options or model raises
    BatchsentError at once; a row that cannot be taken, when it is read.

    >>> for rows in stream("reviews.csv"):  # doctest: +SKIP
    ...     print(rows.num_rows, rows.schema.names)
    """
    settings = build(StreamOptions, options)
    if not isinstance(input, str | PathLike):
        raise UsageError(
            f"stream takes a path, not {type(input).__name__}",
            hint="batch(frame) scores a frame; a list of files is streamed one by one",
        )
    check_read_options(settings, [fspath(input)])
    models = models or OneModel(settings)
    source = open_source(fspath(input), settings, usual=lambda: models.identity().text_columns)
    try:
        scored = ScoredRows(source, models, settings)
        source.restrict(scored.added.names, fixed_columns=True)
        return scored.reader()
    except BaseException:
        source.close()
        raise
