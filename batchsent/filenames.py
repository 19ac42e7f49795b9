"""What is at a path, also for names that the system does not accept.

pathlib's exists, is_file and is_dir raise for a name that is too long or has a NUL in it (until
Python 3.14), and expanduser for a user that does not exist. The functions here answer that nothing
is there; the error comes when the file is opened.
"""

import errno
import os
import stat
from os import PathLike
from pathlib import Path

from batchsent.errors import OutputError, UsageError, reason
from batchsent.text import printable

AnyPath = str | PathLike[str]


def exists(path: AnyPath) -> bool:
    """Tell whether there is something at `path`, links followed."""
    return _mode(path) is not None


def is_folder(path: AnyPath) -> bool:
    """Tell whether there is a folder at `path`, links followed."""
    mode = _mode(path)
    return mode is not None and stat.S_ISDIR(mode)


def is_regular(path: AnyPath) -> bool:
    """Tell whether there is a regular file at `path`, links followed."""
    mode = _mode(path)
    return mode is not None and stat.S_ISREG(mode)


def is_pipe(path: AnyPath) -> bool:
    """Tell whether there is a pipe at `path`, which can be read once only, links followed."""
    mode = _mode(path)
    return mode is not None and stat.S_ISFIFO(mode)


def is_link(path: AnyPath) -> bool:
    """Tell whether there is a symbolic link at `path`."""
    return os.path.islink(path)  # noqa: PTH114 (Path.is_symlink raises)


def names_in(folder: AnyPath) -> list[str]:
    """Return the names in a folder; an empty list where it cannot be read."""
    try:
        return os.listdir(folder)  # noqa: PTH208 (the names are what is asked for)
    except OSError:
        return []


def expand(path: AnyPath) -> Path:
    """Return a path with ~ as the user's home; ~NAME stays as it is where there is no such user."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 (Path.expanduser raises)


def cache_folder(name: str) -> Path:
    """Return a folder of this program's: ~/.cache/batchsent/NAME, or below XDG_CACHE_HOME."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not Path(base).is_absolute():  # as the XDG specification has it
        base = "~/.cache"
    return expand(base) / "batchsent" / name


def check_new(path: Path, longest: Path) -> None:
    """Refuse a file that cannot be made, before any work is done for it.

    `longest` is the longest name that the file has while it is written. Raises UsageError for a
    name with a NUL in it, OutputError for other names that the system does not accept and for
    folders that cannot be written to. A folder that is not there is left to the caller.
    """
    for name in (path, longest):
        try:
            os.stat(name)  # noqa: PTH116 (Path.stat gives the same)
        except FileNotFoundError:
            continue
        except ValueError as error:
            raise UsageError(
                f"{printable(path)}: no file can have this name", hint="choose another name"
            ) from error
        except OSError as error:
            hint = None
            if error.errno == errno.ENAMETOOLONG:
                hint = shorter(longest)
            raise OutputError(f"{printable(path)}: {reason(error)}", hint=hint) from error
    folder = path.absolute().parent
    if is_folder(folder) and not may_write(folder):
        why = "cannot be written to"
        if os.statvfs(folder).f_flag & os.ST_RDONLY:
            why = "is on a read-only file system"
        raise OutputError(
            f"{printable(path)}: the folder {printable(folder)} {why}", hint="choose another folder"
        )


def may_write(folder: Path) -> bool:
    """Tell whether this process may make files in a folder."""
    # By its effective user, where the system can tell.
    effective = os.access in os.supports_effective_ids
    return os.access(folder, os.W_OK | os.X_OK, effective_ids=effective)


def shorter(longest: Path) -> str:
    """Return a hint by how much a name must be shorter for `longest` to be possible."""
    size = len(os.fsencode(longest.name))
    try:
        most = os.pathconf(longest.absolute().parent, "PC_NAME_MAX")
    except (OSError, ValueError):
        most = 255
    if size <= most:
        return "choose a folder with a shorter path"
    return (
        f"choose a name that is {size - most} bytes shorter: while it is written the file has a "
        f"name of {size} bytes, and {most} are possible here"
    )


def _mode(path: AnyPath) -> int | None:
    try:
        return os.stat(path).st_mode  # noqa: PTH116 (Path.stat gives the same)
    except (OSError, ValueError):
        return None


def stamp(path: str) -> tuple[int, int, int]:
    """Return what changes when a file is replaced or written to. Raises OSError."""
    found = Path(path).stat()
    return found.st_ino, found.st_size, found.st_mtime_ns
