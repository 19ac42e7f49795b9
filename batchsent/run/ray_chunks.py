"""The chunks of one file on a cluster: this process reads, orders and writes, workers score."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from batchsent.chunk import Scores
from batchsent.errors import BatchsentError, DeviceError
from batchsent.model.pool_facts import merged_facts
from batchsent.model.submission import Callbacks, LocalScorer, Submission
from batchsent.row_texts import Texts
from batchsent.run.device_stamp import in_words, stamp_of_facts
from batchsent.run.models import SharedScorer
from batchsent.run.ray_pool import POLL_S, Pool
from batchsent.run.ray_worker import Said, Worker

# How often a worker says how far it is with a chunk.
SAY_S = 1.0
# What a worker is given at once: it tokenizes the second chunk while the first is scored.
AT_ONCE = 2


class ClusterScorer:
    """Scores chunks on the workers of a cluster."""

    def __init__(self) -> None:
        """Begin without workers: `use` gives it their pool."""
        self._pool: Pool | None = None
        self._first = threading.Event()
        self._lock = threading.Lock()
        self._facts: dict[str, Any] = {}
        self._tasks: list[ChunkTask] = []
        self._submitted = 0
        self.workers = 0

    def use(self, pool: Pool, workers: int) -> None:
        """Take the workers and wait for the first. Raises BatchsentError where none comes."""
        self._pool, self.workers = pool, AT_ONCE * workers
        while not self._first.wait(POLL_S):
            if pool.error is not None:
                raise pool.error

    def take(self, worker: Any) -> None:
        """Take a worker that has loaded the model.

        Raises DeviceError where its scores might have other last digits than those of the others.
        """
        import ray

        facts, node = ray.get(worker.facts.remote())
        with self._lock:
            if not self._facts:
                self._facts = facts
            stamp, first = stamp_of_facts(facts), stamp_of_facts(self._facts)
            if stamp != first:
                different = [name for name in stamp if stamp[name] != first[name]]
                raise DeviceError(
                    f"node {node} scores on {in_words(stamp)}, another one on {in_words(first)} "
                    f"({', '.join(different)}): the same text may get other last digits",
                    hint="use nodes of one kind, or score a folder of files, each on one node",
                )
        self._first.set()

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names, in the order of the probabilities."""
        return tuple(self._facts["model"]["labels"])

    def submit(
        self,
        texts: Texts,
        callbacks: Callbacks,
        *,
        done: Scores | None = None,
        reused: NDArray[np.bool_] | None = None,
    ) -> Submission:
        """Submit a chunk."""
        assert self._pool is not None
        task = ChunkTask(self._submitted, texts, callbacks, done, reused, self)
        self._submitted += 1
        self._tasks = [one for one in self._tasks if not one.is_over()] + [task]
        self._pool.put(task)
        return task

    def check(self) -> None:
        """Raise the error that has ended the work of all workers."""
        if self._pool is not None and self._pool.error is not None:
            raise self._pool.error

    def drain(self) -> None:
        """Wait until no submitted chunk is being scored."""
        for task in self._tasks:
            task.wait()
        self._tasks = []

    def begin_counts(self) -> None:
        """Do nothing: the workers have begun with this run, and end with it."""

    def facts(self) -> dict[str, Any]:
        """Return the summary's sections "model" and "device", of all workers together."""
        found = [] if self._pool is None else self._pool.ask("facts")
        return merged_facts([facts for facts, _ in found] or [self._facts])

    def close(self) -> None:
        """End the workers."""
        if self._pool is not None:
            self._pool.close()


class ChunkTask:
    """A chunk that was submitted."""

    def __init__(
        self,
        number: int,
        texts: Texts,
        callbacks: Callbacks,
        done: Scores | None,
        reused: NDArray[np.bool_] | None,
        scorer: ClusterScorer,
    ) -> None:
        self.number, self._texts, self._callbacks = number, texts, callbacks
        self._scores, self._reused, self._scorer = done, reused, scorer
        self._over = threading.Event()
        self._error: BatchsentError | None = None

    def stops(self) -> bool:
        """Tell whether to stop."""
        return self._callbacks.stop()

    def send(self, worker: Any) -> Any:
        """Have the rows scored that have no scores yet."""
        work = worker.score.options(concurrency_group="work", num_returns="streaming")
        return work.remote(self._texts, self._scores, self._reused)

    def receive(self, said: Said) -> None:
        """Take what the worker says: how far it is, or the scores so far."""
        kind, fact = said
        if kind == "share":
            self._callbacks.on_batch(fact)
        elif kind == "failed":
            raise fact
        else:
            self._scores = owned(fact)
            self._callbacks.keep(self._scores)

    def end(self, error: BatchsentError | None) -> None:
        """Take that it is done, stopped or failed."""
        self._error = error
        self._over.set()

    def is_over(self) -> bool:
        """Tell whether nothing is done any more."""
        return self._over.is_set()

    def wait(self) -> None:
        """Wait until nothing is done any more."""
        self._over.wait()

    def result(self) -> Scores:
        """Return the scores of the chunk; some rows are PENDING after a stop."""
        self.wait()
        if self._error is not None:
            raise self._error
        self._scorer.check()
        rows, labels = len(self._texts), len(self._scorer.labels)
        return self._scores or Scores.pending(rows, labels)


class ChunkWorker(Worker):
    """Scores chunks with a model that is loaded at the start."""

    scorer: SharedScorer

    def load(self) -> None:
        """Load the model. Raises BatchsentError."""
        assert self.models is not None
        self.scorer = SharedScorer(cast(LocalScorer, self.models.open()))

    def facts(self) -> tuple[dict[str, Any], str]:
        """Return the sections "model" and "device", and the name of this node."""
        return self.scorer.facts(), self.name

    def score(
        self,
        texts: Texts,
        done: Scores | None,
        reused: NDArray[np.bool_] | None,
    ) -> Iterator[Said]:
        """Score a chunk; yield how far it is, the scores about every minute and at the end."""
        sent = time.monotonic()

        def work(say: Callable[[Said], None]) -> None:
            def on_batch(share: float) -> None:
                nonlocal sent
                if time.monotonic() - sent > SAY_S:
                    sent = time.monotonic()
                    say(("share", share))

            callbacks = Callbacks(self.is_stopped, lambda scores: say(("scores", scores)), on_batch)
            scores_so_far = None if done is None else owned(done)
            self.scorer.submit(texts, callbacks, done=scores_so_far, reused=reused).result()

        yield from self.say(work)


def owned(scores: Scores) -> Scores:
    """Return scores with arrays that may be written to; Ray's are in its store, and fixed."""
    arrays = {
        field.name: getattr(scores, field.name).copy()
        for field in fields(scores)
        if isinstance(getattr(scores, field.name), np.ndarray)
    }
    return replace(scores, **arrays)
