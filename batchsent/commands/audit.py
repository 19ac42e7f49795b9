"""`batchsent evaluate --audit`: a scored dump against the rows of it that a person labelled."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.commands.sample import GOLD, text_mark
from batchsent.commands.sampled_rows import Sampled, read_sampled
from batchsent.errors import InputError
from batchsent.evaluation.advice import warning
from batchsent.evaluation.audit import FEW_MISTAKES, Design, LabelledRows, sections
from batchsent.evaluation.bins import FIXED, fixed
from batchsent.evaluation.gold import LEFT_OUT, MISSING, UNMATCHED, GoldRule
from batchsent.formats.reading import ReadOptions
from batchsent.formats.scored_rows import ScoredFile, ScoredRows
from batchsent.reporting import Reporter
from batchsent.text import printable

SCHEMA = "batchsent.audit/1"

# With fewer labels an interval is too wide to say anything.
LEAST_LABELLED = 10

KEEP_ROWS = (
    f"keep every row that batchsent sample wrote; leave {GOLD} blank where there is no label"
)


def audit(
    file: str,
    labelled: str,
    options: ReadOptions,
    rule: GoldRule,
    *,
    prefix: str = "",
    gold: str | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Return accuracy and corrected shares of a scored file, from the labelled rows of a sample.

    `labelled` is what `sample` drew from the file, with labels in the column `gold` (without it
    audit_gold); `rule` says what they mean. Rows without a label are left out, and the others of
    their stratum stand for more rows. The file may have been scored anew by another model since,
    as long as the same rows have a label.

    Raises UsageError and InputError for a sample of another dump, for labels that mean nothing and
    where fewer than LEAST_LABELLED rows have one.
    """
    sampled = read_sampled(labelled, gold or GOLD, options)
    numbers = rule.numbers(sampled.cells)
    _refuse_unmatched(sampled, numbers, rule.labels)
    with closing(ScoredFile(file, options, prefix, {})) as scored:
        dump = _read_dump(scored, sampled, rule.labels, reporter or Reporter())
        facts, notes = scored.source.facts(), scored.source.warnings()
    _check_same_dump(sampled, dump)
    chosen = numbers >= 0
    _refuse_too_few(sampled, int(chosen.sum()), gold or GOLD)
    design = Design(sampled.stratum_rows, sampled.stratum[chosen])
    joined = design.joined()
    rows = LabelledRows(dump.said[chosen], dump.scores[chosen], numbers[chosen])
    figures = sections(rule.labels, dump.counted, dump.mean_score, joined, rows)
    section = {
        "path": sampled.name,
        "gold": rule.facts(),
        "drawn": len(numbers) + sampled.removed,
        "labelled": int(chosen.sum()),
        "blank": int((numbers == MISSING).sum()),
        "removed": sampled.removed,
        "left_out": int((numbers == LEFT_OUT).sum()),
        "strata": len(design.rows),
        "strata_joined": len(design.rows) - len(joined.rows),
    }
    return {
        "schema": SCHEMA,
        "input": facts,
        "rows": {"read": dump.rows, "scored": dump.scored},
        "audit": {**section, **figures},
        "warnings": [*notes, *_warnings(section, figures)],
    }


@dataclass(frozen=True)
class Dump:
    """What a scored file says, of all its rows and of those of a sample."""

    name: str
    rows: int
    counted: NDArray[np.int64]  # (labels,) rows that have each label
    score_sum: int  # of the rows with a label, in 1 / FIXED
    said: NDArray[np.int64]  # (sampled,) number of the label, -1 where there is none
    scores: NDArray[np.float64]  # (sampled,)

    @property
    def scored(self) -> int:
        """Rows with a label."""
        return int(self.counted.sum())

    @property
    def mean_score(self) -> float:
        """Mean score of the rows with a label."""
        return self.score_sum / FIXED / self.scored


def _read_dump(
    scored: ScoredFile, sampled: Sampled, labels: Sequence[str], reporter: Reporter
) -> Dump:
    """Read a scored file once. Raises InputError where a sampled row has another text."""
    counted = np.zeros(len(labels), dtype=np.int64)
    said = np.full(len(sampled.row), -1, dtype=np.int64)
    scores = np.zeros(len(sampled.row))
    of_label = {label: number for number, label in enumerate(labels)}
    score_sum = read = 0
    for rows in scored.rows():
        _check_texts(sampled, rows, scored.name)
        found = np.array([_number(label, of_label) for label in rows.labels], dtype=np.int64)
        counted += np.bincount(found[found >= 0], minlength=len(counted))
        score_sum += int(fixed(rows.scores[found >= 0]).sum())
        first, last = np.searchsorted(sampled.row, (read, read + rows.rows))
        places = sampled.row[first:last] - read
        said[first:last] = found[places]
        scores[first:last] = rows.scores[places]
        read += rows.rows
        reporter.progress(read, None)
    return Dump(scored.name, read, counted, score_sum, said, scores)


