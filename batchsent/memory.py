"""Lack of memory: a check before large imports, and which errors of libraries mean it."""

import contextlib
import errno
import mmap
import os
import re
import sys
from collections.abc import Iterator

from batchsent.errors import BatchsentError, DeviceError
from batchsent.text import first_line

# Address space that libraries take when they are loaded, of which they use a part. Measured with
# /proc/self/status on two cores: numpy and pyarrow 360 MB, a model with PyTorch's CPU build
# 1,150 MB more. OpenBLAS adds 40 MB a core.
LIBRARY_BYTES = {"pyarrow": 400 << 20, "torch": 1200 << 20}
# Texts of the errors that libraries raise where the system has no memory for them: RuntimeError,
# OSError or ImportError.
SIGNS = (
    "cannot allocate memory",
    "can't allocate memory",
    "can't start new thread",
    "failed to map segment",
    "bad_alloc",
    "DefaultCPUAllocator: not enough memory",
    "could not create a primitive",  # oneDNN, inside PyTorch
    "could not execute a primitive",
)


def check_room(library: str) -> None:
    """Raise DeviceError where a memory limit leaves too little room to import a library.

    Without memory OpenBLAS, inside numpy and scipy, kills the process or waits for ever, which
    cannot be caught. The addresses are only reserved here, so that the check costs no memory.
    """
    if library in sys.modules:
        return
    needed_bytes = LIBRARY_BYTES[library]
    # With MAP_NORESERVE only a limit (ulimit -v) refuses, not a machine that is short of memory.
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    try:
        mmap.mmap(-1, needed_bytes, flags=flags).close()
    except OSError as error:
        if error.errno != errno.ENOMEM:
            return
        raise DeviceError(
            f"the memory limit of this process leaves less than {needed_bytes >> 20:,} MB of "
            "address space",
            hint="raise it (ulimit -v unlimited); to limit what is used, systemd-run -p "
            "MemoryMax=... is better",
        ) from error


def shortage(error: BaseException) -> DeviceError | None:
    """Return the error to report where `error` means too little memory, else None."""
    if isinstance(error, BatchsentError):
        return None
    text = str(error).strip()
    found = isinstance(error, MemoryError) or (
        isinstance(error, OSError) and error.errno == errno.ENOMEM
    )
    if not found and not any(sign.lower() in text.lower() for sign in SIGNS):
        return None
    message = "there is not enough memory"
    if text:
        message += f": {first_line(error)}"
    return DeviceError(
        message,
        hint="lower --chunk-rows and --batch-tokens (finetune: --batch-size), end other programs, "
        "or raise the limit (ulimit -v, ulimit -u, MemoryMax)",
    )


def shortage_of_reader(error: BaseException) -> DeviceError | None:
    """Return what `shortage` returns, but None where the file is at fault.

    A damaged file makes its reader ask for more memory than the machine has.
    """
    asked = re.search(r"of size (\d+)", str(error))
    machine_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if asked and int(asked[1]) > machine_bytes:
        return None
    return shortage(error)


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Turn errors that mean a lack of memory into a DeviceError that names the options to lower."""
    try:
        yield
    except Exception as error:
        if found := shortage(error):
            raise found from error
        raise
