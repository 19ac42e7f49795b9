"""The files of a folder: how the run of each begins, and what became of it."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
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
from batchsent.files.atomic import fsync_directory, output_errors
from batchsent.files.signals import Signals
from batchsent.reporting import Reporter
from batchsent.run.batch import Run
from batchsent.run.changed_inputs import HINTS, WatchedInputs
from batchsent.run.models import Models
from batchsent.run.options import BatchOptions
from batchsent.text import printable

# What the summary of the whole adds up of what was reused.
REUSE_COUNTS = ("reused_rows", "new_rows", "gone_rows")


@dataclass(frozen=True)
class FileRun:
    """The run of one file of several."""

    source: str
    target: Path
    settings: BatchOptions
    position: tuple[int, int]  # file n of m


class FolderFiles:
    """The files of a folder, and the entry of each in the summary of the whole."""

    def __init__(
        self,
        pairs: Sequence[tuple[str, Path]],
        folder: Path,
        settings: BatchOptions,
        reporter: Reporter,
    ) -> None:
        self.pairs, self.folder, self.settings, self.reporter = pairs, folder, settings, reporter
        self.entries: dict[int, dict[str, Any]] = {}  # by the number of the file
        self._watched = WatchedInputs()
        # the outputs of the files that are finished, by device and inode
        self._written: dict[tuple[int, int], Path] = {}

    def begin(self, number: int) -> FileRun | None:
        """Return the run of a file; None where it is refused, which its entry says then."""
        source, target = self.pairs[number]
        self._watched.add(source)
        own = with_reused(self.settings, source, target.relative_to(self.folder), self.reporter)
        try:
            check_not_written(target, self._written)
        except UsageError as error:
            self.fail(number, error)
            return None
        return FileRun(source, target, own, (number + 1, len(self.pairs)))

    def end(self, number: int, entry: dict[str, Any]) -> None:
        """Take what became of a file."""
        self.entries[number] = entry
        target = self.pairs[number][1]
        if entry["status"] != "failed" and exists(target):
            self._written[identity_of(target)] = target

    def fail(self, number: int, error: BatchsentError) -> None:
        """Take that a file failed, and report it."""
        source, target = self.pairs[number]
        self.end(number, names_of(source, target) | failed_entry(source, error, self.reporter))

    def finished(self) -> int:
        """Return how many files have an output."""
        codes = [entry["exit_code"] for entry in self.entries.values()]
        return sum(code in {0, EXIT_ROWS_REJECTED} for code in codes)

    def entries_in_order(self) -> list[dict[str, Any]]:
        """Return the entries of all files; inputs that are not what they were are noted."""
        files = [self.entries[number] for number in range(len(self.pairs))]
        for (source, _), file in zip(self.pairs, files, strict=True):
            note_change(source, file, self._watched, self.reporter)
        return files


def run_file(run: FileRun, models: Models, reporter: Reporter, signals: Signals) -> dict[str, Any]:
    """Run one file of several; what goes wrong with it is reported and kept in its entry.

    Raises ModelError and DeviceError where the model could not be loaded, and Interrupted.
    """
    entry = names_of(run.source, run.target)
    own = Run(run.source, str(run.target), run.settings, models, reporter, signals, run.position)
    try:
        with made_folder(run.target.parent):
            document = own.go()
    except Interrupted:
        raise
    except (ModelError, DeviceError) as error:
        if not own.loaded:
            raise
        return entry | failed_entry(run.source, error, reporter)
    except BatchsentError as error:
        return entry | failed_entry(run.source, error, reporter)
    reporter.file_finished(document, printable(run.target))
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


def names_of(source: str, target: Path) -> dict[str, Any]:
    """Return the names of a file in its entry."""
    return {"input": printable(source), "output": printable(target)}


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
