"""Objects that a run writes to a store: each appears whole, and is known by what the store says."""

import contextlib
import hashlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from batchsent.errors import InputError, OutputError, UsageError
from batchsent.evaluation import summary as summaries
from batchsent.files.atomic import fault
from batchsent.formats.objects import WAITS_S, Lost, ObjectBytes, find_object
from batchsent.formats.store_objects import open_store_object
from batchsent.text import printable
from batchsent.urls import file_name, scheme_of

T = TypeVar("T")

# Schemes that are read and not written: why, and what to do.
READ_ONLY = {
    "http": ("a web server is read, and takes no files", "write a file, and copy it there"),
    "https": ("a web server is read, and takes no files", "write a file, and copy it there"),
    "hf": (
        "a file of the Hub is a commit, which is not made here",
        "write a file, and upload it: hf upload OWNER/NAME FILE",
    ),
}
WRITTEN = ("s3", "gs", "abfs")


def check_output_url(url: str) -> None:
    """Refuse a URL that no output can be written to. Raises UsageError."""
    scheme = scheme_of(url) or ""
    if scheme in READ_ONLY:
        why, hint = READ_ONLY[scheme]
        raise UsageError(f"output {printable(url)}: {why}", hint=hint)
    if scheme not in WRITTEN:
        raise UsageError(
            f"output {printable(url)}: {scheme}:// is not written to",
            hint="write a file, or use " + ", ".join(f"{known}://" for known in WRITTEN),
        )
    if not file_name(url):
        raise UsageError(f"output {printable(url)} names no file", hint="name the file")


class OutputObject:
    """An object of a store that is written, replaced and asked about.

    A lost connection is tried again after each of `waits_s` seconds. Raises OutputError, and
    UsageError where the URL or a package is wrong.
    """

    def __init__(self, url: str, waits_s: Sequence[float] = WAITS_S) -> None:
        self.name = printable(url)
        self._object, self._waits_s = open_store_object(url), waits_s

    def check_writable(self) -> None:
        """Refuse a bucket that is not there or not to be written to, where the store can tell."""
        self._asked(self._object.check_writable)

    def find(self) -> tuple[int, str | None] | None:
        """Return the size of the object and what tells its version; None where there is none."""
        return self._asked(self._object.find)

    def read(self) -> bytes:
        """Return a small object whole."""
        return b"".join(self._pieces())

    def is_intact(self, entry: Mapping[str, Any]) -> bool:
        """Tell whether the object is what an entry of a summary's outputs says.

        By its size and version; where the entry has none, by its hash: it is read for that.
        """
        found = self.find()
        if found is None or found[0] != entry.get("bytes"):
            return False
        if entry.get("version") is not None:
            return bool(found[1] == entry["version"])
        content = hashlib.sha256()
        for piece in self._pieces():
            content.update(piece)
        return bool(content.hexdigest() == entry.get("sha256"))

    def put(self, path: Path) -> str | None:
        """Write a file as the object; return what tells its version, None where nothing does."""
        fault("upload")
        self._asked(lambda: self._object.put(path))
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

    def _pieces(self) -> list[bytes]:
        def read() -> list[bytes]:
            with ObjectBytes(self._object, self._waits_s) as stored:
                return list(iter(lambda: stored.read(1 << 20), b""))

        return self._asked(read)

    def _asked(self, action: Callable[[], T]) -> T:
        """Return what an action returns, tried again where a connection is lost."""
        for wait_s in (*self._waits_s, None):
            try:
                return action()
            except Lost as lost:
                if wait_s is None:
                    raise OutputError(
                        f"{self.name}: {lost.why} ({len(self._waits_s) + 1} attempts)",
                        hint="run the same command again later: scores that are kept are not "
                        "computed again",
                    ) from lost
                time.sleep(max(wait_s, lost.wait_s))
            except InputError as error:
                raise OutputError(error.message, hint=error.hint) from error
        raise AssertionError("not reached")


def fetch_output(url: str, folder: Path, summary: str | None = None) -> Path:
    """Copy an output with its summary, rejects and tables into a folder; return the output's path.

    `summary` is that of the run where it is another file. Raises InputError.
    """
    name = file_name(url)
    base = url.removesuffix(name)
    names = [name, f"{name}.summary.json", f"{name}.rejects.csv"]
    if summary is None:
        fetch(f"{base}{names[1]}", folder / names[1])
        summary = str(folder / names[1])
    with contextlib.suppress(InputError, LookupError, TypeError):
        names += [Path(str(entry["path"])).name for entry in summaries.read(summary)["outputs"]]
    for other in dict.fromkeys(names):
        if not (folder / other).exists():
            fetch(base + other, folder / other)
    return folder / name


def fetch(url: str, path: Path) -> None:
    """Copy an object to a file, if it is there. Raises InputError."""
    if OutputObject(url).find() is None:
        return
    with ObjectBytes(find_object(url)) as stored, path.open("wb") as file:
        shutil.copyfileobj(stored, file, 1 << 20)
