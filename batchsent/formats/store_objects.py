"""Objects of S3, Google Cloud Storage, Azure and the Hub, through the file systems of fsspec."""

import asyncio
import contextlib
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from batchsent.errors import AppearedMeanwhile, BatchsentError, InputError, UsageError
from batchsent.formats.objects import Changed, Lost, NotThere
from batchsent.formats.stores import STORES
from batchsent.text import first_line, printable
from batchsent.urls import canonical, scheme_of

T = TypeVar("T")

# By which name the stores tell the version of an object, the best first.
VERSIONS = ("ETag", "etag", "generation", "blob_id", "LastModified", "last_modified")
# A request each; the first is small, for those who look at the beginning only.
FIRST_BLOCK_BYTES, BLOCK_BYTES = 256 << 10, 8 << 20


def open_store_object(url: str, *, to_write: bool = False) -> "StoreObject":
    """Return the object that a URL of a store names. Raises UsageError where a package lacks."""
    import fsspec

    url = canonical(url)
    scheme = scheme_of(url) or ""
    store = STORES[scheme]
    try:
        importlib.import_module(store.package)
        # Not url_to_fs, for which a key with :: in it is two URLs.
        kind = fsspec.get_filesystem_class(scheme)
        system = kind(**kind._get_kwargs_from_urls(url))
        path = kind._strip_protocol(url)
    except ImportError as error:
        raise UsageError(
            f"{printable(url)}: {scheme}:// requires {store.package}",
            hint='install it: pip install "batchsent[stores]"',
        ) from error
    except ValueError as error:
        raise UsageError(f"{printable(url)}: {first_line(error)}", hint="check the URL") from error
    loop = getattr(system, "loop", None)
    if loop is not None and loop.get_exception_handler() is None:
        loop.set_exception_handler(pass_over_lost_connections)
    hint = store.access if to_write else store.access + store.public
    return StoreObject(url, system, path, hint)


