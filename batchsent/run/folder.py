"""Several inputs, and trees of them, into one folder: a run each, and one summary of the whole."""

import contextlib
import json
from collections.abc import Sequence
from typing import Any

from batchsent.errors import (
    EXIT_ROWS_REJECTED,
    TimeUp,
    UsageError,
)
from batchsent.filenames import is_folder
from batchsent.files.deadline import Deadline
from batchsent.files.signals import Signals
from batchsent.formats.dumps import is_several
from batchsent.formats.found import LEFT_OUT, Found
from batchsent.formats.opening import check_read_options
from batchsent.formats.several import find_files, name_of
from batchsent.options import build
from batchsent.reporting import Reporter
from batchsent.run.again import saying_how_to_go_on
from batchsent.run.batch import Run
from batchsent.run.checks import check_options
from batchsent.run.folder_files import (
    REUSE_COUNTS,
    FolderFiles,
    failed_entry,
    run_file,
)
from batchsent.run.folder_plan import check_apart, check_reuse, plan_outputs
from batchsent.run.model_on_devices import ModelOnDevices
from batchsent.run.models import Models, OneModel
from batchsent.run.options import BatchOptions
from batchsent.run.output_folder import SCHEMA, check_summary, output_folder, write_summary
from batchsent.run.paths import RunPaths
from batchsent.run.plan import check_model
from batchsent.run.ray_cluster import check_engine, check_shared
from batchsent.run.ray_models import ClusterModels
from batchsent.text import printable
from batchsent.urls import canonical


