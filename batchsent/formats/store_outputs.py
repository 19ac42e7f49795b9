"""Objects that a run writes to a store: each appears whole, and is known by size and version."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from batchsent.errors import AppearedMeanwhile, InputError, OutputError, UsageError
from batchsent.filenames import cache_folder
from batchsent.files.atomic import fault
from batchsent.files.hashing import sha256_of
from batchsent.formats.objects import WAITS_S, ObjectBytes, asked
from batchsent.formats.store_objects import open_store_object
from batchsent.formats.stores import STORES, WRITTEN
from batchsent.text import printable
from batchsent.urls import file_name, scheme_of

T = TypeVar("T")

# Why no output is written to a web server, and what to do.
WEB_IS_READ_ONLY = (
    "a web server is read, and takes no files",
    "write a file, and copy it there",
)


def check_output_url(url: str) -> None:
    """Refuse a URL that no output can be written to. Raises UsageError."""
    check_output_store(url)
    if not file_name(url):
        raise UsageError(f"output {printable(url)} names no file", hint="name the file")


def check_output_store(url: str) -> None:
    """Refuse a URL that is in no store that is written to. Raises UsageError."""
    scheme = scheme_of(url) or ""
    read_only = STORES[scheme].read_only if scheme in STORES else None
    if scheme in {"http", "https"}:
        read_only = WEB_IS_READ_ONLY
    if read_only is not None:
        why, hint = read_only
        raise UsageError(f"output {printable(url)}: {why}", hint=hint)
    if scheme not in WRITTEN:
        raise UsageError(
            f"output {printable(url)}: {scheme}:// is not written to",
            hint="write a file, or use " + ", ".join(f"{known}://" for known in WRITTEN),
        )


def work_base(work_folder: str | None) -> Path:
    """Return the folder in which each output in a store has its work folder."""
    base = cache_folder("work") if work_folder is None else Path(work_folder)
    return Path(os.path.realpath(base))


def work_folder_of(url: str, work_folder: str | None) -> Path:
    """Return the folder of this machine where an output in a store is written first."""
    # Not the name of the object, which others may read in a shared folder.
    return work_base(work_folder) / hashlib.sha256(url.encode()).hexdigest()[:16]


class OutputObject:
    """An object of a store that is written, replaced and asked about.

    A lost connection is tried again after each of `waits_s` seconds. Raises OutputError, and
    UsageError where the URL or a package is wrong.
    """

    def __init__(self, url: str, waits_s: Sequence[float] = WAITS_S) -> None:
        self.name = printable(url)
        self._object, self._waits_s = open_store_object(url, to_write=True), waits_s

    def check_writable(self) -> None:
        """Refuse a bucket that is not there or not to be written to, where the store can tell."""
        self._asked(self._object.check_writable)

    def find(self) -> tuple[int, str | None] | None:
        """Return the size of the object and what tells its version; None where there is none."""
        return self._asked(self._object.find)

    def names_beside(self) -> set[str]:
        """Return the names of all objects beside this one that begin with its name, its own too."""
        return self._asked(self._object.names_beside)

    def read(self) -> bytes:
        """Return a small object whole."""

        def read() -> bytes:
            with ObjectBytes(self._object, self._waits_s) as stored:
                return b"".join(stored.pieces())

        return self._asked(read)

    def is_intact(self, entry: Mapping[str, Any]) -> bool:
        """Tell whether the object is what an entry of a summary's outputs says.

        By its size and version; where the entry has none, by its hash: it is read for that.
        """
        found = self.find()
        if found is None or found[0] != entry.get("bytes"):
            return False
        if entry.get("version") is not None:
            return bool(found[1] == entry["version"])
        return self._asked(self._sha256) == entry.get("sha256")

    def put(self, path: Path, *, new: bool = False) -> str | None:
        """Write a file as the object; return what tells its version, None where nothing does.

        Raises AppearedMeanwhile where it is `new` and there is an object with other bytes.
        """
        fault("upload")
        try:
            self._asked(lambda: self._object.put(path, new=new))
        except AppearedMeanwhile:
            # An upload whose answer was lost is tried again, and then finds itself.
            if not self.is_intact({"bytes": path.stat().st_size, "sha256": sha256_of(path)}):
                raise
        fault("uploaded")
        found = self.find()
        if found is None or found[0] != path.stat().st_size:
            raise OutputError(
                f"{self.name} is not what was written: another program has replaced it",
                hint="let one run write it, and run the same command again",
            )
        return found[1]

    def remove(self) -> None:
        """Remove the object, if it is there."""
        self._asked(self._object.remove)

    def _sha256(self) -> str:
        """Read the object once and return its hash."""
        with ObjectBytes(self._object, self._waits_s) as stored:
            for _ in stored.pieces():
                pass
            return stored.hash.hexdigest()

    def _asked(self, action: Callable[[], T]) -> T:
        """Return what an action returns, tried again where a connection is lost."""
        try:
            return asked(self.name, action, self._waits_s)
        except InputError as error:
            raise OutputError(error.message, hint=error.hint) from error
