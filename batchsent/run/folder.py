"""Several inputs, and trees of them, into one folder: a run each, and one summary of the whole."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from batchsent.errors import (
    EXIT_ROWS_REJECTED,
    BatchsentError,
    DeviceError,
    Interrupted,
    ModelError,
    TimeUp,
    UsageError,
)
from batchsent.filenames import exists, is_folder
from batchsent.files.atomic import fsync_directory, output_errors, write_file
from batchsent.files.deadline import Deadline
from batchsent.files.signals import Signals
from batchsent.formats.dumps import LEFT_OUT, WHOLE_SUMMARY, Found, is_several
from batchsent.formats.opening import check_read_options
from batchsent.formats.several import find_files, name_of
from batchsent.options import build
from batchsent.reporting import Reporter
from batchsent.run.again import saying_how_to_go_on
from batchsent.run.batch import Run
from batchsent.run.changed_inputs import HINTS, WatchedInputs
from batchsent.run.checks import check_options
from batchsent.run.folder_plan import (
    SCHEMA,
    check_apart,
    check_reuse,
    check_summary,
    plan_outputs,
)
from batchsent.run.models import Models, OneModel
from batchsent.run.options import BatchOptions
from batchsent.run.paths import RunPaths
from batchsent.run.plan import check_model
from batchsent.text import printable

# What the summary of the whole adds up of what was reused.
REUSE_COUNTS = ("reused_rows", "new_rows", "gone_rows")


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
    models = models or OneModel(settings)
    several = len(inputs) != 1 or is_several(inputs[0])
    deadline = Deadline.of(settings.stop_after, settings.stop_at)
    with saying_how_to_go_on(inputs), Signals(deadline) as signals:
        if settings.source_column is not None:
            return batch_into_one(inputs, output, settings, models, reporter, signals)
        if not several and not output.endswith("/") and not is_folder(output):
            check_read_options(settings, inputs)
            return Run(inputs[0], output, settings, models, reporter, signals).go()
        if settings.summary or settings.rejects or settings.disagreements:
            raise UsageError(
                "--summary, --rejects and --disagreements name one file, not one for each input",
                hint="leave them out, or score the inputs one by one",
            )
        folder = Path(output)
        pairs, found = plan_outputs(inputs, output, settings)
        check_apart(pairs, settings)
        check_reuse(settings, folder)
        check_read_options(settings, [source for source, _ in pairs])
        # What is wrong with the options or the model is wrong for every file: it ends the command
        # here, once.
        first, target = pairs[0]
        check_options(settings, RunPaths.of(first, str(target), settings))
        check_model(models, settings)
        if not settings.dry_run and not settings.overwrite:
            check_summary(folder / WHOLE_SUMMARY)
        report_left_out(found, reporter)
        files: list[dict[str, Any]] = []
        watched = WatchedInputs()
        written: dict[tuple[int, int], Path] = {}
        with made_folder(folder):  # in a dry run too: each run looks whether it could write there
            try:
                for source, target in pairs:
                    signals.check()
                    watched.add(source)
                    own = with_reused(settings, source, target.relative_to(folder), reporter)
                    position = (len(files) + 1, len(pairs))
                    files.append(
                        run_file(source, target, own, models, reporter, signals, position, written)
                    )
            except TimeUp as time_up:
                done = [file for file in files if file["exit_code"] in {0, EXIT_ROWS_REJECTED}]
                time_up.message += f"; {len(done)} of {len(pairs)} files are finished"
                raise
            for (source, _), file in zip(pairs, files, strict=True):
                note_change(source, file, watched, reporter)
            for unread, error in found.unread:
                entry = {
                    "input": printable(unread.path),
                    "output": printable(folder / unread.inside),
                }
                files.append(entry | failed_entry(unread.path, error, reporter))
            document = summary_of(files, found)
            if settings.reuse:
                document["reuse"] = {
                    name: sum(file["reuse"][name] for file in files if file.get("reuse"))
                    for name in REUSE_COUNTS
                }
            if not settings.dry_run:
                write_file(folder / WHOLE_SUMMARY, (json.dumps(document, indent=1) + "\n").encode())
    return document


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
    files, found = find_files(inputs, prefix=settings.prefix, input_format=settings.input_format)
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


def run_file(
    source: str,
    target: Path,
    settings: BatchOptions,
    models: Models,
    reporter: Reporter,
    signals: Signals,
    position: tuple[int, int],
    written: dict[tuple[int, int], Path],
) -> dict[str, Any]:
    """Run file n of m (`position`); what goes wrong with it is reported and kept in its entry.

    `written` are the outputs of the files before it, by device and inode.
    """
    entry: dict[str, Any] = {"input": printable(source), "output": printable(target)}
    run = Run(source, str(target), settings, models, reporter, signals, position)
    try:
        check_not_written(target, written)
        with made_folder(target.parent):
            document = run.go()
    except Interrupted:
        raise
    except (ModelError, DeviceError) as error:
        if not run.loaded:
            raise
        return entry | failed_entry(source, error, reporter)
    except BatchsentError as error:
        return entry | failed_entry(source, error, reporter)
    if exists(target):
        written[identity_of(target)] = target
    reporter.file_finished(document, printable(target))
    rows = document.get("rows") if isinstance(document.get("rows"), dict) else None
    reuse = document.get("run", {}).get("reuse")
    if reuse is not None:
        entry["reuse"] = {name: reuse[name] for name in REUSE_COUNTS}
    return entry | {
        "status": document["status"],
        "exit_code": document.get("exit_code", 0),
        "rows": rows,
        "change": None,
        "error": None,
    }


def with_reused(
    settings: BatchOptions, source: str, inside: Path, reporter: Reporter
) -> BatchOptions:
    """Return the options of one file: it reuses what has its output's place in the folders."""
    if not settings.reuse:
        return settings
    old = [str(Path(folder) / inside) for folder in settings.reuse]
    there = tuple(path for path in old if exists(path))
    if not there:
        reporter.notice(f"nothing to reuse for {printable(source)}: no {printable(old[-1])}")
    return dataclasses.replace(settings, reuse=there)