def _number(label: str | None, of_label: dict[str, int]) -> int:
    """Return the number of a label, -1 for a row without one. Raises InputError."""
    if label is None:
        return -1
    if label not in of_label:
        raise InputError(
            f"the label '{printable(label)}' is not one of "
            f"{', '.join(map(printable, list(of_label)[:20]))}",
            hint="name all of them with --labels",
        )
    return of_label[label]


def _refuse_unmatched(sampled: Sampled, numbers: NDArray[np.int64], labels: Sequence[str]) -> None:
    """Refuse a label that the model does not have: one mistyped is one mistake of the model."""
    unmatched = np.flatnonzero(numbers == UNMATCHED)
    if not len(unmatched):
        return
    place = int(unmatched[0])
    known = ", ".join(map(printable, labels[:20]))
    raise InputError(
        f"{sampled.name}, row {int(sampled.lines[place]):,}: "
        f"'{printable(str(sampled.cells[place])[:60])}' is not a label of the model: {known}",
        hint="correct the cell, leave it blank, or say what it means: --gold-map neg=NEGATIVE",
    )


def _check_texts(sampled: Sampled, rows: ScoredRows, name: str) -> None:
    """Refuse a sample whose rows have another text in this dump. Raises InputError."""
    first, last = np.searchsorted(sampled.row, (rows.start_row, rows.start_row + rows.rows))
    for place in range(int(first), int(last)):
        row = int(sampled.row[place])
        if text_mark(rows.texts[row - rows.start_row]) != sampled.marks[place]:
            raise InputError(
                f"{sampled.name} was drawn from another dump: its row {row + 1:,} does not have "
                f"the text of row {row + 1:,} of {name}",
                hint="give the scored file that batchsent sample read",
                row=row + 1,
            )


def _refuse_too_few(sampled: Sampled, labelled: int, column: str) -> None:
    """Refuse a sample with too few labels. Raises InputError."""
    if labelled < LEAST_LABELLED:
        raise InputError(
            f"{sampled.name}: {labelled} of {len(sampled.row)} rows have a label in "
            f"{printable(column)}; at least {LEAST_LABELLED} are required",
            hint="write the right label of each row into that column, or name another with --gold",
        )


def _check_same_dump(sampled: Sampled, dump: Dump) -> None:
    """Refuse a sample whose rows or strata are not those of the dump. Raises InputError."""
    name, scored = dump.name, dump.scored
    if len(sampled.row) and sampled.row[-1] >= dump.rows:
        raise InputError(
            f"{sampled.name} was drawn from another dump: it has row "
            f"{int(sampled.row[-1]) + 1:,}, {name} has {dump.rows:,}",
            hint="give the scored file that batchsent sample read",
        )
    unscored = np.flatnonzero(dump.said < 0)
    if len(unscored):
        raise InputError(
            f"row {int(sampled.row[unscored[0]]) + 1:,} of {name} has no label any more",
            hint="give the scored file that batchsent sample read",
        )
    strata = int(sampled.stratum_rows.sum())
    if strata != scored:
        raise InputError(
            f"the strata in {sampled.name} hold {strata:,} rows, but {scored:,} rows of {name} "
            "have a label",
            hint=KEEP_ROWS if strata < scored else "give the file that batchsent sample read",
        )


def _warnings(section: dict[str, Any], figures: dict[str, Any]) -> list[dict[str, str | None]]:
    found = []
    unlabelled = section["drawn"] - section["labelled"]
    removed = f", {section['removed']:,} of them were removed" if section["removed"] else ""
    if unlabelled:
        found.append(
            warning(
                "audit_unlabelled",
                f"{unlabelled:,} of {section['drawn']:,} sampled rows have no label"
                f"{removed}: the labelled rows of their stratum stand for them",
                "that is right only where they are missing by chance; label the hard ones too",
            )
        )
    if section["strata_joined"]:
        found.append(
            warning(
                "audit_strata_joined",
                f"{section['strata_joined']} of {section['strata']} strata have fewer than two "
                "labels and are counted with the one beside them",
                "label more rows",
            )
        )
    mistakes = figures["accuracy"]["mistakes"]
    if mistakes < FEW_MISTAKES:
        found.append(
            warning(
                "audit_few_mistakes",
                f"the model is wrong in {mistakes} labelled rows only, so the intervals are rough",
                "draw and label more rows",
            )
        )
    return found
