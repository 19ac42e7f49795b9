"""`batchsent batch` as a function: one input into a file, or several into a folder."""

from collections.abc import Sequence
from os import PathLike, fspath
from typing import Any

from batchsent.commands.summary import Summary
from batchsent.reporting import Reporter
from batchsent.run.folder import batch_all
from batchsent.run.models import Models


def batch(
    input: str | PathLike[str] | Sequence[str | PathLike[str]],  # noqa: A002 (what it is)
    output: str | PathLike[str],
    *,
    reporter: Reporter | None = None,
    models: Models | None = None,
    **options: Any,
) -> Summary:
    """Score the reviews of a file and write the same rows with a label and a score each.

    `input` is a path, a folder or a list of them, `output` a path, or a folder for several inputs;
    `-` is stdin or stdout. The options are those of BatchOptions. `models` gives the model in place
    of `model`, for programs and tests. Returns the summary that is written beside the output; its
    `status` is complete, or up_to_date when the output was there already, made of the same input by
    the same model and options. Several inputs have one summary, with `files`. Rerun after an
    interruption, it resumes where the first run stopped and writes the same bytes. Raises
    BatchsentError.
    """
    inputs = [input] if isinstance(input, str | PathLike) else input
    document = batch_all(
        [fspath(path) for path in inputs],
        fspath(output),
        reporter=reporter,
        models=models,
        **options,
    )
    return Summary(document)
