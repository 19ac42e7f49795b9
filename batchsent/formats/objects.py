"""Inputs named by a URL: read in order or by ranges, over connections that may be lost.

An object is read as one version of it. Every connection says the size of the object and what tells
its version (an ETag, a time of change); where these differ from the first connection's, the object
was changed while it was read, which is an error. Where a server tells no version, or cannot go on
from the middle, it is read again from its start, and the bytes must have the same hash.
"""

import contextlib
import hashlib
import io
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from batchsent.errors import InputError, UsageError
from batchsent.formats.stored_bytes import StoredBytes
from batchsent.formats.stores import STORES
from batchsent.text import printable
from batchsent.urls import canonical, scheme_of

T = TypeVar("T")

WAITS_S = (1.0, 5.0)  # before the second and the third attempt
LONGEST_WAIT_S = 60.0  # that a server may ask for
# Attempts are counted anew after this many bytes: a long download may lose its connection often.
PROGRESS_BYTES = 1 << 20
# What a lost connection loses at most.
PIECE_BYTES = 64 << 10
# The bytes that are asked for first of a file that is read by ranges: not from its start, where the
# answer would not show that the server knows ranges. Every Parquet file has more bytes than that.
PROBE = (4, 8)
LATER = "run the same command again later: scores that are kept are not computed again"


class Lost(Exception):
    """A connection was lost or refused, in a way that may be better a moment later."""

    def __init__(self, why: str, wait_s: float = 0.0) -> None:
        super().__init__(why)
        self.why, self.wait_s = why, wait_s  # what the server asks to wait


class Changed(Exception):
    """The object is no longer the version that was read before."""


class NotThere(InputError):
    """There is no object under this name, or none that this user may see."""


# The size of an object, and what tells its version: None for each that the server does not tell.
Told = tuple[int | None, str | None]


class Body(Protocol):
    """Bytes of an object that are on their way."""

    start: int  # where in the object they begin: 0 where the server cannot begin in the middle
    size: int | None  # of the whole object; None where the server does not tell
    version: str | None  # None where the server does not tell

    def read(self, size: int) -> bytes:
        """Return the next bytes, `size` at most, none at the end. Raises Lost or Changed."""

    def close(self) -> None:
        """Give the connection back."""


class StoredObject(Protocol):
    """An object in a store."""

    name: str  # printable

    def connect(self, start: int = 0, end: int | None = None) -> Body:
        """Ask for the bytes from `start` up to `end`.

        Raises Lost, and InputError or UsageError where another attempt would not help.
        """


def find_object(url: str) -> StoredObject:
    """Return the object that a URL names, which is not asked for yet. Raises UsageError."""
    from batchsent.formats.http_objects import HttpObject
    from batchsent.formats.store_objects import open_store_object

    url = canonical(url)
    scheme = scheme_of(url)
    if scheme in {"http", "https"}:
        return HttpObject(url)
    if scheme in STORES:
        return open_store_object(url)
    hint = "use https://, " + ", ".join(f"{known}://" for known in STORES) + ", or a path"
    if scheme == "file":
        hint = "leave file:// out and give the path"
    raise UsageError(f"{printable(url)}: {scheme}:// is not read", hint=hint)


def asked(name: str, action: Callable[[], T], waits_s: Sequence[float] = WAITS_S) -> T:
    """Return what an action returns, which is tried again where a connection is lost.

    Raises InputError that begins with `name` after the last attempt.
    """
    attempts = Attempts(name, waits_s, LATER)
    while True:
        try:
            return action()
        except Lost as lost:
            attempts.wait(lost, 0, None)


def size_and_version(url: str) -> Told | None:
    """Return what the server says of an object now; None where there is none. Raises InputError."""
    found = find_object(url)

    def ask() -> Told | None:
        try:
            with contextlib.closing(found.connect()) as body:
                return body.size, body.version
        except NotThere:
            return None

    return asked(found.name, ask)


class Attempts:
    """How often it is tried again, and how long it waits before."""

    def __init__(
        self,
        name: str,
        waits_s: Sequence[float] = WAITS_S,
        hint: str = f"{LATER}; or download the file first",
    ) -> None:
        self._name, self._waits_s, self._hint = name, waits_s, hint
        self._failed = self._failed_at = 0

    def wait(self, lost: Lost, done: int, size: int | None) -> None:
        """Wait before the next attempt, with `done` of `size` bytes read by now.

        Raises InputError after the last one.
        """
        if done >= self._failed_at + PROGRESS_BYTES:
            self._failed = 0
        if self._failed == len(self._waits_s):
            read = ""
            if done or size is not None:
                of = "" if size is None else f" of {size:,}"
                read = f"; {done:,}{of} bytes were read"
            raise InputError(
                f"{self._name}: {lost.why} ({len(self._waits_s) + 1} attempts{read})",
                hint=self._hint,
            ) from lost
        time.sleep(max(self._waits_s[self._failed], min(lost.wait_s, LONGEST_WAIT_S)))
        self._failed, self._failed_at = self._failed + 1, done


def changed(name: str) -> InputError:
    """Return the error that says that another version of an object is there now."""
    return InputError(
        f"{name} was changed while it was read",
        hint="run the command again once no program writes to it; no output was written",
    )


