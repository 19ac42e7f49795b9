"""What the classes of a training are called, and which label columns are refused."""

import difflib
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from batchsent.errors import UsageError
from batchsent.evaluation.gold import UNMATCHED, GoldRule
from batchsent.text import printable
from batchsent.training.read_labelled import Table

# What label columns say, and what the classes are then called. Compared without case.
NEGATIVE, NEUTRAL, POSITIVE = {"neg", "negative"}, {"neu", "neutral"}, {"pos", "positive"}

# A class of one or two reviews teaches nothing; a "label" that is nearly always new is an id or a
# date.
MOST_CLASSES = 100
# Five different numbers are stars: a scale, which two or three classes divide better.
MOST_NUMBERS = 4
# "spma" in 3 rows beside "spam" in 60 is a typing error, "good" beside "goods" in like numbers is
# not. What is nearly "positive" always is.
COMMONER = 20
DIGITS = re.compile(r"[\d\W_]+")
# What 0 and 1 are called in text: pandas writes 1 as 1.0 where a column has gaps.
ZERO, ONE = {"0", "0.0", "false"}, {"1", "1.0", "true"}


def decide_labels(
    table: Table, labels: str | None, mapping: str | None, stars: str | None
) -> GoldRule:
    """Decide what the classes are called and how the cells of the label column map to them.

    Without options 0/1, neg/pos and negative/positive are NEGATIVE and POSITIVE (with neutral:
    NEUTRAL between them), and anything else is its own sorted values. Raises UsageError when that
    makes fewer than two classes, so many that the column cannot be the label, or more than
    MOST_NUMBERS numbers.
    """
    names = [name.strip() for name in labels.split(",")] if labels is not None else []
    if labels is None and mapping is not None:
        names = [entry.rpartition("=")[2].strip() for entry in mapping.split(",")]
    elif labels is None and stars is not None:
        names = [entry.partition(":")[2].strip() for entry in stars.split(",")]
    elif labels is None:
        names = natural_labels(table)
    elif not all(names) or len(set(names)) < len(names):
        raise UsageError(
            f"--labels {printable(labels)!r}: empty or repeated names", hint="write --labels A,B,C"
        )
    names = [name for name in dict.fromkeys(names) if name]
    # says what is wrong with a rule before its classes are counted
    rule = GoldRule.parse(names, mapping, stars)
    if len(names) < 2:
        found = ", ".join(map(printable, names)) or "no label at all"
        raise UsageError(
            f"{printable(table.name)}: only one class: {found}"
            if names
            else f"{printable(table.name)}: {found}",
            hint="a classifier needs reviews of at least two classes; is --label-column the right "
            "one?",
        )
    return rule


def natural_labels(table: Table) -> list[str]:
    """Return the class names that the label column suggests by itself."""
    # 1, 1.0, True and "1" say the same; "01" does not.
    values = Counter(spelling(cell) for cell in table.cells)
    values.pop(None, None)
    folded = {str(value).strip().casefold() for value in values}
    if len(folded) == 2 and folded & ZERO and folded & ONE:
        return ["NEGATIVE", "POSITIVE"]
    if folded <= NEGATIVE | NEUTRAL | POSITIVE:
        triple = ((NEGATIVE, "NEGATIVE"), (NEUTRAL, "NEUTRAL"), (POSITIVE, "POSITIVE"))
        return [name for words, name in triple if words & folded]
    if len(values) > MOST_CLASSES:
        raise UsageError(
            f"{printable(table.name)}: the label column has {len(values):,} different values in"
            f" {len(table.cells):,} rows",
            hint="name the right one with --label-column, or the classes with --labels, "
            "--label-map or --stars",
        )
    refuse_ratings(table, sorted(as_number(str(value)) for value in values))
    refuse_misspelled(table, values)
    return sorted((str(value) for value in values), key=lambda value: (as_number(value), value))


