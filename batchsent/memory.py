"""Memory that runs out: what can be refused before, and what errors of libraries mean that."""

import contextlib
import errno
import mmap
import os
import re
import sys
from collections.abc import Iterator

from batchsent.errors import BatchsentError, DeviceError
from batchsent.text import printable

# Address space that libraries take when they are loaded, of which they use a part. Measured with
# /proc/self/status on two cores: numpy and pyarrow 360 MB, a model with PyTorch's CPU build
# 1,150 MB more. OpenBLAS adds 40 MB a core.
LIBRARY_BYTES = {"pyarrow": 400 << 20, "torch": 1200 << 20}
# What libraries say where the system had no memory for them; they raise RuntimeError, OSError or
# ImportError.
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
    """Raise DeviceError where a memory limit leaves no room to import a library.

    OpenBLAS, inside numpy and scipy, kills the process or waits for ever where it gets no memory,
    which cannot be caught. Nothing is touched here, so this costs no memory.
    """
    if library in sys.modules:
        return
    needed_bytes = LIBRARY_BYTES[library]
    # MAP_NORESERVE: only a limit (ulimit -v) can refuse it, not a machine that is short of memory.
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
    said = str(error)
    found = isinstance(error, MemoryError) or (
        isinstance(error, OSError) and error.errno == errno.ENOMEM
    )
    if not found and not any(sign.lower() in said.lower() for sign in SIGNS):
        return None
    what = said.strip().splitlines()[0][:300] if said.strip() else ""
    return DeviceError(
        "there is not enough memory" + (f": {printable(what)}" if what else ""),
        hint="lower --chunk-rows and --batch-tokens (finetune: --batch-size), end other programs, "
        "or raise the limit (ulimit -v, ulimit -u, MemoryMax)",
    )


def shortage_of_reader(error: BaseException) -> DeviceError | None:
    """Return what `shortage` does for a reader's error, or None where the file is at fault.

    A damaged file makes its reader ask for more memory than the machine has.
    """
    asked = re.search(r"of size (\d+)", str(error))
    if asked and int(asked[1]) > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
        return None
    return shortage(error)


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Turn errors that mean a lack of memory into a DeviceError that says what to lower."""
    try:
        yield
    except Exception as error:
        if found := shortage(error):
            raise found from error
        raise