def failed_entry(source: str, error: BatchsentError, reporter: Reporter) -> dict[str, Any]:
    """Report that a file failed and return what the summary of the whole says of it."""
    hint = f" ({error.hint})" if error.hint else ""
    reporter.warning(f"{printable(source)}: {error.message}{hint}", exit_code=error.exit_code)
    return {
        "status": "failed",
        "exit_code": error.exit_code,
        "rows": None,
        "change": None,
        "error": {"message": error.message, "hint": error.hint},
    }


def note_change(
    source: str, file: dict[str, Any], watched: WatchedInputs, reporter: Reporter
) -> None:
    """Report an input that is not what it was when its run began, and note it in its entry."""
    change = watched.change(source)
    if change is None or file["status"] not in {"complete", "up_to_date"}:
        return  # of a run that failed the reason is known
    file["change"] = change
    file["exit_code"] = EXIT_ROWS_REJECTED
    reporter.warning(
        f"{printable(source)} {change} after it was scored ({HINTS[change]})",
        exit_code=EXIT_ROWS_REJECTED,
    )


@contextlib.contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """Make a folder and those above it that are missing; those that stay empty are removed again.

    Raises OutputError.
    """
    missing = []
    above = folder
    while not exists(above):
        missing.append(above)
        above = above.parent
    try:
        with output_errors(folder):
            for new in reversed(missing):
                new.mkdir(exist_ok=True)
                fsync_directory(new.parent)
        yield
    finally:
        for new in missing:
            with contextlib.suppress(OSError):
                new.rmdir()


def identity_of(path: Path) -> tuple[int, int]:
    """Return what two names of one file have in common."""
    found = path.stat()
    return found.st_dev, found.st_ino


def check_not_written(target: Path, written: dict[tuple[int, int], Path]) -> None:
    """Refuse an output that is that of a file before it: by a link, or where case is ignored.

    Raises UsageError.
    """
    taken = written.get(identity_of(target)) if exists(target) else None
    if taken is not None:
        raise UsageError(
            f"its output {printable(target)} is the same file as {printable(taken)}",
            hint="score them into different folders",
        )


def report_left_out(found: Found, reporter: Reporter) -> None:
    """Say what in the folders is not scored."""
    unusual = found.in_words("not_files", "linked_folders")
    if unusual:
        reporter.warning(f"left out {unusual}", left_out=dict(found.left_out))
    usual = found.in_words("other_formats", "hidden", "own")
    if usual:
        reporter.notice(f"left out {usual}", left_out=dict(found.left_out))
