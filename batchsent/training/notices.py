"""What a person is told of a training: where it resumes, what it keeps, and its surest mistakes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from batchsent.errors import Interrupted
from batchsent.reporting import Reporter
from batchsent.text import printable, shortened
from batchsent.training.checkpoints import Checkpoints, describe_position
from batchsent.training.plan import Plan, Setup
from batchsent.training.pretraining import describe_kept
from batchsent.training.seen import say_seen

# The mistakes with the highest scores that are printed at the end; the page has more.
SHOWN_MISTAKES, SHOWN_CHARACTERS = 3, 100


def say_where(checkpoints: Checkpoints, plan: Plan, reporter: Reporter) -> None:
    """Say where a training resumes, and which checkpoints it cannot use."""
    for line in checkpoints.skipped:
        reporter.notice(f"skipped: {line}")
    if checkpoints.latest is not None:
        position = describe_position(checkpoints.latest, plan.epochs)
        reporter.notice(f"resuming from {printable(checkpoints.latest)}: {position}")
    elif checkpoints.skipped and describe_kept(checkpoints.pretraining) is None:
        reporter.notice("no checkpoint is left to resume from: starting over")


@contextmanager
def say_where_it_resumes(
    checkpoints: Checkpoints | None, plan: Plan, reporter: Reporter
) -> Iterator[None]:
    """Say, when the block is stopped by a signal, from where the training will resume."""
    try:
        yield
    except Interrupted:
        if checkpoints is not None:
            kept = checkpoints.find_latest()
            found = describe_kept(checkpoints.pretraining)
            if kept is not None:
                found = f"{kept.name}, {describe_position(kept, plan.epochs)}"
            nothing = "no checkpoint was written: the same command starts over"
            reporter.notice(nothing if found is None else f"kept: {found}")
        raise


def say_result(document: dict[str, Any], setup: Setup, reporter: Reporter) -> None:
    """Say what a person should look at: rows that the base model has seen, the surest mistakes."""
    seen, rows = document.get("seen"), setup.data["eval"]["rows"]
    if seen is not None and seen["rows"]:
        reporter.warning(say_seen(seen["rows"], rows, "base model"))
    if document["training"]["kept_base"]:
        without = "" if setup.unlabelled is None else ", without the pre-training,"
        reporter.warning(
            f"what was learned from {setup.data['train']['rows']:,} rows is not clearly better "
            "than the base model on the rows held out: the folder has the base model's weights"
            f"{without} and gives its scores (label more rows; a --learning-rate that you name is "
            "obeyed)"
        )
    comparison = document.get("comparison")
    if comparison and not comparison["why_not"] and comparison["difference_interval"][1] < 0:
        reporter.warning("the base model is better on the same rows than what was made from it")
    texts = setup.splits.evaluation.by_number()
    for mistake in document.get("mistakes", [])[:SHOWN_MISTAKES]:
        text = shortened(texts[mistake["row"]], SHOWN_CHARACTERS)
        reporter.notice(
            f"mistake: row {mistake['row']:,} is labelled {printable(mistake['label'])}, the model "
            f"says {printable(mistake['predicted'])} ({mistake['score']:.2f}): {printable(text)}"
        )
