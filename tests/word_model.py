"""A model that needs no torch and is right more often than not: it counts words of praise and of
blame.
"""

import math
import re

import numpy as np

from batchsent.chunk import BLANK, SCORED, Scores, is_blank
from tests.hash_model import HashModels, HashScorer, probability

PRAISE = (
    "great",
    "excellent",
    "wonderful",
    "best",
    "love",
    "loved",
    "perfect",
    "amazing",
    "superb",
    "brilliant",
)
BLAME = (
    "bad",
    "worst",
    "awful",
    "boring",
    "terrible",
    "waste",
    "poor",
    "stupid",
    "horrible",
    "nothing",
)
WORDS = re.compile(r"[a-z]+")
MAX_TOKENS = 256


def praise(text):
    """The probability of POSITIVE: the balance of its words, and a little chance that the text
    decides.
    """
    found = WORDS.findall(text.lower())
    balance = sum(found.count(word) for word in PRAISE) - sum(found.count(word) for word in BLAME)
    return 1 / (1 + math.exp(-0.9 * balance - 2 * (probability(text) - 0.5)))


class WordScorer(HashScorer):
    """Scores all rows at once; texts beyond MAX_TOKENS words count as cut."""

    def score(self, prepared, *, done=None, stop=None, on_batch=None):
        texts = prepared.content
        blank = np.array([is_blank(text) for text in texts], dtype=bool)
        words = np.array(
            [0 if text is None else len(text.split()) for text in texts], dtype=np.int32
        )
        positive = np.array(
            [np.nan if is_blank(text) else praise(text) for text in texts], dtype=np.float32
        )
        return Scores(
            np.stack([np.float32(1) - positive, positive], axis=1),
            np.where(blank, 0, np.minimum(words, MAX_TOKENS)).astype(np.int32),
            np.where(blank, 0, np.maximum(words - MAX_TOKENS, 0)).astype(np.int32),
            np.where(blank, BLANK, SCORED).astype(np.uint8),
            len(set(texts)),
        )


class WordModels(HashModels):
    """Gives the word model to a run."""

    def open(self):
        self.opened += 1
        return WordScorer()
