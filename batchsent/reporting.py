"""What a run says while it works; the silent form, which the command line makes audible."""

import time
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Progress:
    """How far a run is, how fast, and how long the rest will take."""

    rows: int
    total_rows: int | None  # None while nobody knows, such as for stdin
    rows_per_s: float | None  # of the rows computed by this process; None in its first second
    eta_s: float | None  # seconds that the rest will take at that speed


class Pace:
    """The speed of one stage, measured from its beginning."""

    def __init__(self, started: float | None = None) -> None:
        """Begin now, or at an earlier time of time.monotonic()."""
        self._started = time.monotonic() if started is None else started

    def progress(self, rows: int, total_rows: int | None, reused_rows: int = 0) -> Progress:
        """Return how far the stage is; `reused_rows` of its `rows` were kept by an earlier run."""
        elapsed_s = time.monotonic() - self._started
        computed = rows - reused_rows
        if elapsed_s < 1 or computed <= 0:
            return Progress(rows, total_rows, None, None)
        rows_per_s = computed / elapsed_s
        eta_s = None
        if total_rows is not None:
            eta_s = max(0, total_rows - rows) / rows_per_s
        return Progress(rows, total_rows, rows_per_s, eta_s)


class Reporter:
    """Takes what a run says. This one keeps quiet; the commands pass one that prints or logs.

    `progress` may be called from another thread than the other methods.
    """

    def run_started(self, run_id: str, name: str, number: int, files: int) -> None:
        """Say that the run `run_id` of the input `name` begins, file `number` of `files`."""

    def stage(self, text: str) -> None:
        """Say what is being done from now on, such as `loading the model`."""

    def notice(self, text: str, **facts: Any) -> None:
        """Say one thing that a person should know now."""

    def warning(self, text: str, **facts: Any) -> None:
        """Say one thing that may need a hand."""

    def progress(self, rows: int, total_rows: int | None, *, reused_rows: int = 0) -> None:
        """Say how many rows are done, of how many if that is known, and how many were reused."""

    def file_finished(self, document: dict[str, Any], name: str) -> None:
        """Say how one file of several ended; `name` is its output's."""

    def finished(self, document: dict[str, Any]) -> None:
        """Say how the run ended: its summary."""
