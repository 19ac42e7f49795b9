"""A Ray cluster for a run: one that is joined, or one of this machine that is started and ended."""

import contextlib
import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from batchsent.errors import DeviceError, UsageError
from batchsent.run.options import BatchOptions
from batchsent.text import printable
from batchsent.urls import is_url

# Ray of this machine: the chunks in flight are there, 10 MB each.
OBJECT_STORE_BYTES = 512 << 20
# Before Ray is imported: it sends nothing home, and warns of no variables of GPUs.
ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
# How long a node has to answer: Ray itself would try for minutes.
ANSWER_S = 10.0


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process has joined."""

    workers: int  # how many are wanted
    needs: dict[str, int]  # what a worker takes of the cluster: num_gpus or num_cpus

    @property
    def device(self) -> str:
        """What a worker takes, in words."""
        return "a GPU" if "num_gpus" in self.needs else "a CPU"

    def describe(self, workers: int) -> str:
        """Return on what so many workers score, in words."""
        of = "worker" if workers == 1 else "workers"
        return f"scoring on {workers} {of} of the cluster, with {self.device} each"

    def has_room(self) -> bool:
        """Tell whether any node that is there could hold a worker, busy or not."""
        return any(fits(node["Resources"], self.needs) for node in nodes())


def check_engine(options: BatchOptions) -> None:
    """Refuse options of a cluster that do not fit together. Raises UsageError."""
    if options.engine is None:
        for name, value in (("--workers", options.workers), ("--address", options.address)):
            if value is not None:
                raise UsageError(f"{name} requires a cluster", hint="add --engine ray")
        return
    if options.device.startswith("cuda:"):
        raise UsageError(
            f"--device {options.device} cannot be used with --engine ray, which gives each worker "
            "a GPU of its own",
            hint="use --device cuda, or leave it out",
        )
    if options.processes > 1:
        raise UsageError(
            "--processes cannot be used with --engine ray, whose workers are processes",
            hint="use --workers",
        )
    if "://" in (options.address or ""):
        raise UsageError(
            f"--address {printable(options.address)} is not HOST:PORT",
            hint="run the command on a machine of the cluster, with --address auto",
        )
    if find_spec("ray") is None:
        raise UsageError(
            "--engine ray requires the package ray", hint='pip install "batchsent[ray]"'
        )


def check_shared(folder: str, options: BatchOptions) -> None:
    """Refuse an output folder that nodes cannot share: each keeps its work there.

    Raises UsageError.
    """
    if options.engine is not None and is_url(folder):
        raise UsageError(
            f"--engine ray scores several files into a folder that all nodes share, and "
            f"{printable(folder)} is in a store",
            hint="name a shared folder with -o and copy it to the store, or leave out --engine ray",
        )


@contextlib.contextmanager
def joined_cluster(options: BatchOptions) -> Iterator[Cluster]:
    """Join the cluster that the options name, or start one of this machine; leave it at the end.

    A program that has joined one already stays in it. Raises DeviceError where there is none.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    address = options.address or os.environ.get("RAY_ADDRESS") or "local"
    with contextlib.ExitStack() as stack:
        if not ray.is_initialized():
            arguments: dict[str, Any] = {"address": address}
            if address == "local":
                # A path of its own, since Ray leaves its logs behind, and a short one for sockets.
                folder = tempfile.mkdtemp(prefix="batchsent-ray-", dir="/tmp")
                stack.callback(shutil.rmtree, folder, ignore_errors=True)
                arguments |= {
                    "_temp_dir": folder,
                    "include_dashboard": False,
                    "num_cpus": max(os.cpu_count() or 1, options.workers or 1),
                    "object_store_memory": OBJECT_STORE_BYTES,
                }
            stack.callback(ray.shutdown)
            with own_handlers():
                try:
                    knock(address)
                    ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **arguments)
                    silence()
                except (OSError, ValueError, RuntimeError) as error:
                    said = printable(str(error).splitlines()[0])
                    raise DeviceError(
                        f"no Ray cluster at {printable(address)}: {said}",
                        hint="start one with `ray start --head`, and name it: --address HOST:PORT",
                    ) from error
        yield cluster_of(options)


def silence() -> None:
    """Keep Ray's messages off stdout, where the data may go: our own say what has happened.

    There is no setting for that. The thread that prints them asks for the next one for ever, so it
    is ended before what it asks is closed.
    """
    from ray._private.worker import global_worker

    global_worker.threads_stopped.set()
    global_worker.gcs_error_subscriber.close()
    global_worker.listener_thread.join(ANSWER_S)


def knock(address: str) -> None:
    """See that something answers at HOST:PORT. Raises OSError."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()


def cluster_of(options: BatchOptions) -> Cluster:
    """Return how many workers there will be, and on what. Raises DeviceError."""
    gpus = sum(int(node["Resources"].get("GPU", 0)) for node in nodes())
    cpus = sum(int(node["Resources"].get("CPU", 0)) for node in nodes())
    if gpus and options.device in {"auto", "cuda"}:
        return Cluster(options.workers or gpus, {"num_cpus": 0, "num_gpus": 1})
    if options.device == "cuda":
        raise DeviceError(
            "--device cuda: the cluster has no GPU", hint="leave it out, or join another cluster"
        )
    return Cluster(options.workers or max(cpus, 1), {"num_cpus": 1})


def nodes() -> list[dict[str, Any]]:
    """Return what Ray says of the nodes that are there."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def fits(resources: dict[str, float], needs: dict[str, int]) -> bool:
    """Tell whether a node has what a worker needs."""
    names = {"num_cpus": "CPU", "num_gpus": "GPU"}
    return all(resources.get(names[name], 0) >= amount for name, amount in needs.items())


@contextlib.contextmanager
def own_handlers() -> Iterator[None]:
    """Keep the signal handlers of this process, one of which Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
