"""Scores rolled up by the values of a column, in bounded memory."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from batchsent.chunk import SCORED, Scores
from batchsent.errors import UsageError
from batchsent.evaluation.advice import warning
from batchsent.evaluation.bins import FIXED, count, fixed
from batchsent.evaluation.corrected_share import ErrorRates
from batchsent.evaluation.quality import LABELS_IN_FULL, interval
from batchsent.evaluation.without_labels import corrected_groups
from batchsent.text import printable, visible

# Beyond these, rows of new groups are counted together. A million groups of two labels are 64 MB of
# counts and some 250 MB of values; more labels, or longer values, mean fewer groups.
MOST_GROUPS = 1_000_000
MOST_COUNTS = 16 << 20
MOST_VALUE_BYTES = 256 << 20
BEFORE_LABELS = 7  # counts of a group before those of its labels

OTHERS = "(other groups)"

# The columns of the table after the group, as far as their names do not depend on the labels.
ROWS, SCORED_ROWS, MEAN, UNSURE, TRUNCATED = "n", "scored", "mean_score", "unsure", "truncated"
NEUTRAL_ROWS = "neutral"
JUDGED, ACCURACY, LOW, HIGH = "judged", "accuracy", "accuracy_low", "accuracy_high"

# The summary, whose size does not depend on the input, has this many groups, their values cut.
MOST_IN_SUMMARY = 30
VALUE_CHARACTERS = 60


class Groups:
    """The counts of each group of rows that share a value.

    Chunks are added in order; `table` may be asked at any time. `name` is that of the user's
    column. Rows whose score is under `unsure_below` count as unsure. With `judged` every row comes
    with a gold label, and each group has an accuracy. With the error `rates` of the model
    each group of enough rows has corrected shares. `neutral` tells of each row (rows,) whether it
    is within the neutral band. Once there are `cap` groups, rows of further
    ones are counted in one that is called "(other groups)": `warnings` says how many.
    """

    def __init__(
        self,
        labels: tuple[str, ...],
        name: str,
        *,
        unsure_below: float | None = None,
        judged: bool = False,
        rates: ErrorRates | None = None,
        neutral: Callable[[Scores], NDArray[np.bool_]] | None = None,
        cap: int = MOST_GROUPS,
    ) -> None:
        self.labels, self.name, self.unsure_below = tuple(labels), name, unsure_below
        self.judged = judged
        self.rates, self.neutral = rates, neutral
        # rows, sum of scores in 1 / FIXED, unsure, truncated, judged, right, neutral, then a column
        # a label
        self._width = BEFORE_LABELS + len(self.labels)
        self.cap = max(1, min(cap, MOST_COUNTS // self._width))
        # (groups and room for more, counts)
        self._counts = np.zeros((1024, self._width), dtype=np.int64)
        self._others = np.zeros(self._width, dtype=np.int64)
        self._numbers: dict[Any, int] = {}  # value in a form that can be looked up -> group number
        self._values: list[pa.Array] = []  # the values themselves, in order of their numbers
        self._value_bytes = 0
        self._kind: pa.DataType | None = None

    def add(
        self,
        values: pa.Array | pa.ChunkedArray,
        scores: Scores,
        gold: NDArray[np.int64] | None = None,
    ) -> None:
        """Count the rows of a chunk, one value a row, of one type in every chunk.

        `gold` holds the label number of each row, negative where it has none: (rows,); it is
        required with `judged`. Raises UsageError for values that are lists, maps or structs.
        """
        plain = _plain(values, self.name)
        assert len(plain) == len(scores.status)
        if not len(plain):
            return
        if self._kind is None:
            self._kind = plain.type
        encoded = plain.dictionary_encode(null_encoding="encode")
        numbers = self._group_numbers(encoded.dictionary)[
            encoded.indices.to_numpy(zero_copy_only=False)
        ]

        scored = scores.status == SCORED
        winners = scores.winners
        score = scores.best
        # Counted among the groups of this chunk first: there are few of them, of all groups there
        # may be a million. Three rows of the groups 7, -1 (beyond the cap) and 7 with the labels
        # A, A and B, of which the last is wrong, give
        #   present [-1, 7], places [1, 0, 1]
        #   found     rows  scores  unsure  truncated  judged  right  A  B
        #     of -1      1     0.9       0          0       1      1  1  0
        #     of  7      2     1.7       0          0       2      1  1  1
        present, places = np.unique(numbers, return_inverse=True)
        found = np.zeros((len(present), self._width), dtype=np.int64)
        found[:, 0] = count(places, len(present))
        found[:, 1] = count(places[scored], len(present), fixed(score[scored]))
        if self.unsure_below is not None:
            found[:, 2] = count(places[scored & (score < self.unsure_below)], len(present))
        found[:, 3] = count(places[scores.truncated_tokens > 0], len(present))
        if self.judged:
            assert gold is not None
            judged = scored & (gold >= 0)
            found[:, 4] = count(places[judged], len(present))
            found[:, 5] = count(places[judged & (winners == gold)], len(present))
        if self.neutral is not None:
            found[:, 6] = count(places[self.neutral(scores)], len(present))
        n = len(self.labels)
        found[:, BEFORE_LABELS:] = count(
            places[scored] * n + winners[scored], len(present) * n
        ).reshape(-1, n)
        known = present >= 0
        self._counts[present[known]] += found[known]
        self._others += found[~known].sum(axis=0)

    def _group_numbers(self, distinct: pa.Array) -> NDArray[np.int64]:
        """Return the group number of each distinct value, -1 for one beyond the cap."""
        found = np.full(len(distinct), -1, dtype=np.int64)
        new = []
        for place, key in enumerate(_keys(distinct)):
            number = self._numbers.get(key)
            if number is None:
                size = len(key) if isinstance(key, bytes) else 16
                if len(self._numbers) >= self.cap or self._value_bytes + size > MOST_VALUE_BYTES:
                    continue
                self._value_bytes += size
                number = self._numbers[key] = len(self._numbers)
                new.append(place)
            found[place] = number
        if new:
            self._values.append(distinct.take(pa.array(new, pa.int64())))
            short = len(self._numbers) - len(self._counts)
            if short > 0:
                more = np.zeros((max(short, len(self._counts)), self._width), dtype=np.int64)
                self._counts = np.concatenate([self._counts, more])
        return found

    @property
    def other_rows(self) -> int:
        """Rows of groups that came too late to be counted by themselves."""
        return int(self._others[0])

    def table(self, *, correct: bool = True) -> pa.Table:
        """Return a row for each group, sorted by value, null last; chunks do not matter.

        Columns: the group, under the user's name for it (`group`, where that is one of the
        following) and in the user's type; n, its rows; scored, those with a label; share_<label> of
        each label among the scored; mean_score of the labels given; unsure, null without a
        threshold; truncated; with a neutral band neutral, the rows within it, which the shares
        count by the label that they lean to. With error rates share_<label> is followed by
        corrected_<label> and its 95 % interval corrected_<label>_low and _high, null for small
        groups, and for all unless `correct`. With gold labels also judged, rows with both a label
        and a gold label; accuracy
        among them; accuracy_low and accuracy_high, its 95 % interval. Last comes the row of the
        other groups, if there is one; the values are text then.
        """
        values = (
            pa.concat_arrays(self._values)
            if self._values
            else pa.array([], self._kind or pa.string())
        )
        counts = self._counts[: len(values)]
        order = _order(values)
        values, counts = values.take(order), counts[order.to_numpy()]
        if self.other_rows:
            values = pa.concat_arrays([_words(values), pa.array([OTHERS], pa.string())])
            counts = np.concatenate([counts, self._others[None]])
        by_label = counts[:, BEFORE_LABELS:]
        scored = by_label.sum(axis=1)
        columns: dict[str, Any] = {ROWS: counts[:, 0], SCORED_ROWS: scored}
        for i, label in enumerate(self.labels):
            columns[f"share_{label}"] = _ratio(by_label[:, i], scored)
        if self.rates is not None:
            columns |= self._corrected(by_label, self.rates, correct=correct)
        columns[MEAN] = _ratio(counts[:, 1] / FIXED, scored)
        columns[UNSURE] = (
            pa.nulls(len(counts), pa.int64()) if self.unsure_below is None else counts[:, 2]
        )
        columns[TRUNCATED] = counts[:, 3]
        if self.neutral is not None:
            columns[NEUTRAL_ROWS] = counts[:, 6]
        if self.judged:
            judged, right = counts[:, 4], counts[:, 5]
            columns |= {JUDGED: judged, ACCURACY: _ratio(right, judged)}
            columns[LOW], columns[HIGH] = _intervals(right, judged)
        name = "group" if self.name in columns else self.name
        return pa.Table.from_arrays(
            [values, *map(pa.array, columns.values())], names=[name, *columns]
        )

    def _corrected(
        self, by_label: NDArray[np.int64], rates: ErrorRates, *, correct: bool
    ) -> dict[str, pa.Array]:
        """Return the columns of corrected shares: null for small groups, or unless `correct`."""
        found = corrected_groups(by_label, rates)
        columns = {}
        for i, label in enumerate(self.labels):
            names = (f"corrected_{label}", f"corrected_{label}_low", f"corrected_{label}_high")
            for name, values in zip(names, (found.shares, found.low, found.high), strict=True):
                missing = np.isnan(values[:, i]) if correct else np.ones(len(values), np.bool_)
                columns[name] = pa.array(values[:, i], pa.float64(), mask=missing)
        return columns

    def section(self, table: pa.Table) -> dict[str, Any]:
        """Return what the summary keeps of a table of `table()`: its largest groups.

        They come in the order of the table where all of them are kept, else the largest first.
        """
        shown = table
        if table.num_rows > MOST_IN_SUMMARY:
            falling = np.argsort(-table[ROWS].to_numpy(), kind="stable")
            shown = table.take(pa.array(falling[:MOST_IN_SUMMARY]))
        # As bytes first: a column of text may hold something else.
        values = _words(shown.column(0).combine_chunks()).cast(pa.binary()).to_pylist()
        entries = []
        rows = shown.drop_columns(shown.column_names[0]).to_pylist()
        for value, row in zip(values, rows, strict=True):
            entries.append(self._entry(value, row))
        return {"column": printable(self.name)[:VALUE_CHARACTERS], "largest": entries}

    def _entry(self, value: bytes | None, row: dict[str, Any]) -> dict[str, Any]:
        shown = None
        if value is not None:
            shown = visible(value.decode("utf-8", "replace"))[:VALUE_CHARACTERS]
        entry = {
            "value": shown,
            "rows": row[ROWS],
            "scored": row[SCORED_ROWS],
            "shares": None,
            "mean_score": row[MEAN],
            "unsure": row[UNSURE],
            "truncated": row[TRUNCATED],
        }
        if self.neutral is not None:
            entry["neutral"] = row[NEUTRAL_ROWS]
        if len(self.labels) <= LABELS_IN_FULL:
            entry["shares"] = [row[f"share_{label}"] for label in self.labels]
            if self.rates is not None:
                entry |= self._corrected_entry(row)
        if self.judged:
            bounds = None if row[ACCURACY] is None else [row[LOW], row[HIGH]]
            entry |= {
                "judged": row[JUDGED],
                "accuracy": row[ACCURACY],
                "accuracy_interval": bounds,
            }
        return entry

    def _corrected_entry(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the corrected shares of a row of the table with their intervals, or None."""
        names = [f"corrected_{label}" for label in self.labels]
        shares = [row[name] for name in names]
        if None in shares:
            return {"corrected_shares": None, "corrected_intervals": None}
        return {
            "corrected_shares": shares,
            "corrected_intervals": [[row[f"{name}_low"], row[f"{name}_high"]] for name in names],
        }

    def warnings(self) -> list[dict[str, str | None]]:
        """Return what a person should know of the table."""
        if not self.other_rows:
            return []
        return [
            warning(
                "groups_capped",
                f"the column {printable(self.name)} has more than {len(self._numbers):,} different "
                f"values: {self.other_rows:,} rows are counted together as {OTHERS}",
                "group by a column with fewer values, or group the scored file itself",
            )
        ]


