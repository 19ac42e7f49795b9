"""An output of a run, read back as its summary says that it was written: texts and probabilities.

The file is the one that the summary describes, to the byte, or it is not read.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.errors import InputError, reason
from batchsent.evaluation.polarity import sides_of
from batchsent.filenames import is_regular, stamp
from batchsent.files.hashing import sha256_of
from batchsent.formats.opening import format_of, open_source
from batchsent.formats.outputs import OutputOptions, added_schema
from batchsent.formats.reading import ReadOptions, Source
from batchsent.formats.run_summary import RunSummary
from batchsent.formats.scored_columns import (
    BadCell,
    label_numbers,
    label_texts,
    probabilities,
    to_scores,
)
from batchsent.formats.text_table import Block
from batchsent.text import printable


@dataclass(frozen=True)
class ScoredOutput:
    """A finished output and the summary beside it."""

    path: str
    summary: RunSummary
    labels: tuple[str, ...]
    options: OutputOptions  # which columns it has
    size: int
    sha256: str
    rows: int

    @classmethod
    def of(cls, path: str, hint: str) -> "ScoredOutput":
        """Read the summary beside an output. Raises InputError, with `hint` where it is damaged."""
        if not is_regular(path):
            raise InputError(
                f"{printable(path)} is not a file", hint="give an output of batchsent batch"
            )
        beside = f"{path}.summary.json"
        if not is_regular(beside):
            raise InputError(
                f"{printable(path)} has no summary beside it",
                hint=f"give an output of batchsent batch with its {printable(beside)}",
            )
        summary = RunSummary.read(beside, hint)
        document = summary.document
        if document["status"] != "complete":
            raise InputError(
                f"{printable(summary.path)} is the summary of a run that did not finish", hint=hint
            )
        try:
            (data,) = (entry for entry in document["outputs"] if entry["role"] == "data")
            size, sha256, rows = data["bytes"], data["sha256"], data["rows"]
            prefix = summary.recorded.get("prefix", "")
        except (KeyError, TypeError, ValueError) as error:
            raise summary.damaged(error) from error
        if not (isinstance(size, int) and isinstance(rows, int) and isinstance(prefix, str)):
            raise summary.damaged("its output has no size")
        options = summary.output_options(prefix)
        return cls(path, summary, tuple(summary.labels()), options, size, str(sha256), rows)

    @property
    def name(self) -> str:
        """The path, printable."""
        return printable(self.path)

    @property
    def tells_every_label(self) -> bool:
        """Whether the probabilities of all labels are known; of two labels the score tells both."""
        return self.options.probabilities or len(self.labels) == 2

    @property
    def tells_tokens(self) -> bool:
        """Whether it has the tokens of each row, and they are needed: of a cascade two models read.

        One model reads a text again as it did before.
        """
        return self.options.details and self.summary.document["model"].get("cascade") is not None

    @property
    def width(self) -> int:
        """How many numbers `blocks` has of a row."""
        of_labels = len(self.labels) if self.tells_every_label else 2
        return of_labels + (2 if self.tells_tokens else 0)

    def check_intact(self) -> tuple[int, ...]:
        """Return the stamp of the file, which is the one that the summary describes.

        Raises InputError where it is not, UsageError where its text column is not found in it.
        """
        try:
            stamped = stamp(self.path)
            found = stamped[1]
            what = f"{found:,} bytes, not {self.size:,}"
            intact = found == self.size
            if intact:
                what = "another SHA-256"
                intact = sha256_of(Path(self.path)) == self.sha256
        except OSError as error:
            raise InputError(f"cannot read {self.name}: {reason(error)}") from error
        if not intact:
            raise InputError(
                f"{self.name} is not what its run wrote: it has {what}",
                hint=self.summary.hint,
            )
        if self.rows:
            self._open()[0].close()
        return stamped

    def blocks(self) -> Iterator[Block]:
        """Yield the texts that have a score with their numbers, which `to_probabilities` reads.

        Raises InputError.
        """
        if not self.rows:
            return  # without any row JSON lines have no columns
        source, added = self._open()
        needed = ["label", "score"]
        if self.options.writes_polarity:
            needed.append("polarity")
        if self.options.probabilities:
            needed += [f"prob_{label}" for label in self.labels]
        if self.tells_tokens:
            needed += ["n_tokens", "truncated"]
        with closing(source):
            for chunk in source.chunks([added[name] for name in needed]):
                cells = {name: chunk.columns[added[name]] for name in needed}
                try:
                    given, numbers = self._numbers(cells)
                    if self.tells_tokens:
                        numbers = np.column_stack([numbers, *_tokens(cells)])
                except BadCell as bad:
                    row = chunk.start_row + bad.row + 1
                    raise self.summary.damaged(f"row {row:,} has {bad.cell!r}") from bad
                rows = np.flatnonzero(given).tolist()
                yield [chunk.texts[row] or "" for row in rows], numbers[given]

    def to_probabilities(self, numbers: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return probabilities (rows, labels) of what `blocks` yields, (rows, width).

        Without `tells_every_label` those of labels that did not win are 0.
        """
        if self.tells_tokens:
            numbers = numbers[:, :-2]
        if self.tells_every_label:
            return numbers
        winners = numbers[:, 0].astype(np.intp)
        return to_scores(winners, numbers[:, 1], len(self.labels)).probabilities

    def to_tokens(
        self, numbers: NDArray[np.float32]
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]] | None:
        """Return the tokens of what `blocks` yields (rows, width), None without `tells_tokens`.

        They are (rows,) n_tokens, and (rows,) 1 where a text was truncated, 0 elsewhere.
        """
        if not self.tells_tokens:
            return None
        return numbers[:, -2].astype(np.int32), numbers[:, -1].astype(np.int32)

    def _numbers(
        self, cells: dict[str, list[Any]]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Return (rows,) which rows have a score, and the numbers (rows, width) of all.

        `cells` (rows,) are those of the columns that tell, by name. Raises BadCell.
        """
        labels, options = self.labels, self.options
        score = _floats(cells["score"])
        given = ~np.isnan(score)
        if options.probabilities:
            each = [_floats(cells[f"prob_{label}"]) for label in labels]
            return given, np.stack(each, axis=1)
        if options.writes_polarity and len(labels) == 2:
            # Exact: the difference of two float32 within a factor of 2 is a float32 (Sterbenz), and
            # either p(other) or the polarity is within a factor of 2 of the score.
            polarity = _floats(cells["polarity"], signed=True)
            positive, negative = sides_of(labels, options.polarity_labels)
            numbers = np.empty((len(score), 2), np.float32)
            other = score - np.abs(polarity)
            numbers[:, positive] = np.where(polarity >= 0, score, other)
            numbers[:, negative] = np.where(polarity >= 0, other, score)
            return given, numbers
        winners = label_numbers(label_texts(cells["label"]), labels)
        if (given != (winners >= 0)).any():
            row = int((given != (winners >= 0)).argmax())
            raise BadCell(row, score[row])
        if len(labels) == 2:
            return given, to_scores(winners, score, 2).probabilities
        return given, np.stack([winners.astype(np.float32), score], axis=1)

    def _open(self) -> tuple[Source, dict[str, str]]:
        """Open the file as its run wrote it; return the added columns by their names in a run.

        Those have no prefix; a CSV without a header has them last.

        Raises InputError, and UsageError where the text column is not found.
        """
        source = open_source(self.path, self._read_options())
        names, columns = added_schema(self.labels, self.options).names, source.columns
        if self.summary.recorded.get("no_header"):
            there = columns[len(columns) - len(names) :]
        else:
            there = names
            missing = [name for name in names if name not in columns]
            if missing:
                source.close()
                raise self.summary.damaged(f"there is no column {missing[0]}")
        bare = [name.removeprefix(self.options.prefix) for name in names]
        return source, dict(zip(bare, there, strict=True))

    def _read_options(self) -> ReadOptions:
        """Return how to read the output, by how the run read its input. Raises InputError."""
        recorded = self.summary.complete(
            ReadOptions(), {"input_format", "limit", "bad_rows", "chunk_rows", "max_field_bytes"}
        )
        source = self.summary.document["input"]
        written = self.summary.recorded.get("output_format")
        index = recorded.text_column_index
        if index is None and recorded.no_header and recorded.text_column is None:
            index = 1  # of an input of one column
        try:
            columns = source["columns"]
            name = written or format_of(self.path, what="output") or source["format"]
            taken: dict[str, Any] = {
                "input_format": name,
                "text_column": None if index else as_given(columns["text"]),
                "text_joint": columns.get("joint"),
                "text_column_index": index,
                "max_field_bytes": 1 << 30,  # a field made of another format may be longer
            }
            if name != source["format"] or source["dialect"] is None:
                return dataclasses.replace(ReadOptions(), **taken)
            dialect = dict(source["dialect"])
            dialect.pop("header")
            return dataclasses.replace(recorded, **taken, **dialect)
        except (KeyError, TypeError, ValueError) as error:
            raise self.summary.damaged(error) from error


def as_given(text: Any) -> Any:
    """Return the text column, or several, of a summary as an option has them."""
    return tuple(text) if isinstance(text, list) else text


def _tokens(cells: Mapping[str, Sequence[Any]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (rows,) the tokens of each row, and 1 where it was truncated. Raises BadCell.

    Numbers of tokens are exact: none is near 2^24.
    """
    truncated = cells["truncated"]
    for row, cell in enumerate(truncated):
        if str(cell).lower() not in {"true", "false"}:
            raise BadCell(row, cell)
    return _floats(cells["n_tokens"], signed=True), np.array(
        [str(cell).lower() == "true" for cell in truncated], np.float32
    )


def _floats(cells: Sequence[Any], *, signed: bool = False) -> NDArray[np.float32]:
    """Return (rows,) the numbers in cells, NaN where there is none. Raises BadCell.

    The decimals of a text format read back exactly.
    """
    given = np.array([cell not in (None, "") for cell in cells], dtype=bool)
    if not signed:
        return probabilities(cells, given)
    found = np.full(len(cells), np.nan, np.float32)
    try:
        found[given] = np.array(
            [float(cells[row]) for row in np.flatnonzero(given).tolist()], np.float64
        )
    except (TypeError, ValueError):
        raise BadCell(0, "no number") from None
    return found
