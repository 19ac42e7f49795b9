"""What a new model or precision changes: labels of the same rows compared.

Counts as the rows pass, in constant memory. A row flips where both files give it a label and the
two differ.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.evaluation import gates
from batchsent.evaluation.bins import FIXED, Lengths, fixed
from batchsent.evaluation.quality import Z, interval

SCHEMA = "batchsent.flips/1"

# Bands of the old score, from its lower edge up; float32, as the scores are.
BANDS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
BAND_EDGES = np.array(BANDS, dtype=np.float32)
SURE = np.float32(0.9)
# With fewer discordant pairs the chi-square approximation is not used (Fagerland et al. 2013).
EXACT_PAIRS = 25
# Groups are counted up to this many values, rows of further ones together.
MOST_GROUPS = 100_000
MOST_GROUP_CHARACTERS = 200
SHOWN_GROUPS = 50
# Of a model of a thousand labels there may be a million.
SHOWN_DIRECTIONS = 100
OTHERS = "(other groups)"

# The figures that a condition may name; None where they cannot be told.
NO_GATES: dict[str, float | None] = dict.fromkeys(
    (
        "flips",
        "flipped_rows",
        "sure_flips",
        "labels_lost",
        "label_share_change",
        "mean_score_change",
        "accuracy_drop",
        "mcnemar_p",
    )
)

Pair = tuple[str | None, str | None]


class Flips:
    """Counts the rows of two scored files; `document` may be asked at any time.

    `group_by` is the name of the column of groups, None without one. With `gold`, each file's
    labels are compared with gold labels as well.
    """

    def __init__(self, *, group_by: str | None = None, gold: bool = False) -> None:
        self.group_by, self.gold = group_by, gold
        self.rows = 0
        self._pairs: Counter[Pair] = Counter()
        self._old_scores: Counter[Pair] = Counter()  # sums in 1 / FIXED
        self._new_scores: Counter[Pair] = Counter()
        self._bands = np.zeros((2, len(BANDS)), dtype=np.int64)  # rows, flips
        self._sure = 0
        # How far scores moved, in 1 / FIXED: rows that keep their label, then rows that flip.
        self._changes = (Lengths(), Lengths())
        self._least_score = math.inf
        self._groups: dict[str | None, list[int]] = {}  # rows, flips
        self._other_groups = [0, 0]
        # rows with a gold label, by whether the old and the new label are right
        self._judged = np.zeros((2, 2), dtype=np.int64)

    def add(
        self,
        old: Sequence[str | None],
        new: Sequence[str | None],
        old_scores: NDArray[np.float32],
        new_scores: NDArray[np.float32],
        groups: Sequence[Any] | None = None,
        gold: Sequence[str | None] | None = None,
    ) -> NDArray[np.int64]:
        """Count the next rows, (rows,) each; return the numbers of those that flipped, rising.

        `gold` holds the gold label of each row, None where it does not count.
        """
        self.rows += len(old)
        before, after = np.array(old, dtype=object), np.array(new, dtype=object)
        both = _given(old) & _given(new)
        flipped = both & (before != after)
        self._count_pairs(old, new, old_scores, new_scores)
        bands = np.searchsorted(BAND_EDGES, old_scores[both], side="right") - 1
        self._bands[0] += np.bincount(bands, minlength=len(BANDS))
        flipped_bands = np.searchsorted(BAND_EDGES, old_scores[flipped], side="right") - 1
        self._bands[1] += np.bincount(flipped_bands, minlength=len(BANDS))
        self._sure += int((old_scores[flipped] >= SURE).sum())
        kept = both & ~flipped
        first, second = old_scores.astype(np.float64), new_scores.astype(np.float64)
        self._changes[0].add(fixed(np.abs(second - first)[kept]))
        # Of two labels the one that wins now had one minus the old score before.
        self._changes[1].add(fixed(np.abs(first + second - 1)[flipped]))
        for scores in (first[both], second[both]):
            self._least_score = min(self._least_score, float(scores.min(initial=math.inf)))
        if groups is not None:
            self._count_groups(groups, both, flipped)
        if gold is not None:
            right = np.array(gold, dtype=object)
            judged = both & _given(gold)
            sides = 2 * (before == right)[judged].astype(int) + (after == right)[judged]
            self._judged += np.bincount(sides, minlength=4).reshape(2, 2)
        return np.flatnonzero(flipped)

    def _count_pairs(
        self,
        old: Sequence[str | None],
        new: Sequence[str | None],
        old_scores: NDArray[np.float32],
        new_scores: NDArray[np.float32],
    ) -> None:
        old_sums, new_sums = (
            fixed(np.nan_to_num(scores)).tolist() for scores in (old_scores, new_scores)
        )
        for pair, old_sum, new_sum in zip(
            zip(old, new, strict=True), old_sums, new_sums, strict=True
        ):
            self._pairs[pair] += 1
            self._old_scores[pair] += old_sum
            self._new_scores[pair] += new_sum

    def _count_groups(
        self, groups: Sequence[Any], both: NDArray[np.bool_], flipped: NDArray[np.bool_]
    ) -> None:
        for row in np.flatnonzero(both).tolist():
            cell = groups[row]
            value = None if cell in (None, "") else str(cell)[:MOST_GROUP_CHARACTERS]
            counts = self._groups.get(value)
            if counts is None:
                counts = self._other_groups
                if len(self._groups) < MOST_GROUPS:
                    counts = self._groups[value] = [0, 0]
            counts[0] += 1
            counts[1] += int(flipped[row])

    def document(self) -> dict[str, Any]:
        """Return every figure, and under `gates` those that a condition may name."""
        compared = sum(count for (old, new), count in self._pairs.items() if old and new)
        flips = int(self._bands[1].sum())
        document = {
            "schema": SCHEMA,
            "rows": {
                "read": self.rows,
                "compared": compared,
                "flipped": flips,
                "sure_flipped": self._sure,
                "label_lost": sum(n for (old, new), n in self._pairs.items() if old and not new),
                "label_gained": sum(n for (old, new), n in self._pairs.items() if new and not old),
            },
            "flips": _ratio(flips, compared),
            "score_change": self._score_change(),
            "labels": self._labels(compared),
            "directions": self._directions(compared),
            "bands": self._band_section(),
            "groups": self._group_section(),
            "gold": self._gold_section() if self.gold else None,
        }
        document["gates"] = _gates(document)
        return {**document, "verdict": _verdict(document)}

    def _score_change(self) -> dict[str, Any]:
        """Return how far scores moved, whichever way: mean, quantiles and largest change.

        Of two labels it is the change of the probability of either, on every row compared. Of more
        only rows that keep their label are counted: the other probabilities need not be in a file.
        """
        labels = {label for pair in self._pairs if all(pair) for label in pair}
        all_rows = len(labels) <= 2 and self._least_score >= 0.5
        counted = Lengths()
        for changes in self._changes if all_rows else self._changes[:1]:
            counted.merge(changes)
        found = counted.section()
        figures = {name: found[name] for name in ("mean", "p50", "p95", "p99", "max")}
        return {
            "rows": found["count"],
            "all_rows": all_rows,
            **{name: None if value is None else value / FIXED for name, value in figures.items()},
        }

    def _labels(self, compared: int) -> list[dict[str, Any]]:
        """Return the share of each label in both files, of the rows that both give a label.

        The noise is how far a share moves, 95 times of 100, where each flip to or from the label is
        as likely as the other way.
        """
        old_rows, new_rows = Counter[str](), Counter[str]()
        for (old, new), count in self._pairs.items():
            if old and new:
                old_rows[old] += count
                new_rows[new] += count
        found = []
        for label in sorted({*old_rows, *new_rows}):
            before, after, stayed = old_rows[label], new_rows[label], self._pairs[label, label]
            found.append(
                {
                    "label": label,
                    "a": before / compared,
                    "b": after / compared,
                    "change": (after - before) / compared,
                    "noise": Z * math.sqrt(before + after - 2 * stayed) / compared,
                    "left": before - stayed,
                    "joined": after - stayed,
                }
            )
        return found

    def _directions(self, compared: int) -> list[dict[str, Any]]:
        """Return how many rows went from which label to which, the most common first."""
        found: list[dict[str, Any]] = [
            {
                "old": old,
                "new": new,
                "rows": count,
                "share": count / compared,
                "mean_old_score": self._old_scores[old, new] / FIXED / count,
                "mean_new_score": self._new_scores[old, new] / FIXED / count,
            }
            for (old, new), count in self._pairs.items()
            if old and new and old != new
        ]
        found.sort(key=lambda entry: (-entry["rows"], entry["old"], entry["new"]))
        return found[:SHOWN_DIRECTIONS]

    def _band_section(self) -> list[dict[str, Any]]:
        """Return rows and flips by the old score."""
        return [
            {
                "from": start,
                "to": end,
                "rows": int(rows),
                "flipped": int(flips),
                "flips": _ratio(int(flips), int(rows)),
            }
            for start, end, rows, flips in zip(BANDS, (*BANDS[1:], 1.0), *self._bands, strict=True)
        ]

    def _group_section(self) -> dict[str, Any] | None:
        """Return the groups with most flips; a group of few rows is not first for its share."""
        if self.group_by is None:
            return None
        ranked = sorted(
            self._groups.items(), key=lambda entry: (-entry[1][1], -entry[1][0], str(entry[0]))
        )
        shown: list[dict[str, Any]] = [
            {"group": value, "rows": rows, "flipped": flips, "flips": flips / rows}
            for value, (rows, flips) in ranked[:SHOWN_GROUPS]
        ]
        rows, flips = self._other_groups
        if rows:
            others = {"group": OTHERS, "rows": rows, "flipped": flips, "flips": flips / rows}
            shown.append(others)
        return {"column": self.group_by, "count": len(self._groups), "shown": shown}

    def _gold_section(self) -> dict[str, Any]:
        """Return both accuracies, and McNemar's test of whether they differ."""
        (_, newly_right), (newly_wrong, _) = self._judged.tolist()
        rows, right_old, right_new = (
            int(self._judged.sum()),
            int(self._judged[1].sum()),
            int(self._judged[:, 1].sum()),
        )
        return {
            "rows": rows,
            "accuracy_old": _ratio(right_old, rows),
            "accuracy_old_interval": interval(right_old, rows),
            "accuracy_new": _ratio(right_new, rows),
            "accuracy_new_interval": interval(right_new, rows),
            "newly_right": newly_right,
            "newly_wrong": newly_wrong,
            "mcnemar": mcnemar(newly_wrong, newly_right) if rows else None,
        }


