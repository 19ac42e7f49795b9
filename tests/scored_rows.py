"""Seeded random rows with scores and gold labels, and the tally of them."""

import itertools

import numpy as np

from batchsent.chunk import BLANK, SCORED, Chunk, Scores
from batchsent.evaluation.gold import GoldRule
from batchsent.evaluation.tally import Tally

TWO = ("NEGATIVE", "POSITIVE")
FOUR = ("anger", "joy", "love", "surprise")


class Rows:
    """A run in one piece: seeded random rows, whose chunks may be cut anywhere."""

    def __init__(self, labels=TWO, rows=3_000, seed=1, spread=1.5):
        random = np.random.default_rng(seed)
        n = len(labels)
        self.labels = labels
        self.y = random.integers(0, n, rows)
        logits = random.normal(0, spread, (rows, n))
        # A shift of the variance makes the softmax of these logits the true chances: a calibrated
        # model.
        logits[np.arange(rows), self.y] += spread**2
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        self.p = (p / p.sum(axis=1, keepdims=True)).astype(np.float32)
        self.lengths = np.minimum(random.geometric(1 / 1_500, rows), 20_000)
        self.texts = ["x" * int(length) for length in self.lengths]
        self.cut = np.maximum(self.lengths // 5 - 128, 0).astype(np.int32)
        self.n_tokens = np.minimum(self.lengths // 5 + 2, 130).astype(np.int32)
        self.status = np.full(rows, SCORED, dtype=np.uint8)
        self.gold = [labels[i] for i in self.y]

    def chunks(self, *cuts):
        """Yield the rows cut into chunks at the row numbers given."""
        edges = [0, *cuts, len(self.texts)]
        for a, b in itertools.pairwise(edges):
            scores = Scores(self.p[a:b], self.n_tokens[a:b], self.cut[a:b], self.status[a:b], b - a)
            yield Chunk(a, self.texts[a:b], None, self.gold[a:b]), scores

    def tally(self, *cuts, gold=True, **options):
        """Return the tally of all rows, added in chunks."""
        tally = Tally(self.labels, GoldRule.parse(self.labels) if gold else None, **options)
        for chunk, scores in self.chunks(*cuts):
            tally.add(chunk, scores)
        return tally


def small(texts, statuses, gold=None, p=(0.1, 0.9)):
    """Return a chunk of a few rows, all with the same probabilities."""
    rows = len(texts)
    ones = np.array([status != BLANK for status in statuses], dtype=np.int32)
    scores = Scores(
        np.tile(np.array(p, dtype=np.float32), (rows, 1)),
        5 * ones,
        0 * ones,
        np.array(statuses, dtype=np.uint8),
        int(ones.sum()),
    )
    return Chunk(0, texts, None, gold), scores
