"""A model that takes a moment for every chunk."""

import time

from tests.hash_model import HashModels, HashScorer


class SlowScorer(HashScorer):
    """Takes a moment for every chunk, in two batches."""

    def score(self, prepared, *, done=None, stop=None, on_batch=None):
        for share in (0.5, 1.0):
            time.sleep(0.3)
            on_batch(share)
        return super().score(prepared, done=done, stop=stop)


class SlowModels(HashModels):
    """Gives the slow model to a run."""

    def open(self):
        return SlowScorer()
