"""Workers of a cluster that take one piece of work after another, and are replaced when lost."""

import contextlib
import queue
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from batchsent.errors import BatchsentError, DeviceError
from batchsent.model.submission import MOST_DEATHS
from batchsent.reporting import Reporter
from batchsent.run.ray_cluster import Cluster
from batchsent.run.ray_worker import Bug, Needs, Worker, actor_class, lost, reason_of

POLL_S = 0.25
MOST_STARTS = 3  # of one worker, before the run fails
# How long to wait for a first worker, or for another one when all were lost: on a cluster that is
# busy or grows by itself, and on one that has no node to hold a worker.
BUSY_S, NO_ROOM_S = 900.0, 10.0
# How long work may take to stop; one batch is run to its end.
STOP_S = 120.0


class Task(Protocol):
    """A piece of work for a worker; its methods are called in one thread at a time."""

    number: int  # tasks of lower numbers come first

    def stops(self) -> bool:
        """Tell whether it is to stop, with its work kept."""

    def send(self, worker: Any) -> Any:
        """Give it to an actor; return the stream of what that says of it.

        None where there is nothing to do.
        """

    def receive(self, said: Any) -> None:
        """Take what the worker says."""

    def end(self, error: BatchsentError | None) -> None:
        """Take that it is done, or failed; without an error it may have been stopped."""


