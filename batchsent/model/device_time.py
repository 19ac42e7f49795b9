"""How much of the time the device was at work on batches: the rest it waits for the processor."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from batchsent.model.device import Device


class DeviceTime(Protocol):
    """Measures the batches of one device, from the first one to the last."""

    def batch(self) -> Any:
        """Return a context manager that stands around the call that runs one batch."""

    def read(self) -> None:
        """Add up the batches so far; called once their results were fetched."""

    def busy_share(self) -> float | None:
        """Return busy seconds by the seconds from the first batch to the last; None if unknown."""


def device_time(device: Device) -> DeviceTime:
    """Return what measures the batches of a device."""
    if device.kind == "cuda":
        import torch

        # Once the model is on it. A stand-in that only has its name gives no events.
        if torch.cuda.is_initialized():
            return CudaTime()
    return CallTime(known=device.kind == "cpu")


class CallTime:
    """The time of the calls themselves: on a CPU they return when the batch is done."""

    def __init__(self, *, known: bool = True) -> None:
        """With `known` false the calls return earlier, as on an Apple GPU: nothing is known."""
        self._known = known
        self._busy_s = 0.0
        self._first: float | None = None
        self._last = 0.0

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Measure a batch."""
        start = time.monotonic()
        try:
            yield
        finally:
            self._last = time.monotonic()
            self._busy_s += self._last - start
            if self._first is None:
                self._first = start

    def read(self) -> None:
        """Do nothing: every call was added up as it ended."""

    def busy_share(self) -> float | None:
        """Return the share of the time in which a batch ran; None before the first."""
        if self._first is None or not self._known:
            return None
        return share(self._busy_s, self._last - self._first)


class CudaTime:
    """The time between two CUDA events around each batch, read without waiting for the device.

    Where the processor launches a batch more slowly than the device runs it, the gaps inside of the
    batch count as busy.
    """

    def __init__(self) -> None:
        self._unread: list[tuple[Any, Any]] = []
        self._first: Any = None
        self._last: Any = None
        self._busy_ms = 0.0

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Record an event before a batch and one after it, in the stream of the batch."""
        import torch

        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        yield
        end.record()
        self._unread.append((start, end))

    def read(self) -> None:
        """Add up the batches whose events the device has passed; the others wait."""
        waiting = []
        for start, end in self._unread:
            if not end.query():
                waiting.append((start, end))
                continue
            self._busy_ms += start.elapsed_time(end)
            if self._first is None:
                self._first = start
            self._last = end
        self._unread = waiting

    def busy_share(self) -> float | None:
        """Return the share of the time in which a batch ran; None before the first."""
        if self._first is None:
            return None
        return share(self._busy_ms, self._first.elapsed_time(self._last))


def share(part: float, whole: float) -> float:
    """Return part of whole, from 0 to 1, in thousandths; 1 of nothing."""
    return round(min(1.0, part / whole), 3) if whole > 0 else 1.0
