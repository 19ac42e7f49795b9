"""`batchsent batch` as a function: files into files, a frame into a frame."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike, fspath
from typing import Any

import pyarrow as pa

from batchsent.commands.summary import Summary
from batchsent.errors import UsageError
from batchsent.formats.frames import is_frame, text_column_of
from batchsent.options import build
from batchsent.reporting import Reporter
from batchsent.run.folder import batch_all
from batchsent.run.models import Models, OneModel
from batchsent.run.options import BatchOptions, NamedFrameOptions
from batchsent.run.streaming import score_frame


def batch(
    input: str | PathLike[str] | Sequence[str | PathLike[str]] | Any,  # noqa: A002 (what it is)
    output: str | PathLike[str] | None = None,
    *,
    reporter: Reporter | None = None,
    models: Models | None = None,
    **options: Any,
) -> Any:
    """Score the reviews of a file and write the same rows with a label and a score each.

    `input` is a path, a URL, a folder or a list of them, `output` a path, or a folder for several
    inputs; `-` is stdin or stdout. The options are those of BatchOptions. `models` gives the model
    in place of `model`, for programs and tests. Returns the summary that is written beside the
    output; its `status` is complete, or up_to_date when the output was there already, made of the
    same input by the same model and options. Several inputs have one summary, with `files`. Rerun
    after an interruption, it resumes where the first run stopped and writes the same bytes.

    A frame has no `output`: what is returned is a frame of the same kind, as of `score_frame` of a
    loaded model. The options about files are refused then. Raises BatchsentError.
    """
    if is_frame(input):
        return batch_frame(input, output, reporter=reporter, models=models, **options)
    paths = [input] if isinstance(input, str | PathLike) else input
    if isinstance(paths, Iterable) and not isinstance(paths, Mapping):
        paths = list(paths)
    if not isinstance(paths, list) or not all(isinstance(one, str | PathLike) for one in paths):
        raise UsageError(
            f"batch takes a path, a list of paths or a frame, not {type(input).__name__}",
            hint="to score texts of your own, use load(model).predict(texts)",
        )
    if output is None:
        raise UsageError(
            "the files need an output",
            hint="name it: batch(input, output); stream(input) gives the rows to your program",
        )
    if is_frame(options.get("reuse")):
        raise UsageError(
            "reuse takes the path of an earlier run's output, not a frame",
            hint="give the path of the file that batch wrote; its summary must be beside it",
        )
    document = batch_all(
        [fspath(path) for path in paths],
        fspath(output),
        reporter=reporter,
        models=models,
        **options,
    )
    return Summary(document)


def batch_frame(
    frame: Any,
    output: str | PathLike[str] | None,
    *,
    reporter: Reporter | None,
    models: Models | None,
    **options: Any,
) -> Any:
    """Return a frame of the same kind with a label and a score in each row.

    Raises UsageError for an option about files.
    """
    if output is not None:
        raise UsageError(
            "a frame is scored into a frame, not into a file",
            hint="leave out the output, and write the frame that is returned",
        )
    if reporter is not None and isinstance(frame, pa.RecordBatchReader):
        raise UsageError(
            "the rows of a reader are scored when they are read, after batch has returned",
            hint="leave out progress and reporter",
        )
    if "text_column" in options:
        options["text_column"] = text_column_of(frame, options["text_column"])
    settings = build(BatchOptions, options)
    taken = {field.name for field in dataclasses.fields(NamedFrameOptions)}
    for field in dataclasses.fields(settings):
        if field.name not in taken and getattr(settings, field.name) != field.default:
            raise UsageError(
                f"{field.name} is an option for files, not for frames", hint="leave it out"
            )
    return score_frame(frame, models or OneModel(settings), settings, reporter)
