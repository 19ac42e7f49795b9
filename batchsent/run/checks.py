"""Checks before the model is loaded: do the options fit together, can every row be read."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from batchsent.errors import InputError, UsageError
from batchsent.evaluation import gates
from batchsent.evaluation.examples import MOST_EXAMPLES
from batchsent.filenames import stamp
from batchsent.files.hashing import sha256_of
from batchsent.formats import Source
from batchsent.formats.outputs import ColumnOptions
from batchsent.formats.several import SeveralSource
from batchsent.run.options import BatchOptions
from batchsent.run.paths import RunPaths
from batchsent.run.rejects import over_budget
from batchsent.standard_streams import check_stdout
from batchsent.text import printable
from batchsent.urls import is_url


def check_column_options(options: ColumnOptions) -> None:
    """Refuse new columns that cannot be meant. Raises UsageError."""
    if not options.prefix.isprintable():
        raise UsageError(
            f"--prefix {printable(options.prefix)} is not printable",
            hint="use letters, digits and underscores",
        )
    gates.check_score("--unsure-below", options.unsure_below)


def check_options(options: BatchOptions, paths: RunPaths) -> None:
    """Refuse what cannot be meant. Raises UsageError."""
    judged = options.gold or options.gold_stars
    check_column_options(options)
    if paths.input == "-" and sys.stdin is not None and sys.stdin.isatty():
        raise UsageError(
            "stdin is a terminal",
            hint="name a file, or pipe one in: cat reviews.csv | batchsent batch - -o -",
        )
    if paths.output == "-":
        check_stdout()
    if options.bad_rows == "reject" and paths.rejects is None:
        raise UsageError(
            "--bad-rows reject requires a file for the rejected rows", hint="add --rejects FILE"
        )
    if options.bad_rows != "reject" and (options.max_bad_rows or options.rejects):
        raise UsageError(
            "--max-bad-rows and --rejects require --bad-rows reject", hint="add --bad-rows reject"
        )
    if (options.gold_stars is None) != (options.stars is None):
        raise UsageError(
            "--gold-stars and --stars require each other",
            hint="for instance --gold-stars rating --stars 1-2:NEGATIVE,4-5:POSITIVE",
        )
    if options.gold and options.gold_stars:
        raise UsageError(
            "--gold and --gold-stars cannot be used together", hint="leave one of them out"
        )
    if gates.needs_gold(options.fail_under) and not judged:
        raise UsageError(
            "--fail-under requires gold labels",
            hint=f"add --gold COLUMN; {gates.EXPECTED} is a figure that needs none",
        )
    if options.disagreements and not judged:
        raise UsageError(
            "--disagreements requires gold labels", hint="add --gold COLUMN or --gold-stars COLUMN"
        )
    if options.keep and not (options.disagreements or options.report_examples):
        raise UsageError(
            "--keep requires --disagreements or --report-examples",
            hint="add --disagreements FILE or --report-examples 10",
        )
    if (options.stop_after or options.stop_at) and paths.target is None:
        raise UsageError(
            "--stop-after and --stop-at require an output file: a run into a pipe cannot be "
            "resumed",
            hint="write to a file: -o FILE",
        )
    if (options.group_by or options.disagreements) and paths.data is None:
        raise UsageError(
            "--group-by and --disagreements require an output file", hint="write to a file: -o FILE"
        )
    if options.writes_page and paths.data is None:
        raise UsageError(
            "--report and --report-examples require an output file", hint="write to a file: -o FILE"
        )
    if options.work_folder and not is_url(paths.output):
        raise UsageError(
            "--work-folder is for outputs in stores", hint="leave it out: work is beside OUTPUT"
        )
    if options.reuse and paths.data is None:
        raise UsageError("--reuse requires an output file", hint="write to a file: -o FILE")
    if len(set(map(os.path.realpath, options.reuse))) < len(options.reuse):
        raise UsageError("--reuse names an output twice", hint="name it once")
    if options.report_examples > MOST_EXAMPLES:
        raise UsageError(
            f"--report-examples {options.report_examples:,}: a page shows {MOST_EXAMPLES} at most",
            hint="sort the output by score for more",
        )
    # Misspelt gates and budgets are refused before the file is read.
    gates.failed_minimums(None, options.fail_under)
    over_budget(options.max_bad_rows, 0, 1)


Stamp = tuple[int, int, int]  # inode, size and time of change


@dataclass(frozen=True)
class Checked:
    """An input that has been read once for its structure alone."""

    rows: int | None  # rows that can be taken; None where only reading tells
    bad_rows: int
    bytes: int
    sha256: str
    stamps: dict[str, Stamp]  # by path: whether it is still the same file


def can_be_read_again(path: str) -> bool:
    """Tell whether an input is read twice: a file is; a pipe cannot be, and an object costs."""
    return path != "-" and not is_url(path) and Path(path).is_file()


def check_input(paths: Sequence[str], source: Source, decoded: list[str]) -> Checked | None:
    """Read regular files for their structure; None for a pipe and for objects of a store.

    Of several objects the columns are looked at.

    The source that was opened of them is read from its first row afterwards.

    In the columns `decoded` of a Parquet file all text must be UTF-8. Raises InputError for a row
    that cannot be taken (unless bad rows are to be rejected): within seconds instead of after hours
    of scoring.
    """
    if not all(map(can_be_read_again, paths)):
        if isinstance(source, SeveralSource):
            source.look()
        return None
    stamps = {path: stamp(path) for path in paths}
    found = source.check(decoded)
    # A source that is read from end to end has hashed its bytes on the way.
    sha256 = found.sha256 or sha256_of(Path(paths[0]))
    size = sum(size for _, size, _ in stamps.values())
    checked = Checked(found.rows, found.bad_rows, size, sha256, stamps)
    ensure_unchanged(checked)
    return checked


def ensure_unchanged(checked: Checked) -> None:
    """Raise InputError if a file is no longer the one that was checked."""
    for path, before in checked.stamps.items():
        try:
            same = stamp(path) == before
        except OSError:
            same = False
        if not same:
            raise InputError(
                f"{printable(path)} changed while it was read",
                hint="run the command again with --restart once no program writes to it; no "
                "output was written",
            )
