"""Signals: the first stops a run with its work kept, a second SIGINT ends it at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from batchsent.errors import Interrupted

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """While entered, SIGINT, SIGTERM and SIGHUP raise Interrupted in the main thread.

    Inside a `deferred` block they are raised at its end. In any other thread nothing is handled,
    since Python delivers signals to the main thread only.
    """

    def __init__(self) -> None:
        self.received: int | None = None
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

    def stop(self) -> bool:
        """Tell whether a signal came; may be called in any thread."""
        return self.received is not None

    def raise_if_received(self) -> None:
        """Raise Interrupted if a signal came."""
        if self.received is not None:
            name = signal.Signals(self.received).name
            raise Interrupted(
                self.received,
                f"stopped by {name}",
                hint="run the same command again to resume",
            )

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
