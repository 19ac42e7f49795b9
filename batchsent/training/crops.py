"""Crops of reviews: one to three sentences that follow each other, to learn short texts from."""

import numpy as np

from batchsent.sentences import sentence_spans
from batchsent.training.deduplicate import choose_rows
from batchsent.training.examples import Examples

SENTENCES = (1, 2, 3)  # lengths of the crops, equally often


def add_crops(examples: Examples, kept_out: list[Examples], per_review: int, seed: int) -> Examples:
    """Return the examples, and after them at most `per_review` crops of each with its label.

    A crop has 1, 2 or 3 sentences by the rules of `sentence_spans`; sentences of one word are left
    out. So are crops that are a whole review, a text that is `kept_out` to measure on or choose by,
    or another crop, and crops that come with different labels: a review of one sentence has none.
    The same examples and seed make the same crops. A crop need not say what its review does.
    """
    random = np.random.default_rng(seed)
    rows: list[int] = []
    texts: list[str] = []
    for row, text in enumerate(examples.texts):
        of_each = random.multinomial(per_review, [1 / len(SENTENCES)] * len(SENTENCES))
        for sentences, count in zip(SENTENCES, of_each.tolist(), strict=True):
            crops = crops_of(text, sentences, count, random)
            rows += [row] * len(crops)
            texts += crops
    numbers = [examples.numbers[row] for row in rows] if examples.numbers else ()
    found = Examples(texts, [examples.labels[row] for row in rows], {}, None, numbers)
    known = [text for side in (examples, *kept_out) for text in side.texts]
    kept, _ = choose_rows(found, Examples(known, [], {}))
    joined = examples.join(found.take(kept))
    return joined.take(range(len(joined.texts)), crops=len(kept))


def crops_of(text: str, sentences: int, count: int, random: np.random.Generator) -> list[str]:
    """Return at most `count` crops of so many sentences, each from another place."""
    if count == 0:
        return []
    parts = sentences_of(text)
    starts = len(parts) - sentences + 1
    if starts < 1:
        return []
    chosen = random.choice(starts, min(count, starts), replace=False)
    return [" ".join(parts[start : start + sentences]) for start in chosen]


def sentences_of(text: str) -> list[str]:
    """Return the sentences of a review.

    Those of one word, such as a rating by itself, are left out: of "Great film. 10/10" one remains.
    """
    found = [text[start:end] for start, end in sentence_spans(text)]
    return [sentence for sentence in found if len(sentence.split()) > 1]
