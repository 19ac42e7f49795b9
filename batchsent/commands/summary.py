"""The summary of a run as Python shows it: a dictionary with a short form for people."""

import html
import io
from typing import Any

from batchsent.text import printable


class Summary(dict[str, Any]):
    """What a run wrote down about itself, as in OUTPUT.summary.json."""

    def __repr__(self) -> str:
        """Return one line: how the run ended, and what became of how many rows."""
        rows = self.get("rows") or {}
        named = ("read", "scored", "blank", "rejected", "nonfinite")
        counts = [f"{rows[name]:,} {name}" for name in named if rows.get(name)]
        files = f"{len(self['files'])} files" if "files" in self else ""
        facts = [printable(self.get("status")), files, *counts]
        return f"<batchsent summary: {', '.join(fact for fact in facts if fact)}>"

    def _repr_html_(self) -> str:
        """Return what a terminal shows of the summary, for a notebook."""
        if self.get("status") == "dry_run":
            return f"<pre>{html.escape(repr(self))}</pre>"
        from rich.console import Console

        from batchsent.terminal.summaries import show

        shown = io.StringIO()
        show(self, Console(file=shown, width=100, highlight=False))
        return f"<pre>{html.escape(shown.getvalue())}</pre>"
