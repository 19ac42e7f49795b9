"""Real `batchsent` processes for the tests, forked in milliseconds from one that has imported
everything.
"""

import importlib
import json
import os
import resource
import runpy
import select
import signal
import socket
import subprocess
import sys
import traceback
from pathlib import Path

ROOT = Path(__file__).parents[1]
# How long a process may take to end before it is killed.
PATIENCE_S = 120
# A program that has the server run its words, in its own folder, with its own streams, environment
# and limit of memory. The processes that batchsent itself starts (python -P) are new ones: it ends
# them by their process ids.
PROGRAM = """#!{python} -IS
import json, os, resource, socket, sys
if sys.argv[1:2] == ["-P"]:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
request = {{"arguments": {before} + sys.argv[1:], "folder": os.getcwd(), "env": dict(os.environ)}}
request["python"] = {itself!r}
request["data_limit"] = resource.getrlimit(resource.RLIMIT_DATA)
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
socket.send_fds(server, [json.dumps(request).encode() + b"\\n"], [0, 1, 2])
code = int(server.makefile().readlines()[-1])
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


class ForkServer:
    """Starts processes and says how they ended."""

    def __init__(self, folder):
        """Start the server; its socket is in `folder`."""
        self.address = str(folder / "fork-server")
        self.process = subprocess.Popen(
            [sys.executable, "-c", "import tests.fork_server as f; f.serve()", self.address],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout.readline() == "ready\n"
        self.answers = {}
        # A Python that has everything imported: `python -m MODULE`, `-c CODE` or FILE, as a program.
        # What such a process starts with sys.executable is forked too.
        self.python = str(folder / "python")
        self.write_program(Path(self.python), before=())

    def start(self, arguments, folder, name="run", **env):
        """Start `batchsent ARGUMENTS` in a folder, its streams in NAME.out and NAME.err.

        Return its process id.
        """
        request = {
            "arguments": ["-m", "batchsent", *(str(a) for a in arguments)],
            "folder": str(folder),
            "env": os.environ | {key: str(value) for key, value in env.items()},
        }
        with (
            Path(os.devnull).open() as stdin,
            (folder / f"{name}.out").open("w") as stdout,
            (folder / f"{name}.err").open("w") as stderr,
            socket.socket(socket.AF_UNIX) as server,
        ):
            server.connect(self.address)
            streams = [stream.fileno() for stream in (stdin, stdout, stderr)]
            socket.send_fds(server, [json.dumps(request).encode() + b"\n"], streams)
            server.settimeout(PATIENCE_S)
            answer = server.makefile()
        pid = int(answer.readline())
        self.answers[pid] = answer
        return pid

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
        """Return the exit code of a process, negative for a signal that killed it.

        One that hangs is killed.
        """
        with self.answers.pop(pid) as answer:
            try:
                return int(answer.readline())
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                return -signal.SIGKILL

    def run(self, arguments, folder, **env):
        """Run to the end; return the exit code."""
        return self.wait(self.start(arguments, folder, **env))

    def write_program(self, path, before=("-m", "batchsent")):
        """Write a program that does what `batchsent` does, without the seconds of its imports."""
        path.write_text(
            PROGRAM.format(
                python=sys.executable, address=self.address, before=list(before), itself=self.python
            )
        )
        path.chmod(0o755)

    def close(self):
        """End the server."""
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


def serve():
    """In the server: import what the commands need, then fork for every connection."""
    for name in (
        "datasets",
        "evaluate",
        "sklearn.metrics",
        "torch",
        "transformers.trainer",
        "batchsent.commands.finetune",
        "tests.frozen",
    ):
        importlib.import_module(name)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(sys.argv[1])
        listening.listen()
        print("ready", flush=True)
        while sys.stdin not in select.select([listening, sys.stdin], [], [])[0]:
            connection, _ = listening.accept()
            with connection:
                supervisor = os.fork()
                if supervisor == 0:
                    supervise(connection)
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def supervise(connection):
    """In a child of the server: run what is asked for, and send its process id and exit code."""
    data, streams, _, _ = socket.recv_fds(connection, 1 << 20, 3)
    while not data.endswith(b"\n"):
        data += connection.recv(1 << 20)
    pid = os.fork()
    if pid == 0:
        connection.close()
        enter(json.loads(data), streams)
    for stream in streams:
        os.close(stream)
    connection.sendall(f"{pid}\n".encode())
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        connection.sendall(f"{code}\n".encode())
    finally:
        os._exit(0)


def enter(request, streams):
    """In the process itself: become the command line."""
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["env"])
    if "PYTHONPATH" in request["env"]:
        sys.path[:0] = request["env"]["PYTHONPATH"].split(os.pathsep)
    if "data_limit" in request:
        resource.setrlimit(resource.RLIMIT_DATA, request["data_limit"])
    sys.executable = request.get("python", sys.executable)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(n, mode, closefd=False) for n, mode in enumerate(("r", "w", "w"))
    )
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    code = 1
    try:
        code = exit_code_of(request["arguments"])
    finally:
        if sys.exc_info()[0]:
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(code)


def exit_code_of(arguments):
    """Do what `python ARGUMENTS` does: -m MODULE, -c CODE or FILE; return its exit code."""
    kind, *rest = arguments
    try:
        if arguments[:2] == ["-m", "batchsent"]:
            from batchsent.cli import main

            sys.argv = ["batchsent", *rest[1:]]
            main()
        elif kind == "-m":
            sys.argv = rest
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        elif kind == "-c":
            sys.argv = ["-c", *rest[1:]]
            exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
        else:
            sys.argv = arguments
            sys.path.insert(0, str(Path(kind).resolve().parent))
            runpy.run_path(kind, run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    return 0
