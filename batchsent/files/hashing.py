"""SHA-256 of files: of a file on the disk, and of one while it is being written."""

import hashlib
import io
import os
from pathlib import Path
from typing import Any

STDOUT = 1  # file descriptor


class HashedOutput(io.RawIOBase):
    """An open file descriptor as a binary file without seek; counts and hashes what is written."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self.size = 0
        self._fd = fd
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes written so far, in hex."""
        return self._hash.hexdigest()

    def writable(self) -> bool:
        """Tell that it can be written to."""
        return True

    def tell(self) -> int:
        """Return the number of bytes written."""
        return self.size

    def write(self, data: Any) -> int:
        """Write all of `data`; after a short write the rest is written too.

        Raises OSError; BrokenPipeError where the reader of a pipe went away.
        """
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            done += os.write(self._fd, view[done:])
        self._hash.update(view)
        self.size += len(view)
        return len(view)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
