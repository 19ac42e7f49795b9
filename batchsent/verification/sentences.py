"""The columns of --sentences, compared with each other and with the sentences of the texts."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from batchsent.chunk import is_blank
from batchsent.sentences import sentence_spans
from batchsent.text import without_surrogates

SIDES = ("positive", "negative")
# A column, whether each of its cells is right, and what is wrong with one that is not.
Check = tuple[str, NDArray[np.bool_], str]


def sentence_checks(
    numbers: Mapping[str, NDArray[np.int32]],
    missing: Mapping[str, NDArray[np.bool_]],
    strongest: Mapping[str, Sequence[str | None]],
    texts: Sequence[str | None],
) -> Iterator[Check]:
    """Yield each column with the rows in which it can be right.

    `numbers` are the columns of counts, of true and false, and of places, each (rows,); `missing`
    tells which of their cells are empty. `strongest` are the columns of sentences, where there are
    any, and `texts` the rows' own. Which sentences are positive only the model can tell.
    """
    for name in ("n_sentences", "n_positive", "n_negative", "mixed"):
        yield name, ~missing[name], "not there"
    spans = [
        sentence_spans(text) if text is not None and not is_blank(text) else [] for text in texts
    ]
    counts = {side: numbers[f"n_{side}"] for side in SIDES}
    found = np.fromiter(map(len, spans), np.int64, len(spans))
    yield "n_sentences", numbers["n_sentences"] == found, "not the sentences of the text"
    clear = counts["positive"].astype(np.int64) + counts["negative"]
    yield "n_positive", clear <= found, "with n_negative more than all sentences"
    mixed = (counts["positive"] > 0) & (counts["negative"] > 0)
    right = (numbers["mixed"] == 1) == mixed
    yield "mixed", right, "it must say whether n_positive and n_negative are both over 0, and says"
    if not strongest:
        return
    for side in SIDES:
        sentences = strongest[f"{side}_sentence"]
        given = np.fromiter((cell is not None for cell in sentences), bool, len(sentences))
        name = f"{side}_sentence"
        yield name, given == (counts[side] > 0), f"it must be there where n_{side} is over 0"
        for end in ("start", "end"):
            name = f"{side}_{end}"
            yield name, missing[name] == ~given, f"it must come together with {side}_sentence"
        starts, ends = numbers[f"{side}_start"], numbers[f"{side}_end"]
        places = zip(starts.tolist(), ends.tolist(), spans, strict=True)
        is_one = np.fromiter((place[:2] in place[2] for place in places), bool, len(spans))
        yield f"{side}_start", ~given | is_one, "no sentence of the text begins and ends there"
        rows = zip(texts, starts.tolist(), ends.tolist(), sentences, strict=True)
        same = np.fromiter(
            (without_surrogates((text or "")[a:b]) == cell for text, a, b, cell in rows),
            bool,
            len(spans),
        )
        yield f"{side}_sentence", ~given | same, "not what the text has there"
    apart = numbers["positive_start"] != numbers["negative_start"]
    yield "negative_start", ~mixed | apart, "the sentence cannot be positive and negative at once"
