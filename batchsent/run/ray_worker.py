"""What runs on the nodes of a cluster: a worker that checks that it has what the run needs."""

import os
import queue
import re
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchsent.errors import BatchsentError, DeviceError, ModelError, OutputError, UsageError
from batchsent.filenames import exists, is_folder
from batchsent.files.signals import Signals
from batchsent.model.options import CascadeOptions
from batchsent.run.models import Models
from batchsent.text import printable
from batchsent.versions import SCORING, versions

# What a worker says to the process of the command: a kind, and facts.
Said = tuple[Any, ...]
# What Ray colours its errors with.
ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Needs:
    """What a run needs on every node."""

    folder: str  # the folder that paths are relative to
    models: Models
    # of the models, without one that comes with batchsent or from the Hub
    model_folders: tuple[str, ...]
    hashes: tuple[str, ...]  # of the models
    versions: dict[str, str]
    shared: str | None = None  # a file that is on every node, where the file system is shared

    @classmethod
    def of(cls, models: Models, options: CascadeOptions, shared: Path | None = None) -> "Needs":
        """Return what a run of this process needs. Raises ModelError."""
        return cls(
            folder=os.getcwd(),  # noqa: PTH109 (text)
            models=models,
            model_folders=tuple(
                os.path.abspath(name)  # noqa: PTH100 (no links resolved)
                for name in (options.model, options.cascade)
                if name and is_folder(name)
            ),
            hashes=hashes_of(models),
            versions=versions(SCORING),
            shared=None if shared is None else os.path.abspath(shared),  # noqa: PTH100
        )

    def check(self) -> None:
        """See that this node has it all, and go to the folder. Raises BatchsentError."""
        different = [
            f"{name} {found}, not {self.versions.get(name)}"
            for name, found in versions(SCORING).items()
            if found != self.versions.get(name)
        ]
        if different:
            raise UsageError(
                f"it has {', '.join(different)}", hint="install the same versions on every node"
            )
        if is_folder(self.folder):
            os.chdir(self.folder)
        if self.shared is not None and not exists(self.shared):
            raise OutputError(
                f"it does not see {printable(Path(self.shared).parent)} of the machine that the "
                "command runs on",
                hint="inputs, outputs and model must be on a file system that all nodes share, at "
                "the same path; one file alone needs no shared file system",
            )
        missing = [folder for folder in self.model_folders if not is_folder(folder)]
        if missing:
            raise ModelError(
                f"it has no model folder {printable(missing[0])}",
                hint="copy the folder to the same path on every node, or put it on a shared file "
                "system",
            )
        if hashes_of(self.models) != self.hashes:
            raise ModelError(
                f"its model {printable(self.models.identity().source)} is another one than that of "
                "the machine that the command runs on",
                hint="copy the folder to every node again",
            )
        self.models.check()


def hashes_of(models: Models) -> tuple[str, ...]:
    """Return what tells a model, and the fast one before it, from others. Raises ModelError."""
    found = models.identity()
    each = [found] if found.cascade is None else [found, found.cascade.identity]
    return tuple(
        sha256
        for one in each
        for sha256 in (one.weights_sha256, one.tokenizer_sha256, one.config_sha256)
    )


class Worker:
    """A worker, in a process of its own: the base of those that score files and chunks."""

    def __init__(self) -> None:
        # Without a handler: the process that the command runs in says when to stop.
        self.signals = Signals()
        self.models: Models | None = None
        self.name = node_name()

    def start(self, needs: Needs) -> BatchsentError | None:
        """Check that this node has what the run needs; return what it lacks."""
        try:
            needs.check()
            self.models = needs.models
            self.load()
        except BaseException as error:  # noqa: BLE001 (it goes to the process of the command)
            return self.from_here(error)
        return None

    def load(self) -> None:
        """Make ready for the work."""

    def is_stopped(self) -> bool:
        """Tell whether the work is to stop."""
        return self.signals.received is not None

    def stop(self, signal_number: int) -> None:
        """Have the work stop and be kept, as after a signal."""
        self.signals.received = signal_number

    def say(self, work: Callable[[Callable[[Said], None]], None]) -> Iterator[Said]:
        """Yield what `work` says while it goes on, in a thread of its own; at last its error."""
        said: queue.SimpleQueue[Said | None] = queue.SimpleQueue()

        def run() -> None:
            try:
                work(said.put)
            except BaseException as error:  # noqa: BLE001 (it goes to the process of the command)
                said.put(("failed", self.from_here(error)))
            finally:
                said.put(None)

        threading.Thread(target=run, daemon=True).start()
        while (one := said.get()) is not None:
            yield one

    def from_here(self, error: BaseException) -> BatchsentError:
        """Return an error with the name of this node in its message; a bug with its traceback."""
        if isinstance(error, BatchsentError):
            error.message = f"node {self.name}: {error.message}"
            return error
        said = "".join(traceback.format_exception(error))
        return Bug(f"a bug in batchsent on node {self.name}:\n{said}")


class Bug(BatchsentError):
    """An error of batchsent itself in a worker, with its traceback."""


def node_name() -> str:
    """Return the name of this node and its address in the cluster."""
    import ray

    return f"{socket.gethostname()} ({ray.util.get_node_ip_address()})"


def lost(error: BaseException) -> DeviceError:
    """Return the error for work whose worker was lost."""
    return DeviceError(
        f"its worker was lost: {reason_of(error)}", hint="run the same command again to resume"
    )


def reason_of(error: BaseException) -> str:
    """Return the gist of an error of Ray, whose last line says why, in one line."""
    lines = ANSI.sub("", str(error)).strip().splitlines() or [type(error).__name__]
    where = [line.strip() for line in lines if line.strip().startswith(("pid: ", "ip: "))]
    words = " ".join(lines[-1].partition("Some common causes")[0].split())
    return printable(f"{words} ({', '.join(where)})" if where else words)


def actor_class(worker: type[Worker], at_once: int) -> Any:
    """Return a kind of worker as an actor of Ray with so many pieces of work `at_once`."""
    import ray

    # What stops the work is called while it goes on.
    return ray.remote(concurrency_groups={"work": at_once, "control": 1}, max_restarts=0)(worker)