def pass_over_lost_connections(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say nothing of a connection that the other side has closed: the request itself tells.

    aiohttp leaves it in a task that nobody asks, which Python prints with a traceback.
    """
    if not isinstance(context.get("exception"), ConnectionResetError):
        loop.default_exception_handler(context)


class StoreObject:
    """An object, or a folder, at a path of a file system of fsspec.

    `hint` is what a user without access does.
    """

    def __init__(self, url: str, system: Any, path: str, hint: str) -> None:
        self.name = printable(url)
        self._system, self._path, self._hint = system, path, hint
        self._is_s3 = scheme_of(url) == "s3"

    def connect(self, start: int = 0, end: int | None = None) -> "StoreBody":
        """Begin to read at `start`, up to `end`. Raises Lost or InputError."""
        size, version = self.look()
        return StoreBody(self, start, size if end is None else min(end, size), size, version)

    def look(self) -> tuple[int, str | None]:
        """Ask for the size and the version of the object. Raises Lost or InputError."""
        found = self._translated(self._info)
        if found.get("type") == "directory" or found.get("size") is None:
            raise UsageError(
                f"{self.name} is a folder", hint="end its name with / to read the files in it"
            )
        return told_of(found)

    def find(self) -> tuple[int, str | None] | None:
        """Return size and version as `look`, None where there is no object. Raises Lost."""

        def ask() -> Any:
            with contextlib.suppress(FileNotFoundError):
                return self._info()
            return None

        found = self._translated(ask)
        if found is None or found.get("type") == "directory" or found.get("size") is None:
            return None
        return told_of(found)

    def is_folder(self) -> bool:
        """Tell whether there is a folder of this name. Raises Lost or InputError."""
        return bool(self._translated(self._info).get("type") == "directory")

    def objects(self) -> list[tuple[str, int]]:
        """Return what follows the path of this folder in the path of each object in it, with sizes.

        So `a.csv`, `sub/b.csv`. Raises Lost or InputError.
        """

        def ask() -> list[tuple[str, int]]:
            self._system.invalidate_cache()
            found = self._system.find(self._path, detail=True)
            self._system.invalidate_cache()  # it may be large
            top = f"{self._path}/" if self._path else ""
            return [
                (path.removeprefix(top), int(entry.get("size") or 0))
                for path, entry in found.items()
                if path.startswith(top)  # not an object with the name of the folder
            ]

        return self._translated(ask)

    def names_beside(self) -> set[str]:
        """Return the names of all objects beside this one that begin with its name, its own too.

        Raises Lost or InputError.
        """
        folder, _, name = self._path.rpartition("/")

        def ask() -> set[str]:
            self._system.invalidate_cache()
            found = self._system.find(folder, prefix=name)
            return {path.removeprefix(f"{folder}/") for path in found}

        return self._translated(ask)

    def _info(self) -> Any:
        self._system.invalidate_cache()
        return self._system.info(self._path)

    def check_writable(self) -> None:
        """Begin to write the object and stop again, which changes nothing.

        Raises Lost, InputError, and UsageError where there is no bucket.

        In S3 only: it is not known of the other stores that nothing changes.
        """
        if not self._is_s3:
            return

        def begin() -> None:
            file = self._system.open(self._path, "wb", autocommit=False)
            try:
                file.flush(force=True)
                file.discard()
            except FileNotFoundError as error:
                raise UsageError(
                    f"{self.name}: there is no such bucket", hint="check the spelling, or make it"
                ) from error
            finally:
                file.closed = True  # else it would be tried again once nobody has the file

        self._translated(begin)

    def put(self, path: Path, *, new: bool = False) -> None:
        """Write a file as the object, which appears whole or not at all.

        Raises Lost, and AppearedMeanwhile where it is `new` and there is an object.
        """
        # s3fs uploads ten parts at a time, of 50 MB each by default: so they take 80 MB, not 500.
        more: dict[str, Any] = {"chunksize": BLOCK_BYTES} if self._is_s3 else {}
        if new and self._is_s3:
            more["mode"] = "create"  # refused by the store itself, at the end of the upload
        if new and self.find() is not None:
            raise AppearedMeanwhile(self.name)
        try:
            self._translated(lambda: self._system.put_file(str(path), self._path, **more))
        except FileExistsError as error:
            raise AppearedMeanwhile(self.name) from error

    def remove(self) -> None:
        """Remove the object, if it is there. Raises Lost."""

        def ask() -> None:
            with contextlib.suppress(FileNotFoundError):
                self._system.rm_file(self._path)

        self._translated(ask)

    def range(self, start: int, end: int) -> bytes:
        """Return the bytes from `start` up to `end`. Raises Lost or InputError."""
        return bytes(
            self._translated(lambda: self._system.cat_file(self._path, start=start, end=end))
        )

    def _translated(self, action: Callable[[], T]) -> T:
        """Return what an action returns, its errors as those of connections."""
        try:
            return action()
        except (BatchsentError, FileExistsError):
            raise
        except FileNotFoundError as error:
            # A store that hides what is private says the same of it.
            raise NotThere(
                f"{self.name}: it is not there",
                hint=f"check the spelling; if it is private, {self._hint}",
            ) from error
        except Exception as error:
            said = first_line(error)
            status = getattr(getattr(error, "response", None), "status_code", None)
            refused = isinstance(error, PermissionError) or status in {401, 403}
            if refused or "credentials" in said.lower():
                raise InputError(f"{self.name}: no access: {said}", hint=self._hint) from error
            if isinstance(error, ValueError) and not isinstance(error, json.JSONDecodeError):
                raise UsageError(f"{self.name}: {said}", hint="check the URL") from error
            raise Lost(said) from error


def told_of(found: Any) -> tuple[int, str | None]:
    """Return what a file system says of an object that tells it from a changed one."""
    told = next((name for name in VERSIONS if found.get(name)), None)
    return int(found["size"]), None if told is None else f"{told} {found[told]}"


class StoreBody:
    """The bytes of an object from one place to another, asked for in blocks."""

    def __init__(
        self, found: StoreObject, start: int, end: int, size: int, version: str | None
    ) -> None:
        self.start, self.version = start, version
        self.size: int | None = size
        self._object, self._at, self._end = found, start, end
        self._block, self._block_bytes = memoryview(b""), FIRST_BLOCK_BYTES

    def read(self, size: int) -> bytes:
        """Return the next bytes, `size` at most, none at the end. Raises Lost or Changed."""
        if not self._block and self._at < self._end:
            self._block = memoryview(self._next_block())
        data = bytes(self._block[:size])
        self._block = self._block[size:]
        return data

    def _next_block(self) -> bytes:
        end = min(self._at + self._block_bytes, self._end)
        block = self._object.range(self._at, end)
        # Asked for after it was read: what was changed before that is another version now.
        if self._object.look() != (self.size, self.version):
            raise Changed
        if len(block) != end - self._at:
            raise Lost("the data ends too early")
        self._at, self._block_bytes = end, min(2 * self._block_bytes, BLOCK_BYTES)
        return block

    def close(self) -> None:
        """Forget what was not read."""
        self._block = memoryview(b"")
