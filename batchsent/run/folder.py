"""Several inputs into one folder: each a run of its own, one summary of the whole beside them."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Sequence
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
from batchsent.filenames import check_new, exists, is_folder, is_regular
from batchsent.files.atomic import output_errors, temporary_path, write_file
from batchsent.files.deadline import Deadline
from batchsent.files.signals import Signals
from batchsent.formats.catalog import SUFFIXES
from batchsent.formats.opening import check_read_options, format_of
from batchsent.formats.streams import COMPRESSIONS
from batchsent.options import build
from batchsent.reporting import Reporter
from batchsent.run.again import saying_how_to_go_on
from batchsent.run.batch import Run
from batchsent.run.checks import check_options
from batchsent.run.models import Models, OneModel
from batchsent.run.options import BatchOptions
from batchsent.run.paths import RunPaths
from batchsent.run.plan import check_model
from batchsent.text import printable

SCHEMA = "batchsent.dumps/1"
SUMMARY_NAME = "batchsent.summary.json"
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
    """Score one input into a file, or several (or a folder of them) into a folder.

    Every file is a run of its own: what is finished already is skipped, one that fails does not
    stop the others. The model is loaded once, and only if there is something to score. Returns the
    summary of the one run, or of the whole with `files` in the order of the inputs; `exit_code` is
    3 when a file failed, and that of the first failure when all failed. Raises BatchsentError for
    what is wrong for every file (options, model, device), Interrupted on a signal, TimeUp at
    the end of the time that the options give.
    """
    settings = build(BatchOptions, options)
    reporter = reporter or Reporter()
    models = models or OneModel(settings)
    several = len(inputs) != 1 or (inputs[0] != "-" and is_folder(inputs[0]))
    deadline = Deadline.of(settings.stop_after, settings.stop_at)
    with saying_how_to_go_on(), Signals(deadline) as signals:
        if not several and not output.endswith("/") and not is_folder(output):
            check_read_options(settings, inputs)
            return Run(inputs[0], output, settings, models, reporter, signals).go()
        if settings.summary or settings.rejects or settings.disagreements:
            raise UsageError(
                "--summary, --rejects and --disagreements name one file, not one for each input",
                hint="leave them out, or score the inputs one by one",
            )
        pairs = plan_outputs(inputs, output, settings)
        folder = Path(output)
        check_apart(pairs, settings)
        check_reuse(settings, folder)
        check_read_options(settings, [source for source, _ in pairs])
        # What is wrong with the options or the model is wrong for every file: it ends the command
        # here, once.
        first, target = pairs[0]
        check_options(settings, RunPaths.of(first, str(target), settings))
        check_model(models, settings)
        if not settings.dry_run and not settings.overwrite:
            check_summary(folder / SUMMARY_NAME)
        for said in left_out(inputs):
            reporter.warning(said)
        with output_errors(folder):
            made = not exists(folder)
            folder.mkdir(exist_ok=True)
        files: list[dict[str, Any]] = []
        try:
            for source, target in pairs:
                signals.check()
                position = (len(files) + 1, len(pairs))
                files.append(
                    run_file(source, target, settings, models, reporter, signals, position)
                )
        except TimeUp as error:
            error.message += f"; {len(files)} of {len(pairs)} files are finished"
            raise
        finally:
            if settings.dry_run and made:  # each run looks whether it could write there
                folder.rmdir()
    failed = [file for file in files if file["exit_code"] not in {0, EXIT_ROWS_REJECTED}]
    rejected = [file for file in files if file["exit_code"] == EXIT_ROWS_REJECTED]
    exit_code = EXIT_ROWS_REJECTED if failed or rejected else 0
    if len(failed) == len(files):
        exit_code = failed[0]["exit_code"]
    document = {
        "schema": SCHEMA,
        "status": "complete_with_errors" if failed else "complete",
        "exit_code": exit_code,
        "rows": {
            name: sum(file["rows"][name] for file in files if file["rows"])
            for name in ("read", "scored", "blank", "rejected", "nonfinite", "written")
        },
        "files": files,
    }
    if settings.reuse:
        document["reuse"] = {
            name: sum(file["reuse"][name] for file in files if file.get("reuse"))
            for name in REUSE_COUNTS
        }
    if not settings.dry_run:
        write_file(folder / SUMMARY_NAME, (json.dumps(document, indent=1) + "\n").encode())
    return document


def run_file(
    source: str,
    target: Path,
    settings: BatchOptions,
    models: Models,
    reporter: Reporter,
    signals: Signals,
    position: tuple[int, int],
) -> dict[str, Any]:
    """Run file n of m (`position`); what goes wrong with it is reported and kept in its entry.

    It reuses the files of its output's name in the folders to reuse.
    """
    entry: dict[str, Any] = {"input": printable(source), "output": printable(target)}
    if settings.reuse:
        old = [str(Path(folder) / target.name) for folder in settings.reuse]
        there = tuple(path for path in old if exists(path))
        if not there:
            reporter.notice(f"nothing to reuse for {printable(source)}: no {printable(old[-1])}")
        settings = dataclasses.replace(settings, reuse=there)
    run = Run(source, str(target), settings, models, reporter, signals, position)
    try:
        document = run.go()
    except Interrupted:
        raise
    except (ModelError, DeviceError) as error:
        if not run.loaded:
            raise
        return entry | failed_entry(source, error, reporter)
    except BatchsentError as error:
        return entry | failed_entry(source, error, reporter)
    reporter.file_finished(document, printable(target))
    rows = document.get("rows") if isinstance(document.get("rows"), dict) else None
    reuse = document.get("run", {}).get("reuse")
    if reuse is not None:
        entry["reuse"] = {name: reuse[name] for name in REUSE_COUNTS}
    return entry | {
        "status": document["status"],
        "exit_code": document.get("exit_code", 0),
        "rows": rows,
        "error": None,
    }


def failed_entry(source: str, error: BatchsentError, reporter: Reporter) -> dict[str, Any]:
    """Report that a file failed and return what the summary of the whole says of it."""
    hint = f" ({error.hint})" if error.hint else ""
    reporter.warning(f"{printable(source)}: {error.message}{hint}", exit_code=error.exit_code)
    failure = {"message": error.message, "hint": error.hint}
    return {"status": "failed", "exit_code": error.exit_code, "rows": None, "error": failure}


def check_summary(path: Path) -> None:
    """Refuse to replace a file that is not the summary of earlier runs into this folder.

    Raises UsageError.
    """
    if not os.path.lexists(path):
        return
    own = False
    if path.is_file() and not path.is_symlink():
        with contextlib.suppress(OSError, ValueError, AttributeError):
            own = json.loads(path.read_bytes()).get("schema") == SCHEMA
    if not own:
        raise UsageError(
            f"{printable(path)} exists already and is not a summary of batchsent",
            hint="move it, choose another folder with -o, or add --overwrite to replace it",
        )


def plan_outputs(
    inputs: Sequence[str], output: str, settings: BatchOptions
) -> list[tuple[str, Path]]:
    """Return every input with its output in the folder, named alike.

    Raises UsageError for inputs that would share an output.
    """
    folder = Path(output)
    if output == "-":
        raise UsageError("several inputs do not go to stdout", hint="name a folder with -o")
    check_new(folder, temporary_path(folder))
    if exists(folder) and not is_folder(folder):
        raise UsageError(
            f"several inputs go into a folder, and {printable(output)} is a file",
            hint="name a folder with -o",
        )
    if not exists(folder) and not output.endswith("/") and is_file_name(output):
        raise UsageError(
            f"several inputs go into a folder, and {printable(output)} is the name of a file",
            hint=f"name a folder with -o; -o {printable(output)}/ makes one of this name",
        )
    if not is_folder(folder.parent):
        raise UsageError(
            f"the folder {printable(folder.parent)} does not exist", hint="make it first"
        )
    paths: list[str] = []
    for given in inputs:
        if given == "-":
            raise UsageError("stdin cannot be one of several inputs", hint="run it on its own")
        if is_folder(given) and exists(folder) and folder.samefile(given):
            # The next run would take the outputs of this one for dumps.
            raise UsageError(
                f"{printable(given)} is input and output", hint="name another folder with -o"
            )
        paths += files_in(Path(given)) if is_folder(given) else [given]
    if not paths:
        raise UsageError(
            "there is no file to score in " + ", ".join(map(printable, inputs)),
            hint="name the files",
        )
    pairs: dict[Path, str] = {}
    for path in paths:
        target = folder / output_name(Path(path).name, settings.output_format)
        if target in pairs:
            raise UsageError(
                f"{printable(path)} and {printable(pairs[target])} would both become "
                f"{printable(target)}",
                hint="score them into different folders",
            )
        pairs[target] = path
    return [(path, target) for target, path in pairs.items()]


def check_apart(pairs: Sequence[tuple[str, Path]], settings: BatchOptions) -> None:
    """Refuse inputs of which one's output is a file beside another's output. Raises UsageError."""
    outputs = {target: source for source, target in pairs}
    for source, target in pairs:
        beside = RunPaths.of(source, str(target), settings).written
        for role, path in beside.items():
            if role != "output" and path in outputs:
                raise UsageError(
                    f"{printable(path)} would be both the {role} of {printable(source)} and the "
                    f"output of {printable(outputs[path])}",
                    hint="score them into different folders",
                )


def check_reuse(settings: BatchOptions, folder: Path) -> None:
    """Refuse what no file can reuse: each takes the file of its name in a folder.

    Raises UsageError.
    """
    for given in settings.reuse:
        if not is_folder(given):
            raise UsageError(
                f"--reuse {printable(given)} is not a folder, and the outputs go into one",
                hint="name the folder with the earlier outputs, or score into a file: -o FILE",
            )
        if exists(folder) and folder.samefile(given):
            raise UsageError(
                f"{printable(given)} is both -o and --reuse", hint="name another folder with -o"
            )


def left_out(inputs: Sequence[str]) -> list[str]:
    """Say of each folder among the inputs what in it is neither a file nor hidden."""
    said = []
    for folder in (Path(given) for given in inputs if is_folder(given)):
        others = [
            path.name + ("/" if is_folder(path) else "")
            for path in sorted(folder.iterdir())
            if exists(path) and not is_regular(path) and not path.name.startswith(".")
        ]
        if others:
            shown = ", ".join(map(printable, others[:5]))
            said.append(f"{printable(folder)}: left out {len(others)} that are not files: {shown}")
    return said


def is_file_name(name: str) -> bool:
    """Tell whether a name has the suffix of a format."""
    try:
        return format_of(name, what="output") is not None
    except UsageError:
        return False


def files_in(folder: Path) -> list[str]:
    """Return the files of a folder that a format reads, by name, hidden ones left out."""
    found = []
    for path in sorted(folder.iterdir()):
        try:
            known = format_of(path.name, what="input")
        except UsageError:
            continue
        # A link to nothing is a missing dump, and is reported as such.
        there = is_regular(path) or not exists(path)
        if known and there and not path.name.startswith("."):
            found.append(str(path))
    return found


def output_name(name: str, output_format: str | None) -> str:
    """Return an input's name with the suffix of the output format, its own without one."""
    path = Path(name)
    packed = path.suffix if path.suffix.lower() in COMPRESSIONS else ""
    inner = Path(path.stem) if packed else path
    if output_format is None or SUFFIXES.get(inner.suffix.lower()) == output_format:
        return name
    return inner.stem + "." + output_format + ("" if output_format == "parquet" else packed)
