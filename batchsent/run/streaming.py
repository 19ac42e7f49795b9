"""Rows in, scored rows out, without any file: the stages of a run, in bounded memory."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pyarrow as pa

from batchsent.chunk import NONFINITE, SCORED, Chunk, Reject, Scores
from batchsent.errors import InputError
from batchsent.formats.arrow import joined_schema, joined_table
from batchsent.formats.frame_rows import FrameRows, ReaderRows
from batchsent.formats.frames import open_frame
from batchsent.formats.opening import check_new_columns
from batchsent.formats.outputs import added_batch, added_schema
from batchsent.formats.parquet import first_undecodable
from batchsent.formats.reading import Rows
from batchsent.formats.text_names import chosen_by_model
from batchsent.model.calibration import calibrated
from batchsent.python_words import python_words, words_of
from batchsent.reporting import Reporter
from batchsent.run.checks import check_column_options
from batchsent.run.models import Models, describe
from batchsent.run.nonfinite import describe_nonfinite
from batchsent.run.options import FrameOptions
from batchsent.run.plan import check_columns, fast_temperature
from batchsent.run.scoring import score_chunks
from batchsent.text import printable
from batchsent.text_columns import TextColumns

# How many rows that were left out a warning names.
NAMED_REJECTS = 3


class ScoredRows:
    """Rows with the new columns that a model gives them; all is checked before the first row."""

    def __init__(
        self,
        rows: Rows,
        models: Models,
        options: FrameOptions,
        *,
        reporter: Reporter | None = None,
        total_rows: int | None = None,
    ) -> None:
        """Hold rows, model and options against each other, and load the model.

        Raises UsageError, ModelError or DeviceError.
        """
        self._rows, self._options = rows, options
        self._reporter, self._total_rows = reporter or Reporter(), total_rows
        check_column_options(options)
        models.check()
        identity = models.identity()
        self._temperature = check_columns(identity, options)
        self._fast_temperature = fast_temperature(identity, options)
        self.added = added_schema(identity.labels, options)
        check_new_columns(rows, self.added.names)
        self._reporter.stage("loading the model")
        self._scorer = models.open()
        text = rows.text_columns
        if text is not None and chosen_by_model(options, text, identity.text_columns):
            self._reporter.notice(text.as_chosen_by_model())
        for line in describe(self._scorer):
            self._reporter.notice(line)
        self._reporter.stage(f"scoring {rows.name}")

    def __iter__(self) -> Iterator[tuple[Chunk, pa.RecordBatch]]:
        """Yield each chunk with its new columns; warns at the end of what was not as it should be.

        Raises InputError or DeviceError, and ModelError, at the end, where no row has a score.
        """
        outcome = Outcome()
        scored = score_chunks(
            self._rows.chunks(),
            self._scorer,
            sentences=self._options.sentences,
            progress=lambda rows: self._reporter.progress(rows, self._total_rows),
        )
        # Hints name options as they are typed in a shell, but these rows are a program's.
        words = python_words(words_of(type(self._options)))
        with words, closing(self._rows), closing(scored):
            for chunk, scores in scored:
                outcome.add(scores, chunk.rejected)
                if self._temperature is not None:
                    scores = calibrated(scores, self._temperature, self._fast_temperature)
                yield chunk, added_batch(scores, self._scorer.labels, self.added, self._options)
            outcome.tell(self._rows)

    def table(self) -> pa.Table:
        """Return the new columns of all rows."""
        return pa.Table.from_batches([added for _, added in self], self.added)

    def reader(self) -> pa.RecordBatchReader:
        """Return the rows with the new columns after their own, scored as they are read."""
        schema = joined_schema(self._rows.schema, self.added)
        return pa.RecordBatchReader.from_batches(schema, self._joined(schema))

    def _joined(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        for chunk, added in self:
            table = joined_table(chunk, added, self._rows.schema, schema)
            try:
                table.validate(full=True)
                # One batch a chunk: Parquet is decoded in batches of 32 rows.
                table = table.combine_chunks()
            except pa.ArrowNotImplementedError:
                pass  # a type that is not put together; its batches stay apart
            except pa.ArrowInvalid as error:
                raise self._undecodable(table, chunk.start_row, error) from error
            yield from table.to_batches()

    def _undecodable(self, table: pa.Table, start: int, error: Exception) -> InputError:
        """Return the error for text that is not UTF-8, which readers of Arrow refuse."""
        for batch in table.to_batches():
            if found := first_undecodable(batch):
                row, column = start + found[0] + 1, printable(found[1])
                return InputError(
                    f"{self._rows.name}, row {row:,}: column {column} holds bytes that are not "
                    "UTF-8, which Arrow does not take as text",
                    hint="convert the column to binary where the rows are made",
                    row=row,
                )
            start += batch.num_rows
        return InputError(f"{self._rows.name}: damaged rows: {printable(error)}")


class Outcome:
    """What became of the rows, for the warnings at the end."""

    def __init__(self) -> None:
        self._counts = np.zeros(4, dtype=np.int64)  # of each status
        self._left_out = 0
        self._rejects: list[Reject] = []

    def add(self, scores: Scores, rejected: Iterable[Reject] = ()) -> None:
        """Count the rows of a chunk."""
        self._counts += np.bincount(scores.status, minlength=4)
        for reject in rejected:
            self._left_out += 1
            if len(self._rejects) < NAMED_REJECTS:
                self._rejects.append(reject)

    def tell(self, rows: Rows) -> None:
        """Warn of rows without a score, of rows left out, and of what the rows themselves say.

        Raises ModelError where the model gives no finite number for any row.
        """
        said = [str(found["message"]) for found in rows.warnings()]
        if self._left_out:
            named = "; ".join(f"line {one.line:,}: {one.reason}" for one in self._rejects)
            more = ", ..." if self._left_out > len(self._rejects) else ""
            said.append(
                f"{rows.name}: {self._left_out:,} row(s) cannot be taken and are left out "
                f"({named}{more})"
            )
        counts = self._counts
        lacking = describe_nonfinite(int(counts[NONFINITE]), int(counts[SCORED]), "rows")
        if lacking is not None:
            said.append(lacking)
        for one in said:
            warnings.warn(one, stacklevel=3)


def without_rows(frame: Any, models: Models, options: FrameOptions) -> Any:
    """Return a frame without rows with the new columns after its own; no model is loaded.

    Raises UsageError or ModelError.
    """
    opened = open_frame(frame)
    assert not isinstance(opened, pa.RecordBatchReader)  # a reader has no length
    check_column_options(options)
    identity = models.identity()
    check_columns(identity, options)
    added = added_schema(identity.labels, options)
    check_new_columns(FrameRows(opened, options, usual=lambda: identity.text_columns), added.names)
    return opened.joined(added.empty_table())


def score_frame(
    frame: Any, models: Models, options: FrameOptions, reporter: Reporter | None = None
) -> Any:
    """Return a frame of the same kind with the new columns after its own.

    Of a reader, a reader whose rows are scored as they are read; of an object that only has the
    Arrow stream interface, a pyarrow table. Raises UsageError, ModelError or DeviceError.
    """
    opened = open_frame(frame)

    def usual() -> TextColumns | None:
        return models.identity().text_columns

    if isinstance(opened, pa.RecordBatchReader):
        return ScoredRows(ReaderRows(opened, options, usual), models, options).reader()
    if options.limit is not None:
        opened = opened.head(options.limit)
    rows = FrameRows(opened, options, usual=usual)
    scored = ScoredRows(rows, models, options, reporter=reporter, total_rows=opened.rows)
    return opened.joined(scored.table())
