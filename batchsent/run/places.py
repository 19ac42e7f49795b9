"""Where the files of a run appear: on this machine, or in a store.

A run writes every file on this machine first and gives it its name there. For an output in a store
that is a folder of its own below the work folder, with parts and lock; `deliver` then uploads each
file as one object, which appears whole or not at all, and removes the copy.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from batchsent.filenames import cache_folder
from batchsent.files import atomic
from batchsent.files.atomic import output_errors
from batchsent.files.hashing import sha256_of
from batchsent.formats.store_outputs import OutputObject, check_output_url
from batchsent.urls import file_name


class Place(Protocol):
    """Where the files of a run appear; each is named by its path on this machine."""

    def check(self) -> None:
        """Refuse a place that no file can appear at. Raises OutputError and UsageError."""

    def ready(self) -> contextlib.AbstractContextManager[None]:
        """Make the folder that files are written in, for the block. Raises OutputError."""

    def shown(self, path: Path) -> str:
        """Return how a file is named in messages and summaries: its path, or its URL."""

    def exists(self, path: Path) -> bool:
        """Tell whether there is something with the name of a file, be it a link to nothing."""

    def is_file(self, path: Path) -> bool:
        """Tell whether there is a file of its own, not a symbolic link."""

    def read(self, path: Path) -> bytes:
        """Return the content of a small file. Raises OSError or OutputError."""

    def is_intact(self, path: Path, written: Mapping[str, Any]) -> bool:
        """Tell whether a file is what an entry of a summary's outputs says."""

    def deliver(self, path: Path) -> dict[str, str]:
        """Let a file appear that has its name on this machine.

        Returns what the summary's entry says of it beyond size and hash. Raises OutputError.
        """

    def remove(self, path: Path) -> None:
        """Remove a file, if it is there. Raises OSError or OutputError."""


class ThisMachine:
    """Files appear where they are written."""

    def check(self) -> None:
        """Refuse nothing: the paths are checked one by one."""

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """Make nothing: the folder is the user's, and must be there."""
        yield

    def shown(self, path: Path) -> str:
        """Return the path."""
        return str(path)

    def exists(self, path: Path) -> bool:
        """Tell whether there is something with this name, be it a link to nothing."""
        return os.path.lexists(path)

    def is_file(self, path: Path) -> bool:
        """Tell whether there is a file of its own, not a symbolic link."""
        return path.is_file() and not path.is_symlink()

    def read(self, path: Path) -> bytes:
        """Return the content of a small file. Raises OSError."""
        return path.read_bytes()

    def is_intact(self, path: Path, written: Mapping[str, Any]) -> bool:
        """Tell whether a file still has the size and hash that a summary gives."""
        try:
            if path.stat().st_size != written["bytes"]:
                return False
            return bool(sha256_of(path) == written["sha256"])
        except OSError:
            return False

    def deliver(self, path: Path) -> dict[str, str]:
        """Do nothing: the file has appeared."""
        return {}

    def remove(self, path: Path) -> None:
        """Remove a file durably, if it is there. Raises OSError."""
        atomic.remove(path)


class InStore(ThisMachine):
    """Files appear in a store, beside an object; those in other folders stay on this machine."""

    def __init__(self, url: str, work_folder: str | None) -> None:
        """Take the URL of the output. Raises UsageError for one that nothing is written to."""
        check_output_url(url)
        self._url, self.name = url, file_name(url)
        base = cache_folder("work") if work_folder is None else Path(work_folder)
        # Not the name of the object, which others may read in a shared folder.
        self.folder = Path(os.path.realpath(base)) / hashlib.sha256(url.encode()).hexdigest()[:16]
        self._objects: dict[str, OutputObject] = {}

    def check(self) -> None:
        """Refuse a store that cannot be written to. Raises OutputError and UsageError."""
        self._object(self.folder / self.name).check_writable()

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """Make the folder; it is removed again where it stays empty. Raises OutputError."""
        with output_errors(self.folder):
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self.folder.mkdir(mode=0o700, exist_ok=True)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                self.folder.rmdir()

    def _is_here(self, path: Path) -> bool:
        return path.parent != self.folder

    def shown(self, path: Path) -> str:
        """Return the URL of an object, the path of a file on this machine."""
        if self._is_here(path):
            return super().shown(path)
        return self._url.removesuffix(self.name) + path.name

    def _object(self, path: Path) -> OutputObject:
        url = self.shown(path)
        if url not in self._objects:
            self._objects[url] = OutputObject(url)
        return self._objects[url]

    def exists(self, path: Path) -> bool:
        """Tell whether there is an object. Raises OutputError."""
        return super().exists(path) if self._is_here(path) else self.is_file(path)

    def is_file(self, path: Path) -> bool:
        """Tell whether there is an object. Raises OutputError."""
        return super().is_file(path) if self._is_here(path) else bool(self._object(path).find())

    def read(self, path: Path) -> bytes:
        """Return a small object. Raises OutputError."""
        return super().read(path) if self._is_here(path) else self._object(path).read()

    def is_intact(self, path: Path, written: Mapping[str, Any]) -> bool:
        """Tell whether an object is what a summary says. Raises OutputError."""
        if self._is_here(path):
            return super().is_intact(path, written)
        return self._object(path).is_intact(written)

    def deliver(self, path: Path) -> dict[str, str]:
        """Upload a file and remove the copy; return its version in the store.

        Raises OutputError.
        """
        if self._is_here(path):
            return super().deliver(path)
        version = self._object(path).put(path)
        path.unlink()
        return {} if version is None else {"version": version}

    def remove(self, path: Path) -> None:
        """Remove an object, if it is there. Raises OutputError."""
        if self._is_here(path):
            super().remove(path)
        else:
            self._object(path).remove()
