"""Folders of stores, with everything below them: listed once, by the names of the objects."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from batchsent.errors import InputError
from batchsent.evaluation.summary import LARGEST_BYTES
from batchsent.filenames import names_in
from batchsent.formats.objects import WAITS_S, NotThere, ObjectBytes, asked, find_object
from batchsent.formats.outputs import WORK_ENDING
from batchsent.formats.store_objects import open_store_object
from batchsent.formats.store_outputs import work_base, work_folder_of
from batchsent.formats.stores import STORES
from batchsent.formats.trees import Entry, announced_in
from batchsent.text import printable
from batchsent.urls import canonical, file_name, is_url, scheme_of

# The library of S3 takes what follows this for a version, and would read another object.
VERSION_MARK = "?versionId="


def in_store(url: str) -> bool:
    """Tell whether a URL is in a store, which lists what it has; a web server does not."""
    return scheme_of(url) in STORES


def names_folder(url: str) -> bool:
    """Tell whether the URL of something in a store can only be that of a folder."""
    return in_store(url) and not file_name(url)


def is_store_folder(url: str) -> bool:
    """Ask a store whether it has a folder of this name. Raises InputError and UsageError."""
    found = open_store_object(url)
    return asked(found.name, found.is_folder)


def is_object(url: str) -> bool:
    """Ask a store whether it has an object of this name. Raises InputError and UsageError."""
    found = open_store_object(url)
    return asked(found.name, found.find) is not None


def folder_url(url: str) -> str:
    """Return the URL of a folder as every spelling of it has it: with one slash at its end."""
    scheme, mark, rest = canonical(url).partition("://")
    return scheme + mark + rest.rstrip("/") + "/"


class StoreTree:
    """A folder of a store, as it was when it was first looked at.

    Stores have no folders: the parts of the objects' names make them. Below `work_folder` are the
    work folders of runs of this machine.
    """

    def __init__(
        self, url: str, work_folder: str | None = None, waits_s: Sequence[float] = WAITS_S
    ) -> None:
        self._url, self._waits_s, self._work_folder = folder_url(url), waits_s, work_folder
        self._sizes: dict[str, int] = {}  # of each object, by its path from here
        # what is in each folder, by name; a folder is the names that lead to it
        self._folders: dict[tuple[str, ...], dict[tuple[str, str], Entry]] = {}
        self._listed = False

    def path(self, inside: Path) -> str:
        """Return the URL of something in the tree."""
        return self._url + inside.as_posix() if inside.parts else self._url

    def entries(self, inside: Path) -> list[Entry]:
        """Return what is in a folder, by name. Raises InputError and UsageError."""
        self._list()
        found = self._folders.get(inside.parts, {})
        return [found[name] for name in sorted(found)]

    def exists(self, inside: Path) -> bool:
        """Tell whether there is an object of this name. Raises InputError and UsageError."""
        self._list()
        return inside.as_posix() in self._sizes

    def size(self, inside: Path) -> int | None:
        """Return the bytes of an object; None where it is not there."""
        return self._sizes.get(inside.as_posix())

    def read(self, inside: Path) -> bytes | None:
        """Return a summary; None where it has gone or is too large. Raises InputError."""
        if (self.size(inside) or 0) > LARGEST_BYTES:
            return None
        with suppress(NotThere):
            return read_object(self.path(inside), self._waits_s)
        return None

    def is_at(self, inside: Path, place: str) -> bool:
        """Tell whether a folder of the tree is the one at a URL."""
        return is_url(place) and folder_url(place) == folder_url(self.path(inside))

    def announced(self, inside: Path, entries: Sequence[Entry]) -> list[dict[str, Any]]:
        """Return what the work folders of outputs announce, which are on this machine."""
        there = set(names_in(work_base(self._work_folder)))
        found = []
        for entry in entries if there else ():
            folder = work_folder_of(self.path(inside / entry.name), self._work_folder)
            if folder.name in there:
                found += announced_in(folder / (entry.name + WORK_ENDING))
        return found

    def _list(self) -> None:
        if self._listed:
            return
        found = open_store_object(self._url)
        for path, size in asked(found.name, found.objects, self._waits_s):
            if path.endswith("/") and not size:
                continue  # a mark that programs make for a folder
            *folders, name = path.split("/")
            self._sizes[path] = size
            self._add(tuple(folders), name, "file")
            while folders:
                above = folders.pop()
                self._add(tuple(folders), above, "folder")
        self._listed = True

    def _add(self, folder: tuple[str, ...], name: str, kind: str) -> None:
        """Add an entry to a folder; one that no path can have, or no library can read, says so."""
        known = self._folders.setdefault(folder, {})
        if (name, kind) in known:
            return
        shown = printable(self._url + "/".join([*folder, name]))
        why = None
        if name in {"", ".", ".."}:
            why = f"{shown}{'/' if kind == 'folder' else ''} has a name that no file can have"
        elif VERSION_MARK in name:
            why = f"{shown} cannot be asked for: the library reads {VERSION_MARK} as a version"
        error = InputError(why, hint="copy it to another name") if why else None
        known[name, kind] = Entry(name, kind, error)


def read_object(url: str, waits_s: Sequence[float] = WAITS_S) -> bytes:
    """Return a small object whole. Raises InputError."""
    with ObjectBytes(find_object(url), waits_s) as stored:
        return b"".join(stored.pieces())
