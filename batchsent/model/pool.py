"""Several processes of this machine, each with the model on a device of its own, as one scorer.

A thread of this process, the dispatcher, gives each process a chunk when it asks for one, takes
scores and progress from it, and passes a stop on. A process has up to two chunks: one that it
scores and one whose texts it tokenizes meanwhile (pool_worker.py). All files are read and written
here: what a process has scored of a chunk comes here about every minute, to be kept.

A process that dies leaves its chunks, with what was kept of them, to the others. Where MOST_DEATHS
have died on one chunk, or none is left, the chunk fails with a DeviceError.
"""

import itertools
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for_all
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.chunk import NONFINITE, PENDING, SCORED, Scores
from batchsent.errors import DeviceError
from batchsent.model.pool_facts import Share, merged
from batchsent.model.pool_worker import FAILED, KEPT, NEXT, PROGRESS, RESULT, SCORE, STOP, serve
from batchsent.model.spawned import ProcessDied, SpawnedProcess
from batchsent.model.submission import MOST_DEATHS, Callbacks, Scorer, Submission
from batchsent.row_texts import Texts, digest

# How often the dispatcher asks whether to stop.
POLL_S = 0.1
AGAIN = (
    "run the same command again to resume: what was scored is kept. Where memory was full, use "
    "fewer processes, or lower --batch-tokens and --chunk-rows"
)


@dataclass(frozen=True)
class ProcessPlan:
    """What a process opens, and on which device."""

    device: str  # for people: cpu, cuda:1
    open_scorer: Callable[[], Scorer]  # called in the process; it is pickled
    variables: Mapping[str, str] = field(default_factory=dict)  # of its environment


@dataclass
class SubmittedChunk:
    """A chunk that was submitted."""

    number: int
    texts: Texts
    digest: str
    callbacks: Callbacks
    done: Scores | None  # its scores so far
    reused: NDArray[np.bool_] | None  # (rows,) as in Scorer.submit
    future: "Future[Scores]" = field(default_factory=Future)
    deaths: int = 0  # of processes that were scoring it
    stopping: bool = False  # whether its process was told to stop

    def fail(self, error: Exception) -> None:
        """Let the result raise an error, unless there is one already."""
        if not self.future.done():
            self.future.set_exception(error)


@dataclass
class PoolProcess:
    """A process of the pool."""

    process: SpawnedProcess
    share: Share
    chunks: deque[SubmittedChunk] = field(default_factory=deque)  # the first is being scored
    asks: bool = False  # whether it waits for a chunk


