"""The two middle stages of a run: chunks to tokens, and tokens to scores kept as parts."""

import ctypes
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from batchsent.chunk import PENDING, Chunk, Scores
from batchsent.model.scorer import Scorer
from batchsent.run.parts import Parts
from batchsent.run.pipeline import Clock

# How often the scores of an unfinished chunk are kept: kill -9 loses at most this much work.
KEEP_S = 60.0
# How often memory is given back: it takes 15 ms, and page faults when the memory is used again.
TRIM_S = 2.0


# A chunk, its tokens (None where they are not needed), and the scores that are known of it.
Tokenized = tuple[Chunk, Any, Scores | None]


class Scoring:
    """Tokenizes and scores the chunks of a run. Each of both runs in a thread of its own."""

    def __init__(
        self,
        scorer: Scorer,
        parts: Parts | None,
        clock: Clock,
        interrupted: Callable[[], bool],
        progress: Callable[[int], None],
    ) -> None:
        """Take what the stages need; `progress` is called with the rows done, after each batch.

        Within a chunk they are estimated by the share of its tokens, since long texts come first.
        """
        self._scorer, self._parts, self._clock = scorer, parts, clock
        self._interrupted, self._progress = interrupted, progress
        self._closing = False

    def close(self) -> None:
        """Make the score stage end at its next batch: the output is being discarded."""
        self._closing = True

    def stop(self) -> bool:
        """Tell whether to stop: a signal came, or the output is being discarded."""
        return self._closing or self._interrupted()

    def score(self, tokenized: Iterable[Tokenized]) -> Iterator[tuple[Chunk, Scores]]:
        """Yield chunks with their scores, in order.

        Ends early when `stop` is true; the scores of the unfinished chunk are kept then.
        """
        trimmed = time.monotonic()
        for chunk, ready, known in tokenized:
            if self._parts and known is not None:
                self._parts.reused_rows += int((known.status != PENDING).sum())
            scores = known
            if ready is not None:
                scores = self._score(chunk, ready, known)
            if scores is None:
                return
            self._progress(chunk.start_row + chunk.rows)
            yield chunk, scores
            if time.monotonic() - trimmed > TRIM_S:
                give_back_memory()
                trimmed = time.monotonic()

    def tokenize(self, chunks: Iterable[Chunk]) -> Iterator[Tokenized]:
        """Yield chunks with their tokens; without them where a part has all of the scores."""
        labels = len(self._scorer.labels)
        for chunk in chunks:
            known = None
            if self._parts:
                known = self._parts.load(chunk, labels)
            if not chunk.rows:
                yield chunk, None, no_scores(labels)
            elif known is not None and not (known.status == PENDING).any():
                yield chunk, None, known
            else:
                with self._clock.busy("tokenize"):
                    ready = self._scorer.prepare(chunk.texts)
                yield chunk, ready, known

    def _score(self, chunk: Chunk, ready: Any, known: Scores | None) -> Scores | None:
        """Score one chunk and keep its part; None when `stop` was true before it was finished."""
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
                # The windows of a text are kept together. One text of many windows takes longer.
                keep_s *= 2
            if self._parts and pending < chunk.rows:
                self._parts.save(chunk, known)
            if finished:
                return known
            if self.stop():
                return None


def give_back_memory() -> None:
    """Have the C library return its free memory to the system.

    Tensors of many sizes leave gaps, which glibc keeps: a 2 GB CSV with a tiny model ended at 3 GB
    instead of 1.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim is not None:
        trim(0)


def no_scores(labels: int) -> Scores:
    """Return the scores of a chunk without rows, such as the blank lines at the end of a file."""
    none = np.zeros(0, np.int32)
    return Scores(np.zeros((0, labels), np.float32), none, none, none.astype(np.uint8), distinct=0)
