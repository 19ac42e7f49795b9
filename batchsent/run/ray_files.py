"""A tree of files on a cluster: each is the ordinary run of one file, on one of the workers."""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from batchsent.errors import BatchsentError, Interrupted
from batchsent.files.atomic import output_errors
from batchsent.files.signals import Signals
from batchsent.model.loading import ModelIdentity
from batchsent.model.submission import Scorer
from batchsent.reporting import Reporter
from batchsent.run.folder_files import FileRun, FolderFiles, run_file
from batchsent.run.models import describe
from batchsent.run.ray_cluster import joined_cluster
from batchsent.run.ray_models import ClusterModels
from batchsent.run.ray_pool import POLL_S, Pool
from batchsent.run.ray_worker import Needs, Said, Worker

# How long a file that another worker was lost with waits for its lock: on a shared file system it
# may be held for a while after that worker has ended.
LOCK_WAIT_S = 60.0
# How often a worker says how far it is.
SAY_S = 1.0
# A file in the output folder while the run goes on: a node that does not see it shares no folder.
SHARED = ".batchsent.shared"


def run_on_cluster(files: FolderFiles, models: ClusterModels, signals: Signals) -> None:
    """Run the files of a folder on the workers of a cluster.

    Raises BatchsentError for what is wrong for every file, Interrupted after a signal.
    """
    number_of = len(files.planned)
    with (
        shared_file(files.folder.summary.parent) as shared,
        joined_cluster(files.settings) as cluster,
        signals.deferred(),
    ):
        workers = min(cluster.workers, number_of)
        reporter = FilesReporter(files.reporter, number_of)
        files.reporter.notice(cluster.describe(workers))
        reporter.stage(f"scoring {number_of} files")
        needs = Needs.of(models.of_worker, files.settings, shared)
        pool = Pool(cluster, FileWorker, needs, reporter, workers=workers, stop=signals.stop)
        try:
            for number in range(number_of):
                pool.put(FileTask(number, files, reporter, pool))
            while len(files.entries) < number_of and not pool.stops():
                time.sleep(POLL_S)
        finally:
            pool.close()
        if pool.error is not None:
            raise pool.error
    signals.check()


@contextlib.contextmanager
def shared_file(folder: Path) -> Iterator[Path]:
    """Make the file by which a node sees that it shares the folder. Raises OutputError."""
    path = folder / SHARED
    with output_errors(folder):
        path.touch()
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


class FileTask:
    """The run of one file, as the process of the command sees it."""

    def __init__(
        self, number: int, files: FolderFiles, reporter: "FilesReporter", pool: Pool
    ) -> None:
        self.number, self._files, self._reporter, self._pool = number, files, reporter, pool
        self._run: FileRun | None = None

    def stops(self) -> bool:
        """Tell that it stops when all do."""
        return False

    def send(self, worker: Any) -> Any:
        """Have the file run; None where it is refused."""
        if self._run is None:
            self._run = self._files.begin(self.number)
        else:  # the worker that had it was lost
            settings = self._run.settings
            wait_s = max(settings.lock_wait, LOCK_WAIT_S)
            waiting = dataclasses.replace(settings, lock_wait=wait_s)
            self._run = dataclasses.replace(self._run, settings=waiting)
        if self._run is None:
            return None
        work = worker.run.options(concurrency_group="work", num_returns="streaming")
        return work.remote(self._run)

    def receive(self, said: Said) -> None:
        """Take what the worker says of the run."""
        kind, *facts = said
        if kind == "ended":
            self._files.end(self.number, *facts)
        elif kind == "failed":
            self._pool.fail(*facts)
        else:
            self._reporter.take(self.number, kind, *facts)

    def end(self, error: BatchsentError | None) -> None:
        """Take that the workers were lost with this file, one after another."""
        if error is not None and self.number not in self._files.entries:
            self._files.fail(self.number, error)


class FilesReporter(Reporter):
    """Reports several runs at once: their messages with the name of the file, their rows as one."""

    def __init__(self, reporter: Reporter, files: int) -> None:
        self._reporter, self._files = reporter, files
        self._lock = threading.Lock()
        self._names: dict[int, str] = {}
        self._rows: dict[int, tuple[int, int | None, int]] = {}  # done, of how many, reused
        self._said: set[str] = set()

    def stage(self, text: str) -> None:
        """Report the stage of the whole."""
        with self._lock:
            self._reporter.stage(text)

    def warning(self, text: str, **facts: Any) -> None:
        """Report something of the whole."""
        with self._lock:
            self._reporter.warning(text, **facts)

    def take(self, number: int, kind: str, *said: Any) -> None:
        """Report what a worker says of a file."""
        with self._lock:
            if kind == "run_started":
                self._names[number] = said[1]
                self._reporter.run_started(*said)
            elif kind == "progress":
                self._rows[number] = (said[0], said[1], said[2])
                done, of, reused = zip(*self._rows.values(), strict=True)
                known = len(of) == self._files and None not in of
                total = sum(rows or 0 for rows in of) if known else None
                self._reporter.progress(sum(done), total, reused_rows=sum(reused))
            elif kind == "file_finished":
                self._reporter.file_finished(*said)
            elif kind == "model":  # the same of most workers
                if said[0] not in self._said:
                    self._said.add(said[0])
                    self._reporter.notice(said[0])
            else:
                text, facts = said
                name = self._names.get(number, "")
                if name and not text.startswith(name):
                    text = f"{name}: {text}"
                getattr(self._reporter, kind)(text, **facts)


class SendingReporter(Reporter):
    """Sends the messages of a run to the process of the command."""

    def __init__(self, say: Callable[[Said], None], of_model: set[str]) -> None:
        """`of_model` are lines that say how the model runs."""
        self._say, self._of_model = say, of_model
        self._sent = 0.0

    def run_started(self, run_id: str, name: str, number: int, files: int) -> None:
        """Send it."""
        self._say(("run_started", run_id, name, number, files))

    def notice(self, text: str, **facts: Any) -> None:
        """Send it."""
        self._say(("model", text) if text in self._of_model else ("notice", text, facts))

    def warning(self, text: str, **facts: Any) -> None:
        """Send it."""
        self._say(("warning", text, facts))

    def progress(self, rows: int, total_rows: int | None, *, reused_rows: int = 0) -> None:
        """Send it, now and then and at the end."""
        now = time.monotonic()
        if now - self._sent > SAY_S or rows == total_rows:
            self._sent = now
            self._say(("progress", rows, total_rows, reused_rows))

    def file_finished(self, document: dict[str, Any], name: str) -> None:
        """Send it."""
        self._say(("file_finished", document, name))


class FileWorker(Worker):
    """Runs files, one after another, with a model that is loaded once."""

    def __init__(self) -> None:
        super().__init__()
        self._of_model: set[str] = set()  # what is said of how it runs

    def run(self, run: FileRun) -> Iterator[Said]:
        """Run a file; yield what is to be reported, and at the end what became of it."""

        def work(say: Callable[[Said], None]) -> None:
            reporter = SendingReporter(say, self._of_model)
            # The process of the command says once that all were stopped.
            with contextlib.suppress(Interrupted):
                say(("ended", run_file(run, self, reporter, self.signals)))

        yield from self.say(work)

    def identity(self) -> ModelIdentity:
        """Return which model it is."""
        assert self.models is not None
        return self.models.identity()

    def check(self) -> None:
        """Accept the options: they were checked when the worker started."""

    def open(self) -> Scorer:
        """Load the model, once. Raises ModelError or DeviceError."""
        assert self.models is not None
        scorer = self.models.open()
        self._of_model.update(describe(scorer))
        return scorer
