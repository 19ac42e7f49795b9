"""What can be known of an input before the model is loaded: its rows, its hash, and whether every row can be taken."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from batchsent.errors import InputError
from batchsent.formats import ReadOptions, open_source
from batchsent.formats.csv import CsvSource
from batchsent.formats.parquet import ParquetSource
from batchsent.text import printable


@dataclass(frozen=True)
class Checked:
    """An input that has been read once for its structure alone."""

    rows: int | None  # rows that can be taken; None where only reading tells
    bad_rows: int
    bytes: int
    sha256: str
    stamp: tuple[int, int, int]  # inode, size and time of change: whether it is still the same file


def is_regular(path: str) -> bool:
    """Tell whether an input can be read more than once."""
    return path != "-" and Path(path).is_file()


def stamp(path: str) -> tuple[int, int, int]:
    """Return what changes when a file is replaced or written to."""
    found = Path(path).stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def check_input(path: str, options: ReadOptions, decoded: list[str]) -> Checked | None:
    """Read a regular file for its structure; None for a pipe, which can be read only once.

    In the columns `decoded` of a Parquet file all text must be UTF-8. Raises InputError for a row that cannot be
    taken (unless bad rows are to be rejected): within seconds instead of after hours of scoring.
    """
    if not is_regular(path):
        return None
    before = stamp(path)
    source = open_source(path, options)
    try:
        if isinstance(source, CsvSource):
            rows, bad_rows = source.check()
            facts = source.facts()
            checked = Checked(rows, bad_rows, facts["bytes"], facts["sha256"], before)
        else:
            with Path(path).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            count = None
            if isinstance(source, ParquetSource):
                source.check_utf8(decoded)
                count = source.rows
                count = count if options.limit is None else min(count, options.limit)
            checked = Checked(count, 0, before[1], digest, before)
    finally:
        source.close()
    ensure_unchanged(path, checked)
    return checked


def ensure_unchanged(path: str, checked: Checked) -> None:
    """Raise InputError if the file is no longer the one that was checked."""
    try:
        same = stamp(path) == checked.stamp
    except OSError:
        same = False
    if not same:
        raise InputError(
            f"{printable(path)} changed while it was read",
            hint="run the command again when nothing writes to it any more; nothing was put under the output's name",
        )