def _plain(values: pa.Array | pa.ChunkedArray, name: str) -> pa.Array:
    """Return values as one array of a type whose values can be compared."""
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    kind = array.type
    if pa.types.is_nested(kind) or pa.types.is_interval(kind):
        raise UsageError(
            f"--group-by {printable(name)}: its values are of type {kind}, not text or numbers",
            hint="choose a column with one plain value a row",
        )
    # Views have no kernels to encode or sort them.
    if pa.types.is_string_view(kind):
        return array.cast(pa.large_string())
    return array.cast(pa.large_binary()) if pa.types.is_binary_view(kind) else array


def _keys(distinct: pa.Array) -> list[Any]:
    """Return each value as a cheap dictionary key that equals itself."""
    kind = distinct.type
    if pa.types.is_temporal(kind):
        width = pa.int64() if kind.bit_width == 64 else pa.int32()
        return list(distinct.view(width).to_pylist())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        # As bytes: a file may say utf-8 and hold something else.
        return list(distinct.cast(pa.large_binary()).to_pylist())
    keys = distinct.to_pylist()
    # NaN differs from itself.
    if not pa.types.is_floating(kind):
        return list(keys)
    return ["nan" if key != key else key for key in keys]


def _order(values: pa.Array) -> pa.Array:
    if pa.types.is_null(values.type):
        return pa.array(np.arange(len(values)))
    if pa.types.is_boolean(values.type) or pa.types.is_float16(values.type):
        values = values.cast(pa.float32())  # what arrow can sort
    return pc.sort_indices(values)  # null comes last


def _words(values: pa.Array) -> pa.Array:
    kind = values.type
    if (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
    ):
        return pa.array(
            [None if v is None else v.decode("utf-8", "replace") for v in values.to_pylist()],
            pa.string(),
        )
    return values.cast(pa.string())


def _ratio(sums: NDArray[Any], rows: NDArray[np.int64]) -> pa.Array:
    """Return sums / rows, null where there is no row."""
    return pa.array(sums / np.maximum(rows, 1), pa.float64(), mask=rows == 0)


def _intervals(hits: NDArray[np.int64], rows: NDArray[np.int64]) -> tuple[pa.Array, pa.Array]:
    """Return both ends of the 95 % interval of hits / rows, null where there is no row."""
    # One by one, with the same formula as every other interval: 1.5 s for a million groups.
    ends = np.zeros((2, len(rows)))
    for i, (hit, of) in enumerate(zip(hits.tolist(), rows.tolist(), strict=True)):
        ends[:, i] = interval(hit, of) or (0, 0)
    low, high = (pa.array(end, pa.float64(), mask=rows == 0) for end in ends)
    return low, high
