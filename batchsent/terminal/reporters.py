"""Progress and messages of a run on stderr: for a terminal, a plain log, or as JSON lines."""

import datetime
import json
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from batchsent.errors import BatchsentError
from batchsent.reporting import Pace, Progress, Reporter
from batchsent.terminal import summaries
from batchsent.text import elapsed, printable

PLAIN_EVERY_S = 30.0
# Stages that take seconds before anything else is printed: a log names them too.
SLOW_STAGES = ("loading the model", "loading the base model")
JSON_EVERY_S = 10.0
# Width of the live line without its title: spinner, bar, rows, speed, time left, clock.
FIGURES_WIDTH = 75


def write_line(text: str) -> None:
    """Write one line to stderr in one call, since another thread may write at the same time."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


class Ticker:
    """Calls a function every `every_s` seconds, in a thread of its own, until it is stopped."""

    def __init__(self, tick: Callable[[], None], every_s: float) -> None:
        self._tick, self._every_s = tick, every_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            try:
                self._tick()
            except (OSError, ValueError):  # stderr is closed
                return

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self._thread.join(timeout=1)


class LiveReporter(Reporter):
    """What the reporters share: the stage of the run, and its progress."""

    def __init__(self) -> None:
        self._run_id: str | None = None
        self._name = ""
        self._number, self._files = 1, 1
        self._stage: str | None = None
        self._pace = Pace()
        self._progress: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end_stage()

    def run_started(self, run_id: str, name: str, number: int, files: int) -> None:
        """Remember the run that the next lines are about."""
        self._run_id, self._name, self._number, self._files = run_id, name, number, files

    def stage(self, text: str) -> None:
        """Remember the stage, and measure its speed from now on."""
        self._stage, self._pace, self._progress = text, Pace(), None

    def progress(self, rows: int, total_rows: int | None, *, reused_rows: int = 0) -> None:
        """Remember the progress of the stage."""
        self._progress = self._pace.progress(rows, total_rows, reused_rows)

    def _end_stage(self) -> None:
        """Stop showing the stage."""


class TerminalReporter(LiveReporter):
    """Lines for a person: a bar and colours where stderr is a terminal, plain lines elsewhere."""

    def __init__(self, *, quiet: bool = False, plain_every_s: float = PLAIN_EVERY_S) -> None:
        super().__init__()
        self._quiet = quiet
        self._plain_every_s = plain_every_s
        self._is_terminal = sys.stderr is not None and sys.stderr.isatty()
        self._bar: Any = None
        self._task: Any = None
        self._ticker: Ticker | None = None

    def notice(self, text: str, **facts: Any) -> None:
        """Print one line, unless quiet."""
        if not self._quiet:
            write_line(printable(text))

    def warning(self, text: str, **facts: Any) -> None:
        """Print one line, even when quiet, so that cron mails it."""
        write_line(f"warning: {printable(text)}")

    def stage(self, text: str) -> None:
        """Show the stage at once."""
        super().stage(text)
        if self._quiet:
            return
        if self._is_terminal:
            self._show_bar()
        else:
            if text in SLOW_STAGES:
                write_line(self._title())
            if self._ticker is None:
                self._ticker = Ticker(self._print_progress, self._plain_every_s)

    def progress(self, rows: int, total_rows: int | None, *, reused_rows: int = 0) -> None:
        """Move the bar: rows, rows a second, time left."""
        super().progress(rows, total_rows, reused_rows=reused_rows)
        if self._bar is not None:
            assert self._progress is not None
            self._bar.update(
                self._task,
                completed=rows,
                total=total_rows,
                visible=True,
                figures=in_words(self._progress),
            )

    def finished(self, document: dict[str, Any]) -> None:
        """Print the summary: a dozen lines on a terminal, one in a log."""
        self._end_stage()
        status = document["status"]
        if status == "dry_run" and not self._quiet:
            write_line(json.dumps(document, indent=1, default=str))
            return
        shown = status in {"complete", "complete_with_errors"} and not self._quiet
        if shown and self._is_terminal:
            summaries.show(document, sys.stderr)
            return
        for said in summaries.warnings(document, needed_only=not shown):
            self.warning(said)
        if shown:
            write_line(summaries.line(document))

    def file_finished(self, document: dict[str, Any], name: str) -> None:
        """Print the result of one file of several, and its warnings."""
        if document["status"] == "complete":
            self.notice(f"{name}: {document['rows']['written']:,} rows")
        needed_only = self._quiet or document["status"] != "complete"
        for said in summaries.warnings(document, needed_only=needed_only):
            self.warning(f"{name}: {said}")

    def _title(self) -> str:
        """Return the stage, with the number of the file where there are several."""
        title = printable(self._stage or "")
        if self._files > 1:
            title = f"file {self._number} of {self._files}: {title}"
        return title

    def _show_bar(self) -> None:
        """Show a live line: a spinner, a bar, the figures and a clock."""
        if self._bar is None:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                Progress,
                SpinnerColumn,
                TextColumn,
                TimeElapsedColumn,
            )

            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=12),
                TextColumn("{task.fields[figures]}", markup=False),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
        if self._task is not None:
            self._bar.remove_task(self._task)
        title = self._title()
        width = max(12, self._bar.console.width - FIGURES_WIDTH)
        if len(title) > width:
            title = f"{title[: width - 1]}…"
        self._task = self._bar.add_task(title, total=None, figures="")

    def _print_progress(self) -> None:
        """Print the progress as one plain line."""
        line = self._title()
        if self._progress is not None:
            line = f"{line}: {in_words(self._progress)}"
        write_line(line)

    def _end_stage(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None
        if self._ticker is not None:
            self._ticker.stop()
            self._ticker = None


def in_words(progress: Progress) -> str:
    """Return progress in words: `2,048 of 25,000 rows, 110 rows/s, 3 min 29 s left`."""
    words = f"{progress.rows:,} rows"
    if progress.total_rows is not None:
        words = f"{progress.rows:,} of {progress.total_rows:,} rows"
    if progress.rows_per_s is not None:
        digits = 1 if progress.rows_per_s < 10 else 0
        words += f", {progress.rows_per_s:,.{digits}f} rows/s"
    if progress.eta_s is not None:
        words += f", {elapsed(progress.eta_s)} left"
    return words


class JsonReporter(LiveReporter):
    """One JSON object a line, each with its time, level and run.

    The last is of type summary (or exit_error, which the command line writes).
    """

    def __init__(self, *, every_s: float = JSON_EVERY_S) -> None:
        super().__init__()
        self._every_s = every_s
        self._ticker: Ticker | None = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)
        if isinstance(error, BatchsentError) and self._run_id is not None:
            error.details["run"] = self._run_id

    def notice(self, text: str, **facts: Any) -> None:
        """Write a line of type notice."""
        self._line("notice", message=text, **facts)

    def warning(self, text: str, **facts: Any) -> None:
        """Write a line of type warning."""
        self._line("warning", "warning", message=text, **facts)

    def run_started(self, run_id: str, name: str, number: int, files: int) -> None:
        """Write a line of type run."""
        super().run_started(run_id, name, number, files)
        self._line("run", input=name, file=number, files=files)

    def stage(self, text: str) -> None:
        """Write a line of type stage, and from now on one of type progress every ten seconds."""
        super().stage(text)
        self._line("stage", message=text)
        if self._ticker is None:
            self._ticker = Ticker(self._write_progress, self._every_s)

    def file_finished(self, document: dict[str, Any], name: str) -> None:
        """Write a line of type file, and its warnings."""
        self._line("file", output=name, status=document["status"], rows=document.get("rows"))
        for said in summaries.warnings(document):
            self.warning(f"{name}: {said}")

    def finished(self, document: dict[str, Any]) -> None:
        """Write the warnings and the summary."""
        self._end_stage()
        for said in summaries.warnings(document):
            self.warning(said)
        self._line("summary", exit_code=document.get("exit_code", 0), summary=document)

    def _write_progress(self) -> None:
        found = self._progress or Progress(0, None, None, None)
        self._line(
            "progress",
            stage=self._stage,
            rows=found.rows,
            total_rows=found.total_rows,
            rows_per_s=rounded(found.rows_per_s),
            eta_s=rounded(found.eta_s),
        )

    def _line(self, kind: str, level: str = "info", **facts: Any) -> None:
        write_line(json_line(kind, level, run=self._run_id, **facts))

    def _end_stage(self) -> None:
        if self._ticker is not None:
            self._ticker.stop()
            self._ticker = None


def json_line(kind: str, level: str, **facts: Any) -> str:
    """Return one line of a JSON log: its type, its time in UTC, its level, and the facts."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    return json.dumps({"type": kind, "time": now, "level": level, **facts}, default=str)


def rounded(value: float | None) -> float | None:
    """Return a figure with one digit after the point."""
    if value is None:
        return None
    return round(value, 1)
