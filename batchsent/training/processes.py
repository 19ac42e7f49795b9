"""The processes of one training, started by torchrun or accelerate launch.

A run without a launcher is one process, for which all of this costs nothing.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from batchsent.errors import BatchsentError, DeviceError, UsageError
from batchsent.text import printable

T = TypeVar("T")


def is_main_process() -> bool:
    """Tell whether this is the process that prints: the only one, or the first."""
    return int(os.environ.get("RANK") or 0) == 0


class Processes:
    """This process among those that train one model together."""

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank = rank
        self.count = count

    @property
    def first(self) -> bool:
        """Whether this process holds the lock, writes the files and prints."""
        return self.rank == 0

    @contextmanager
    def sync_errors(self) -> Iterator[None]:
        """Leave the block together: where one process failed, all raise its error.

        What is done in the block must not itself wait for other processes. Raises DeviceError when
        a process is gone.
        """
        error: BatchsentError | None = None
        try:
            yield
        except BatchsentError as raised:
            error = raised
        if self.count == 1:
            if error is not None:
                raise error
            return
        said = (
            None if error is None else (error.exit_code, error.message, error.hint, error.details)
        )
        first = next(
            ((rank, found) for rank, found in enumerate(self._gather(said)) if found is not None),
            None,
        )
        if first is None:
            return
        rank, (exit_code, message, hint, details) = first
        if rank == self.rank and error is not None:
            raise error
        elsewhere = BatchsentError(message, hint=hint, **details)
        elsewhere.exit_code = exit_code
        elsewhere.reported_by_rank = True
        raise elsewhere from error

    def broadcast(self, value: T) -> T:
        """Return the value that the first process has."""
        return value if self.count == 1 else self._gather(value)[0]

    def first_set(self, value: T | None) -> T | None:
        """Return the first value that is not None, in the order of the ranks."""
        return (
            value
            if self.count == 1
            else next((found for found in self._gather(value) if found is not None), None)
        )

    def _gather(self, value: T) -> list[T]:
        """Return the value of every process, in the order of their ranks."""
        import torch

        found: list[Any] = [None] * self.count
        with lost_processes():
            torch.distributed.all_gather_object(found, value)
        return found


@contextmanager
def launched(device: str) -> Iterator[Processes]:
    """Join the processes that a launcher started with this one while the block runs.

    The launcher says so in the environment: RANK, WORLD_SIZE, LOCAL_RANK. `device` is what the user
    typed. Raises UsageError where the environment says half of it, DeviceError when the others
    cannot be reached.
    """
    count = int(os.environ.get("WORLD_SIZE") or 1)
    if count == 1 or "RANK" not in os.environ:
        yield Processes()
        return
    import torch

    # Python values go over gloo also on GPUs: asking every process for its flag does not wait for
    # the device.
    cuda = device in {"auto", "cuda"} and torch.cuda.is_available()
    try:
        with lost_processes():
            torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
    except ValueError as error:  # a part of the address of the others is missing
        raise UsageError(
            "RANK and WORLD_SIZE in the environment say that a launcher started this process: "
            f"{printable(error)}",
            hint="start it with torchrun or accelerate launch, or unset both",
        ) from error
    try:
        yield Processes(torch.distributed.get_rank(), torch.distributed.get_world_size())
    finally:
        torch.distributed.destroy_process_group()


@contextmanager
def lost_processes() -> Iterator[None]:
    """Turn what torch raises when another process is gone into a DeviceError."""
    import torch

    try:
        yield
    except RuntimeError as error:
        # gloo's errors are plain RuntimeErrors with the place in its source, or the peer, in their
        # text.
        if not isinstance(error, torch.distributed.DistError) and not any(
            word in str(error) for word in ("gloo", "closed by peer", "reset by peer")
        ):
            raise
        lost = DeviceError(
            "another process of this training ended before its time",
            hint="see what it said; run the same command again to resume from the last checkpoint",
        )
        # torch joins gloo's thread when the model's reducer is freed, and holds the lock that this
        # thread waits for.
        lost.exit_immediately = True
        raise lost from error
