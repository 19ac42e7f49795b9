"""Files and folders that appear whole under their final name or not at all.

The steps, as in SQLite and restic: write to a hidden temporary name in the same directory, fsync,
close with errors checked, rename, fsync the directory. Every file that a command leaves on the disk
is written in this way.

Each step is a fail point. With BATCHSENT_FAULT=POINT:N:ACTION in the environment, which only tests
set, the N-th passage of POINT (or of any point, written `*`) raises an error, kills the process,
sends it SIGTERM or behaves as on a full disk.
"""

import errno
import fnmatch
import os
import resource
import shutil
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchsent.errors import OutputError, PipeClosed, UsageError, reason
from batchsent.files.hashing import HashedOutput
from batchsent.text import printable

# Passages of each fail point in this process. The tests start a process for each fault, so it is
# never reset.
_passed: dict[str, int] = {}


def fault(point: str) -> None:
    """Pass a fail point: fail here when BATCHSENT_FAULT asks for it."""
    plan = os.environ.get("BATCHSENT_FAULT")
    if not plan:
        return
    name, number, action = plan.split(":")
    if name not in {"*", point}:
        return
    _passed[name] = _passed.get(name, 0) + 1
    if _passed[name] != int(number):
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "terminate":
        os.kill(os.getpid(), signal.SIGTERM)
        return
    if action == "enospc":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if action == "enotsup":
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
    if action == "raise":
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    raise AssertionError(f"BATCHSENT_FAULT: unknown action {action!r}")


class DiskFull(OutputError):
    """There is no room for a file."""


FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def output_errors(path: Path | str, needed_bytes: int | None = None) -> Iterator[None]:
    """Turn the system's errors while writing `path` into an OutputError with a hint.

    It is a DiskFull where there is no room.
    """
    try:
        yield
    except BrokenPipeError as error:
        raise PipeClosed(f"{printable(path)}: its reader has closed it") from error
    except OSError as error:
        where = printable(path)
        if where == "-":
            where = "stdout"
        if error.errno in FULL:
            figures = room(path, error.errno, needed_bytes)
            raise DiskFull(
                f"{where}: {reason(error)}{figures.sentence}",
                hint="make room or write to another disk with -o, then run the same command again",
                needed_bytes=needed_bytes,
                free_bytes=figures.free_bytes,
                free_inodes=figures.free_inodes,
            ) from error
        raise OutputError(f"{where}: cannot be written: {reason(error)}") from error


@dataclass(frozen=True)
class Room:
    """What is left of a file system that refused a file; None where that is not known."""

    sentence: str
    free_bytes: int | None = None
    free_inodes: int | None = None


def room(path: Path | str, number: int | None, needed_bytes: int | None) -> Room:
    """Return the figures of the file system that refused `path` with this error number."""
    if str(path) == "-":
        return Room("")  # stdout may go anywhere
    need = ""
    if needed_bytes is not None:
        need = f"; about {needed_bytes:,} bytes are needed"
    if number == errno.EFBIG:
        limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        if limit == resource.RLIM_INFINITY:
            return Room("")
        return Room(f" ({limit:,} bytes are allowed (ulimit -f){need})")
    try:
        found = os.statvfs(Path(os.path.realpath(path)).parent)
    except OSError:
        return Room("")
    free_bytes, free_inodes = found.f_bavail * found.f_frsize, found.f_favail
    if found.f_files and not free_inodes and free_bytes > (needed_bytes or 0):
        sentence = f" (no more files can be made: all {found.f_files:,} inodes are in use)"
    else:
        sentence = f" ({free_bytes:,} bytes are free{need})"
    return Room(sentence, free_bytes, free_inodes)


def check_room(path: Path | str, needed_bytes: int) -> None:
    """Raise DiskFull where a file of this size has no room at `path`."""
    final = Path(os.path.realpath(path))
    with output_errors(path, needed_bytes):
        found = os.statvfs(final.parent)
        free_bytes = found.f_bavail * found.f_frsize
        with suppress(FileNotFoundError):  # that of a killed run is written anew
            free_bytes += temporary_path(final).stat().st_size
        if found.f_blocks and free_bytes < needed_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def temporary_path(final: Path) -> Path:
    """Return the hidden name beside `final` that it is written under.

    The name is fixed, so that the next run replaces the file of a killed one; the lock of the
    output lets one run write at a time. It has batchsent in it, so that it is no file of the user.
    """
    return final.parent / f".{final.name}.batchsent.tmp"


