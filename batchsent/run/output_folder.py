"""The folder that the outputs of several inputs go into: one of this machine, or of a store."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from batchsent.errors import UsageError
from batchsent.filenames import check_new, exists, is_folder
from batchsent.files.atomic import fsync_directory, output_errors, temporary_path, write_file
from batchsent.formats.found import WHOLE_SUMMARY, has_format
from batchsent.formats.store_outputs import check_output_store
from batchsent.formats.store_trees import folder_url
from batchsent.run.places import InStore, Place, ThisMachine
from batchsent.text import printable
from batchsent.urls import file_name, is_url

SCHEMA = "batchsent.dumps/1"
INTO_ONE = "add --source-column source to write one file, with the path of each row's input"


class OutputFolder(Protocol):
    """A folder for outputs; each is named by its path below the folder."""

    place: Place  # where the summary of the whole appears
    summary: Path  # where that is written on this machine

    def check(self) -> None:
        """Refuse what is not, and cannot become, a folder for outputs.

        Raises UsageError and OutputError.
        """

    def output(self, inside: Path) -> str:
        """Return the path or the URL of an output."""

    def made(self) -> contextlib.AbstractContextManager[None]:
        """Make the folder for the block. Raises OutputError."""

    def made_for(self, inside: Path) -> contextlib.AbstractContextManager[None]:
        """Make the folder that an output is in, for the block. Raises OutputError."""

    def identity(self, inside: Path) -> tuple[int, int] | None:
        """Return what two names of one output have in common; None where nothing is there."""


def output_folder(output: str, work_folder: str | None) -> OutputFolder:
    """Return the folder that `-o` names. Raises UsageError."""
    return StoreFolder(output, work_folder) if is_url(output) else LocalFolder(output)


class LocalFolder:
    """A folder of this machine."""

    place: Place = ThisMachine()

    def __init__(self, output: str) -> None:
        self._given, self._path = output, Path(output)
        self.summary = self._path / WHOLE_SUMMARY

    def check(self) -> None:
        """Refuse what is not, and cannot become, a folder for outputs.

        Raises UsageError and OutputError.
        """
        if self._given == "-":
            raise UsageError("several inputs do not go to stdout", hint="name a folder with -o")
        check_new(self._path, temporary_path(self._path))
        if exists(self._path) and not is_folder(self._path):
            raise UsageError(
                f"several inputs go into a folder, and {printable(self._given)} is a file",
                hint=f"name a folder with -o, or {INTO_ONE}",
            )
        if not exists(self._path):
            check_no_file_name(self._given)
        if not is_folder(self._path.parent):
            raise UsageError(
                f"the folder {printable(self._path.parent)} does not exist", hint="make it first"
            )

    def output(self, inside: Path) -> str:
        """Return the path of an output."""
        return str(self._path / inside)

    def made(self) -> contextlib.AbstractContextManager[None]:
        """Make the folder for the block; it is removed again where it stays empty."""
        return made_folder(self._path)

    def made_for(self, inside: Path) -> contextlib.AbstractContextManager[None]:
        """Make the folder that an output is in, for the block."""
        return made_folder((self._path / inside).parent)

    def identity(self, inside: Path) -> tuple[int, int] | None:
        """Return device and inode of an output; None where nothing is there."""
        path = self._path / inside
        if not exists(path):
            return None
        found = path.stat()
        return found.st_dev, found.st_ino


class StoreFolder:
    """A folder of a store, which is there as soon as an object is in it."""

    def __init__(self, output: str, work_folder: str | None) -> None:
        """Take what `-o` names. Raises UsageError for a URL that nothing is written to."""
        check_output_store(output)
        self._given, self._url = output, folder_url(output)
        self._store = InStore(self._url + WHOLE_SUMMARY, work_folder)
        self.place: Place = self._store
        self.summary = self._store.path

    def check(self) -> None:
        """Refuse a store that cannot be written to. Raises UsageError and OutputError."""
        check_no_file_name(self._given)
        self._store.check()

    def output(self, inside: Path) -> str:
        """Return the URL of an output."""
        return self._url + inside.as_posix()

    def made(self) -> contextlib.AbstractContextManager[None]:
        """Make the folder of this machine where the summary is written."""
        return self._store.ready()

    def made_for(self, inside: Path) -> contextlib.AbstractContextManager[None]:
        """Make nothing: the run of the output makes its own work folder."""
        return contextlib.nullcontext()

    def identity(self, inside: Path) -> None:
        """Return nothing: in a store no two names are of one object."""


def check_no_file_name(output: str) -> None:
    """Refuse the name of a file for a folder. Raises UsageError."""
    if file_name(output) and not output.endswith("/") and has_format(output, "output"):
        raise UsageError(
            f"several inputs go into a folder, and {printable(output)} is the name of a file",
            hint=f"name a folder with -o; -o {printable(output)}/ makes one of this name; or "
            f"{INTO_ONE}",
        )


def check_summary(folder: OutputFolder) -> None:
    """Refuse to replace a file that is not the summary of earlier runs into this folder.

    Raises UsageError, and OutputError where a store cannot be asked.
    """
    file = folder.place.file(folder.summary)
    if not file.exists():
        return
    own = False
    if file.is_file():
        with contextlib.suppress(OSError, ValueError, AttributeError):
            own = json.loads(file.read()).get("schema") == SCHEMA
    if not own:
        raise UsageError(
            f"{printable(file.name)} exists already and is not a summary of batchsent",
            hint="move it, choose another folder with -o, or add --overwrite to replace it",
        )


def write_summary(folder: OutputFolder, content: bytes) -> None:
    """Write the summary of the whole. Raises OutputError."""
    write_file(folder.summary, content)
    folder.place.file(folder.summary).deliver()


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
