"""Tables that a run writes beside its output: groups and disagreements."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from batchsent.chunk import Chunk, Scores
from batchsent.evaluation.disagreements import Disagreements
from batchsent.evaluation.gold import GoldRule
from batchsent.evaluation.groups import Groups
from batchsent.files.atomic import PendingFile
from batchsent.formats import Source
from batchsent.formats.reading import find_column
from batchsent.formats.tables import write_table
from batchsent.run.options import BatchOptions


@dataclass(frozen=True)
class WrittenTable:
    """A table that stands on the disk and waits for its name."""

    role: str  # groups or disagreements
    file: PendingFile
    rows: int
    facts: dict[str, Any] = field(default_factory=dict)  # what the summary keeps of it


class SideTables:
    """The tables of one run, filled as its chunks pass."""

    def __init__(
        self,
        source: Source,
        labels: tuple[str, ...],
        gold: GoldRule | None,
        options: BatchOptions,
        paths: dict[str, Path],
    ) -> None:
        self._options, self._paths, self._gold = options, paths, gold
        self._groups: Groups | None = None
        self._disagreements: Disagreements | None = None
        if options.group_by:
            self._column = find_column(source.columns, options.group_by, "--group-by", source.name)
            self._groups = Groups(
                labels,
                options.group_by,
                unsure_below=options.unsure_below,
                judged=gold is not None,
            )
            # The summary holds no review text.
            self._is_text = options.group_by == source.facts()["columns"]["text"]
        if options.disagreements:
            assert gold is not None  # checked with the options
            self._disagreements = Disagreements(gold)

    def add(self, chunk: Chunk, scores: Scores) -> None:
        """Count a finished chunk."""
        if self._groups is not None and chunk.rows:
            gold = None if self._gold is None else self._gold.numbers(chunk.gold or [])
            self._groups.add(chunk.carried.column(self._column), scores, gold)
        if self._disagreements is not None:
            self._disagreements.add(chunk, scores)

    def write(self) -> Iterator[WrittenTable]:
        """Write the tables one by one, each to be committed or closed by the caller.

        Raises OSError.
        """
        # Each is computed once and let go: that of a million groups takes seconds and hundreds of
        # megabytes.
        if self._groups is not None:
            table = self._groups.table()
            facts = {} if self._is_text else self._groups.section(table)
            yield self._written("groups", table, self._options.output_format, facts)
            del table
        if self._disagreements is not None:
            yield self._written("disagreements", self._disagreements.table(), "csv", {})

    def _written(
        self, role: str, table: pa.Table, output_format: str | None, facts: dict[str, Any]
    ) -> WrittenTable:
        file = PendingFile(self._paths[role])
        try:
            write_table(file, str(self._paths[role]), table, output_format)
        except BaseException:
            file.close()  # the caller has not got it yet
            raise
        return WrittenTable(role, file, table.num_rows, facts)

    def warnings(self) -> list[dict[str, str | None]]:
        """Return what a person should know of the tables."""
        return [] if self._groups is None else self._groups.warnings()