class Version:
    """The size and the version of an object, as the first connection tells them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._known = False
        self.size: int | None = None
        self.text: str | None = None

    def check(self, body: Body) -> None:
        """Take what the first connection tells; raise Changed where a later one differs."""
        if self._known:
            sizes = {self.size, body.size} - {None}  # what is not told now was told before
            if len(sizes) > 1 or body.version != self.text:
                raise Changed
        self._known = True
        self.text = body.version
        if body.size is not None:
            self.size = body.size

    def changed(self) -> InputError:
        """Return the error that says that another version is there now."""
        if not self._known:
            return InputError(
                f"{self._name}: it has too few bytes", hint="copy it again from where it came from"
            )
        return changed(self._name)

    def in_words(self) -> str | None:
        """Return what tells this object from a changed one; None where nothing does."""
        return in_words(self._name, self.size, self.text)


def in_words(name: str, size: int | None, version: str | None) -> str | None:
    """Return what tells an object from a changed one; None where the server does not tell."""
    if size is None or version is None:
        return None
    return f"{name}, {size:,} bytes, {printable(version)}"


class ObjectBytes(StoredBytes):
    """An object read in order, each byte once. Raises InputError or UsageError when it is made."""

    def __init__(self, found: StoredObject, waits_s: Sequence[float] = WAITS_S) -> None:
        super().__init__()
        self._object, self._waits_s = found, waits_s
        self._attempts = Attempts(found.name, waits_s)
        self._version = Version(found.name)
        self._body: Body | None = None
        self._next(0)
        self.version = self._version.in_words()

    def fetch(self, size: int) -> bytes:
        """Return the next bytes, `size` at most, none at the end. Raises InputError."""
        return self._next(min(size, PIECE_BYTES))

    def reopened(self) -> "ObjectBytes":
        """Return the object read from its first byte, of whatever version it is by now."""
        return ObjectBytes(self._object, self._waits_s)

    def _next(self, size: int) -> bytes:
        """Return the next bytes of the object, on a new connection where one is lost."""
        while True:
            try:
                body = self._body = self._body or self._connected()
                data = body.read(size) if size else b""
                if size and not data and self.size < (self._version.size or 0):
                    raise Lost("the data ends too early")
                return data
            except Changed as changed:
                raise self._version.changed() from changed
            except Lost as lost:
                self._disconnect()
                self._attempts.wait(lost, self.size, self._version.size)

    def _connected(self) -> Body:
        """Return a connection on which the next byte of the object comes next."""
        # Without a version nothing says that the rest belongs to what was read.
        body = self._object.connect(self.size if self._version.text else 0)
        try:
            self._version.check(body)
            if body.start < self.size:
                self._skip(body)
        except BaseException:
            body.close()
            raise
        return body

    def _skip(self, body: Body) -> None:
        """Read again what was read before. Raises Changed where the bytes are others now."""
        again, left = hashlib.sha256(), self.size
        while left:
            data = body.read(min(left, PIECE_BYTES))
            if not data:
                raise Lost("the data ends too early")
            again.update(data)
            left -= len(data)
        if again.digest() != self.hash.digest():
            raise Changed

    def _disconnect(self) -> None:
        if self._body is not None:
            self._body.close()
        self._body = None

    def close(self) -> None:
        """Give the connection back."""
        if not self.closed:
            self._disconnect()
        super().close()


class RangedFile(io.RawIOBase):
    """An object read here and there. Raises InputError or UsageError when it is made."""

    def __init__(self, found: StoredObject, waits_s: Sequence[float] = WAITS_S) -> None:
        super().__init__()
        self._object = found
        self._attempts = Attempts(found.name, waits_s)
        self._version = Version(found.name)
        self._at = self._read = 0
        self._range(PROBE[0], PROBE[1])
        self.version = self._version.in_words()
        self.size = self._version.size or 0

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can be read anywhere."""
        return True

    def tell(self) -> int:
        """Return where the next byte is read."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to where the next byte is read."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        self._at = base + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Return the next `size` bytes, fewer only at the end. Raises InputError."""
        end = self.size if size < 0 else min(self._at + size, self.size)
        data = self._range(self._at, end) if end > self._at else b""
        self._at += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        """Read into `buffer`; return the number of bytes."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _range(self, start: int, end: int) -> bytes:
        """Return the bytes from `start` up to `end`, on a new connection where one is lost."""
        pieces: list[bytes] = []
        while start < end:
            try:
                body = self._object.connect(start, end)
                with contextlib.closing(body):
                    self._version.check(body)
                    if body.start != start or body.size is None:
                        raise InputError(
                            f"{self._object.name}: the server does not send ranges of a file, "
                            "which Parquet requires",
                            hint="download it first, and name the copy",
                        )
                    while start < end:
                        data = body.read(end - start)
                        if not data:
                            raise Lost("the data ends too early")
                        pieces.append(data)
                        start += len(data)
                        self._read += len(data)
            except Changed as changed:
                raise self._version.changed() from changed
            except Lost as lost:
                self._attempts.wait(lost, self._read, self._version.size)
        return b"".join(pieces)
