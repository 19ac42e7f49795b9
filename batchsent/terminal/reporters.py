"""What a run says, on a terminal, in a plain log or as JSON lines; always on stderr."""

import json
import sys
import time
from types import TracebackType
from typing import Any

from batchsent.reporting import Reporter
from batchsent.terminal import summaries
from batchsent.text import printable


class TerminalReporter(Reporter):
    """Lines for a person: a bar and colours where stderr is a terminal, plain lines elsewhere."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bar: Any = None
        self._task: Any = None
        self._is_terminal = sys.stderr is not None and sys.stderr.isatty()

    def __enter__(self) -> "TerminalReporter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end_bar()

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def notice(self, text: str, **facts: Any) -> None:
        """Print one line, unless quiet."""
        if not self._quiet:
            print(printable(text), file=sys.stderr, flush=True)  # noqa: T201 (stderr is this class's business)

    def warning(self, text: str, **facts: Any) -> None:
        """Print one line, even when quiet: cron mails it."""
        print(f"warning: {printable(text)}", file=sys.stderr, flush=True)  # noqa: T201

    def progress(self, rows: int, total_rows: int | None) -> None:
        """Move the bar: rows, rows a second, time left."""
        if self._quiet or not self._is_terminal:
            return
        if self._bar is None:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )

            columns = (
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("rows, {task.fields[rate]} rows/s,"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task("", total=total_rows, rate="?")
            self._since = time.monotonic()
            self._first = rows
        seconds = time.monotonic() - self._since
        rate = f"{(rows - self._first) / seconds:,.0f}" if seconds > 1 else "?"
        self._bar.update(self._task, completed=rows, rate=rate)

    def finished(self, document: dict[str, Any]) -> None:
        """Print the summary: a dozen lines on a terminal, one in a log."""
        self._end_bar()
        status = document["status"]
        if status == "dry_run" and not self._quiet:
            print(json.dumps(document, indent=1, default=str), file=sys.stderr)  # noqa: T201
            return
        shown = status in {"complete", "complete_with_errors"} and not self._quiet
        if shown and self._is_terminal:
            summaries.show(document, sys.stderr)
            return
        for said in summaries.warnings(document, needed_only=not shown):
            self.warning(said)
        if shown:
            print(summaries.line(document), file=sys.stderr, flush=True)  # noqa: T201

    def file_finished(self, document: dict[str, Any], name: str) -> None:
        """Print what became of one file of several, and its warnings."""
        if document["status"] == "complete":
            self.notice(f"{name}: {document['rows']['written']:,} rows")
        needed_only = self._quiet or document["status"] != "complete"
        for said in summaries.warnings(document, needed_only=needed_only):
            self.warning(f"{name}: {said}")


class JsonReporter(Reporter):
    """One JSON object a line.

    The last is of type summary (or exit_error, which the command line writes).
    """

    def __init__(self) -> None:
        self._next = 0.0

    def __enter__(self) -> "JsonReporter":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def _line(self, kind: str, **facts: Any) -> None:
        print(json.dumps({"type": kind, **facts}, default=str), file=sys.stderr, flush=True)  # noqa: T201

    def notice(self, text: str, **facts: Any) -> None:
        """Write a line of type notice."""
        self._line("notice", message=text, **facts)

    def warning(self, text: str, **facts: Any) -> None:
        """Write a line of type warning."""
        self._line("warning", message=text, **facts)

    def progress(self, rows: int, total_rows: int | None) -> None:
        """Write a line of type progress, every ten seconds at most."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + 10
            self._line("progress", rows=rows, total_rows=total_rows)

    def file_finished(self, document: dict[str, Any], name: str) -> None:
        """Write a line of type file, and its warnings."""
        self._line("file", output=name, status=document["status"], rows=document.get("rows"))
        for said in summaries.warnings(document):
            self._line("warning", message=f"{name}: {said}")

    def finished(self, document: dict[str, Any]) -> None:
        """Write the warnings and the summary."""
        for said in summaries.warnings(document):
            self._line("warning", message=said)
        self._line("summary", exit_code=document.get("exit_code", 0), summary=document)