class Pool:
    """Gives tasks to the workers of a cluster, `at_once` to each."""

    def __init__(
        self,
        cluster: Cluster,
        kind: type[Worker],
        needs: Needs,
        reporter: Reporter,
        *,
        workers: int,
        at_once: int = 1,
        stop: Callable[[], bool] = lambda: False,
        on_start: Callable[[Any], None] = lambda worker: None,
    ) -> None:
        """Begin to start the workers, each of which is given to `on_start`.

        `stop` tells when all tasks are to stop with their work kept.
        """
        self._cluster, self._needs, self._reporter = cluster, needs, reporter
        self._stop, self._on_start = stop, on_start
        self._actor = actor_class(kind, at_once).options(**cluster.needs)
        self._tasks: queue.PriorityQueue[tuple[int, int, Task]] = queue.PriorityQueue()
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._without_worker_since: float | None = time.monotonic()
        self._ready = 0
        self.error: BatchsentError | None = None
        self._seats = [Seat(self) for _ in range(workers)]
        self._threads = [
            threading.Thread(target=self._work, args=(seat,), daemon=True)
            for seat in self._seats
            for _ in range(at_once)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, task: Task, losses: int = 0) -> None:
        """Add a task."""
        self._tasks.put((task.number, losses, task))

    def stops(self) -> bool:
        """Tell whether tasks are to stop."""
        return self._stop() or self._closed.is_set() or self.error is not None

    def fail(self, error: BatchsentError) -> None:
        """End all work with an error."""
        with self._lock:
            self.error = self.error or error

    def ask(self, method: str) -> list[Any]:
        """Return what a method of each worker returns that can be asked."""
        import ray

        workers = [seat.there() for seat in self._seats]
        answers = [getattr(worker, method).remote() for worker in workers if worker is not None]
        found = []
        for answer in answers:
            with contextlib.suppress(ray.exceptions.RayError):
                found.append(ray.get(answer))
        return found

    def close(self) -> None:
        """Stop what is being worked on, and end the workers."""
        self._closed.set()
        for thread in self._threads:
            thread.join()
        for seat in self._seats:
            seat.leave()

    def _work(self, seat: "Seat") -> None:
        """Work on one task after another with the worker of a seat."""
        try:
            while not self.stops():
                worker = seat.worker()
                try:
                    _, losses, task = self._tasks.get(timeout=POLL_S)
                except queue.Empty:
                    continue
                self._work_on(seat, worker, task, losses)
        except BatchsentError as error:
            self.fail(error)
        finally:
            self._end_rest()

    def _end_rest(self) -> None:
        """End the tasks that nobody will take, once all is to stop."""
        while self.stops():
            try:
                _, _, task = self._tasks.get_nowait()
            except queue.Empty:
                return
            task.end(self.error)

    def _work_on(self, seat: "Seat", worker: Any, task: Task, losses: int) -> None:
        import ray

        error: BatchsentError | None = None
        try:
            if worker is not None and not self.stops() and not task.stops():
                self._follow(worker, task)
        except ray.exceptions.RayTaskError as found:
            error = Bug(f"a bug in batchsent on a worker:\n{found}")
            self.fail(error)
        except ray.exceptions.RayError as found:
            seat.lose(worker)
            if losses + 1 < MOST_DEATHS:
                if not self.stops():
                    self._reporter.warning(
                        f"a worker was lost, and another goes on with its work: {reason_of(found)}"
                    )
                self.put(task, losses + 1)
                return
            error = lost(found)
        except BatchsentError as found:
            self.fail(found)
            error = found
        except Exception as found:  # noqa: BLE001 (a thread that dies in silence is waited for)
            error = Bug(f"a bug in batchsent: {reason_of(found)}")
            error.__cause__ = found
            self.fail(error)
        task.end(error)

    def _follow(self, worker: Any, task: Task) -> None:
        """Give a task to a worker and take what it says, until it is done or stopped."""
        import ray

        stream = task.send(worker)
        if stream is None:
            return
        stopping: float | None = None
        while True:
            ready, _ = ray.wait([stream], timeout=POLL_S)
            if stopping is None and (self.stops() or task.stops()):
                stopping = time.monotonic()
                worker.stop.options(concurrency_group="control").remote(signal.SIGTERM)
            if not ready:
                if stopping is not None and time.monotonic() - stopping > STOP_S:
                    return
                continue
            try:
                found = next(stream)
            except StopIteration:
                return
            task.receive(ray.get(found))

    def start(self) -> Any:
        """Return a new worker for a seat; None where all stops meanwhile. Raises BatchsentError."""
        import ray

        for _ in range(MOST_STARTS):
            actor = self._actor.remote()
            answer = actor.start.remote(self._needs)
            while not ray.wait([answer], timeout=POLL_S)[0]:
                self._check_hope()
                if self.stops():
                    ray.kill(actor)
                    return None
            try:
                lacking = ray.get(answer)
            except ray.exceptions.RayError as found:
                error = found
                continue
            if lacking is not None:
                raise lacking
            self._on_start(actor)
            return actor
        raise DeviceError(
            f"no worker can be started: {reason_of(error)}",
            hint="batchsent must be installed on every node, with memory enough for the model",
        )

    def count(self, change: int) -> None:
        """Take that a worker is ready, or was lost."""
        with self._lock:
            self._ready += change
            self._without_worker_since = None if self._ready else time.monotonic()

    def _check_hope(self) -> None:
        """Raise DeviceError where there is no worker, and none to be expected."""
        since = self._without_worker_since
        if since is None:
            return
        waited = time.monotonic() - since
        if waited > BUSY_S or (waited > NO_ROOM_S and not self._cluster.has_room()):
            raise DeviceError(
                f"no worker is left: no node has had {self._cluster.device} for one for "
                f"{waited:.0f} seconds",
                hint="run the same command again to resume, with or without --engine ray",
            )


class Seat:
    """The place of one worker, which several threads may give work."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._lock = threading.Lock()
        self._worker: Any = None

    def worker(self) -> Any:
        """Return the worker, started where there is none; None where all stops meanwhile."""
        with self._lock:
            if self._worker is None:
                self._worker = self._pool.start()
                if self._worker is not None:
                    self._pool.count(1)
            return self._worker

    def there(self) -> Any:
        """Return the worker; None where there is none now."""
        return self._worker

    def lose(self, worker: Any) -> None:
        """Take that a worker was lost, whichever thread has seen it."""
        with self._lock:
            if worker is not None and self._worker is worker:
                end(worker)
                self._worker = None
                self._pool.count(-1)

    def leave(self) -> None:
        """End the worker."""
        with self._lock:
            if self._worker is not None:
                end(self._worker)
                self._worker = None


def end(worker: Any) -> None:
    """End a worker, whatever it is doing."""
    import ray

    with contextlib.suppress(ray.exceptions.RayError):
        ray.kill(worker)
