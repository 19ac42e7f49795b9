"""Two runs side by side: their summaries, or the rows of two scored files.

How they are compared is said in evaluation/compare.py and evaluation/flips.py.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Any

from batchsent.commands.compare_rows import CompareRowsOptions, compare_rows
from batchsent.commands.report import page_path
from batchsent.errors import GateFailed, UsageError
from batchsent.evaluation import compare as comparing
from batchsent.evaluation import flips
from batchsent.evaluation import summary as summaries
from batchsent.evaluation.gates import as_list
from batchsent.files.atomic import write_file
from batchsent.formats.opening import check_read_options, format_of
from batchsent.options import build, names_affecting, option
from batchsent.reporting import Reporter
from batchsent.run.options import BatchOptions
from batchsent.text import printable

AnyPath = str | PathLike[str]


@dataclass(frozen=True)
class CompareOptions(CompareRowsOptions):
    """How two runs are compared; what CompareRowsOptions has is for scored files."""

    fail_on: tuple[str, ...] = option(
        (),
        "Exit with 8 if the condition holds; may be repeated. For scored files, such as flips>1%: "
        "flips, flipped_rows, sure_flips, labels_lost, label_share_change, mean_score_change, "
        "accuracy_drop and mcnemar_p. For summaries, such as psi>0.2: psi and ks compare the "
        "scores, length_psi and length_ks the lengths of the texts; others are label_share_change, "
        "mean_score_change, rows_drop, blank_share_rise and accuracy_drop. --json lists all of "
        "them under gates.",
        metavar="CONDITION",
        multiple=True,
        group="Common",
    )
    html: str | None = option(
        None, "Also write the comparison as a page.", metavar="FILE", group="Common"
    )


def compare(
    a: AnyPath, b: AnyPath, *, reporter: Reporter | None = None, **options: Any
) -> dict[str, Any]:
    """Return what changed between two runs; the options are those of CompareOptions.

    `a` is what `b` is measured against. Of two summaries: labels, scores, lengths, metrics, model
    and options. Of two scored files of the same rows: the labels that changed, by direction, score
    and group. `html` also writes the comparison as a page.

    Raises GateFailed, with the comparison as its attribute `document`, where one of the conditions
    `fail_on` holds; InputError for what cannot be read or is damaged, and for rows that are not the
    same; UsageError for what is no condition, for one file of each kind, and where a file would
    take the place of something else; OutputError.
    """
    settings = build(CompareOptions, options)
    conditions = as_list(settings.fail_on)
    if _are_scored(str(a), str(b), settings):
        check_read_options(settings, [str(a), str(b)])
        document, failures = _compare_files(str(a), str(b), settings, conditions, reporter)
    else:
        _refuse_row_options(settings)
        document, failures = _compare_summaries(a, b, conditions, settings.html)
    if failures:
        message = "; ".join(failure["message"] for failure in failures)
        raise GateFailed(message, document=document, failures=failures)
    return document


Outcome = tuple[dict[str, Any], list[dict[str, Any]]]


def _compare_summaries(
    a: AnyPath, b: AnyPath, conditions: Sequence[str], html: AnyPath | None
) -> Outcome:
    """Return the comparison of two summaries and the conditions that hold; write its page."""
    page = None if html is None else page_path(html, a, b, runs=())
    before, after = summaries.read(a), summaries.read(b)
    ignored = names_affecting(BatchOptions, "nothing")
    comparison = comparing.compare(before, after, ignored=ignored)
    failures = comparing.check(comparison, conditions)
    if page is not None:
        from batchsent.pages.comparison import render_comparison

        write_file(page, render_comparison(before, after, conditions, ignored=ignored))
    return comparison, failures


def _compare_files(
    a: str, b: str, settings: CompareOptions, conditions: Sequence[str], reporter: Reporter | None
) -> Outcome:
    """Return the comparison of two scored files and the conditions that hold; write its page."""
    flips.check(flips.NO_GATES, conditions)
    page = None
    if settings.html is not None:
        page = page_path(settings.html, runs=())
        if settings.flips is not None and _same(page, Path(settings.flips)):
            raise UsageError("--html and --flips are the same file", hint="choose another name")
    document = compare_rows(a, b, settings, reporter or Reporter())
    failures = flips.check(document["gates"], conditions)
    if page is not None:
        from batchsent.pages.flips import render_flips

        write_file(page, render_flips(document, conditions, failures))
    return document, failures


def _are_scored(a: str, b: str, settings: CompareOptions) -> bool:
    """Tell two scored files from two summaries, by their suffixes. Raises UsageError for a mix."""
    if settings.input_format is not None:
        return True
    first, second = _is_scored(a), _is_scored(b)
    if first != second:
        scored, summary = (a, b) if first else (b, a)
        raise UsageError(
            f"{printable(scored)} is a scored file and {printable(summary)} is not",
            hint="give two scored files or two summaries (OUTPUT.summary.json)",
        )
    return first


def _is_scored(path: str) -> bool:
    try:
        return format_of(path, what="input") is not None
    except UsageError:  # a suffix that no table has
        return False


def _refuse_row_options(settings: CompareOptions) -> None:
    """Refuse options that two summaries cannot answer. Raises UsageError."""
    for field in fields(CompareRowsOptions):
        if getattr(settings, field.name) != field.default:
            raise UsageError(
                f"--{field.name.replace('_', '-')} requires two scored files",
                hint="a summary holds no rows; give the files that batchsent batch wrote",
            )


def _same(path: Path, other: Path) -> bool:
    return os.path.realpath(path) == os.path.realpath(other)
