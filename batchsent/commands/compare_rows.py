"""Two scored files of the same rows, read side by side: which labels changed."""

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchsent.commands.scored_file import find_labels
from batchsent.commands.written_rows import RowWriter, check_added, check_target
from batchsent.errors import InputError, UsageError
from batchsent.evaluation.flips import Flips
from batchsent.evaluation.gold import GoldRule
from batchsent.files.atomic import output_errors
from batchsent.formats.reading import ReadOptions
from batchsent.formats.scored_rows import ScoredFile, ScoredRows, side_by_side
from batchsent.options import option
from batchsent.reporting import Reporter
from batchsent.text import printable

# What is added to a row of the old file whose label changed: its number, counted from 1, and what
# the new file says of it.
ADDED = pa.schema(
    [("flip_row", pa.int64()), ("new_label", pa.string()), ("new_score", pa.float32())]
)


@dataclass(frozen=True)
class CompareRowsOptions(ReadOptions):
    """How two scored files are read, and what is counted of them."""

    flips: str | None = option(
        None,
        "Also write the rows of the first file whose label changed, with flip_row, new_label and "
        "new_score.",
        metavar="FILE",
        group="Common",
    )
    gold: str | None = option(
        None,
        "Column of the first file with the right labels, for accuracies and McNemar's test.",
        metavar="COLUMN",
        group="Common",
    )
    group_by: str | None = option(
        None,
        "Column of the first file by whose values flips are counted.",
        metavar="COLUMN",
        group="Common",
    )
    prefix: str = option(
        "",
        "What the names of the label and score columns begin with [default: as in the run].",
        group="Common",
    )
    overwrite: bool = option(False, "Replace the file of --flips where it exists.", group="Common")
    gold_map: str | None = option(
        None,
        "What gold values mean: neg=NEGATIVE,pos=POSITIVE.",
        metavar="VALUE=LABEL,...",
        group="Quality",
    )
    labels: str | None = option(
        None,
        "Label names in the model's order [default: from a summary beside one of the files, its "
        "prob_ columns or the labels in them].",
        metavar="LABEL,...",
        group="Quality",
    )
    limit: int | None = option(
        None, "Compare the first N rows only.", metavar="N", minimum=0, group="Run"
    )


def compare_rows(
    old: str, new: str, settings: CompareRowsOptions, reporter: Reporter
) -> dict[str, Any]:
    """Return what `new` changed of the labels of `old`, and write the rows that did.

    Both files are read in constant memory, and their texts are compared.
    Raises InputError where they are not of the same rows, UsageError for columns that are not
    there, OutputError.
    """
    target = None if settings.flips is None else Path(settings.flips)
    if target is not None:
        check_target(target, "--flips", old, new, overwrite=settings.overwrite)
    if settings.gold is None and settings.gold_map is not None:
        raise UsageError("--gold-map requires --gold", hint="name the column with --gold COLUMN")
    columns = {"--gold": settings.gold, "--group-by": settings.group_by}
    with ExitStack() as stack:
        before = stack.enter_context(closing(ScoredFile(old, settings, settings.prefix, columns)))
        after = stack.enter_context(closing(ScoredFile(new, settings, settings.prefix, {})))
        rule = None
        if settings.gold is not None:
            labels = find_labels([new, old], settings, settings.prefix, settings.labels)
            rule = GoldRule.parse(labels, settings.gold_map)
        counted = Flips(group_by=settings.group_by, gold=settings.gold is not None)
        writer = None
        if target is not None:
            check_added(before.source, ADDED)
            stack.enter_context(output_errors(target))
            writer = stack.enter_context(closing(RowWriter(target, before.source, ADDED)))
        for chunk, first, second in side_by_side(before, after):
            flipped = counted.add(
                first.labels,
                second.labels,
                first.scores,
                second.scores,
                groups=first.others.get("--group-by"),
                gold=None if rule is None else _gold(rule, first.others["--gold"]),
            )
            if writer is not None:
                writer.write(chunk, flipped.tolist(), _added(first.start_row, second, flipped))
            reporter.progress(first.start_row + first.rows, None)
        document = counted.document()
        if document["gold"] is not None and not document["gold"]["rows"]:
            raise InputError(
                f"{before.name}: no row has a gold label in {printable(str(settings.gold))} and a "
                "label in both files",
                hint="name the column of the right labels with --gold, and say what its values "
                "mean with --gold-map",
            )
        if writer is not None:
            writer.commit()
        document["old"], document["new"] = before.source.facts(), after.source.facts()
        document["flipped_rows"] = None if target is None else str(target)
        return document


def _gold(rule: GoldRule, cells: Sequence[Any]) -> list[str | None]:
    """Return the gold label of each row, None where its cell means none."""
    numbers = rule.numbers(cells).tolist()
    return [rule.labels[number] if number >= 0 else None for number in numbers]


def _added(start_row: int, new: ScoredRows, flipped: NDArray[np.int64]) -> pa.RecordBatch:
    columns = [
        pa.array(start_row + flipped + 1, pa.int64()),
        pa.array([new.labels[row] for row in flipped.tolist()], pa.string()),
        pa.array(new.scores[flipped], pa.float32()),
    ]
    return pa.record_batch(columns, schema=ADDED)
