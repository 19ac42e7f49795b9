"""Gold values -> label numbers: by name, by number, by a mapping or by star ranges."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.errors import InputError, UsageError
from batchsent.text import printable

# Stand for a label number where a gold value names no label.
MISSING, UNMATCHED, LEFT_OUT = -1, -2, -3

# Words that mean the same label in any model. Nothing else is guessed: LABEL_0 may mean anything.
SYNONYMS = ({"neg", "negative"}, {"neu", "neutral"}, {"pos", "positive"})

# What may follow the number of a rating, as in "4 stars".
STARS = re.compile(r"\s*(stars?|★)\s*$", re.IGNORECASE)

# A rating with a decimal comma, as spreadsheets of many countries write 4.5.
DECIMAL_COMMA = re.compile(r"^(\s*[+-]?\d{1,2}),(\d{1,2}\s*)$")

# How the labels 0 and 1 are written too.
TRUTH_VALUES = {"false": "0", "true": "1"}

# A gold column has few distinct values; one with many (ids, prose) must not fill the memory.
CACHE_VALUES = 10_000


@dataclass(frozen=True)
class GoldRule:
    """How the cells of a gold column become label numbers."""

    labels: tuple[str, ...]
    kind: str = "names"  # names, mapping or stars
    text: str | None = None  # the rule as the user wrote it
    values: dict[str, int] = field(default_factory=dict)  # mapping: key -> label number or LEFT_OUT
    # stars: lowest, highest (both included), label number
    ranges: tuple[tuple[float, float, int], ...] = ()
    # values met before
    cache: dict[Any, int] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def parse(
        cls, labels: Sequence[str], mapping_text: str | None = None, stars: str | None = None
    ) -> "GoldRule":
        """Make the rule for a model's labels.

        - `mapping_text` is ``neg=NEGATIVE,pos=POSITIVE``; an empty right side (``neutral=``) leaves
          the value out.
        - `stars` is ``1-2:NEGATIVE,4-5:POSITIVE``, both ends included; ratings in no range are left
          out.
        - With neither, a value is a label's name in any case, one of neg/negative, neu/neutral,
          pos/positive where the model has such a label, or the label's number from 0, with false
          for 0 and true for 1.

        Raises UsageError for a rule that cannot be read, names no label of the model, or gives a
        value two labels.
        """
        labels = tuple(labels)
        if mapping_text is not None and stars is not None:
            raise UsageError(
                "a gold mapping and star ranges cannot be used together",
                hint="leave one of them out",
            )
        if mapping_text is not None:
            return cls(labels, "mapping", mapping_text, values=_parse_mapping(labels, mapping_text))
        if stars is not None:
            return cls(labels, "stars", stars, ranges=_parse_stars(labels, stars))
        return cls(labels)

    def numbers(self, cells: Sequence[Any]) -> NDArray[np.int64]:
        """Return the label number of each cell, or MISSING, UNMATCHED or LEFT_OUT.

        A row costs a look-up (25 million a second); the rule itself runs once a distinct value.
        """
        try:
            found = list(map(self.cache.get, cells))
        except TypeError:  # a list or dict among the cells: not hashable, and not a label
            return np.fromiter(map(self.number, cells), dtype=np.int64, count=len(cells))
        if None in found:
            if len(self.cache) > CACHE_VALUES:
                self.cache.clear()
            self.cache.update((value, self.number(value)) for value in set(cells))
            found = list(map(self.cache.get, cells))
        return np.array(found, dtype=np.int64)

    def number(self, cell: Any) -> int:
        """Return the label number of one cell, or MISSING, UNMATCHED or LEFT_OUT."""
        if cell is None or (isinstance(cell, float) and math.isnan(cell)):
            return MISSING
        if isinstance(cell, bytes):
            cell = cell.decode("utf-8", "replace")
        name = str(cell)
        if not name.strip():
            return MISSING
        if self.kind == "stars":
            return self._by_stars(name)
        key = _key(name)
        if self.kind == "mapping":
            if key in self.values:
                return self.values[key]
            # Otherwise only a label's own name counts: with 1=NEGATIVE,2=POSITIVE a 0 is neither.
            return _label_number(self.labels, name)
        return self._by_name(name, key)

    def _by_stars(self, name: str) -> int:
        rating = _as_number(DECIMAL_COMMA.sub(r"\1.\2", STARS.sub("", name)))
        if rating is None:
            return UNMATCHED
        for low, high, label in self.ranges:
            if low <= rating <= high:
                return label
        return LEFT_OUT

    def _by_name(self, name: str, key: str) -> int:
        named = _label_number(self.labels, name)
        if named == UNMATCHED and key.lstrip("-").isdecimal():
            # Another spelling of a number: the cell 1.0 is the label 1.
            named = _label_number(self.labels, key)
        if named != UNMATCHED:
            return named
        for words in SYNONYMS:
            if key in words:
                return _only([i for i, label in enumerate(self.labels) if _key(label) in words])
        key = TRUTH_VALUES.get(key, key)
        if key.isdecimal() and int(key) < len(self.labels):
            return int(key)
        return UNMATCHED

    def facts(self) -> dict[str, str | None]:
        """Return the rule for the summary."""
        return {"kind": self.kind, "rule": self.text}


def _key(value: str) -> str:
    """Return the form in which values are compared: without case, outer space or a decimal .0.

    pandas writes 1 as 1.0 where a column has gaps.
    """
    number = _as_number(value)
    # From 2**53 on a float does not distinguish all whole numbers.
    if number is not None and number % 1 == 0 and abs(number) < 2**53:
        return str(int(number))
    return value.strip().casefold()


def _as_number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _label_number(labels: tuple[str, ...], name: str) -> int:
    """Return the label of this name, or the only one of it in another case; else UNMATCHED."""
    if name in labels:
        return labels.index(name)
    folded = name.strip().casefold()
    return _only([i for i, label in enumerate(labels) if label.strip().casefold() == folded])


def _only(numbers: list[int]) -> int:
    """Return the number of a list of one; else UNMATCHED."""
    return numbers[0] if len(numbers) == 1 else UNMATCHED


def _target(labels: tuple[str, ...], name: str, rule: str) -> int:
    number = _label_number(labels, name)
    if number == UNMATCHED:
        known = ", ".join(map(printable, labels[:20]))
        raise UsageError(
            f"the model has no label '{printable(name)}' (in the rule '{printable(rule)}')",
            hint=f"its labels are: {known}",
        )
    return number


def _parse_mapping(labels: tuple[str, ...], text: str) -> dict[str, int]:
    values: dict[str, int] = {}
    for entry in text.split(","):
        value, sign, name = entry.partition("=")
        key = _key(value)
        if not sign or not key:
            raise UsageError(
                f"cannot read '{printable(entry)}' in the gold mapping '{printable(text)}'",
                hint="write value=LABEL pairs with commas between them, such as "
                "neg=NEGATIVE,pos=POSITIVE",
            )
        number = LEFT_OUT
        if name.strip():
            number = _target(labels, name.strip(), text)
        if values.setdefault(key, number) != number:
            raise UsageError(
                f"the gold mapping gives '{printable(value.strip())}' two labels",
                hint="keep one of them",
            )
    return values


def _parse_stars(labels: tuple[str, ...], text: str) -> tuple[tuple[float, float, int], ...]:
    ranges: list[tuple[float, float, int]] = []
    for entry in text.split(","):
        span, sign, name = entry.partition(":")
        low_text, dash, high_text = span.strip().partition("-")
        low = _as_number(low_text.strip())
        high = _as_number(high_text.strip()) if dash else low
        if not sign or low is None or high is None or low > high:
            raise UsageError(
                f"cannot read '{printable(entry)}' in the star rule '{printable(text)}'",
                hint="write ranges of ratings with their labels, such as 1-2:NEGATIVE,4-5:POSITIVE",
            )
        for other_low, other_high, _ in ranges:
            if low <= other_high and other_low <= high:
                raise UsageError(
                    f"ranges overlap in the star rule '{printable(text)}'",
                    hint="give each rating once",
                )
        ranges.append((low, high, _target(labels, name.strip(), text)))
    return tuple(ranges)


def check_judged(evaluation: Mapping[str, Any] | None, name: str) -> None:
    """Raise InputError, with the values found, where an evaluation has no row."""
    if evaluation is None or evaluation["rows"]:
        return
    gold = evaluation["gold"]
    values = [f"'{entry['value']}'" for entry in gold["unmatched_values"]]
    what = "a label of the model"
    said = f"its values are: {', '.join(values)}"
    hint = "map them to labels: --gold-map neg=NEGATIVE,pos=POSITIVE, or name another --gold"
    if gold["kind"] == "stars" and gold["left_out"]:
        what, said = "in a range of --stars", f"{gold['left_out']:,} ratings are outside of them"
        hint = "give ranges that hold them: --stars 1-2:NEGATIVE,..."
    elif gold["kind"] == "stars":
        what, hint = "a rating such as 4, 4.5 or '4 stars'", "name the column with the ratings"
    elif gold["left_out"]:
        said = f"the mapping leaves {gold['left_out']:,} of them out"
    if not values and not gold["left_out"]:
        said, hint = "no scored row has a gold value to compare with", "name another column"
    raise InputError(
        f"{name}: no value of the gold column is {what}, so nothing can be evaluated; {said}",
        hint=hint,
    )


def accuracy_word(evaluation: Mapping[str, Any]) -> str:
    """Return the word for the share of equal labels: agreement with star ratings, else accuracy."""
    return "agreement" if evaluation["gold"]["kind"] == "stars" else "accuracy"
