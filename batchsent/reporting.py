"""Progress and messages of a run: the reporter that prints nothing, and the speed of a stage."""

import time
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Progress:
    """How many rows a run has done, how fast, and how long the rest will take."""

    rows: int
    total_rows: int | None  # None where it is not known, as for stdin
    rows_per_s: float | None  # of the rows computed by this process; None in its first second
    eta_s: float | None  # seconds that the rest will take at that speed


class Pace:
    """The speed of one stage, measured from its beginning."""

    def __init__(self, started: float | None = None) -> None:
        """Begin now, or at an earlier time of time.monotonic()."""
        self._started = time.monotonic() if started is None else started
        self._rows = self._reused_rows = self._reused_share = 0

    def progress(self, rows: int, total_rows: int | None, reused_rows: int = 0) -> Progress:
        """Return the progress after `rows` rows, `reused_rows` of them from an earlier run.

        Within a chunk `rows` is the chunk's share of tokens, and what an earlier run kept are its
        longest texts. So where `reused_rows` grows, all rows since the last call count as reused.
        """
        if reused_rows > self._reused_rows:
            self._reused_share += rows - self._rows
        self._rows, self._reused_rows = rows, reused_rows
        elapsed_s = time.monotonic() - self._started
        computed = rows - self._reused_share
        if elapsed_s < 1 or computed <= 0:
            return Progress(rows, total_rows, None, None)
        rows_per_s = computed / elapsed_s
        eta_s = None
        if total_rows is not None:
            eta_s = max(0, total_rows - rows) / rows_per_s
        return Progress(rows, total_rows, rows_per_s, eta_s)


class Reporter:
    """Receives the progress and messages of a run, and ignores them.

    The commands use reporters that print or log (terminal/reporters.py).

    `progress` may be called from another thread than the other methods.
    """

    def run_started(self, run_id: str, name: str, number: int, files: int) -> None:
        """Report that the run `run_id` of the input `name` begins, file `number` of `files`."""

    def stage(self, text: str) -> None:
        """Report the stage that begins, such as `loading the model`."""

    def notice(self, text: str, **facts: Any) -> None:
        """Report something that the user should know."""

    def warning(self, text: str, **facts: Any) -> None:
        """Report something that the user may have to act on."""

    def progress(self, rows: int, total_rows: int | None, *, reused_rows: int = 0) -> None:
        """Report how many rows are done, of how many where known, and how many were reused."""

    def file_finished(self, document: dict[str, Any], name: str) -> None:
        """Report the result of one file of several; `name` is that of its output."""

    def finished(self, document: dict[str, Any]) -> None:
        """Report the end of the run, with its summary."""