class ProcessPool:
    """A Scorer in several processes."""

    def __init__(self, plans: Sequence[ProcessPlan], warnings: Sequence[str] = ()) -> None:
        """Start the processes and wait until each has loaded the model.

        `warnings` are said with those of the processes.

        Raises what loading raises in one of them, and DeviceError where they do not run it in the
        same way.
        """
        self._processes: list[PoolProcess] = []
        self._warnings = list(warnings)  # also of each process that died
        self._waiting: deque[SubmittedChunk] = deque()
        self._unfinished: set[Future[Scores]] = set()
        self._lock = threading.Lock()  # of the two above and of `_dead`
        self._dead: DeviceError | None = None  # once no process is left
        self._numbers = itertools.count()
        self._run = 0  # how many runs have begun
        self._closing = False
        self._woken, self._wake = os.pipe()
        self._dispatcher = threading.Thread(target=self._dispatch, daemon=True)
        try:
            for plan in plans:
                process = SpawnedProcess(serve, plan.open_scorer, variables=plan.variables)
                self._processes.append(PoolProcess(process, Share(plan.device)))
            for worker in self._processes:
                self.labels, worker.share.report = worker.process.receive()
            self._shares = [worker.share for worker in self._processes]
            merged(self._shares, [])  # whether they run in the same way
        except BaseException:
            self.close()
            raise
        # A process tokenizes its next chunk while it scores one.
        self.workers = 2 * len(self._processes)
        self._dispatcher.start()

    def submit(
        self,
        texts: Texts,
        callbacks: Callbacks,
        *,
        done: Scores | None = None,
        reused: NDArray[np.bool_] | None = None,
    ) -> Submission:
        """Queue a chunk for the next process that asks for one."""
        chunk = SubmittedChunk(next(self._numbers), texts, digest(texts), callbacks, done, reused)
        with self._lock:
            if self._dead is not None:
                raise self._dead
            self._unfinished.add(chunk.future)
            self._waiting.append(chunk)
        chunk.future.add_done_callback(self._forget)
        os.write(self._wake, b".")
        return chunk.future

    def drain(self) -> None:
        """Wait until no chunk is being scored."""
        with self._lock:
            unfinished = list(self._unfinished)
        wait_for_all(unfinished)

    def begin_counts(self) -> None:
        """Let what is counted begin anew, here and in the processes."""
        self._run += 1
        for share in self._shares:
            share.begin()

    def facts(self) -> dict[str, Any]:
        """Return the summary's sections "model" and "device" of all processes together."""
        return merged(self._shares, self._warnings)

    def check_alive(self) -> None:
        """Raise the DeviceError of the pool's end once no process is left."""
        if self._dead is not None:
            raise self._dead

    def close(self) -> None:
        """End the processes."""
        if self._closing:
            return
        self._closing = True
        os.write(self._wake, b".")
        if self._dispatcher.is_alive():
            self._dispatcher.join(timeout=10)
        for worker in self._processes:
            worker.process.close()
        self._processes.clear()
        os.close(self._woken)
        os.close(self._wake)

    def _forget(self, future: "Future[Scores]") -> None:
        with self._lock:
            self._unfinished.discard(future)

    def _dispatch(self) -> None:
        """Keep the processes busy until the pool is closed."""
        try:
            while not self._closing:
                self._assign()
                self._pass_on_stops()
                workers = {worker.process.fileno(): worker for worker in self._processes}
                for ready in connection.wait([self._woken, *workers], POLL_S):
                    if ready in workers:
                        self._receive(workers[int(ready)])
                    else:
                        os.read(self._woken, 1024)
        except Exception as error:  # noqa: BLE001 (nothing may wait for ever)
            self._end(DeviceError(f"the processes of this run cannot go on: {error}"), error)

    def _assign(self) -> None:
        """Give a chunk to each process that waits for one."""
        for worker in list(self._processes):
            if not worker.asks:
                continue
            with self._lock:
                chunk = self._waiting.popleft() if self._waiting else None
            if chunk is None:
                return
            worker.asks = False
            worker.chunks.append(chunk)
            chunk.stopping = False
            what = (chunk.number, chunk.texts, chunk.digest, chunk.done, chunk.reused, self._run)
            self._send(worker, (SCORE, *what))

    def _pass_on_stops(self) -> None:
        """Tell the processes of chunks that are to stop; those that no process has end here."""
        for worker in list(self._processes):
            for chunk in list(worker.chunks):
                if not chunk.stopping and chunk.callbacks.stop():
                    chunk.stopping = True
                    self._send(worker, (STOP, chunk.number))
        with self._lock:
            ended = [chunk for chunk in self._waiting if chunk.callbacks.stop()]
            for chunk in ended:
                self._waiting.remove(chunk)
        for chunk in ended:
            chunk.future.set_result(
                chunk.done or Scores.pending(len(chunk.texts), len(self.labels))
            )

    def _send(self, worker: PoolProcess, message: tuple[Any, ...]) -> None:
        try:
            worker.process.send(message)
        except Exception as error:  # noqa: BLE001 (of any library, raised in the process)
            # It died before: no chunk that it has not begun is to blame.
            self._bury(worker, error, blamed=len(worker.chunks) > 1)

    def _receive(self, worker: PoolProcess) -> None:
        """Take the messages of a process."""
        try:
            while worker.process.poll():
                kind, *content = worker.process.receive()
                if kind == NEXT:
                    worker.asks = True
                else:
                    self._take(worker, kind, *content)
        except Exception as error:  # noqa: BLE001 (of any library, raised in the process)
            self._bury(worker, error)

    def _take(self, worker: PoolProcess, kind: str, number: int, content: Any) -> None:
        """Take what a process says of one of its chunks."""
        chunk = next(chunk for chunk in worker.chunks if chunk.number == number)
        if kind in {RESULT, FAILED}:
            worker.chunks.remove(chunk)
        try:
            if kind == PROGRESS:
                chunk.callbacks.on_batch(content)
            elif kind == FAILED:
                raise content.with_cause()
            else:
                seen, scores, worker.share.report = content
                if seen != chunk.digest:
                    raise DeviceError(
                        f"a process of this run ({worker.share.device}) answered for other texts "
                        "than it was given",
                        hint="its memory may be faulty: run the same command again",
                    )
                worker.share.add(*newly_scored(chunk.done, scores))
                chunk.done = scores
                if kind == KEPT:
                    chunk.callbacks.keep(scores)
                else:
                    if (scores.status != PENDING).any():
                        chunk.callbacks.keep(scores)
                    chunk.future.set_result(scores)
        except Exception as error:  # noqa: BLE001 (it belongs to the chunk)
            chunk.fail(error)

    def _bury(self, worker: PoolProcess, error: Exception, *, blamed: bool = True) -> None:
        """Give the chunks of a process that ended to the others.

        `blamed` says that it ended while it scored the first of them.
        """
        if worker not in self._processes:
            return
        self._processes.remove(worker)
        worker.process.close()
        chunks = list(worker.chunks)
        how = error.why if isinstance(error, ProcessDied) else f"failed: {error}"
        said = f"the process on {worker.share.device} {how}"
        if not self._processes:
            died = DeviceError(f"no process of this run is left: {said}", hint=AGAIN)
            for chunk in chunks:
                chunk.fail(died)
            self._end(died, error)
            return
        self._warnings.append(f"{said}; the others go on without it")
        if chunks and blamed:
            chunks[0].deaths += 1
            if chunks[0].deaths == MOST_DEATHS:
                message = f"{MOST_DEATHS} processes of this run died on the same rows: {said}"
                chunks.pop(0).fail(DeviceError(message, hint=AGAIN))
        with self._lock:
            self._waiting.extendleft(
                reversed([chunk for chunk in chunks if not chunk.future.done()])
            )

    def _end(self, died: DeviceError, error: Exception) -> None:
        """Let all chunks fail, those that are waiting and those that are submitted later."""
        died.__cause__ = error
        with self._lock:
            self._dead = died
            chunks = [
                *self._waiting,
                *(chunk for worker in self._processes for chunk in worker.chunks),
            ]
            self._waiting.clear()
        for chunk in chunks:
            chunk.fail(died)


def newly_scored(before: Scores | None, now: Scores) -> tuple[int, int]:
    """Return how many rows have got scores, and their tokens."""
    fresh = (now.status == SCORED) | (now.status == NONFINITE)
    if before is not None:
        fresh &= before.status == PENDING
    return int(fresh.sum()), int(now.n_tokens[fresh].sum())
