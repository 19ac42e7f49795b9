"""Stages that run at the same time: each in a thread of its own, with a bounded queue after it."""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

T = TypeVar("T")

# How long a queue operation blocks before it checks whether to stop.
POLL_S = 0.1


class Prefetch(Generic[T]):
    """Iterates over `items` in a thread of its own, which reads at most `depth` items in advance.

    An exception in that thread is raised by the iteration, after the items before it. `close` ends
    the thread; where it is blocked reading a pipe it is left, as a daemon, to end with the process.
    The iteration ends early when `stop` is true while it waits for an item.
    """

    def __init__(
        self,
        items: Iterable[T],
        depth: int = 2,
        stop: Callable[[], bool] | None = None,
        name: str | None = None,
    ) -> None:
        self._items = items
        self._queue: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
        self._closing = threading.Event()
        self._stop = stop
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for item in self._items:
                if not self._put(("item", item)):
                    break
            else:
                self._put(("end", None))
        except BaseException as error:  # noqa: BLE001 (every exception belongs to the consumer)
            self._put(("error", error))
        finally:
            close = getattr(self._items, "close", None)
            if close is not None:
                close()

    def _put(self, message: tuple[str, Any]) -> bool:
        while not self._closing.is_set():
            try:
                self._queue.put(message, timeout=POLL_S)
            except queue.Full:
                continue
            return True
        return False

    def __iter__(self) -> Iterator[T]:
        try:
            while True:
                try:
                    kind, value = self._queue.get(timeout=POLL_S)
                except queue.Empty:
                    if self._stop is not None and self._stop():
                        return
                    continue
                if kind == "item":
                    yield value
                elif kind == "error":
                    raise value
                else:
                    return
        finally:
            self.close()

    def close(self) -> None:
        """End the thread, and what it iterates over."""
        self._closing.set()
        self._thread.join(timeout=2)


class Clock:
    """Wall-clock and processor seconds of each stage, for the summary."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.busy_s: dict[str, float] = {}
        self.cpu_s: dict[str, float] = {}
        self._process_cpu_started = time.process_time()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the clock was made."""
        return time.monotonic() - self.started

    @property
    def process_cpu_s(self) -> float:
        """Processor seconds of all threads since the clock was made."""
        return time.process_time() - self._process_cpu_started

    @contextmanager
    def busy(self, stage: str) -> Iterator[None]:
        """Count the time spent inside as work of a stage."""
        start, cpu_start = time.monotonic(), time.thread_time()
        try:
            yield
        finally:
            self.busy_s[stage] = self.busy_s.get(stage, 0.0) + time.monotonic() - start
            self.cpu_s[stage] = self.cpu_s.get(stage, 0.0) + time.thread_time() - cpu_start

    def each(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """Yield the items, and count the time that each takes to produce as work of a stage."""
        source = iter(items)
        while True:
            with self.busy(stage):
                try:
                    item = next(source)
                except StopIteration:
                    return
            yield item
