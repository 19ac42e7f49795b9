"""Rows that were left out: written beside the output, and how many of them are allowed."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from batchsent.chunk import Reject
from batchsent.errors import InputError, UsageError
from batchsent.files.atomic import PendingFile
from batchsent.text import printable


class Rejects:
    """The rejects file of a run; it is made only where rows were rejected."""

    def __init__(self, path: Path) -> None:
        self.rows = 0
        self.file = PendingFile(path)
        self._write([["line", "byte_offset", "reason", "raw"]])

    def _write(self, rows: list[list[object]]) -> None:
        text = io.StringIO()
        # All text is quoted: Python 3.11 does not quote a lone CR, which ends the row for a reader.
        csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC).writerows(rows)
        # Bytes that are not UTF-8 are surrogates in the raw column; they become the same bytes.
        self.file.write(text.getvalue().encode("utf-8", "surrogateescape"))

    def write(self, rejected: Iterable[Reject]) -> None:
        """Add rows."""
        rows: list[list[object]] = []
        for row in rejected:
            raw = row.raw.decode("utf-8", "surrogateescape")
            rows.append([row.line, row.byte_offset, row.reason, raw])
        if rows:
            self._write(rows)
            self.rows += len(rows)

    def commit(self) -> None:
        """Give the file its name, or remove it where nothing was rejected."""
        if self.rows:
            self.file.commit()
        else:
            self.file.discard()

    def discard(self) -> None:
        """Remove what was not committed."""
        self.file.discard()


def check_budget(budget: str | None, bad_rows: int, rows: int, name: str) -> None:
    """Raise InputError where the input `name` has more bad rows than `budget` allows."""
    if over_budget(budget, bad_rows, rows):
        raise InputError(
            f"{name}: {bad_rows:,} bad row(s), more than --max-bad-rows {budget}",
            hint="raise --max-bad-rows, or see the first bad row with --bad-rows error",
        )


def over_budget(budget: str | None, bad_rows: int, rows: int) -> bool:
    """Tell whether there are more bad rows than `budget` allows: a count or a percentage.

    Raises UsageError for a budget that is neither.
    """
    if budget is None:
        return False
    try:
        if budget.endswith("%"):
            share = float(budget[:-1])
            valid = 0 <= share <= 100
            allowed = share / 100 * rows
        else:
            allowed = int(budget)
            valid = allowed >= 0
    except ValueError:
        valid = False
    if not valid:
        raise UsageError(
            f"--max-bad-rows {printable(budget)} is neither a count nor a percentage",
            hint="give a number such as 100 or a share such as 1%",
        )
    return bad_rows > allowed
