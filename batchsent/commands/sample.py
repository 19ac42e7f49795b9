"""Draw the rows of a scored file that are worth a label by hand."""

import hashlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchsent.commands.written_rows import RowWriter, check_added, check_target
from batchsent.errors import InputError
from batchsent.evaluation.sampling import Draw, ScoreCounts, Strata
from batchsent.files.atomic import output_errors
from batchsent.formats.opening import check_read_options
from batchsent.formats.reading import ReadOptions
from batchsent.formats.scored_rows import ScoredFile
from batchsent.options import build, option
from batchsent.reporting import Reporter

SCHEMA = "batchsent.sample/1"

# What is added to each row drawn: its number in the scored file, its stratum and the rows of that,
# the rows that it stands for, the mark of its text, and the cell for the label.
ROW, STRATUM, STRATUM_ROWS, WEIGHT, TEXT, GOLD = (
    f"audit_{name}" for name in ("row", "stratum", "stratum_rows", "weight", "text", "gold")
)
ADDED = pa.schema(
    [
        (ROW, pa.int64()),
        (STRATUM, pa.int64()),
        (STRATUM_ROWS, pa.int64()),
        (WEIGHT, pa.float64()),
        (TEXT, pa.string()),
        (GOLD, pa.string()),
    ]
)


@dataclass(frozen=True)
class SampleOptions(ReadOptions):
    """How rows are drawn."""

    rows: int = option(200, "Rows to draw.", short="-n", metavar="N", minimum=10, group="Common")
    seed: int = option(
        0, "Seed of the draw: the same seed draws the same rows.", minimum=0, group="Common"
    )
    prefix: str = option(
        "",
        "What the names of the label and score columns begin with [default: as in the run].",
        group="Common",
    )
    overwrite: bool = option(False, "Replace OUTPUT where it exists.", group="Common")
    limit: int | None = option(
        None, "Draw from the first N rows only.", metavar="N", minimum=0, group="Run"
    )


def sample(
    file: str | PathLike[str],
    output: str | PathLike[str],
    *,
    reporter: Reporter | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Draw rows of a scored file to label by hand; the options are those of SampleOptions.

    The rows are drawn at random within strata of label and score, more from strata where the model
    is less sure, and written in the order of the file, the user's columns as they are. Added are
    audit_row (counted from 1), audit_stratum, audit_stratum_rows, audit_weight (the rows that one
    row stands for; 1 / weight is its inclusion probability), audit_text (a mark that `evaluate`
    knows the text by) and the empty audit_gold for the label. Returns rows, strata and path.

    The file is read twice, in constant memory. Raises UsageError, InputError, OutputError.
    """
    settings = build(SampleOptions, options)
    check_read_options(settings, [str(file)])
    target, reporter = Path(output), reporter or Reporter()
    check_target(target, "-o", str(file), overwrite=settings.overwrite)
    counts = ScoreCounts()
    with closing(_opened(file, settings)) as scored:
        check_added(scored.source, ADDED)
        reporter.stage("counting scores")
        for rows in scored.rows():
            counts.add(rows.labels, rows.scores)
            reporter.progress(rows.start_row + rows.rows, None)
        name = scored.name
    if not counts.rows:
        raise InputError(f"{name}: no row has a label", hint="score it with batchsent batch first")
    strata = counts.strata(settings.rows)
    reporter.stage("drawing rows")
    with closing(_opened(file, settings)) as scored, output_errors(target):
        _write(scored, target, Draw(strata, settings.seed), reporter)
    return {
        "schema": SCHEMA,
        "input": name,
        "output": str(target),
        "rows": int(strata.drawn.sum()),
        "scored_rows": counts.rows,
        "seed": settings.seed,
        "strata": [
            {**described, "weight": float(weight)}
            for described, weight in zip(strata.described(), strata.weights, strict=True)
        ],
    }


def text_mark(text: str | None) -> str:
    """Return 64 bits of a text's hash (BLAKE2), by which a row is known to have that text.

    It begins with a letter: a spreadsheet makes a number of digits and of 12e34.
    """
    data = (text or "").encode("utf-8", "surrogatepass")
    return "t" + hashlib.blake2b(data, digest_size=8).hexdigest()


def _opened(file: str | PathLike[str], settings: SampleOptions) -> ScoredFile:
    return ScoredFile(str(file), settings, settings.prefix, {})


def _write(scored: ScoredFile, target: Path, draw: Draw, reporter: Reporter) -> None:
    """Write the rows drawn. Raises InputError where the file is not what was counted; OSError."""
    changed = InputError(
        f"{scored.name} changed while it was read",
        hint="wait until it is finished, then draw again",
    )
    with closing(RowWriter(target, scored.source, ADDED)) as file:
        for chunk, rows in scored.chunks():
            if not draw.knows(rows.labels):
                raise changed
            picked, strata = draw.pick(rows.labels, rows.scores)
            texts = [chunk.texts[row] for row in picked.tolist()]
            added = _added(texts, chunk.start_row + picked, strata, draw.strata)
            file.write(chunk, picked.tolist(), added)
            reporter.progress(rows.start_row + rows.rows, None)
        if not draw.complete:
            raise changed
        file.commit()


def _added(
    texts: Sequence[str | None],
    rows: NDArray[np.int64],
    numbers: NDArray[np.int64],
    strata: Strata,
) -> pa.RecordBatch:
    columns = [
        pa.array(rows + 1, pa.int64()),
        pa.array(numbers + 1, pa.int64()),
        pa.array(strata.rows[numbers], pa.int64()),
        pa.array(strata.weights[numbers], pa.float64()),
        pa.array([text_mark(text) for text in texts], pa.string()),
        pa.nulls(len(rows), pa.string()),
    ]
    return pa.record_batch(columns, schema=ADDED)
