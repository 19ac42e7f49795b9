"""Chunks are submitted to a scorer and collected in order, wherever they are scored."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from batchsent.chunk import PENDING, Scores
from batchsent.row_texts import Texts

# How often the scores of an unfinished chunk are kept: kill -9 loses at most this much work.
KEEP_S = 60.0
# A chunk, or a file on a cluster, whose process has died so often is not given to another: it may
# be what kills them.
MOST_DEATHS = 3


@dataclass(frozen=True)
class Callbacks:
    """What a scorer calls while it scores a chunk; each may be called in any thread."""

    # whether to stop: the rest of the chunk stays PENDING
    stop: Callable[[], bool] = lambda: False
    # called with the scores so far about every minute, at a stop and at the end
    keep: Callable[[Scores], None] = lambda scores: None
    # called after each batch with the share of the chunk's tokens that has been run
    on_batch: Callable[[float], None] = lambda share: None


class Submission(Protocol):
    """A chunk that was submitted."""

    def result(self) -> Scores:
        """Return the scores of the chunk, kept; rows are PENDING only where `stop` was true.

        Called once, in the order in which chunks were submitted. Raises what scoring or keeping
        them raised.
        """


class Scorer(Protocol):
    """Scores the chunks of a run.

    One thread submits chunks while another collects earlier ones, so several are in flight.
    """

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names, in the order of the probabilities."""

    @property
    def workers(self) -> int:
        """How many chunks it takes at the same time, be they tokenized or scored."""

    def submit(
        self,
        texts: Texts,
        callbacks: Callbacks,
        *,
        done: Scores | None = None,
        reused: NDArray[np.bool_] | None = None,
    ) -> Submission:
        """Submit a chunk, of which `done` are scores so far: their PENDING rows are completed.

        Rows that are `reused` (rows,) have their scores in `done` from an output of another run,
        and no batch is planned for them; other rows of the same text get these scores too.
        """

    def drain(self) -> None:
        """Wait until no submitted chunk is being scored; `stop` is true for those not collected."""

    def begin_counts(self) -> None:
        """Let what `facts` counts begin anew, for another run; no chunk is being scored."""

    def facts(self) -> dict[str, Any]:
        """Return the summary's sections "model" and "device"."""

    def close(self) -> None:
        """Free the device."""


@dataclass(frozen=True)
class Prepared:
    """A chunk ready for the device; only the scorer reads `content`."""

    rows: int
    content: Any


class LocalScorer:
    """A scorer in this process: a chunk is tokenized by `submit` and scored when it is collected.

    A class of its own says how, with `prepare` and `score`, which may run in two threads.
    """

    labels: tuple[str, ...]
    workers = 1

    def prepare(self, texts: Texts, reused: NDArray[np.bool_] | None = None) -> Prepared:
        """Tokenize a chunk and plan the batches of the rows that are not `reused` (rows,)."""
        raise NotImplementedError

    def score(
        self,
        prepared: Prepared,
        *,
        done: Scores | None = None,
        stop: Callable[[], bool] | None = None,
        on_batch: Callable[[float], None] | None = None,
    ) -> Scores:
        """Score a chunk, completing `done`; rows that `stop` left undone are PENDING."""
        raise NotImplementedError

    def submit(
        self,
        texts: Texts,
        callbacks: Callbacks,
        *,
        done: Scores | None = None,
        reused: NDArray[np.bool_] | None = None,
    ) -> "LocalSubmission":
        """Tokenize a chunk; its scores are computed by `result`."""
        return LocalSubmission(self, self.prepare(texts, reused), done, callbacks)

    def facts(self) -> dict[str, Any]:
        """Return the summary's sections "model" and "device"."""
        raise NotImplementedError

    def close(self) -> None:
        """Free the device."""

    def drain(self) -> None:
        """Return at once: nothing is scored but by `result`."""

    def begin_counts(self) -> None:
        """Do nothing where nothing is counted."""


@dataclass(frozen=True)
class LocalSubmission:
    """A chunk of a LocalScorer."""

    scorer: LocalScorer
    prepared: Prepared
    done: Scores | None
    callbacks: Callbacks

    def result(self) -> Scores:
        """Score the chunk and keep its scores on the way."""
        rows, done, stop = self.prepared.rows, self.done, self.callbacks.stop
        keep_s, pending = KEEP_S, rows + 1
        while True:
            until = time.monotonic() + keep_s
            done = self.scorer.score(
                self.prepared,
                done=done,
                stop=lambda: stop() or time.monotonic() > until,  # noqa: B023 (called at once)
                on_batch=self.callbacks.on_batch,
            )
            before, pending = pending, int((done.status == PENDING).sum())
            if pending == before:
                # The windows of a text are kept together. One text of many windows takes longer.
                keep_s *= 2
            if pending < rows:
                self.callbacks.keep(done)
            if not pending or stop():
                return done
