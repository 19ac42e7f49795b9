"""Chunks to scores, with reading and tokenizing ahead of the model.

Keeps parts, stops when asked.
"""

import ctypes
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from batchsent.chunk import PENDING, Chunk, Scores
from batchsent.model.scorer import Scorer
from batchsent.run.parts import Parts
from batchsent.run.pipeline import Clock

# An unfinished chunk is kept this often: what kill -9 can cost.
KEEP_S = 60.0
# Memory is given back this often: it takes 15 ms, and what was given back has to be faulted in
# again.
TRIM_S = 2.0


# A chunk, its tokens (None where they are not needed), and the scores that are known of it.
Tokenized = tuple[Chunk, Any, Scores | None]


class Scoring:
    """The two middle stages of a run: tokenize and score. Each is called in a thread of its own."""

    def __init__(
        self,
        scorer: Scorer,
        parts: Parts | None,
        clock: Clock,
        interrupted: Callable[[], bool],
        progress: Callable[[int], None],
    ) -> None:
        """Take what the stages need; `progress` is told how many rows are done, after each batch.

        Within a chunk, whose long texts come first, they are counted by their share of its tokens.
        """
        self._scorer, self._parts, self._clock = scorer, parts, clock
        self._interrupted, self._progress = interrupted, progress
        self._closing = False

    def close(self) -> None:
        """Make the scoring end at its next batch: what was written of it is being thrown away."""
        self._closing = True

    def stop(self) -> bool:
        """Tell whether to stop: a signal came, or what is written is being thrown away."""
        return self._closing or self._interrupted()

    def score(self, tokenized: Iterable[Tokenized]) -> Iterator[tuple[Chunk, Scores]]:
        """Yield chunks with their scores, in order.

        Ends early when `stop` says so, with the unfinished chunk's scores kept.
        """
        trimmed = time.monotonic()
        for chunk, ready, known in tokenized:
            if self._parts and known is not None:
                self._parts.reused_rows += int((known.status != PENDING).sum())
            scores = known if ready is None else self._score(chunk, ready, known)
            if scores is None:
                return
            self._progress(chunk.start_row + chunk.rows)
            yield chunk, scores
            if time.monotonic() - trimmed > TRIM_S:
                give_back_memory()
                trimmed = time.monotonic()

    def tokenize(self, chunks: Iterable[Chunk]) -> Iterator[Tokenized]:
        """Yield chunks with their tokens, or without where a part has all their scores already."""
        labels = len(self._scorer.labels)
        for chunk in chunks:
            known = self._parts.load(chunk, labels) if self._parts else None
            if not chunk.rows:
                yield chunk, None, no_scores(labels)
            elif known is not None and not (known.status == PENDING).any():
                yield chunk, None, known
            else:
                with self._clock.busy("tokenize"):
                    ready = self._scorer.prepare(chunk.texts)
                yield chunk, ready, known

    def _score(self, chunk: Chunk, ready: Any, known: Scores | None) -> Scores | None:
        """Score one chunk and keep its part; None when a signal came before it was finished."""
        keep_s, pending = KEEP_S, chunk.rows + 1
        while True:
            since = Clock()
            with self._clock.busy("score"):
                known = self._scorer.score(
                    ready,
                    done=known,
                    stop=lambda: self.stop() or since.elapsed_s > keep_s,  # noqa: B023 (called at once)
                    on_batch=lambda share: self._progress(
                        chunk.start_row + int(share * chunk.rows)
                    ),
                )
            before, pending = pending, int((known.status == PENDING).sum())
            finished = not pending
            if pending == before:
                # the windows of one very long text are kept all together: give it the time it needs
                keep_s *= 2
            if self._parts and pending < chunk.rows:
                self._parts.save(chunk, known)
            if finished:
                return known
            if self.stop():
                return None


def give_back_memory() -> None:
    """Have the C library return what it holds free to the system.

    Tensors of ever other sizes leave gaps that glibc keeps: a 2 GB CSV with a tiny model ended at 3
    GB instead of 1.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim is not None:
        trim(0)


def no_scores(labels: int) -> Scores:
    """Return the scores of a chunk without rows: blank lines at the end of a file, say."""
    none = np.zeros(0, np.int32)
    return Scores(np.zeros((0, labels), np.float32), none, none, none.astype(np.uint8), distinct=0)
