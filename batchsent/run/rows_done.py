"""How many rows of a run are done, counted while several chunks are in flight."""

import threading
from collections.abc import Callable

from batchsent.chunk import Chunk


class RowsDone:
    """Counts the rows done, of finished chunks and of those in flight, and reports each change."""

    def __init__(self, report: Callable[[int], None]) -> None:
        """`report` is called with the rows, in any thread but never in two at once."""
        self._report = report
        self._lock = threading.Lock()
        self._finished = 0
        # of the work in flight: first row of its chunk, and rows done
        self._in_flight: list[list[float]] = []

    def work_on(self, start_row: int) -> Callable[[float], None]:
        """Return a function that takes how many rows are done of some work on a chunk."""
        entry: list[float] = [start_row, 0.0]
        with self._lock:
            self._in_flight.append(entry)

        def advance(rows: float) -> None:
            with self._lock:
                entry[1] = rows
                self._report(self._finished + int(sum(done for _, done in self._in_flight)))

        return advance

    def finish(self, chunk: Chunk) -> None:
        """Take a finished chunk; all before it are finished too."""
        with self._lock:
            self._finished = chunk.start_row + chunk.rows
            self._in_flight = [work for work in self._in_flight if work[0] >= self._finished]
            self._report(self._finished + int(sum(done for _, done in self._in_flight)))