def refuse_ratings(table: Table, ratings: Sequence[float]) -> None:
    """Raise UsageError for so many numbers that they are ratings and not classes.

    `ratings` are the different values, smallest first, infinite where a value is no number. The
    rule to add is made from them: the lowest and the highest two fifths of their range.
    """
    if len(ratings) <= MOST_NUMBERS or not math.isfinite(ratings[-1]):
        return
    lowest, highest = ratings[0], ratings[-1]
    fifths = 0.4 * (highest - lowest)
    low = max(rating for rating in ratings if rating <= lowest + fifths)
    high = min(rating for rating in ratings if rating >= highest - fifths)
    rule = f"--stars {lowest:g}-{low:g}:NEGATIVE,{high:g}-{highest:g}:POSITIVE"
    if lowest < 0:
        rule = "--label-map VALUE=LABEL,..."
    names = ",".join(f"{rating:g}" for rating in ratings)
    raise UsageError(
        f"{printable(table.name)}: the label column has {len(ratings)} different numbers, from "
        f"{lowest:g} to {highest:g}: ratings require a rule that makes classes of them",
        hint=f"add {rule}, or train a class for every number with --labels {names}",
    )


def refuse_misspelled(table: Table, values: Counter[str | None]) -> None:
    """Raise UsageError for a rare class named like a frequent one but for its numbers."""
    names = [str(value) for value in values]
    for value, count in values.items():
        others = [
            name
            for name in names
            if (
                values[name] >= COMMONER * count or name.casefold() in NEGATIVE | NEUTRAL | POSITIVE
            )
            and DIGITS.sub("", name) != DIGITS.sub("", str(value))
        ]
        near = nearest(str(value), others, likeness=0.85)
        if near is not None:
            mapping = ",".join(
                f"{name}={near if name == value else name}" for name in sorted(names)[:6]
            )
            raise UsageError(
                f"{printable(table.name)}: the label {printable(value)!r} ({count:,} rows) looks "
                f"like a typing error of {printable(near)!r} ({values[near]:,} rows)",
                hint=f"correct it there, or with --label-map '{printable(mapping)}'; if it is a "
                "class of its own, name all classes with --labels",
            )


def nearest(name: str, others: Iterable[str], likeness: float = 0.75) -> str | None:
    """Return the one of `others` that `name` is most likely a typing error of, in any case.

    None if there is none.
    """
    folded = {other.strip().casefold(): other for other in others}
    found = difflib.get_close_matches(name.strip().casefold(), folded, n=1, cutoff=likeness)
    return folded[found[0]] if found else None


def spelling(cell: Any) -> str | None:
    """Return a cell of the label column as a class name; None where it is empty."""
    if cell is None or (isinstance(cell, float) and np.isnan(cell)):
        return None
    if isinstance(cell, bool) or (isinstance(cell, float) and cell.is_integer()):
        cell = int(cell)
    return str(cell).strip() or None


def as_number(value: str) -> float:
    """Return the number that a class name is, else infinity: numbers sort before words."""
    try:
        return float(value)
    except ValueError:
        return float("inf")


def refuse_unknown(
    table: Table, rule: GoldRule, cells: Sequence[Any], numbers: Sequence[int]
) -> None:
    """Raise UsageError for label values that the rule does not cover, with what was meant."""
    unknown = Counter(
        str(cell) for cell, number in zip(cells, numbers, strict=True) if number == UNMATCHED
    )
    if not unknown:
        return
    guesses, listed = [], []
    for value, count in unknown.most_common(8):
        listed.append(f"{printable(value[:40])!r} ({count:,})")
        near = nearest(value, [*rule.labels, *rule.values])
        if near:
            guesses.append(f"{printable(value)!r} is nearly {printable(near)!r}; ")
    raise UsageError(
        f"{printable(table.name)}: {unknown.total():,} rows have labels that are not one of"
        f" {', '.join(map(printable, rule.labels))}: {', '.join(listed)}",
        hint="".join(guesses[:2])
        + "say what they mean with --label-map VALUE=LABEL,... (VALUE= leaves rows out) or "
        "--stars",
    )
