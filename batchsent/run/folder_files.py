"""The files of a folder: how the run of each begins, and what became of it."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchsent.errors import (
    EXIT_ROWS_REJECTED,
    BatchsentError,
    DeviceError,
    Interrupted,
    ModelError,
    UsageError,
)
from batchsent.filenames import exists
from batchsent.files.signals import Signals
from batchsent.reporting import Reporter
from batchsent.run.batch import Run
from batchsent.run.changed_inputs import HINTS, WatchedInputs
from batchsent.run.folder_plan import Planned
from batchsent.run.models import Models
from batchsent.run.options import BatchOptions
from batchsent.run.output_folder import OutputFolder
from batchsent.text import printable

# What the summary of the whole adds up of what was reused.
REUSE_COUNTS = ("reused_rows", "new_rows", "gone_rows")


@dataclass(frozen=True)
class FileRun:
    """The run of one file of several."""

    file: Planned
    folder: OutputFolder
    settings: BatchOptions
    position: tuple[int, int]  # file n of m


class FolderFiles:
    """The files of a folder, and the entry of each in the summary of the whole."""

    def __init__(
        self,
        planned: Sequence[Planned],
        folder: OutputFolder,
        settings: BatchOptions,
        reporter: Reporter,
    ) -> None:
        self.planned, self.folder = planned, folder
        self.settings, self.reporter = settings, reporter
        self.entries: dict[int, dict[str, Any]] = {}  # by the number of the file
        self._watched = WatchedInputs()
        # the outputs of the files that are finished, by `OutputFolder.identity`
        self._written: dict[tuple[int, int], str] = {}

    def begin(self, number: int) -> FileRun | None:
        """Return the run of a file; None where it is refused, which its entry says then."""
        file = self.planned[number]
        self._watched.add(file.source)
        own = with_reused(self.settings, file, self.reporter)
        identity = self.folder.identity(file.inside)
        same = None if identity is None else self._written.get(identity)
        if same is not None:  # by a link, or where case is ignored
            error = UsageError(
                f"its output {printable(file.output)} is the same file as {printable(same)}",
                hint="score them into different folders",
            )
            self.fail(number, error)
            return None
        return FileRun(file, self.folder, own, (number + 1, len(self.planned)))

    def end(self, number: int, entry: dict[str, Any]) -> None:
        """Take what became of a file."""
        self.entries[number] = entry
        file = self.planned[number]
        identity = self.folder.identity(file.inside)
        if entry["status"] != "failed" and identity is not None:
            self._written[identity] = file.output

    def fail(self, number: int, error: BatchsentError) -> None:
        """Take that a file failed, and report it."""
        file = self.planned[number]
        self.end(number, names_of(file) | failed_entry(file.source, error, self.reporter))

    def finished(self) -> int:
        """Return how many files have an output."""
        codes = [entry["exit_code"] for entry in self.entries.values()]
        return sum(code in {0, EXIT_ROWS_REJECTED} for code in codes)

    def entries_in_order(self) -> list[dict[str, Any]]:
        """Return the entries of all files; inputs that are not what they were are noted."""
        entries = [self.entries[number] for number in range(len(self.planned))]
        for file, entry in zip(self.planned, entries, strict=True):
            note_change(file.source, entry, self._watched, self.reporter)
        return entries


def run_file(
    run: FileRun,
    models: Models,
    reporter: Reporter,
    signals: Signals,
    told: set[str] | None = None,
) -> dict[str, Any]:
    """Run one file of several; what goes wrong with it is reported and kept in its entry.

    `told` is what the file before said of the model; it becomes what this one says.
    Raises ModelError and DeviceError where the model could not be loaded, and Interrupted.
    """
    entry, source, output = names_of(run.file), run.file.source, run.file.output
    own = Run(source, output, run.settings, models, reporter, signals, run.position, told=told)
    try:
        with run.folder.made_for(run.file.inside):
            document = own.go()
    except Interrupted:
        raise
    except (ModelError, DeviceError) as error:
        if not own.loaded:
            raise
        return entry | failed_entry(source, error, reporter)
    except BatchsentError as error:
        return entry | failed_entry(source, error, reporter)
    reporter.file_finished(document, printable(output))
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


def names_of(file: Planned) -> dict[str, Any]:
    """Return the names of a file in its entry."""
    return {"input": printable(file.source), "output": printable(file.output)}


def with_reused(settings: BatchOptions, file: Planned, reporter: Reporter) -> BatchOptions:
    """Return the options of one file: it reuses what has its output's place in the folders."""
    if not settings.reuse:
        return settings
    old = [str(Path(folder) / file.inside) for folder in settings.reuse]
    there = tuple(path for path in old if exists(path))
    if not there:
        reporter.notice(f"nothing to reuse for {printable(file.source)}: no {printable(old[-1])}")
    return dataclasses.replace(settings, reuse=there)


def failed_entry(source: str, error: BatchsentError, reporter: Reporter) -> dict[str, Any]:
    """Report that a file failed and return what the summary of the whole says of it."""
    hint = f" ({error.hint})" if error.hint else ""
    name = printable(source)
    # Most messages begin with the file.
    said = error.message if error.message.startswith(name) else f"{name}: {error.message}"
    reporter.warning(f"{said}{hint}", exit_code=error.exit_code)
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
    if file["status"] not in {"complete", "up_to_date"}:
        return  # of a run that failed the reason is known
    try:
        change = watched.change(source)
    except BatchsentError as error:
        reporter.warning(f"it is not known whether it changed after it was scored: {error.message}")
        return
    if change is None:
        return
    file["change"] = change
    file["exit_code"] = EXIT_ROWS_REJECTED
    reporter.warning(
        f"{printable(source)} {change} after it was scored ({HINTS[change]})",
        exit_code=EXIT_ROWS_REJECTED,
    )
