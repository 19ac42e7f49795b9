"""A summary as an HTML page beside it."""

import os
from collections.abc import Collection, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from batchsent.errors import OutputError, UsageError, reason
from batchsent.evaluation import summary as summaries
from batchsent.filenames import check_new, exists, is_folder, is_regular
from batchsent.files.atomic import temporary_path, write_file
from batchsent.text import printable

# Every page has this in its head; a file without it belongs to the user.
GENERATOR = b'<meta name="generator" content="batchsent'
HEAD_BYTES = 4096
# Only a page that a run wrote with --report-examples says this.
HOLDS_TEXTS = b"This page holds texts of the input."


def report(summary: str | PathLike[str], output: str | PathLike[str] | None = None) -> Path:
    """Write the HTML page of a summary, one file without scripts, and return its path.

    Without `output` the page is written beside the summary, as OUTPUT.report.html, and replaces the
    page of any run. With `output` it replaces only a page of the same run. Raises InputError for a
    summary that cannot be read or is damaged, UsageError where the page would replace another file
    or the examples that the run put on it,
    OutputError where it cannot be written.
    """
    from batchsent.pages.report import render

    document = summaries.read(summary)
    if output is None:
        path = page_path(default_page(Path(summary)), summary)
    else:
        path = page_path(output, summary, runs=(str(document["run"].get("id")),))
    if is_regular(path) and HOLDS_TEXTS in path.read_bytes():
        raise UsageError(
            f"{printable(path)} shows rows of the input, which the summary does not hold: a page "
            "drawn from it would lose them",
            hint="give the new page another name with -o, or remove this one first",
        )
    with summaries.as_input_error():
        folder = output_folder(document, Path(summary), path)
    write_file(path, render(document, folder))
    return path


def output_folder(document: Mapping[str, Any], summary: Path, page: Path) -> str | None:
    """Return where the output's folder is as seen from the page; None where it is not there.

    The files of a run may have been moved together since.
    """
    from batchsent.pages.report_files import seen_from, summary_path

    data = [str(entry["path"]) for entry in document["outputs"] if entry.get("role") == "data"]
    written = summary_path(document)
    if not data or written is None:
        return None
    place = seen_from(str(Path(data[0]).parent), str(Path(written).parent))
    if place is None:
        return None
    folder = summary.absolute().parent / place
    if not exists(folder / Path(data[0]).name):
        return None
    return os.path.relpath(folder, page.absolute().parent)


def default_page(summary: Path) -> Path:
    """Return OUTPUT.report.html for OUTPUT.summary.json, NAME.report.html for NAME.json."""
    name = summary.name.removesuffix(".json").removesuffix(".summary")
    return summary.with_name(f"{name}.report.html")


def page_path(
    path: str | PathLike[str],
    *shown: str | PathLike[str],
    runs: Collection[str] | None = None,
) -> Path:
    """Check the path of a page of the summaries `shown`, and return it.

    A page of a run may be replaced where the run's id is in `runs`; None stands for any run. Raises
    UsageError where a summary, or a file that is not a page of batchsent, would be replaced.
    """
    if str(path) == "-":
        raise UsageError("a page does not go to stdout", hint="name a file for the page")
    page = Path(path)
    check_new(page, temporary_path(page))
    if not os.path.lexists(page):
        return page
    if any(exists(summary) and exists(page) and page.samefile(summary) for summary in shown):
        raise UsageError(
            f"{printable(page)} is the summary itself", hint="give the page another name"
        )
    if page.is_symlink():
        raise UsageError(
            f"{printable(page)} is a symbolic link",
            hint="give the page another name, or remove the link",
        )
    if not is_regular(page):
        what = "a folder" if is_folder(page) else "a device or pipe"
        raise UsageError(f"{printable(page)} is {what}", hint="name a file for the page")
    try:
        with page.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise OutputError(f"{printable(page)}: cannot be replaced: {reason(error)}") from error
    if head and GENERATOR not in head:
        raise UsageError(
            f"{printable(page)} exists already and is not a page of batchsent",
            hint="give the page another name",
        )
    of_run = GENERATOR + b" run "
    known = runs is None or any(of_run + run.encode() in head for run in runs)
    if of_run in head and not known:
        raise UsageError(
            f"{printable(page)} is the page of another run", hint="give the page another name"
        )
    return page
