"""Standard input, output and error of a process that was started without some of them."""

import contextlib
import fcntl
import io
import os
import sys

from batchsent.errors import InputError, OutputError

STDIN, STDOUT, STDERR = 0, 1, 2  # file descriptors

# Whether this process is a batchsent command, whose stdout holds data only. In a Python program
# stdout belongs to the program, whose other threads may print at any time.
_state = {"is_command": False}


def is_command() -> bool:
    """Tell whether this process is a batchsent command, and not a Python program that uses it."""
    return _state["is_command"]


def open_missing() -> None:
    """Open /dev/null in place of each standard stream that is closed, before any file is opened.

    A free descriptor 2 would be given to the next file that is opened: messages would go into the
    output. As in glibc's check_fds.c, stdin is opened for writing and stdout for reading, so that
    data still cannot be read from the one or written to the other. Messages are discarded, and the
    exit code is the same as with open streams.
    """
    _state["is_command"] = True
    for fd, mode in ((STDIN, os.O_WRONLY), (STDOUT, os.O_RDONLY), (STDERR, os.O_WRONLY)):
        if not _is_open(fd):
            # The system gives the lowest free descriptor, and those below `fd` are open.
            opened = os.open(os.devnull, mode)
            assert opened == fd
            os.set_inheritable(fd, True)  # noqa: FBT003 (its only parameter)
    if sys.stdin is None:
        sys.stdin = os.fdopen(STDIN, "r", closefd=False)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 (for the process's life)
    if sys.stderr is None:
        sys.stderr = os.fdopen(
            STDERR, "w", encoding="utf-8", errors="backslashreplace", closefd=False
        )


def check_stdin() -> None:
    """Raise InputError where standard input is closed."""
    stream = sys.stdin
    with contextlib.suppress(io.UnsupportedOperation):  # a Python program put another object there
        if stream is None or stream.closed or not _allows(stream.fileno(), os.O_RDONLY):
            raise InputError("stdin is closed", hint="name a file, or pipe one in")


def check_stdout() -> None:
    """Raise OutputError where standard output is closed."""
    if not _allows(STDOUT, os.O_WRONLY):
        raise OutputError("stdout is closed", hint="name a file with -o, or pipe the output")


def _is_open(fd: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_GETFD)
    except OSError:
        return False
    return True


def _allows(fd: int, mode: int) -> bool:
    """Tell whether a descriptor is open for reading (O_RDONLY) or for writing (O_WRONLY)."""
    try:
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    except OSError:
        return False
    return flags & os.O_ACCMODE in {mode, os.O_RDWR}
