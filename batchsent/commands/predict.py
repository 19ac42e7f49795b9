"""The model in a Python program: `load(model).predict(texts)` and `.score_frame(frame)`."""

import inspect
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

import numpy as np

from batchsent.chunk import BLANK, NONFINITE, SCORED, Scores, Sentences, SentenceScores
from batchsent.errors import ModelError, UsageError
from batchsent.evaluation.polarity import Sides, sides_of
from batchsent.evaluation.sentences import clear_sides
from batchsent.model.loading import identify
from batchsent.model.options import ModelOptions
from batchsent.model.scorer import ModelScorer
from batchsent.options import build
from batchsent.python_words import python_words
from batchsent.text import printable
from batchsent.text_columns import join_texts

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

# Rows scored together: enough to sort by length, little enough to hold beside a large frame.
SLICE_ROWS = 8_192
STATUS = {SCORED: "scored", BLANK: "blank", NONFINITE: "nonfinite"}


@dataclass(frozen=True)
class Sentence:
    """What the model says of one sentence of a text, judged by itself."""

    text: str
    start: int  # where it begins in the text, in characters
    end: int
    label: str | None  # the most probable label; None where the model gave no finite number
    score: float | None  # its probability
    clearly: str | None  # "positive" or "negative", where that has a probability of 0.8 at least


@dataclass(frozen=True)
class Prediction:
    """What the model says of one text."""

    label: str | None  # the most probable label; None where there is no score
    score: float | None  # its probability
    probabilities: dict[str, float]  # of every label; empty where there is no score
    status: str  # scored; blank: nothing to read; nonfinite: the model gave NaN or infinity
    sentences: tuple[Sentence, ...] = ()  # in order, where they were asked for