def batch_all(
    inputs: Sequence[str],
    output: str,
    *,
    reporter: Reporter | None = None,
    models: Models | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Score one input into a file, or several (or a folder, or a pattern) into a folder.

    With `source_column` several go into one file too.

    What is below an input folder, or below the part of a pattern without wildcards, has the same
    place below the output folder. Every file is a run of its own: what is finished already is
    skipped, one that fails does not stop the others. The model is loaded once, and only if there is
    something to score. Returns the summary of the one run, or of the whole with `files` in the
    order of the inputs; `exit_code` is 3 when a file failed, and that of the first failure when all
    failed. Raises BatchsentError for what is wrong for every file (options, model, device),
    Interrupted on a signal, TimeUp at the end of the time that the options give.
    """
    settings = build(BatchOptions, options)
    reporter = reporter or Reporter()
    inputs, output = [canonical(one) for one in inputs], canonical(output)
    several = len(inputs) != 1 or is_several(inputs[0])
    into_folder = several or output.endswith("/") or is_folder(output)
    deadline = Deadline.of(settings.stop_after, settings.stop_at)
    check_engine(settings)
    if settings.source_column is None and into_folder:
        check_shared(output, settings)
    with (
        saying_how_to_go_on(inputs),
        Signals(deadline) as signals,
        contextlib.ExitStack() as stack,
    ):
        if settings.engine == "ray":
            of_worker = models or OneModel(settings)
            models = stack.enter_context(ClusterModels(of_worker, settings, reporter))
        elif models is None:
            models = stack.enter_context(contextlib.closing(ModelOnDevices(settings)))
        if settings.source_column is not None:
            return batch_into_one(inputs, output, settings, models, reporter, signals)
        if not into_folder:
            check_read_options(settings, inputs)
            return Run(inputs[0], output, settings, models, reporter, signals).go()
        return batch_into_folder(inputs, output, settings, models, reporter, signals)


def batch_into_folder(
    inputs: Sequence[str],
    output: str,
    settings: BatchOptions,
    models: Models,
    reporter: Reporter,
    signals: Signals,
) -> dict[str, Any]:
    """Score inputs into a folder, each by a run of its own; return the summary of the whole."""
    if settings.summary or settings.rejects or settings.disagreements:
        raise UsageError(
            "--summary, --rejects and --disagreements name one file, not one for each input",
            hint="leave them out, or score the inputs one by one",
        )
    folder = output_folder(output, settings.work_folder)
    folder.check()
    planned, found = plan_outputs(inputs, output, folder, settings)
    check_apart(planned, settings)
    check_reuse(settings, output)
    check_read_options(settings, [file.source for file in planned])
    # What is wrong with the options or the model is wrong for every file: it ends the command
    # here, once.
    check_options(settings, RunPaths.of(planned[0].source, planned[0].output, settings))
    check_model(models, settings)
    if not settings.dry_run and not settings.overwrite:
        check_summary(folder)
    report_left_out(found, reporter)
    of_folder = FolderFiles(planned, folder, settings, reporter)
    with folder.made():  # in a dry run too: each run looks whether it could write there
        run_files(of_folder, models, reporter, signals)
        files = of_folder.entries_in_order()
        for unread, error in found.unread:
            entry = {
                "input": printable(unread.path),
                "output": printable(folder.output(unread.inside)),
            }
            files.append(entry | failed_entry(unread.path, error, reporter))
        document = summary_of(files, found)
        if settings.reuse:
            document["reuse"] = {
                name: sum(file["reuse"][name] for file in files if file.get("reuse"))
                for name in REUSE_COUNTS
            }
        if not settings.dry_run:
            write_summary(folder, (json.dumps(document, indent=1) + "\n").encode())
    return document


def run_files(of_folder: FolderFiles, models: Models, reporter: Reporter, signals: Signals) -> None:
    """Score the files of a folder one after the other, or on a cluster.

    Raises TimeUp, which says how many are finished.
    """
    try:
        if isinstance(models, ClusterModels) and not of_folder.settings.dry_run:
            from batchsent.run.ray_files import run_on_cluster

            run_on_cluster(of_folder, models, signals)
        else:
            told: set[str] = set()  # of the model, by the file before
            for number in range(len(of_folder.planned)):
                signals.check()
                run = of_folder.begin(number)
                if run is not None:
                    of_folder.end(number, run_file(run, models, reporter, signals, told))
    except TimeUp as time_up:
        files = len(of_folder.planned)
        time_up.message += f"; {of_folder.finished()} of {files} files are finished"
        raise


def batch_into_one(
    inputs: Sequence[str],
    output: str,
    settings: BatchOptions,
    models: Models,
    reporter: Reporter,
    signals: Signals,
) -> dict[str, Any]:
    """Score several inputs into one file, in the order of their paths; return its summary."""
    if output.endswith("/") or is_folder(output):
        raise UsageError(
            f"--source-column is for one output file, and {printable(output)} is a folder",
            hint="name a file with -o, or leave out --source-column",
        )
    files, found = find_files(
        inputs,
        prefix=settings.prefix,
        input_format=settings.input_format,
        work_folder=settings.work_folder,
    )
    check_read_options(settings, [file.path for file in files])
    report_left_out(found, reporter)
    run = Run(name_of(inputs), output, settings, models, reporter, signals, files=files)
    return run.go()


def summary_of(files: list[dict[str, Any]], found: Found) -> dict[str, Any]:
    """Return the summary of the whole from the entries of its files."""
    failed = [file for file in files if file["exit_code"] not in {0, EXIT_ROWS_REJECTED}]
    rejected = [file for file in files if file["exit_code"] == EXIT_ROWS_REJECTED]
    exit_code = EXIT_ROWS_REJECTED if failed or rejected else 0
    if len(failed) == len(files):
        exit_code = failed[0]["exit_code"]
    changed = [file for file in files if file["change"]]
    return {
        "schema": SCHEMA,
        "status": "complete_with_errors" if failed or changed else "complete",
        "exit_code": exit_code,
        "rows": {
            name: sum(file["rows"][name] for file in files if file["rows"])
            for name in ("read", "scored", "blank", "rejected", "nonfinite", "written")
        },
        "left_out": {why: found.left_out[why] for why in LEFT_OUT},
        "files": files,
    }


def report_left_out(found: Found, reporter: Reporter) -> None:
    """Say what in the folders is not scored."""
    unusual = found.in_words("not_files", "linked_folders")
    if unusual:
        reporter.warning(f"left out {unusual}", left_out=dict(found.left_out))
    usual = found.in_words("other_formats", "hidden", "own")
    if usual:
        reporter.notice(f"left out {usual}", left_out=dict(found.left_out))
