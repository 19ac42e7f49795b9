"""Real processes for the tests: `batchsent batch` with the hash model, started in milliseconds,
killed at will.

A fork server has everything imported already, so that a hundred runs take seconds and not minutes.
"""

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

# The fork server of Python 3.11 does not pass sys.path on, and would preload nothing, in silence.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
)
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "pandas",
        "tests.hash_model",
        "batchsent.cli",
        "batchsent.run.folder",
        "batchsent.formats.csv",
        "batchsent.formats.http_objects",
        "batchsent.formats.parquet",
        "tests.frozen",
    ]
)


class Child:
    """A running batch command."""

    def __init__(
        self, arguments, folder, *, batch_s=0.0, env=None, stdin=None, stdout=None, setup=None
    ):
        self.stderr_path = Path(folder) / "stderr.log"
        self.process = CONTEXT.Process(
            target=enter,
            args=(
                [str(a) for a in arguments],
                str(folder),
                str(self.stderr_path),
                batch_s,
                env or {},
                stdin,
                stdout,
                setup,
            ),
        )
        self.process.start()

    @property
    def pid(self):
        return self.process.pid

    def wait(self, timeout=60):
        """The exit code, negative for a signal that killed it."""
        self.process.join(timeout)
        assert self.process.exitcode is not None, f"still running: {self.stderr}"
        return self.process.exitcode

    @property
    def stderr(self):
        return self.stderr_path.read_text(errors="replace") if self.stderr_path.exists() else ""


def run(arguments, folder, **settings):
    """Run a batch command to its end; return exit code and stderr."""
    child = Child(arguments, folder, **settings)
    return child.wait(), child.stderr


def enter(arguments, folder, stderr_path, batch_s, env, stdin, stdout, setup):
    """In the child: become the command line."""
    os.chdir(folder)
    os.environ.update(env)
    for path, number, flags in (
        (stderr_path, 2, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (stdin or os.devnull, 0, os.O_RDONLY),
        (stdout or os.devnull, 1, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        fd = os.open(path, flags)
        os.dup2(fd, number)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(n, mode, closefd=False) for n, mode in enumerate(("r", "w", "w"))
    )
    # Whoever runs the tests in the background, or under nohup, has them inherit ignored signals.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if setup is not None:
        setup()
    from tests import hash_model

    sys.argv = ["batchsent", *([f"batch_s={batch_s}"] if batch_s else []), *arguments]
    hash_model.main()


def close_streams(numbers):
    """In the child: be without some standard streams, as Python is where they were closed before
    it started.
    """
    for number in numbers:
        os.close(number)
        setattr(sys, ("stdin", "stdout", "stderr")[number], None)


def wait_for(condition, timeout=20):
    """Wait until a condition holds."""
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def runs(pid):
    """Whether a process runs: it is there, and has not ended with nobody to ask for its code."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