class PendingFile(HashedOutput):
    """A binary file that becomes `final` on `commit()` and vanishes on `discard()`.

    A symbolic link at `final` is replaced like any other file: what it points to stays as it is.
    With `follow_link` the link stays, and what it points to is replaced, or made, in its own
    folder.

    Counts and hashes what is written (`size`, `sha256`). Once discarded it ignores writes: a
    ParquetWriter that is closed after an error would otherwise complete a truncated file with a
    valid footer. Raises OSError; wrap the use in `output_errors`.
    """

    _discarded = True  # until there is something to discard

    def __init__(self, final: Path, *, follow_link: bool = False) -> None:
        self.final = final
        self._target = Path(os.path.realpath(final)) if follow_link else final
        self.temporary = temporary_path(self._target)
        fault("open")
        # O_NOFOLLOW: a link planted under the temporary name must not redirect what is written.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        super().__init__(os.open(self.temporary, flags, 0o666))
        self._discarded = False

    def write(self, data: Any) -> int:
        """Write all of `data`; after a short write the rest is written too."""
        if self._discarded:
            return len(memoryview(data).cast("B"))
        fault("write")
        return super().write(data)

    def make_durable(self) -> None:
        """Wait until all that was written is on the disk, which can take long."""
        fsync(self._fd, "fsync")

    def commit(self) -> None:
        """Make the file durable and give it its final name."""
        self.make_durable()
        with suppress(FileNotFoundError):
            # a file that is replaced keeps its permissions
            os.fchmod(self._fd, self._target.stat().st_mode & 0o7777)
        fd, self._fd = self._fd, -1
        fault("close")
        os.close(fd)
        fault("rename")
        self.temporary.replace(self._target)
        super().close()
        fsync_directory(self._target.parent)

    def discard(self) -> None:
        """Remove the temporary file; what is written from now on is ignored.

        Does nothing after a commit.
        """
        if self._discarded or self.closed:
            return
        self._discarded = True
        if self._fd >= 0:
            with suppress(OSError):
                os.close(self._fd)
            self._fd = -1
        with suppress(OSError):
            self.temporary.unlink()

    def close(self) -> None:
        """Discard what was not committed."""
        self.discard()
        super().close()


def remove(path: Path) -> None:
    """Remove a file durably, if it is there; of a symbolic link the link itself.

    Raises OSError.
    """
    if os.path.lexists(path):
        fault("unlink")
        path.unlink()
        fsync_directory(path.parent)


# The errors of network file systems that have no fsync of files, or of folders.
NO_FSYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


def fsync(fd: int, point: str) -> None:
    """Make an open file or folder durable, where its file system can. Raises OSError."""
    try:
        fault(point)
        os.fsync(fd)
    except OSError as error:
        if error.errno not in NO_FSYNC:
            raise


def fsync_directory(folder: Path) -> None:
    """Make the names of the files in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fsync(fd, "fsync-directory")
    finally:
        os.close(fd)


def write_file(path: Path, data: bytes) -> None:
    """Write a small file whole. Raises OutputError."""
    with output_errors(path, needed_bytes=len(data)):
        pending = PendingFile(path)
        try:
            pending.write(data)
            pending.commit()
        finally:
            pending.close()


def temporary_directory(final: Path) -> Path:
    """Make an empty hidden folder beside `final`, links followed, to be filled.

    Raises OutputError.
    """
    final = Path(os.path.realpath(final))
    temporary, old = temporary_path(final), replaced_path(final)
    with output_errors(final):
        if old.exists() and not final.exists():
            # A crash came between the two renames of publish_directory.
            old.replace(final)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    return temporary


def foreign_names(folder: Path, known: Iterable[str]) -> list[str]:
    """Return the names in a folder that match no pattern of `known`, and all sub-folders.

    They are the user's own: a folder that holds any is not replaced.
    """
    patterns = list(known)
    found = []
    for path in sorted(folder.iterdir()):
        is_known = any(fnmatch.fnmatchcase(path.name, pattern) for pattern in patterns)
        if not is_known or path.is_symlink() or not path.is_file():
            found.append(path.name)
    return found


def replaced_path(final: Path) -> Path:
    """Return the hidden name that a folder has while another takes its place."""
    return final.parent / f".{final.name}.batchsent.old"


def publish_directory(temporary: Path, final: Path, *, overwrite: bool = False) -> None:
    """Give a filled folder its final name once everything in it is durable.

    With `overwrite` the old folder is moved aside first and removed last, since not every file
    system can replace a directory in one step. After a crash in between the next
    `temporary_directory` puts the old one back. Raises UsageError when `final` exists and
    `overwrite` is false, OutputError when the system refuses.
    """
    if final.exists() and not overwrite:
        raise UsageError(
            f"{printable(final)} exists already", hint="choose another name or add --overwrite"
        )
    final = Path(os.path.realpath(final))  # a link stays one
    with output_errors(final):
        for folder, _, names in os.walk(temporary):
            for name in names:
                with (Path(folder) / name).open("rb") as file:
                    fsync(file.fileno(), "fsync")
            fsync_directory(Path(folder))
        old = replaced_path(final)
        if final.exists():
            shutil.rmtree(old, ignore_errors=True)
            fault("rename")
            final.replace(old)
        try:
            fault("rename")
            temporary.replace(final)
        except OSError:
            if old.exists() and not final.exists():
                old.replace(final)
            raise
        fsync_directory(final.parent)
        shutil.rmtree(old, ignore_errors=True)
