"""The files of one run: written under temporary names, then given their names together."""

import contextlib
from pathlib import Path
from types import TracebackType
from typing import Any

from batchsent.chunk import Chunk, Scores
from batchsent.evaluation import summary as summaries
from batchsent.files.atomic import PendingFile, write_file
from batchsent.files.hashing import STDOUT, HashedOutput
from batchsent.formats import open_sink
from batchsent.formats.outputs import added_batch
from batchsent.run.options import BatchOptions
from batchsent.run.ownership import Earlier
from batchsent.run.parts import Parts
from batchsent.run.paths import RunPaths
from batchsent.run.plan import RunPlan
from batchsent.run.rejects import Rejects
from batchsent.run.side_tables import WrittenTable
from batchsent.run.summary_sections import described


def least_bytes(plan: RunPlan, paths: RunPaths, options: BatchOptions) -> int | None:
    """Return the size that the output has at least; None where the input does not tell.

    Where the lines of a text file are copied with more at their ends, that is the input's size.
    """
    checked, source = plan.checked, plan.source
    if checked is None or checked.bad_rows or paths.files or paths.data is None:
        return None
    dialect = source.facts()["dialect"] or {}
    shortens = options.limit is not None or options.skip_lines or options.output_format
    if shortens or str(dialect.get("encoding", "utf-8")).startswith(("utf-16", "utf-32")):
        return None
    suffixes = {Path(name).suffix.lower() for name in (paths.input, paths.written_to)}
    return checked.bytes if suffixes in ({".csv"}, {".tsv"}, {".jsonl"}) else None


class RunFiles:
    """Output, rejects and tables of one run. What is not committed on leaving is removed.

    Raises OSError; wrap the use in `output_errors`.
    """

    def __init__(self, plan: RunPlan, paths: RunPaths, options: BatchOptions) -> None:
        self._plan, self._paths, self._options = plan, paths, options
        self._stack = contextlib.ExitStack()
        self._tables: list[WrittenTable] = []
        self._rejects: Rejects | None = None
        self._data: HashedOutput
        if paths.data is None:
            self._data = HashedOutput(STDOUT)
        else:
            self._data = self._stack.enter_context(PendingFile(paths.data, follow_link=True))
        try:
            if options.bad_rows == "reject" and paths.rejects is not None:
                self._rejects = Rejects(paths.rejects)
                self._stack.callback(self._rejects.discard)
            self._sink = open_sink(
                self._data, paths.written_to, plan.source, plan.added, options.output_format
            )
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> "RunFiles":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def write(self, chunk: Chunk, scores: Scores) -> None:
        """Write the rows of a finished chunk."""
        labels = self._plan.identity.labels
        self._sink.write(chunk, added_batch(scores, labels, self._plan.added, self._options))
        self._plan.side_tables.add(chunk, scores)
        if self._rejects is not None:
            self._rejects.write(chunk.rejected)

    def finish(self, rows: int, *, like_held_out: bool) -> list[dict[str, Any]]:
        """Complete all files after `rows` rows; return the summary's list of them.

        `like_held_out` says that the shares of groups can be corrected.
        """
        paths = self._paths
        self._sink.finish()
        outputs = [described(paths.output, self._data, "data", rows)]
        if self._rejects is not None and self._rejects.rows:
            rejected = self._rejects
            shown = paths.place.file(rejected.file.final).name
            outputs.append(described(shown, rejected.file, "rejects", rejected.rows))
        for table in self._plan.side_tables.write(like_held_out=like_held_out):
            self._stack.callback(table.file.close)
            self._tables.append(table)
            shown = paths.place.file(table.file.final).name
            entry = described(shown, table.file, table.role, table.rows)
            outputs.append(entry | table.facts)
        return outputs

    def commit(self, document: dict[str, Any], parts: Parts | None) -> None:
        """Give every file its name: data first, the summary last as the mark of success."""
        paths, place = self._paths, self._paths.place
        entries = {entry["role"]: entry for entry in document["outputs"]}
        # Checked again: hours may have passed since the check before the run.
        earlier = Earlier.read(paths)
        earlier.refuse_foreign(self._options)
        if parts is not None and isinstance(self._data, PendingFile):
            self._data.make_durable()
            earlier.refuse_new_output(self._options)
            parts.announce(document["outputs"], document["run"]["id"])
            self._remove_stale(earlier)
            self._data.commit()
            new = not earlier.may_replace_output(self._options)
            entries["data"].update(place.file(self._data.final).deliver(new=new))
        if self._rejects is not None:
            self._rejects.commit()
            if "rejects" in entries:
                entries["rejects"].update(place.file(self._rejects.file.final).deliver())
        for table in self._tables:
            table.file.commit()
            entries[table.role].update(place.file(table.file.final).deliver())
        if self._options.writes_page and paths.report is not None:
            from batchsent.pages.report import render

            examples = self._plan.side_tables.examples()
            write_file(paths.report, render(document, examples=examples))
            place.file(paths.report).deliver()
        if paths.summary is not None:
            write_file(paths.summary, summaries.dumps(document))
            place.file(paths.summary).deliver()
        if parts is not None:
            parts.remove()

    def _remove_stale(self, earlier: Earlier) -> None:
        """Remove the files that describe the old output, before the new one takes its place."""
        paths, written = self._paths, self._paths.beside(self._options)
        described_before = {
            "summary": paths.summary,
            "rejects": paths.rejects,
            "report": paths.report,
            "failed summary": paths.failure,
        }
        for role, path in described_before.items():
            if path is not None and (role in written or earlier.is_own(role, path)):
                paths.place.file(path).remove()
