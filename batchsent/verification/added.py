"""The columns that a run adds, as they stand in an output: whether a model can have said that."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from batchsent.chunk import BLANK, NONFINITE, SCORED, Chunk, Scores, is_blank
from batchsent.evaluation.polarity import NEUTRAL
from batchsent.formats.outputs import OutputOptions, added_schema
from batchsent.formats.scored_columns import (
    BadCell,
    label_numbers,
    probabilities,
    to_scores,
    too_low,
)
from batchsent.formats.sentence_columns import COUNTS, STRONGEST
from batchsent.text import printable
from batchsent.verification.differences import Difference, Location, shown
from batchsent.verification.polarity import (
    NeutralBand,
    known_sides,
    leaning,
    polarity_checks,
)
from batchsent.verification.sentences import sentence_checks

# A label column with more different values than this is not verified.
MOST_VERIFIED_LABELS = 10_000
# Probabilities of float32 add up to 1 but for rounding; a thousand labels rounded one way are off
# by less than this.
SUM_ERROR = 1e-4

TYPES = {
    "n_tokens": pa.int32(),
    "truncated": pa.bool_(),
    "unsure": pa.bool_(),
    **COUNTS,
    **STRONGEST,
}
JUDGED = {"label", "score", "polarity", *TYPES}
WORDS = {pa.int32(): "a count", pa.bool_(): "true or false"}
# As the CSV writer has them: no sign, no leading zero.
PATTERNS = {pa.int32(): "^(0|[1-9][0-9]{0,9})$", pa.bool_(): "^(true|false)$"}


class Added:
    """Checks the added columns chunk by chunk against the texts and each other.

    `names` are those of the columns in order, prefix included; `labels` the model's and `run` the
    options that wrote them, None where they are not known.
    """

    def __init__(
        self,
        names: Sequence[str],
        prefix: str,
        labels: Sequence[str] | None,
        run: OutputOptions | None,
    ) -> None:
        self.names, self.prefix = list(names), prefix
        self.run = run or OutputOptions()
        self.unsure_below = self.run.unsure_below
        if labels is None:  # known from columns of their own, where there are any
            front = f"{prefix}prob_"
            each = [name for name in self.names if name.startswith(front)]
            labels = [name.removeprefix(front) for name in each] or None
        self.sides = known_sides(labels, self.run)
        if self.prefix + "polarity" in self.names and self.sides is None:
            labels = None  # what a NEUTRAL row leans to is not known
        self.labels = labels
        self._band = NeutralBand(self.run.neutral_band)
        self.counts: Counter[str] = Counter()  # rows of each label
        self.rows = dict.fromkeys(("scored", "blank", "nonfinite"), 0)
        self.n_tokens = self.truncated = 0
        self.neutral: Counter[str] = Counter()  # neutral rows by the label they lean to
        # As the summary has them, but for the distinct ones, which no column tells.
        self.sentences = dict.fromkeys(("total", "positive", "negative", "mixed_rows"), 0)
        self._unsure_most, self._sure_least = -1.0, 2.0  # scores, without a threshold

    def check_names(self) -> None:
        """Raise Difference for names that a run does not give its columns, or in another order."""
        bare = [name.removeprefix(self.prefix) for name in self.names]
        each = [name for name in bare if name.startswith("prob_")]
        options = OutputOptions(
            prefix=self.prefix,
            probabilities=bool(each),
            details="n_tokens" in bare,
            polarity="polarity" in bare,
            unsure_below=0.0 if "unsure" in bare else None,
            sentences="n_sentences" in bare,
        )
        labels = tuple(name.removeprefix("prob_") for name in each)
        wanted = added_schema(labels, options).names
        if self.names != wanted or len(set(bare)) < len(bare):
            found = ", ".join(map(printable, self.names[:8])) or "none"
            first = f"{self.prefix}label, {self.prefix}score"
            raise Difference(
                f"the columns after the input's are not {printable(first)} and so on but: {found}"
            )
        # A column that no check looks at would pass whatever it holds.
        assert set(bare) - set(each) <= JUDGED
        if len(each) == 1:
            raise Difference("there is a column with the probability of one label only")

    def take(self, chunk: Chunk, added: pa.Table) -> Scores | None:
        """Judge the added columns of a chunk. Raises Difference.

        Returns them as scores of the model's labels, with 1 token cut for a truncated row; None
        where the labels are not known.
        """
        if added.num_columns < len(self.names):
            few = f"{added.num_columns} field(s) after the input's where {len(self.names)} are due"
            raise Difference(few, Location(chunk.start_row + 1))
        start, prefix = chunk.start_row, self.prefix
        known = {name.removeprefix(prefix): added.column(n) for n, name in enumerate(self.names)}
        blank = np.fromiter(map(is_blank, chunk.texts), dtype=bool, count=chunk.rows)
        values = None
        if "polarity" in known:
            values = self._floats(known["polarity"], "polarity", start)
        winners, labels = self._winners(known["label"], blank, start, values)
        given = winners >= 0
        score = self._numbers(known["score"], "score", start)
        self._all(
            given == ~np.isnan(score),
            "score",
            start,
            known["score"],
            "label and score must come together",
        )
        most = MOST_VERIFIED_LABELS if self.labels is None else len(self.labels)
        self._all(
            ~too_low(score, most),
            "score",
            start,
            known["score"],
            f"too low for the highest of {most:,} probabilities",
        )
        each = self._probabilities(known, winners, labels, score, start)
        if values is not None:
            self._polarity(known, values, score, winners, each, start)
        tokens, cut = self._details(known, blank, start)
        if "unsure" in known:
            self._unsure(known["unsure"], score, start)
        if "n_sentences" in known:
            self._sentences(known, chunk.texts, given, start)

        self.rows["blank"] += int(blank.sum())
        self.rows["scored"] += int(given.sum())
        self.rows["nonfinite"] += int((~blank & ~given).sum())
        self.n_tokens += int(tokens.sum())
        self.truncated += int(cut.sum())
        if self.labels is None:
            return None
        status = np.where(given, SCORED, np.where(blank, BLANK, NONFINITE)).astype(np.uint8)
        return to_scores(
            winners, score, len(self.labels), status=status, n_tokens=tokens, truncated=cut
        )

    def _winners(
        self,
        column: pa.ChunkedArray,
        blank: NDArray[np.bool_],
        start: int,
        polarity: NDArray[np.float32] | None,
    ) -> tuple[NDArray[np.intp], Sequence[str]]:
        """Return (rows,) the number of each row's label, -1 for none, and what is numbered.

        A NEUTRAL row has the label that its polarity leans to. Raises Difference.
        """
        texts = self._texts(column, "label")
        given = np.array(column.is_valid().to_numpy(zero_copy_only=False), dtype=bool)
        self._all(~(blank & given), "label", start, column, "a label where there is no text")
        labels = self.labels
        if labels is None:
            labels = [text for text in dict.fromkeys(texts) if text is not None]
        if polarity is not None and self.sides is not None:
            texts = leaning(texts, polarity, labels, self.sides)
        try:
            winners = label_numbers(texts, labels)
        except BadCell as bad:
            listed = ", ".join(map(printable, labels[:20]))
            raise self._wrong(bad, "label", start, f"not one of the labels {listed}") from bad
        for label, rows in zip(
            labels, np.bincount(winners[given], minlength=len(labels)).tolist(), strict=True
        ):
            if rows:
                self.counts[label] += rows
        if len(self.counts) > MOST_VERIFIED_LABELS:
            raise Difference(
                f"the column {printable(self.prefix)}label holds more than "
                f"{MOST_VERIFIED_LABELS:,} labels"
            )
        return winners, labels

    def _probabilities(
        self,
        known: dict[str, pa.ChunkedArray],
        winners: NDArray[np.intp],
        labels: Sequence[str],
        score: NDArray[np.float32],
        start: int,
    ) -> list[NDArray[np.float32]]:
        """Return the probabilities of all labels, where they are there.

        Raises Difference where they do not agree with the score.
        """
        found = []
        names = [name for name in known if name.startswith("prob_")]
        total = np.zeros(len(score))
        for name in names:
            values = self._numbers(known[name], name, start)
            found.append(values)
            together = np.isnan(values) == np.isnan(score)
            self._all(
                together, name, start, known[name], "label and probability must come together"
            )
            self._all(~(values > score), name, start, known[name], "higher than the score")
            label = name.removeprefix("prob_")
            own = np.zeros(len(score), dtype=bool)
            if label in labels:
                own = winners == labels.index(label)
            self._all(
                ~own | (values == score), name, start, known[name], "not the score of its label"
            )
            total += values
        if names:
            off = np.abs(total - 1) > SUM_ERROR
            said = pa.chunked_array([pa.array(np.round(total, 6))])
            self._all(
                ~off, names[0], start, said, "the probabilities of this row do not add up to 1"
            )
        return found

    def _polarity(
        self,
        known: dict[str, pa.ChunkedArray],
        values: NDArray[np.float32],
        score: NDArray[np.float32],
        winners: NDArray[np.intp],
        each: list[NDArray[np.float32]],
        start: int,
    ) -> None:
        """Hold polarity and NEUTRAL against the scores, and count neutral rows.

        Raises Difference.
        """
        sides = self.sides
        if self.labels is None or (len(self.labels) > 2 and not each):
            sides = None  # the score alone does not tell the polarity
        for right, what in polarity_checks(values, score, winners, sides, each or None):
            self._all(right, "polarity", start, known["polarity"], what)
        label = known["label"]
        neutral = np.array(pc.equal(label, NEUTRAL).fill_null(False).to_numpy(zero_copy_only=False))  # noqa: FBT003 (a value)
        if self.labels is None:
            return
        for number, rows in enumerate(np.bincount(winners[neutral & (winners >= 0)]).tolist()):
            self.neutral[self.labels[number]] += rows
        if neutral.any() or self.run.neutral_band is not None:
            for right, what in self._band.checks(neutral, values):
                self._all(right, "label", start, label, what)

    def _details(
        self, known: dict[str, pa.ChunkedArray], blank: NDArray[np.bool_], start: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return tokens and whether the text was cut, 0 without the columns. Raises Difference."""
        tokens = cut = np.zeros(len(blank), dtype=np.int32)
        if "n_tokens" in known:
            tokens, missing = self._typed(known["n_tokens"], "n_tokens", start)
            right = ~missing & (tokens >= 0)
            self._all(right, "n_tokens", start, known["n_tokens"], "not a count")
            cut, missing = self._typed(known["truncated"], "truncated", start)
            self._all(~missing, "truncated", start, known["truncated"], "not true or false")
            self._all(
                ~blank | (tokens == 0),
                "n_tokens",
                start,
                known["n_tokens"],
                "tokens where there is no text",
            )
            self._all(
                ~blank | (cut == 0),
                "truncated",
                start,
                known["truncated"],
                "cut, where there is no text",
            )
        return tokens, cut

    def _unsure(self, column: pa.ChunkedArray, scores: NDArray[np.float32], start: int) -> None:
        """See whether the rows that are called unsure are those of the lowest scores.

        Raises Difference.
        """
        values, missing = self._typed(column, "unsure", start)
        given, unsure = ~np.isnan(scores), values == 1
        self._all(missing == ~given, "unsure", start, column, "label and unsure must come together")
        if self.unsure_below is not None:
            right = ~given | (unsure == (scores < self.unsure_below))
            self._all(
                right,
                "unsure",
                start,
                column,
                f"it must say whether the score is under {self.unsure_below:g}, and says",
            )
            return
        self._unsure_most = float(
            np.max(scores[given & unsure], initial=np.float32(self._unsure_most))
        )
        self._sure_least = float(
            np.min(scores[given & ~unsure], initial=np.float32(self._sure_least))
        )
        if self._unsure_most >= self._sure_least:
            right = ~given | np.where(unsure, scores < self._sure_least, scores > self._unsure_most)
            words = (
                f"no threshold calls {self._unsure_most:.6g} unsure and {self._sure_least:.6g} not"
            )
            self._all(right, "unsure", start, column, words)

    def _sentences(
        self,
        known: dict[str, pa.ChunkedArray],
        texts: Sequence[str | None],
        given: NDArray[np.bool_],
        start: int,
    ) -> None:
        """Hold the columns of sentences against the texts, and count them. Raises Difference."""
        names = [name for name in known if name in COUNTS or name in STRONGEST]
        numbers, missing, strongest = {}, {}, {}
        for name in names:
            if TYPES[name] == pa.string():
                strongest[name] = self._texts(known[name], name)
            else:
                numbers[name], missing[name] = self._typed(known[name], name, start)
        for name, right, what in sentence_checks(numbers, missing, strongest, texts):
            self._all(right, name, start, known[name], what)
        for what in ("positive", "negative"):
            self.sentences[what] += int(numbers[f"n_{what}"].sum(dtype=np.int64))
        self.sentences["total"] += int(numbers["n_sentences"].sum(dtype=np.int64))
        self.sentences["mixed_rows"] += int((numbers["mixed"][given] == 1).sum())

    def _texts(self, column: pa.ChunkedArray, name: str) -> list[str | None]:
        """Return a column of texts. Raises Difference for another type."""
        if column.type != pa.string():
            raise Difference(
                f"its type is {column.type}, not string", Location(column=self.prefix + name)
            )
        texts: list[str | None] = column.to_pylist()
        return texts

    def _numbers(self, column: pa.ChunkedArray, name: str, start: int) -> NDArray[np.float32]:
        """Return probabilities, NaN for null. Raises Difference for what is not one."""
        values = self._floats(column, name, start)
        given = column.is_valid().to_numpy(zero_copy_only=False).astype(bool)
        try:
            return probabilities(values, given)
        except BadCell as bad:
            raise self._wrong(bad, name, start, "not a probability") from bad

    def _floats(self, column: pa.ChunkedArray, name: str, start: int) -> NDArray[np.float32]:
        """Return (rows,) numbers of a column, NaN for null. Raises Difference for other cells."""
        if pa.types.is_string(column.type):
            try:
                parsed = pc.cast(column, pa.float32())
            except pa.ArrowInvalid:
                parsed = pa.chunked_array(
                    [pa.array([_float32(text) for text in column.to_pylist()], pa.float32())]
                )
            # What was written is the shortest decimal that gives this float32: any other digits
            # were put there later.
            written = pc.fill_null(pc.equal(pc.cast(parsed, pa.string()), column), False)  # noqa: FBT003 (a value)
            right = np.array(
                pc.or_(written, column.is_null()).to_numpy(zero_copy_only=False), dtype=bool
            )
            self._all(right, name, start, column, "not a float32 in its shortest form")
            column = parsed
        if column.type != pa.float32():
            raise Difference(
                f"its type is {column.type}, not float", Location(column=self.prefix + name)
            )
        values: NDArray[np.float32] = column.to_numpy(zero_copy_only=False)
        return values

    def _typed(
        self, column: pa.ChunkedArray, name: str, start: int
    ) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Return counts, or 0 and 1 for false and true, and which are null.

        Raises Difference for what is neither.
        """
        missing = column.is_null().to_numpy(zero_copy_only=False).astype(bool)
        if pa.types.is_string(column.type):
            kind = TYPES[name]
            right = pc.match_substring_regex(column, PATTERNS[kind]).fill_null(True)  # noqa: FBT003 (a value)
            well = np.array(right.to_numpy(zero_copy_only=False), dtype=bool)
            self._all(well, name, start, column, f"not {WORDS[kind]}")
            if kind == pa.int32():
                wide = column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
                self._all(wide < 1 << 31, name, start, column, f"not {WORDS[kind]}")
                return wide.astype(np.int32), missing
            column = pc.equal(column, "true")
        elif column.type != TYPES[name]:
            raise Difference(
                f"its type is {column.type}, not {TYPES[name]}", Location(column=self.prefix + name)
            )
        return column.cast(pa.int32()).fill_null(0).to_numpy(zero_copy_only=False), missing

    def _all(self, right: NDArray[np.bool_], name: str, start: int, column: Any, what: str) -> None:
        """Raise Difference for the first row that is not right."""
        if not right.all():
            row = int((~right).argmax())
            raise self._wrong(BadCell(row, column[row].as_py()), name, start, what)

    def _wrong(self, bad: BadCell, name: str, start: int, what: str) -> Difference:
        """Return the difference that a cell of a column is."""
        found = shown(bad.cell)
        location = Location(start + bad.row + 1, column=self.prefix + name)
        return Difference(f"{what}: {found}", location, found=found)


def _float32(text: str | None) -> float | None:
    """Return the number of a text, None for a text that is not a number."""
    try:
        return None if text is None else float(np.float32(text))
    except ValueError:
        return None
