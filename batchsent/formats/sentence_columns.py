"""The columns of --sentences: how many of a review's sentences are clear, and the strongest two."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchsent.chunk import Sentences, SentenceScores
from batchsent.evaluation.sentences import judge
from batchsent.text import without_surrogates

COUNTS = {
    "n_sentences": pa.int32(),
    "n_positive": pa.int32(),
    "n_negative": pa.int32(),
    "mixed": pa.bool_(),
}
# With --details: the sentence, and where it begins and ends in characters of the text.
STRONGEST = {
    "positive_sentence": pa.string(),
    "positive_start": pa.int32(),
    "positive_end": pa.int32(),
    "negative_sentence": pa.string(),
    "negative_start": pa.int32(),
    "negative_end": pa.int32(),
}


def sentence_fields(*, details: bool) -> list[tuple[str, pa.DataType]]:
    """Return name and type of each column, in order."""
    return list((COUNTS | STRONGEST if details else COUNTS).items())


def sentence_columns(
    scored: SentenceScores, rows: int, positive: int, negative: int, *, details: bool
) -> dict[str, pa.Array]:
    """Return the columns of a chunk by their names.

    `positive` and `negative` are the numbers of these labels. A row without text has no sentence.
    With `details` the strongest sentence of each side, null where no sentence is clear.
    """
    judged = judge(scored, rows, positive, negative)
    columns = {
        "n_sentences": pa.array(judged.n_sentences),
        "n_positive": pa.array(judged.n_positive),
        "n_negative": pa.array(judged.n_negative),
        "mixed": pa.array(judged.mixed),
    }
    if details:
        columns |= _strongest("positive", scored.sentences, judged.most_positive)
        columns |= _strongest("negative", scored.sentences, judged.most_negative)
    return columns


def _strongest(side: str, sentences: Sentences, chosen: NDArray[np.int64]) -> dict[str, pa.Array]:
    """Return the columns of the sentences that were `chosen` for each row, -1 for none."""
    there = chosen >= 0
    texts = [without_surrogates(sentences.texts[n]) if n >= 0 else None for n in chosen.tolist()]
    places = {}
    for what, all_of_them in (("start", sentences.starts), ("end", sentences.ends)):
        values = np.zeros(len(chosen), dtype=np.int32)
        values[there] = all_of_them[chosen[there]]
        places[f"{side}_{what}"] = pa.array(values, pa.int32(), mask=~there)
    return {f"{side}_sentence": pa.array(texts, pa.string()), **places}
