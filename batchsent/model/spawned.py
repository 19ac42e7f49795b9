"""A spawned process of this machine that works for this one: it ends with it, and is silent.

The process runs a function, `target(channel, *arguments)`, which receives messages and sends
answers over its channel. It ignores the signals of a terminal, since the process that spawned it
decides when to stop, and what it prints is kept for the message of its death.
"""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import IO, Any

from batchsent.errors import DeviceError
from batchsent.files.signals import HANDLED
from batchsent.memory import memory_errors
from batchsent.text import first_line, printable

CHILD = (sys.executable, "-P", "-c", "from batchsent.model.spawned import main; main()")
# How often a process looks whether the one that spawned it is still there.
WATCH_S = 1.0
# How long a killed process may take to end: one that waits for a broken driver never does.
KILL_S = 10.0
MOST_STDERR_BYTES = 16_384
# Those of this process that were not closed.
STARTED: "set[SpawnedProcess]" = set()


class ProcessDied(DeviceError):
    """A spawned process ended before its work was done; `why` says how."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"a process of this run {why}",
            hint="run the same command again: finished work is kept",
        )
        self.why = why


class Channel:
    """What a spawned process receives from the one that spawned it, and sends to it."""

    def __init__(self, connection: "Connection[Any, Any]") -> None:
        self._connection = connection

    def receive(self) -> Any:
        """Return the next message, in the order they were sent; wait for it.

        This process ends where the other one is gone or has closed the channel.
        """
        try:
            return self._connection.recv()
        except (EOFError, OSError):
            os._exit(0)

    def poll(self) -> bool:
        """Tell whether a message has come."""
        try:
            return self._connection.poll()
        except OSError:
            os._exit(0)

    def send(self, answer: Any) -> None:
        """Send an answer."""
        self._send(("answer", answer))

    def send_error(self, error: Exception) -> None:
        """Send an error, to be raised by the process that spawned this one."""
        self._send(("error", SentError.of(error)))

    def _send(self, message: tuple[str, Any]) -> None:
        try:
            self._connection.send(message)
        except OSError:
            os._exit(0)


@dataclass(frozen=True)
class SentError:
    """An error on its way to the process that raises it again."""

    error: Exception
    traceback: str

    @classmethod
    def of(cls, error: Exception) -> "SentError":
        """Take an error that was caught; one that cannot be pickled is replaced by its words."""
        text = "".join(traceback.format_exception(error))
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301 (its own bytes)
        except Exception:  # noqa: BLE001 (errors of libraries fail in many ways here)
            error = RuntimeError(f"{type(error).__name__}: {first_line(error)}")
        return cls(error, text)

    def with_cause(self) -> Exception:
        """Return the error; its cause shows where in the other process it was raised."""
        self.error.__cause__ = RemoteTraceback(self.traceback)
        return self.error


class RemoteTraceback(Exception):
    """Where in a spawned process an error was raised."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class SpawnedProcess:
    """A process that runs `target(channel, *arguments)`; target and arguments are pickled.

    One thread at a time may use it.
    """

    def __init__(
        self,
        target: Callable[..., None],
        *arguments: Any,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """Start it, with environment `variables` added to those of this process."""
        self._connection, theirs = multiprocessing.Pipe()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        words = [*CHILD, str(theirs.fileno()), str(os.getpid())]
        with theirs, signals_blocked():
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=self._stderr,
                stderr=self._stderr,
                pass_fds=[theirs.fileno()],
                env=environment() | dict(variables or {}),
            )
        self.pid = self._process.pid
        STARTED.add(self)
        self.send((target, arguments))

    def send(self, message: Any) -> None:
        """Send a message. Raises ProcessDied, or the error that the process ended with."""
        try:
            self._connection.send(message)
        except OSError:
            while True:
                self.receive()  # what it sent before it ended; then this raises

    def fileno(self) -> int:
        """Return the file that is ready when `receive` has something; for connection.wait."""
        return self._connection.fileno()

    def poll(self, timeout_s: float | None = 0.0) -> bool:
        """Wait until `receive` has something to return or to raise; tell whether it has."""
        return self._connection.poll(timeout_s)

    def receive(self) -> Any:
        """Return the next answer; wait for it.

        Raises ProcessDied, or the error that the process ended with.
        """
        try:
            kind, value = self._connection.recv()
        except (EOFError, OSError):
            raise self._death() from None
        if kind == "error":
            raise value.with_cause()
        return value

    def is_stopped(self) -> bool:
        """Tell whether SIGSTOP, or Ctrl-Z, holds it; False where the system does not tell."""
        if not hasattr(os, "waitid") or self._process.returncode is not None:
            return False
        try:
            only_look = os.WSTOPPED | os.WNOHANG | os.WNOWAIT
            return os.waitid(os.P_PID, self.pid, only_look) is not None
        except ChildProcessError:  # it has ended meanwhile
            return False

    def close(self) -> None:
        """End the process, whatever it is doing."""
        STARTED.discard(self)
        self._connection.close()
        end(self._process)
        self._stderr.close()

    def _death(self) -> ProcessDied:
        """Return the error that says how the process ended."""
        try:
            code = self._process.wait(KILL_S)
        except subprocess.TimeoutExpired:
            return ProcessDied(f"(pid {self.pid}) closed its channel and does not end")
        if code < 0:
            return ProcessDied(f"(pid {self.pid}) was ended by {name_of_signal(-code)}")
        last = last_line(self._stderr)
        said = f": {printable(last)}" if last else ""
        return ProcessDied(f"(pid {self.pid}) ended with exit code {code}{said}")


def main() -> None:
    """Be a spawned process: run the target that the first message names, and end."""
    number, parent = map(int, sys.argv[1:])
    for handled in HANDLED:
        signal.signal(handled, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
    end_with(parent)
    channel = Channel(Connection(number))
    try:
        target, arguments = channel.receive()
        with memory_errors():
            target(channel, *arguments)
    except Exception as error:  # noqa: BLE001 (every error belongs to the process that spawned this)
        channel.send_error(error)
    sys.stderr.flush()
    os._exit(0)  # freeing a device whose driver failed may take for ever


def end_with(parent: int) -> None:
    """End this process when `parent` is no longer its parent, however that ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Let a process that is started in the block begin with the signals of a terminal blocked.

    It would end with a traceback where Ctrl-C comes before it ignores them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def environment() -> dict[str, str]:
    """Return the environment of a child, which imports what this process does and nothing else."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a process that may still run, and wait for it some time."""
    if process.poll() is not None:
        return
    process.kill()
    with suppress(subprocess.TimeoutExpired):
        process.wait(KILL_S)


def name_of_signal(number: int) -> str:
    """Return a signal's name; of the one that ends a process when memory is full, with that."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return f"{name}, as where memory is full" if number == signal.SIGKILL else name


def last_line(stderr: IO[bytes]) -> str:
    """Return the last line that a process printed, or nothing."""
    stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - MOST_STDERR_BYTES))
    lines = stderr.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""
