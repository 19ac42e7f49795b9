"""The scores that texts have in earlier outputs; of several the first with a text counts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from batchsent.chunk import PENDING, SCORED, Scores, is_blank
from batchsent.errors import InputError
from batchsent.filenames import stamp
from batchsent.formats.scored_output import ScoredOutput
from batchsent.formats.text_table import TextTable, keys_of


class KnownTexts:
    """Outputs of the same labels, in the order in which they are asked."""

    def __init__(self, outputs: Sequence[ScoredOutput]) -> None:
        self.outputs = list(outputs)
        self._stamps: list[tuple[int, ...]] = []
        self._tables: list[TextTable] = []
        self._reused = [0] * len(self.outputs)
        self._new = 0

    @property
    def hashes(self) -> str:
        """What tells these outputs from others, for a fingerprint."""
        return ", ".join(output.sha256[:16] for output in self.outputs)

    def check_intact(self) -> None:
        """Hash every output. Raises InputError for one that is not what its run wrote."""
        self._stamps = [output.check_intact() for output in self.outputs]

    def read(self, folder: Path | None = None) -> None:
        """Read the outputs into tables on the disk (text_table.py), whose files are in `folder`.

        `check_intact` comes first. Raises InputError, and OSError where there is no room.
        """
        for output, stamped in zip(self.outputs, self._stamps, strict=True):
            table = TextTable(output.blocks(), output.width, rows=output.rows, folder=folder)
            if stamp(output.path) != stamped:
                raise InputError(
                    f"{output.name} changed while it was read", hint=output.summary.hint
                )
            self._tables.append(table)

    def find(self, texts: Sequence[str | None]) -> Scores:
        """Return the scores of texts (rows,) as far as they are known, PENDING for other rows.

        Of a cascade with --details they have `n_tokens`, and `truncated_tokens` that is 1 for each
        truncated text; both are 0 elsewhere.

        Every row is asked for once: it is counted.
        """
        with_text = [
            row for row, text in enumerate(texts) if text is not None and not is_blank(text)
        ]
        keys = keys_of([texts[row] or "" for row in with_text])
        rows, labels = np.array(with_text, dtype=np.int64), len(self.outputs[0].labels)
        scores = Scores.pending(len(texts), labels)
        for number, (output, table) in enumerate(zip(self.outputs, self._tables, strict=True)):
            entries = table.find(keys)
            table.mark(entries[entries >= 0])
            taken = (entries >= 0) & (scores.status[rows] == PENDING)
            numbers = table.numbers(entries[taken])
            scores.probabilities[rows[taken]] = output.to_probabilities(numbers)
            if (tokens := output.to_tokens(numbers)) is not None:
                scores.n_tokens[rows[taken]], scores.truncated_tokens[rows[taken]] = tokens
            scores.status[rows[taken]] = SCORED
            self._reused[number] += int(taken.sum())
        self._new += int((scores.status[rows] == PENDING).sum())
        return scores

    def section(self) -> dict[str, Any]:
        """Return what the summary says of the rows that were asked for.

        Reused rows took their scores from an output, new ones have a text that is in none; gone are
        the rows of an output whose text was not asked for.
        """
        outputs = []
        for output, table, reused in zip(self.outputs, self._tables, self._reused, strict=True):
            outputs.append(
                {
                    "path": output.name,
                    "bytes": output.size,
                    "sha256": output.sha256,
                    "rows": table.rows,
                    "reused_rows": reused,
                    "gone_rows": table.unmarked_rows(),
                }
            )
        return {
            "reused_rows": sum(self._reused),
            "new_rows": self._new,
            "gone_rows": sum(entry["gone_rows"] for entry in outputs),
            "outputs": outputs,
        }
