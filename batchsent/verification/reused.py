"""The rows that took their scores from earlier outputs, compared with those outputs."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchsent.chunk import SCORED, Chunk
from batchsent.errors import InputError, UsageError
from batchsent.formats.known_texts import KnownTexts
from batchsent.formats.outputs import OutputOptions, added_batch, added_schema
from batchsent.formats.scored_output import ScoredOutput
from batchsent.text import printable
from batchsent.verification.claims import same_section
from batchsent.verification.differences import Difference, Location, shown


class ReusedRows:
    """Looks up each text in the earlier outputs, and compares what they and the output say of it.

    `section` is the summary's on what was reused, `data` its entry of the output, which is at
    `output` now. An earlier output that is not there any more, or is another file now, cannot be
    compared: `why_not` says so. Otherwise it is read at once.
    """

    def __init__(
        self,
        section: Mapping[str, Any],
        data: Mapping[str, Any],
        output: Path,
        labels: tuple[str, ...],
        run: OutputOptions,
    ) -> None:
        self._section, self._labels = section, labels
        # Sentences and tokens are not reused.
        self._options = dataclasses.replace(run, sentences=False, details=False)
        self._schema = added_schema(labels, self._options)
        self.why_not: str | None = None
        try:
            self._known = KnownTexts([_find(entry, data, output) for entry in section["outputs"]])
            self._known.check_intact()
            self._known.read()
        except (InputError, UsageError) as error:
            self.why_not = error.message

    def take(self, chunk: Chunk, added: pa.Table, names: list[str]) -> None:
        """Compare the rows of a chunk; `names` are those of its `added` columns.

        Raises Difference.
        """
        if self.why_not is not None:
            return
        scores = self._known.find(chunk.texts)
        known = pa.array(scores.status == SCORED)
        rows = np.flatnonzero(scores.status == SCORED)
        wanted = added_batch(scores, self._labels, self._schema, self._options)
        for name, column in zip(self._schema.names, wanted.columns, strict=True):
            there = added.column(names.index(name)).filter(known)
            due = column.filter(known).cast(there.type)
            same = np.array(pc.equal(there, due).fill_null(False))  # noqa: FBT003 (a value)
            if not same.all():
                at = int((~same).argmax())
                raise Difference(
                    f"{shown(there[at].as_py())}, where the output that the row was taken from has "
                    f"{shown(due[at].as_py())}",
                    Location(chunk.start_row + int(rows[at]) + 1, column=name),
                    found=shown(there[at].as_py()),
                )

    def finish(self) -> str:
        """Return what was checked. Raises Difference where the counts are not those claimed."""
        found = self._known.section()
        for one, claimed in zip(found["outputs"], self._section["outputs"], strict=True):
            one["path"] = claimed["path"]  # it may have been moved
        same_section("reuse", dict(self._section), found)
        outputs = ", ".join(output.name for output in self._known.outputs)
        return f"the scores of {found['reused_rows']:,} reused rows against {outputs}"


def _find(entry: Mapping[str, Any], data: Mapping[str, Any], output: Path) -> ScoredOutput:
    """Return an output that was reused: where it was, or at its old path relative to the output.

    Raises InputError where it is not there, or is not that file.
    """
    there = Path(entry["path"])
    moved = output.parent / os.path.relpath(there, Path(data["path"]).parent)
    found = next((path for path in (there, moved) if path.is_file()), there)
    scored = ScoredOutput.of(str(found), "")
    if scored.sha256 != entry["sha256"]:
        raise InputError(f"{printable(found)} was scored again since")
    return scored
