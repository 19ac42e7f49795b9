"""Where the files of a run appear: on this machine, or in a store.

A run writes every file on this machine first and gives it its name there. For an output in a store
that is a folder of its own below the work folder, with parts and lock; `deliver` then uploads each
file as one object, which appears whole or not at all, and removes the copy.
"""

import contextlib
import copy
import functools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from batchsent.files import atomic
from batchsent.files.atomic import DiskFull, output_errors
from batchsent.files.hashing import sha256_of
from batchsent.formats.store_outputs import OutputObject, check_output_url, work_folder_of
from batchsent.urls import file_name

FULL = (
    "an output in a store is written on this machine first: make room, or name another disk with "
    "--work-folder, then run the same command again"
)


class FinalFile(Protocol):
    """A file of a run under its final name, be it there or not."""

    @property
    def name(self) -> str:
        """Its path or its URL, for messages and summaries."""

    def exists(self) -> bool:
        """Tell whether there is something with this name, be it a link to nothing."""

    def is_file(self) -> bool:
        """Tell whether there is a file of its own, not a symbolic link."""

    def read(self) -> bytes:
        """Return the content of a small file. Raises OSError or OutputError."""

    def is_intact(self, written: Mapping[str, Any]) -> bool:
        """Tell whether the file is what an entry of a summary's outputs says."""

    def deliver(self, *, new: bool = False) -> dict[str, str]:
        """Let the file appear once it has its name on this machine.

        Where it is `new` there must be none of its name. Returns what the summary's entry says of
        it beyond size and hash. Raises OutputError and AppearedMeanwhile.
        """

    def remove(self) -> None:
        """Remove the file, if it is there. Raises OSError or OutputError."""


class Place(Protocol):
    """Where the files of a run appear, each named by its path on this machine."""

    def check(self) -> None:
        """Refuse a place that no file can appear at. Raises OutputError and UsageError."""

    def ready(self) -> contextlib.AbstractContextManager[None]:
        """Make the folder that files are written in, for the block. Raises OutputError."""

    def file(self, path: Path) -> FinalFile:
        """Return the file that has, or will have, this path on this machine."""

    def seen(self) -> "Place":
        """Return this place, where what exists now is asked for at most once. Raises OutputError.

        A store takes a request for each answer otherwise, two where nothing is there.
        """


@dataclass(frozen=True)
class LocalFile:
    """A file of this machine, which appears where it is written."""

    path: Path

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    def exists(self) -> bool:
        """Tell whether there is something with this name, be it a link to nothing."""
        return os.path.lexists(self.path)

    def is_file(self) -> bool:
        """Tell whether there is a file of its own, not a symbolic link."""
        return self.path.is_file() and not self.path.is_symlink()

    def read(self) -> bytes:
        """Return the content of a small file. Raises OSError."""
        return self.path.read_bytes()

    def is_intact(self, written: Mapping[str, Any]) -> bool:
        """Tell whether the file still has the size and hash that a summary gives."""
        try:
            if self.path.stat().st_size != written["bytes"]:
                return False
            return bool(sha256_of(self.path) == written["sha256"])
        except OSError:
            return False

    def deliver(self, *, new: bool = False) -> dict[str, str]:
        """Do nothing: the file has appeared."""
        return {}

    def remove(self) -> None:
        """Remove the file durably, if it is there. Raises OSError."""
        atomic.remove(self.path)


class StoredFile:
    """An object of a store, which is written at `path` first."""

    def __init__(self, url: str, path: Path, *, there: bool | None = None) -> None:
        """Take where it appears, where it is written, and whether it is there, if that is known.

        A wrong URL raises UsageError when it is first used.
        """
        self.name, self._path, self._there = url, path, there

    @functools.cached_property
    def _object(self) -> OutputObject:
        return OutputObject(self.name)

    def check_writable(self) -> None:
        """Refuse a store that cannot be written to. Raises OutputError and UsageError."""
        self._object.check_writable()

    def exists(self) -> bool:
        """Tell whether there is an object. Raises OutputError."""
        return self._object.find() is not None if self._there is None else self._there

    def is_file(self) -> bool:
        """Tell whether there is an object. Raises OutputError."""
        return self.exists()

    def read(self) -> bytes:
        """Return a small object. Raises OutputError."""
        return self._object.read()

    def is_intact(self, written: Mapping[str, Any]) -> bool:
        """Tell whether the object is what a summary says. Raises OutputError."""
        return self._object.is_intact(written)

    def deliver(self, *, new: bool = False) -> dict[str, str]:
        """Upload the file and remove the copy here; return its version in the store.

        Raises OutputError, and AppearedMeanwhile where it is `new` and there is an object.
        """
        version = self._object.put(self._path, new=new)
        self._path.unlink()
        return {} if version is None else {"version": version}

    def remove(self) -> None:
        """Remove the object, if it is there. Raises OutputError."""
        self._object.remove()


class ThisMachine:
    """Files appear where they are written."""

    def check(self) -> None:
        """Refuse nothing: the paths are checked one by one."""

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """Make nothing: the folder is the user's, and must be there."""
        yield

    def file(self, path: Path) -> FinalFile:
        """Return the file at a path."""
        return LocalFile(path)

    def seen(self) -> Place:
        """Return this place: asking costs nothing."""
        return self


class InStore:
    """Files appear in a store, beside an object; those in other folders stay on this machine."""

    def __init__(self, url: str, work_folder: str | None) -> None:
        """Take the URL of the output. Raises UsageError for one that nothing is written to."""
        check_output_url(url)
        self._url, self._name = url, file_name(url)
        self._folder = work_folder_of(url, work_folder)
        self._names: set[str] | None = None  # of what is there, where it was asked for
        self._files: dict[str, StoredFile] = {}

    @property
    def path(self) -> Path:
        """Where the output is written on this machine."""
        return self._folder / self._name

    def check(self) -> None:
        """Refuse a store that cannot be written to. Raises OutputError and UsageError."""
        self._stored(self._name).check_writable()

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """Make the folder; it is removed again where it stays empty. Raises OutputError."""
        try:
            with output_errors(self._folder):
                self._folder.parent.mkdir(parents=True, exist_ok=True)
                self._folder.mkdir(mode=0o700, exist_ok=True)
            yield
        except DiskFull as error:
            error.hint = FULL
            raise
        finally:
            with contextlib.suppress(OSError):
                self._folder.rmdir()

    def file(self, path: Path) -> FinalFile:
        """Return the object of a file in the folder; any other file is of this machine."""
        return self._stored(path.name) if path.parent == self._folder else LocalFile(path)

    def seen(self) -> Place:
        """Return this place as it is now, by one listing. Raises OutputError."""
        found = copy.copy(self)
        found._names, found._files = OutputObject(self._url).names_beside(), {}
        return found

    def _stored(self, name: str) -> StoredFile:
        if name not in self._files:
            url = self._url.removesuffix(self._name) + name
            # In the folder a run puts nothing but what begins with the name of its output.
            there = None if self._names is None else name in self._names
            self._files[name] = StoredFile(url, self._folder / name, there=there)
        return self._files[name]
