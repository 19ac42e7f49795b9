"""Real `batchsent finetune` processes for the tests, forked in milliseconds from one that has
imported everything.
"""

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


class ForkServer:
    """Starts trainings and says how they ended."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from tests.trainings import serve; serve()"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert json.loads(self.process.stdout.readline()) == "ready"

    def ask(self, **request):
        """Send a request and return the answer."""
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, arguments, folder, name="run", **env):
        """Start `batchsent ARGUMENTS` in a folder, its streams in NAME.out and NAME.err.

        Return its process id.
        """
        environment = {key: str(value) for key, value in env.items()}
        return self.ask(
            arguments=[str(a) for a in arguments], folder=str(folder), name=name, env=environment
        )

    def start_pair(self, arguments, folder):
        """Start two processes of one training, as torchrun does; return their process ids."""
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        shared = {
            "WORLD_SIZE": 2,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "LOCAL_WORLD_SIZE": 2,
        }
        return [
            self.start(arguments, folder, f"rank{rank}", RANK=rank, LOCAL_RANK=rank, **shared)
            for rank in (0, 1)
        ]

    def wait(self, pid):
        """Return the exit code of a process, negative for a signal that killed it."""
        return self.ask(wait=pid)

    def run(self, arguments, folder, **env):
        """Run to the end; return the exit code."""
        return self.wait(self.start(arguments, folder, **env))

    def close(self):
        """End the fork server."""
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


def serve():
    """In the fork server: import what a training needs, then fork for every request."""
    for name in (
        "datasets",
        "evaluate",
        "sklearn.metrics",
        "torch",
        "transformers.trainer",
        "batchsent.commands.finetune",
    ):
        importlib.import_module(name)
    answers = os.fdopen(os.dup(1), "w")
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = ended(request["wait"])
        else:
            answer = os.fork()
            if answer == 0:
                enter(request)
        print(json.dumps(answer), file=answers, flush=True)


def ended(pid):
    """In the fork server: return a child's exit code.

    One that hangs is killed after two minutes.
    """
    deadline = time.monotonic() + 120
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


def enter(request):
    """In the child: become the command line."""
    folder = Path(request["folder"])
    os.chdir(folder)
    os.environ.update(request["env"])
    streams = (
        (os.devnull, os.O_RDONLY),
        *(
            (f"{request['name']}.{end}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for end in ("out", "err")
        ),
    )
    for number, (path, flags) in enumerate(streams):
        os.dup2(os.open(path, flags), number)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(n, mode, closefd=False) for n, mode in enumerate(("r", "w", "w"))
    )
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    from batchsent.cli import main

    code = 70
    try:
        sys.argv = ["batchsent", *request["arguments"]]
        main()
    except SystemExit as error:
        code = error.code
    finally:
        os._exit(code)