def mcnemar(newly_wrong: int, newly_right: int) -> dict[str, Any]:
    """Return the p value of as many rows that one model alone has right (McNemar 1947).

    Below EXACT_PAIRS of them by the binomial distribution of fair coins, above by chi-square of one
    degree of freedom with Edwards' correction (1948): (|b - c| - 1)^2 / (b + c).
    """
    pairs, fewer = newly_wrong + newly_right, min(newly_wrong, newly_right)
    if pairs < EXACT_PAIRS:
        tail = sum(math.comb(pairs, k) for k in range(fewer + 1)) / 2**pairs
        return {"method": "exact binomial", "statistic": None, "p": min(1.0, 2 * tail)}
    statistic = max(abs(newly_wrong - newly_right) - 1, 0) ** 2 / pairs
    # The upper tail of chi-square with one degree of freedom is that of a squared normal.
    p = math.erfc(math.sqrt(statistic / 2))
    return {"method": "chi-square with Edwards' correction", "statistic": statistic, "p": p}


def check(figures: Mapping[str, float | None], expressions: Sequence[str]) -> list[dict[str, Any]]:
    """Return the conditions that hold of a document's gates, such as ``flips>0.01``.

    With the figures of NO_GATES a condition that cannot be meant is refused before anything is
    read. Raises UsageError.
    """
    return gates.failures(figures, expressions)


