"""Some rows of a scored file, written to a file of their own with columns added."""

import os
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from batchsent.chunk import Chunk
from batchsent.errors import UsageError
from batchsent.filenames import check_new, exists, is_folder, is_regular
from batchsent.files.atomic import PendingFile, temporary_path
from batchsent.formats.opening import format_of, open_sink
from batchsent.formats.reading import Source
from batchsent.text import printable


def check_target(target: Path, option: str, *read: str, overwrite: bool) -> None:
    """Refuse a file that cannot be written, is there already or is one of those that are `read`.

    Raises UsageError.
    """
    shown, hint = printable(target), f"choose another name with {option}"
    if str(target) == "-":
        raise UsageError("such a table is not written to stdout", hint=f"name a file with {option}")
    format_of(str(target), what="output")
    final = Path(os.path.realpath(target))
    check_new(target, temporary_path(final))
    if not is_folder(final.parent):
        raise UsageError(
            f"the folder {printable(final.parent)} does not exist", hint="make it first"
        )
    if not os.path.lexists(target):
        return
    for path in read:
        if exists(path) and exists(target) and target.samefile(path):
            raise UsageError(f"{shown} is the file that is read", hint=hint)
    if exists(target) and not is_regular(target):
        raise UsageError(f"{shown} is not a regular file", hint=hint)
    if not overwrite:
        raise UsageError(f"{shown} exists already", hint=f"{hint}, or add --overwrite")


def check_added(source: Source, added: pa.Schema) -> None:
    """Refuse a file that has a column of the same name as one that is added. Raises UsageError."""
    for column in added.names:
        if column in source.columns:
            raise UsageError(
                f"{source.name} has a column called {column} already",
                hint="give the file that batchsent batch wrote, or rename the column",
            )


class RowWriter:
    """Writes rows of a source, untouched, with the columns of `added`.

    The file appears whole on `commit`, or not at all. Raises OSError; wrap the use in
    `output_errors`.
    """

    def __init__(self, target: Path, source: Source, added: pa.Schema) -> None:
        self._file = PendingFile(target, follow_link=True)
        try:
            self._sink = open_sink(self._file, str(target), source, added, None)
        except BaseException:
            self._file.close()
            raise

    def write(self, chunk: Chunk, rows: list[int], added: pa.RecordBatch) -> None:
        """Write some rows of a chunk, named by their rising numbers in it."""
        if not rows:
            return
        texts = [chunk.texts[row] for row in rows]
        carried = chunk.carried.take(rows)
        taken = replace(chunk, texts=texts, carried=carried, gold=None, rejected=())
        self._sink.write(taken, added)

    def commit(self) -> None:
        """Write the end of the file and give it its name."""
        self._sink.finish()
        self._file.commit()

    def close(self) -> None:
        """Remove what was not committed."""
        self._file.close()
