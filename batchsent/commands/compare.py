"""Two summaries side by side, as figures and as a page."""

from collections.abc import Sequence
from os import PathLike
from typing import Any

from batchsent.commands.report import page_path
from batchsent.errors import GateFailed
from batchsent.evaluation import compare as comparing
from batchsent.evaluation import summary as summaries
from batchsent.files.atomic import write_file
from batchsent.options import names_affecting
from batchsent.run.options import BatchOptions


def compare(
    a: str | PathLike[str],
    b: str | PathLike[str],
    *,
    fail_on: Sequence[str] = (),
    html: str | PathLike[str] | None = None,
) -> dict[str, Any]:
    """Return what changed between two runs: labels, scores, lengths, metrics, model and options.

    `a` and `b` are the paths of their summaries; changes are from `a` to `b`. `html` also writes
    the comparison as a page. Raises GateFailed, with the comparison as its attribute `document`,
    where one of the conditions `fail_on` holds, such as ``psi>0.2``; InputError for a summary that
    cannot be read or is damaged; UsageError for a condition that cannot be read, and where the page
    would replace another file; OutputError.
    """
    page = None
    if html is not None:
        page = page_path(html, a, b, runs=())
    before, after = summaries.read(a), summaries.read(b)
    ignored = names_affecting(BatchOptions, "nothing")
    comparison = comparing.compare(before, after, ignored=ignored)
    failures = comparing.check(comparison, fail_on)
    if page is not None:
        from batchsent.pages.comparison import render_comparison

        write_file(page, render_comparison(before, after, fail_on, ignored=ignored))
    if failures:
        message = "; ".join(failure["message"] for failure in failures)
        raise GateFailed(message, document=comparison, failures=failures)
    return comparison
