"""One run at a time on an output."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import filelock

from batchsent.errors import Locked
from batchsent.files.atomic import output_errors
from batchsent.text import printable


@contextlib.contextmanager
def held_lock(output: Path, wait_s: float, name: str | None = None) -> Iterator[None]:
    """Hold the lock of an output; the kernel releases it however the process ends.

    Messages call the output `name`, without one its path. Raises Locked where another process
    still holds it after `wait_s` seconds.
    """
    path = output.with_name(f".{output.name}.batchsent.lock")
    lock = filelock.FileLock(path)
    with output_errors(output):
        try:
            lock.acquire(timeout=max(0.0, wait_s))
        except filelock.Timeout as error:
            raise Locked(
                f"another run is writing {printable(name or output)}",
                hint="wait for it: --lock-wait 600 waits up to 600 seconds",
            ) from error
    try:
        yield
    finally:
        # Removed while held: a process that waits for the lock sees that the file has no name any
        # more, and makes a new one.
        with contextlib.suppress(OSError):
            path.unlink()
        lock.release()
