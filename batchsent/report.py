"""A summary as a page beside it; what the page says is evaluation/report.py's business."""

from os import PathLike
from pathlib import Path

from batchsent.errors import OutputError, UsageError, printable, reason
from batchsent.evaluation import summary as summaries
from batchsent.run.commit import write_file

# What every page begins with: a file that begins otherwise is somebody's data.
PAGE_START = b"<!doctype html>"


def report(summary: str | PathLike[str], output: str | PathLike[str] | None = None) -> Path:
    """Write the HTML page of a summary and return its path: one file, no script, nothing from the network.

    Without `output` the page stands beside the summary, called like it but for .html. A page that is there already is
    replaced, any other file is not. Raises InputError for a summary that cannot be read or is damaged, UsageError
    where the page would take the place of something else, OutputError where it cannot be written.
    """
    from batchsent.evaluation.report import render

    path = page_path(output if output is not None else Path(summary).with_suffix(".html"), summary)
    write_file(path, render(summaries.read(summary)))
    return path


def page_path(path: str | PathLike[str], *shown: str | PathLike[str]) -> Path:
    """Return where a page of the summaries `shown` goes.

    Raises UsageError where one of them, or any file that is no page, would be lost.
    """
    page = Path(path)
    if not page.exists():
        return page
    if any(Path(summary).exists() and page.samefile(summary) for summary in shown):
        raise UsageError(f"{printable(page)} is the summary itself", hint="give the page another name")
    if not page.is_file():
        what = "a folder" if page.is_dir() else "a device or pipe"
        raise UsageError(f"{printable(page)} is {what}", hint="name a file for the page")
    try:
        with page.open("rb") as file:
            start = file.read(len(PAGE_START))
    except OSError as error:
        raise OutputError(f"{printable(page)}: cannot be replaced: {reason(error)}") from error
    if start not in {PAGE_START, b""}:
        raise UsageError(f"{printable(page)} exists already and is no page", hint="give the page another name")
    return page
