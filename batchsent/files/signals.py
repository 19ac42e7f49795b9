"""What stops a run with its work kept: the first signal, and the end of its time.

A second SIGINT ends it at once. A second SIGTERM does not: `timeout` sends two, one to the process
and one to its group.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any

from batchsent.errors import Interrupted, TimeUp
from batchsent.files.deadline import Deadline

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


STOPPING = b"\nstopping once the work in hand is done; Ctrl-C again ends at once\n"


class Signals:
    """While entered, SIGINT, SIGTERM and SIGHUP raise Interrupted in the main thread.

    Inside a `deferred` block they are raised at its end. In any other thread nothing is handled,
    since Python delivers signals to the main thread only.

    After a deadline `stop` is true too, and what it stopped raises TimeUp in the same way. Where
    nobody asks any more, because all is done but for the writing, the run ends as usual.
    """

    def __init__(self, deadline: Deadline | None = None) -> None:
        self.received: int | None = None
        self._deadline = deadline
        self._time_is_up = False
        self._deferred = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            for number in HANDLED:
                # nohup and cron wrappers ignore SIGHUP on purpose.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            if number == signal.SIGINT:
                # The user asked twice and does not want to wait. Finished files are durable.
                os._exit(128 + number)
            return
        self.received = number
        if not self._deferred:
            self.raise_if_received()
        elif number == signal.SIGINT:
            say_that_it_stops()

    def stop(self) -> bool:
        """Tell whether a signal came or the time is up; may be called in any thread."""
        if self._deadline is not None and self._deadline.is_over():
            self._time_is_up = True
        return self.received is not None or self._time_is_up

    def check(self) -> None:
        """Raise Interrupted if a signal came, TimeUp if the time is up."""
        self.stop()
        self.raise_if_received()

    def raise_if_received(self) -> None:
        """Raise Interrupted if a signal came, TimeUp if `stop` was true since the time is up."""
        if self.received is not None:
            name = signal.Signals(self.received).name
            raise Interrupted(
                self.received,
                f"stopped by {name}",
                hint="run the same command again to resume",
            )
        if self._time_is_up:
            assert self._deadline is not None
            raise TimeUp(f"stopped by {self._deadline.name}")

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Run a block that calls `stop` itself, or must not be interrupted.

        A signal that comes in the block raises Interrupted after it.
        """
        self._deferred += 1
        try:
            yield
        finally:
            self._deferred -= 1
        if not self._deferred:
            self.raise_if_received()

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """Run a block after which all is done: a signal that comes in it stops what comes next.

        `check` raises it; where nothing comes next the run ends as usual.
        """
        self._deferred += 1
        try:
            yield
        finally:
            self._deferred -= 1


def say_that_it_stops() -> None:
    """Tell the person who pressed Ctrl-C that it was noticed; a log or a pipe gets nothing here."""
    with suppress(OSError):
        if os.isatty(2):
            os.write(2, STOPPING)
