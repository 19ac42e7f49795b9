"""The bytes of an input as they are stored, in order: counted and hashed on their way."""

import errno
import hashlib
import io
import os
import sys
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from batchsent.errors import InputError, reason
from batchsent.standard_streams import check_stdin
from batchsent.text import printable


class StoredBytes(io.RawIOBase):
    """Stored bytes read from the first on; `size` and `hash` are those of what was read so far."""

    # What a store says that tells this object from a changed one; None for files and pipes.
    version: str | None = None

    def __init__(self) -> None:
        super().__init__()
        self.size = 0
        self.hash = hashlib.sha256()

    @abstractmethod
    def fetch(self, size: int) -> bytes:
        """Return the next bytes, `size` at most, none at the end."""

    @abstractmethod
    def reopened(self) -> "StoredBytes":
        """Return the same bytes read from the first on, whatever has their name by now."""

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, `size` at most, none at the end."""
        data = self.fetch(size if size >= 0 else 1 << 20)
        self.hash.update(data)
        self.size += len(data)
        return data

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes that are left, a megabyte at most at a time."""
        while data := self.read(1 << 20):
            yield data

    def readinto(self, buffer: Any) -> int:
        """Read into `buffer`; return the number of bytes."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class FileBytes(StoredBytes):
    """The bytes of a file descriptor, which is closed with it."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd

    def fetch(self, size: int) -> bytes:
        """Return the next bytes, `size` at most, none at the end. Raises OSError."""
        return os.read(self._fd, size)

    def reopened(self) -> "FileBytes":
        """Return the same file read from its first byte, whatever has its name by now."""
        fd = os.dup(self._fd)
        os.lseek(fd, 0, os.SEEK_SET)
        return FileBytes(fd)

    def close(self) -> None:
        """Close the descriptor."""
        if not self.closed:
            os.close(self._fd)
        super().close()


def open_file(path: str, name: str) -> FileBytes:
    """Open a file, or stdin for `-`. Raises InputError that calls it `name`."""
    if path == "-":
        check_stdin()
        return FileBytes(os.dup(sys.stdin.fileno()))
    try:
        return FileBytes(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except ValueError as error:
        raise InputError(f"{name}: no file can have this name") from error
    except OSError as error:
        if error.errno == errno.ENOENT and Path(path).is_symlink():
            missing = printable(os.path.realpath(path))
            raise InputError(
                f"{name}: it is a link to {missing}, which is not there",
                hint="remove the link, or put the file there",
            ) from error
        hint = "check the spelling" if error.errno == errno.ENOENT else None
        raise InputError(f"{name}: {reason(error)}", hint=hint) from error