def _gates(document: Mapping[str, Any]) -> dict[str, float | None]:
    rows, gold = document["rows"], document["gold"]
    changes = [abs(label["change"]) for label in document["labels"]]
    values = {
        **NO_GATES,
        "flips": document["flips"],
        "flipped_rows": rows["flipped"],
        "sure_flips": _ratio(rows["sure_flipped"], rows["compared"]),
        "labels_lost": rows["label_lost"],
        "label_share_change": max(changes, default=None),
        "mean_score_change": document["score_change"]["mean"],
    }
    if gold is not None and gold["rows"]:
        values["accuracy_drop"] = (gold["newly_wrong"] - gold["newly_right"]) / gold["rows"]
        values["mcnemar_p"] = gold["mcnemar"]["p"]
    return values


def _verdict(document: Mapping[str, Any]) -> str:
    """Say in one sentence what a person should take away."""
    rows, gold = document["rows"], document["gold"]
    if not rows["compared"]:
        return "no row has a label in both files"
    if not rows["flipped"]:
        parts = ["no label changed"]
    else:
        parts = [f"{rows['flipped']:,} of {rows['compared']:,} labels changed"]
        parts[0] += f" ({document['flips']:.2%}), {rows['sure_flipped']:,} of them sure before"
    moved = [label for label in document["labels"] if abs(label["change"]) > label["noise"]]
    if rows["flipped"]:
        parts.append("shares moved to one side" if moved else "shares moved no more than by chance")
    if gold is not None and gold["rows"]:
        drop = document["gates"]["accuracy_drop"]
        if gold["mcnemar"]["p"] >= 0.05:
            parts.append("accuracy changed no more than by chance")
        else:
            parts.append(f"accuracy {'fell' if drop > 0 else 'rose'} by {abs(drop):.4f}")
    return "; ".join(parts)


def _given(labels: Sequence[str | None]) -> NDArray[np.bool_]:
    return np.fromiter((label is not None for label in labels), dtype=bool, count=len(labels))


def _ratio(part: float, whole: int) -> float | None:
    return part / whole if whole else None
