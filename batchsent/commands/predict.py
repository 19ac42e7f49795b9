"""The model in a Python program: `load(model).predict(texts)` and `.score_frame(frame)`."""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from os import PathLike, fspath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.chunk import BLANK, NONFINITE, SCORED, Scores, SentenceScores
from batchsent.evaluation.polarity import Sides, sides_of
from batchsent.evaluation.sentences import clear_sides
from batchsent.model.loading import identify
from batchsent.model.options import ModelOptions
from batchsent.model.scorer import ModelScorer
from batchsent.options import build
from batchsent.python_words import python_words, words_of
from batchsent.run.models import OpenModel
from batchsent.run.scoring import score_chunks
from batchsent.text import printable
from batchsent.texts import list_chunks

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
        self._models = OpenModel(scorer)

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

    @property
    def classes_(self) -> NDArray[np.str_]:
        """Label names in the order of scikit-learn, which is that of the alphabet."""
        return np.unique(np.array(self.labels))

    def predict(
        self,
        texts: Iterable[str | None],
        *,
        sentences: bool = False,
        polarity_labels: str | None = None,
    ) -> list[Prediction]:
        """Score some texts; with `sentences` each of their sentences too.

        `texts` is a list, or a series or an array of pandas, polars or pyarrow, whose missing
        values count as None. Sentences require a positive and a negative label, which
        `polarity_labels` names where the model calls them otherwise:
        ``negative=LABEL,positive=LABEL``.

        A text without anything to read, and None, gives a Prediction without label and score; so
        does a text for which the model gives no finite number, and `status` tells the two apart.
        Raises UsageError for anything that is not text.
        """
        sides = sides_of(self.labels, polarity_labels) if sentences else None
        found: list[Prediction] = []
        for scores in self._scores(texts, sentences=sentences):
            rows = zip(scores.winners, scores.probabilities, scores.status, strict=True)
            predictions = [
                self._prediction(int(best), row.tolist(), int(status)) for best, row, status in rows
            ]
            if scores.sentences is not None and sides is not None:
                predictions = self._with_sentences(predictions, scores.sentences, sides)
            found += predictions
        return found

    def predict_proba(self, texts: Iterable[str | None]) -> NDArray[np.float32]:
        """Return (rows, labels) probabilities, as metrics of scikit-learn take them.

        The columns are those of `classes_`; `texts` is what `predict` takes. The row of a text
        without a score is NaN, which those metrics refuse: leave such rows out. The model cannot be
        fitted, so what fits estimators (cross-validation, pipelines) does not take it.
        """
        order = np.argsort(np.array(self.labels))
        found = [scores.probabilities for scores in self._scores(texts, sentences=False)]
        nothing = np.zeros((0, len(self.labels)), dtype=np.float32)
        return np.concatenate([nothing, *found])[:, order]

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
        frame: Any,
        text_column: Any = None,
        prefix: str = "",
        *,
        text_column_index: int | None = None,
        probabilities: bool = False,
        details: bool = False,
        sentences: bool = False,
        polarity: bool = False,
        polarity_labels: str | None = None,
        neutral_band: float | None = None,
        unsure_below: float | None = None,
        calibrated: bool = False,
        limit: int | None = None,
        chunk_rows: int = 8192,
        text_joint: str | None = None,
    ) -> Any:
        """Return a frame of the same kind with the columns `label` and `score` after its own.

        Frames are those of pandas and polars, pyarrow tables and record batches; of another object
        with the Arrow stream interface a pyarrow table is returned. Of a pyarrow RecordBatchReader
        a reader is returned, whose rows are scored as they are read.

        Index, order and the other columns stay as they are. Rows without text get a missing label
        and score. The text column and the new columns are as in `batch`, whose options these are.
        Warns where the model gives no finite number for some rows, which get no label. Raises
        UsageError for a column that is not there, holds something else than text, or has one of
        the new names, ModelError where the model gives no finite number for any row.
        """
        # Not at the top: pyarrow would make `batchsent predict` a third of a second slower.
        from batchsent.formats.frames import text_column_of
        from batchsent.run.options import FrameOptions
        from batchsent.run.streaming import score_frame

        with python_words(words_of(FrameOptions)):
            options = build(
                FrameOptions,
                {
                    "text_column": text_column_of(frame, text_column),
                    "text_joint": text_joint,
                    "text_column_index": text_column_index,
                    "prefix": prefix,
                    "probabilities": probabilities,
                    "details": details,
                    "sentences": sentences,
                    "polarity": polarity,
                    "polarity_labels": polarity_labels,
                    "neutral_band": neutral_band,
                    "unsure_below": unsure_below,
                    "calibrated": calibrated,
                    "limit": limit,
                    "chunk_rows": chunk_rows,
                },
            )
            return score_frame(frame, self._models, options)

    def _scores(self, texts: Any, *, sentences: bool) -> Iterator[Scores]:
        """Score texts chunk by chunk."""
        if isinstance(texts, list):
            chunks = list_chunks(texts)
        else:
            from batchsent.formats.series import text_chunks

            chunks = text_chunks(texts)
        with python_words(words_of(ModelOptions)):
            for _, scores in score_chunks(chunks, self._models.open(), sentences=sentences):
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