class Model:
    """A loaded model."""

    def __init__(self, scorer: ModelScorer) -> None:
        self.scorer = scorer

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names."""
        return self.scorer.labels

    def __repr__(self) -> str:
        """Return one line: which model it is, its labels, and how it runs."""
        facts = self.scorer.facts()
        labels = ", ".join(map(printable, self.labels[:6]))
        more = ", ..." if len(self.labels) > 6 else ""
        return (
            f"<batchsent model {printable(facts['model']['source'])}: {labels}{more}; "
            f"{facts['device']['name']}, {facts['model']['precision']}>"
        )

    def predict(
        self,
        texts: Sequence[str | None],
        *,
        sentences: bool = False,
        polarity_labels: str | None = None,
    ) -> list[Prediction]:
        """Score some texts; with `sentences` each of their sentences too.

        Sentences require a positive and a negative label, which `polarity_labels` names where the
        model calls them otherwise: ``negative=LABEL,positive=LABEL``.

        A text without anything to read, and None, gives a Prediction without label and score; so
        does a text for which the model gives no finite number, and `status` tells the two apart.
        Raises UsageError for anything that is not text.
        """
        if isinstance(texts, str):
            raise UsageError("predict takes a list of texts", hint="write predict([text])")
        sides = sides_of(self.labels, polarity_labels) if sentences else None
        found: list[Prediction] = []
        for scores in self._slices(_checked(list(texts)), sentences=sentences):
            rows = zip(scores.winners, scores.probabilities, scores.status, strict=True)
            predictions = [
                self._prediction(int(best), row.tolist(), int(status)) for best, row, status in rows
            ]
            if scores.sentences is not None and sides is not None:
                predictions = self._with_sentences(predictions, scores.sentences, sides)
            found += predictions
        return found

    def _with_sentences(
        self, predictions: list[Prediction], scored: SentenceScores, sides: Sides
    ) -> list[Prediction]:
        """Return the predictions of some texts with their sentences."""
        each: list[list[Sentence]] = [[] for _ in predictions]
        sentences, scores = scored.sentences, scored.scores
        clear = clear_sides(scores, *sides)
        for n, text in enumerate(sentences.texts):
            winner = int(scores.winners[n])
            label = score = None
            if winner >= 0:
                label, score = self.labels[winner], float(scores.best[n])
            start, end = int(sentences.starts[n]), int(sentences.ends[n])
            each[sentences.row_of[n]].append(Sentence(text, start, end, label, score, clear[n]))
        return [
            replace(one, sentences=tuple(own)) for one, own in zip(predictions, each, strict=True)
        ]

    def _prediction(self, winner: int, row: list[float], status: int) -> Prediction:
        if status != SCORED:
            return Prediction(None, None, {}, STATUS[status])
        probabilities = dict(zip(self.labels, row, strict=True))
        return Prediction(self.labels[winner], row[winner], probabilities, STATUS[SCORED])

    def score_frame(
        self,
        frame: "pd.DataFrame",
        text_column: str | Sequence[str] | None = None,
        prefix: str = "",
        *,
        probabilities: bool = False,
        details: bool = False,
        sentences: bool = False,
        polarity_labels: str | None = None,
        text_joint: str | None = None,
    ) -> "pd.DataFrame":
        """Return a copy of a frame with the columns `label` and `score` added.

        Index, order and the other columns stay as they are. Rows without text get a missing label
        and score. `probabilities` adds `prob_<label>` for every label, `details` adds `n_tokens`
        and `truncated`, `sentences` adds what the sentences of each text say (`polarity_labels` as
        in `predict`); `prefix` stands before every new name. Warns where the model gives no finite
        number for some rows, which get no label. The text columns are found as `batch` finds them,
        and the values of several are joined as there. Raises UsageError for a column that is not
        there, holds something else than text, or has one of the new names, ModelError where the
        model gives no finite number for any row.
        """
        import pyarrow as pa

        from batchsent.formats.outputs import OutputOptions, added_batch, added_schema
        from batchsent.formats.reading import ReadOptions
        from batchsent.formats.text_names import find_text_columns, joint_of, with_usual

        names = [str(name) for name in frame.columns]
        # The name of one column need not be text, and may be a tuple.
        one = not isinstance(text_column, list | tuple) or str(text_column) in names
        if text_column is not None and one:
            text_column = [str(text_column)]
        with python_words(inspect.signature(self.score_frame)):
            reading = with_usual(
                build(ReadOptions, {"text_column": text_column, "text_joint": text_joint}),
                names.__contains__,
                lambda: self.scorer.identity.text_columns,
            )
            positions = find_text_columns(names, reading, "the frame")
            joint = joint_of(reading, len(positions))
        options = OutputOptions(
            prefix=prefix,
            probabilities=probabilities,
            details=details,
            sentences=sentences,
            polarity_labels=polarity_labels,
        )
        if sentences:
            sides_of(self.labels, polarity_labels)  # refused before anything is scored
        added = added_schema(self.labels, options)
        taken = [name for name in added.names if name in names]
        if taken:
            raise UsageError(
                f"the frame has a column {printable(repr(taken[0]))} already",
                hint="give the new columns other names: prefix='pred_'",
            )
        columns = [_checked(_missing_to_none(frame.iloc[:, place])) for place in positions]
        texts = join_texts(columns, joint)
        batches, status = [], []
        for scores in self._slices(texts, sentences=sentences):
            batches.append(added_batch(scores, self.labels, added, options))
            status.append(scores.status)
        counts = np.bincount(np.concatenate(status), minlength=4)
        said = describe_nonfinite(int(counts[NONFINITE]), int(counts[SCORED]), "rows")
        if said is not None:
            warnings.warn(said, stacklevel=2)
        found = pa.Table.from_batches(batches, added).combine_chunks()
        return frame.assign(**{name: _values(found[name]) for name in added.names})

    def _slices(self, texts: list[str | None], *, sentences: bool) -> Iterator[Scores]:
        """Score texts slice by slice; yields one slice at least."""
        for start in range(0, max(1, len(texts)), SLICE_ROWS):
            some = texts[start : start + SLICE_ROWS]
            with python_words(inspect.signature(ModelOptions)):
                scores = self.scorer.score(self.scorer.prepare(some))
                if sentences:
                    found = Sentences.of(some)
                    judged = self.scorer.score(self.scorer.prepare(list(found.texts)))
                    scores = replace(scores, sentences=SentenceScores(found, judged))
            yield scores


def load(
    model: str | PathLike[str] | None = None, *, revision: str | None = None, **options: Any
) -> Model:
    """Load a model folder or Hub id, without either the model that comes with batchsent.

    Options are those of ModelOptions: device, precision, max_length, long_text, batch_tokens.
    Raises ModelError, DeviceError or UsageError with what to do about it; warns where scoring is
    slower than the machine could be.

    >>> model = load("my-model")  # doctest: +SKIP
    >>> model.predict(["what a lovely film"])[0].label  # doctest: +SKIP
    'POSITIVE'
    """
    settings = build(ModelOptions, options)
    source = None if model is None else fspath(model)
    scorer = ModelScorer.open(identify(source, revision), settings, always_check=False)
    for said in scorer.facts()["device"]["warnings"]:
        warnings.warn(said, stacklevel=2)
    return Model(scorer)


def describe_nonfinite(nonfinite: int, scored: int, what: str) -> str | None:
    """Say that some of `what` have no score, or None where all have one.

    Raises ModelError where none has.
    """
    if nonfinite and not scored:
        raise ModelError(
            f"the model gives no finite number for any of {nonfinite:,} {what} (NaN or infinity)",
            hint="its weights are damaged or its training diverged: use another copy",
        )
    if not nonfinite:
        return None
    of_all = f"{nonfinite:,} of {nonfinite + scored:,} {what}"
    return f"the model gives no finite number for {of_all}: they have no label"


def _values(column: "pa.ChunkedArray") -> Any:
    """Return an added column as pandas takes it.

    Text is a list, so that it gets its text type; whole numbers of which some are missing keep
    theirs.
    """
    import pandas as pd
    import pyarrow as pa

    if pa.types.is_string(column.type):
        return column.to_pylist()
    if pa.types.is_integer(column.type) and column.null_count:
        return pd.array(column.to_pylist(), dtype="Int32")
    return column.to_numpy(zero_copy_only=False)


def _missing_to_none(series: "pd.Series[Any]") -> list[Any]:
    missing = series.isna()
    return [None if gone else cell for cell, gone in zip(series.tolist(), missing, strict=True)]


def _checked(texts: list[Any]) -> list[str | None]:
    for number, text in enumerate(texts):
        if text is not None and not isinstance(text, str):
            raise UsageError(
                f"text {number} is not text but {type(text).__name__}: "
                f"{printable(repr(text)[:60])}",
                hint="give None where there is no text",
            )
    return texts
