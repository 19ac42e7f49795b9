"""A model that needs no torch: the score of a text is a hash of it.

Fast, exact, and every row names its text. As a program it is `batchsent batch` with that model:
python -m tests.hash_model INPUT... OUTPUT [NAME=VALUE...]
"""

import hashlib
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from batchsent.chunk import BLANK, PENDING, SCORED, Scores, is_blank
from batchsent.model.loading import ModelIdentity
from batchsent.model.pool import ProcessPlan, ProcessPool
from batchsent.model.submission import LocalScorer, Prepared

LABELS = ("NEGATIVE", "POSITIVE")


def probability(text: str) -> float:
    """The probability of POSITIVE."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:3]) / (
        1 << 24
    )


def expected(text):
    """Label and score of a text, both None where it is blank."""
    if is_blank(text):
        return None, None
    positive = np.float32(probability(text))
    return (
        ("POSITIVE", positive)
        if positive > np.float32(1) - positive
        else ("NEGATIVE", np.float32(1) - positive)
    )


class HashScorer(LocalScorer):
    """Scores by hash, in batches of `batch_rows`, each taking `batch_s` seconds."""

    labels = LABELS

    def __init__(self, batch_rows=16, batch_s=0.0, description="CPU"):
        self.batch_rows, self.batch_s, self.description = batch_rows, batch_s, description

    def prepare(self, texts, reused=None):
        return Prepared(len(texts), texts)

    def score(self, prepared, *, done=None, stop=None, on_batch=None):
        rows = prepared.rows
        scores = replace(done or Scores.pending(rows, 2), distinct=rows)
        for start in range(0, rows, self.batch_rows):
            span = range(start, min(rows, start + self.batch_rows))
            if all(scores.status[row] != PENDING for row in span):
                self._count(scores, prepared.content, span)
                continue
            if stop is not None and stop():
                break
            time.sleep(self.batch_s)
            for row in span:
                text = prepared.content[row]
                if is_blank(text):
                    scores.status[row] = BLANK
                    continue
                if scores.status[row] == PENDING:
                    positive = np.float32(probability(text))
                    scores.probabilities[row] = np.float32(1) - positive, positive
                scores.status[row] = SCORED
            self._count(scores, prepared.content, span)
        return scores

    def _count(self, scores, texts, span):
        """Texts whose scores were known have tokens, too."""
        for row in span:
            scores.n_tokens[row] = 0 if is_blank(texts[row]) else len(texts[row].split())

    def facts(self):
        return {
            "model": {
                "source": "hash",
                "labels": list(LABELS),
                "precision": "float32",
                "precision_reason": "it counts",
            },
            "device": {"name": "cpu", "description": self.description},
        }

    def close(self):
        pass


class HashModels:
    """Gives the hash model to a run; `opened` tells whether it was ever loaded."""

    def __init__(self, version="1", **settings):
        self.processes = settings.pop("processes", 1)
        self.version, self.settings, self.opened = version, settings, 0
        self.pool = None

    def check(self):
        pass

    def identity(self):
        return ModelIdentity(
            "hash", Path(), None, self.version * 64, "2" * 64, "3" * 64, LABELS, 512, "Hash"
        )

    def open(self):
        self.opened += 1
        if self.processes == 1:
            return HashScorer(**self.settings)
        if self.pool is None:
            plan = ProcessPlan("cpu", partial(HashScorer, **self.settings))
            self.pool = ProcessPool([plan] * self.processes)
        return self.pool


class Meanwhile(HashModels):
    """The hash model; when it is first loaded, which is after every check, something happens."""

    def __init__(self, happens):
        super().__init__()
        self.happens = happens

    def open(self):
        if not self.opened:
            self.happens()
        return super().open()


def main():
    """Run batch_all as the command line does, errors, signals, exit codes and all."""
    from batchsent.cli import main as command

    settings = {}
    if sys.argv[1].startswith("batch_s="):
        settings["batch_s"] = float(sys.argv.pop(1).partition("=")[2])
    if "--processes" in sys.argv:
        settings["processes"] = int(sys.argv[sys.argv.index("--processes") + 1])
    sys.argv.insert(1, "batch")  # messages may name the command as it was typed
    command(sys.argv[1:], models=HashModels(**settings))


if __name__ == "__main__":
    main()


class Models(HashModels):
    """Gives one scorer, whatever it is."""

    def __init__(self, scorer):
        super().__init__()
        self.scorer = scorer

    def open(self):
        self.opened += 1
        return self.scorer
