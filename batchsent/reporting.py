"""What a run says while it works; the silent form, which the command line makes audible."""

from typing import Any


class Reporter:
    """Takes what a run says. This one keeps quiet; the commands pass one that prints or logs."""

    def notice(self, text: str, **facts: Any) -> None:
        """Say one thing that a person should know now."""

    def warning(self, text: str, **facts: Any) -> None:
        """Say one thing that may need a hand."""

    def progress(self, rows: int, total_rows: int | None) -> None:
        """Say how many rows are done, of how many if that is known."""

    def file_finished(self, document: dict[str, Any], name: str) -> None:
        """Say how one file of several ended; `name` is its output's."""

    def finished(self, document: dict[str, Any]) -> None:
        """Say how the run ended: its summary."""
