"""Folders with everything below them, on this machine: what is in them, and what runs put there."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from batchsent.errors import InputError, reason
from batchsent.evaluation.summary import LARGEST_BYTES
from batchsent.filenames import exists, is_folder, is_regular
from batchsent.formats.outputs import COMMITTING, WORK_ENDING
from batchsent.text import printable
from batchsent.urls import is_url


@dataclass(frozen=True)
class Entry:
    """Something in a folder."""

    name: str
    kind: str  # file, folder, linked folder, or special (a pipe, a device)
    error: InputError | None = None  # why it cannot be used, where the listing shows that


class Tree(Protocol):
    """A folder; what is below it is named by its path from there."""

    def path(self, inside: Path) -> str:
        """Return the path or the URL of something in the tree."""

    def entries(self, inside: Path) -> list[Entry]:
        """Return what is in a folder, by name. Raises InputError where it cannot be read."""

    def exists(self, inside: Path) -> bool:
        """Tell whether there is something with this name. Raises InputError."""

    def size(self, inside: Path) -> int | None:
        """Return the bytes of a file; None where it is not there."""

    def read(self, inside: Path) -> bytes | None:
        """Return a summary; None where it cannot be read. Raises InputError where that may pass."""

    def is_at(self, inside: Path, place: str) -> bool:
        """Tell whether a folder of the tree is the one at a path or a URL."""

    def announced(self, inside: Path, entries: Sequence[Entry]) -> list[dict[str, Any]]:
        """Return the files that runs were about to write there when they were killed."""


@dataclass(frozen=True)
class LocalTree:
    """A folder of this machine."""

    top: Path

    def path(self, inside: Path) -> str:
        """Return the path of something in the tree."""
        return str(self.top / inside)

    def entries(self, inside: Path) -> list[Entry]:
        """Return what is in a folder, by name. Raises InputError where it cannot be read."""
        folder = self.top / inside
        try:
            with os.scandir(folder) as listed:
                found = [Entry(one.name, kind_of(one)) for one in listed]
        except OSError as error:
            raise InputError(
                f"{printable(folder)}: the folder cannot be read: {reason(error)}",
                hint="what is in it is not scored; give yourself the right to read it, "
                "or leave it out",
            ) from error
        return sorted(found, key=lambda entry: entry.name)

    def exists(self, inside: Path) -> bool:
        """Tell whether there is something with this name, links followed."""
        return exists(self.top / inside)

    def size(self, inside: Path) -> int | None:
        """Return the bytes of a file; None where it is not there."""
        try:
            return (self.top / inside).stat().st_size
        except OSError:
            return None

    def read(self, inside: Path) -> bytes | None:
        """Return a summary; None where it cannot be read."""
        path = self.top / inside
        if is_regular(path):
            with suppress(OSError), path.open("rb") as file:
                return file.read(LARGEST_BYTES + 1)
        return None

    def is_at(self, inside: Path, place: str) -> bool:
        """Tell whether a folder of the tree is the one at a path."""
        return not is_url(place) and exists(place) and Path(place).samefile(self.top / inside)

    def announced(self, inside: Path, entries: Sequence[Entry]) -> list[dict[str, Any]]:
        """Return what the work folders in a folder announce."""
        found = []
        for entry in entries:
            if entry.kind == "folder" and entry.name.endswith(WORK_ENDING):
                found += announced_in(self.top / inside / entry.name)
        return found


def kind_of(entry: "os.DirEntry[str]") -> str:
    """Return what an entry of a folder is; a link to nothing counts as a file."""
    # What the listing says needs no further call, which might be refused.
    if entry.is_dir(follow_symlinks=False):
        return "folder"
    if entry.is_symlink() and is_folder(entry.path):
        return "linked folder"
    if entry.is_file(follow_symlinks=False) or is_regular(entry.path) or not exists(entry.path):
        return "file"
    return "special"


def announced_in(work_folder: Path) -> list[dict[str, Any]]:
    """Return the outputs that a run was about to write when it was killed during its commit."""
    with suppress(OSError, ValueError, AttributeError):
        found = json.loads((work_folder / COMMITTING).read_bytes()).get("outputs")
        if isinstance(found, list):
            return [entry for entry in found if isinstance(entry, dict)]
    return []


def files_in(tree: Tree, inside: Path = Path()) -> Iterator[Path]:
    """Yield the files of a tree in the order of their names; no link to a folder is followed.

    Raises InputError for a folder that cannot be read.
    """
    waiting = [inside]
    while waiting:
        folder = waiting.pop()
        below = []
        for entry in tree.entries(folder):
            if entry.error is not None:
                continue
            if entry.kind == "file":
                yield folder / entry.name
            elif entry.kind == "folder":
                below.append(folder / entry.name)
        waiting += reversed(below)
