"""What the spawned processes of the tests do."""

import os
import signal
import sys
import time

from batchsent.errors import DeviceError, ModelError
from tests.hash_model import HashScorer


def double(channel):
    """Answer each number with its double."""
    while True:
        channel.send(2 * channel.receive())


def refuse(channel, hint):
    """Fail as a model does that cannot be loaded."""
    raise ModelError("no such model", hint=hint, folder="there")


def stumble(channel):
    """Fail by a mistake of ours."""
    channel.send("before")
    return {}["missing"]


def leave(channel, code):
    """End in the middle of the work, as a library may."""
    print("on stdout")
    print("the driver is gone", file=sys.stderr, flush=True)
    os._exit(code)


def work(channel):
    """Say that the work has begun, and work for ever."""
    channel.send("begun")
    while True:
        time.sleep(0.01)


class Killed(HashScorer):
    """Ends its process where it scores a certain text."""

    def score(self, prepared, **settings):
        if "poison" in prepared.content:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().score(prepared, **settings)


class Failing(HashScorer):
    """Fails where it scores a certain text, as a device does."""

    def score(self, prepared, **settings):
        if "poison" in prepared.content:
            raise DeviceError("the device is gone", hint="plug it in")
        return super().score(prepared, **settings)


class Counting(HashScorer):
    """Counts the texts of a run, as a model with an early exit does."""

    texts = 0

    def score(self, prepared, **settings):
        self.texts += prepared.rows
        return super().score(prepared, **settings)

    def begin_counts(self):
        self.texts = 0

    def facts(self):
        found = super().facts()
        exits = {"layer": 2, "threshold": 0.9, "texts": self.texts, "exited": self.texts}
        return {"model": found["model"] | {"early_exit": exits}, "device": found["device"]}


def unloadable():
    """Fail as a model does that cannot be loaded."""
    raise ModelError("no such model", hint="look there")


def parent():
    """Spawn a process that works for ever, and print its number."""
    from batchsent.model.spawned import SpawnedProcess

    process = SpawnedProcess(work)
    process.receive()
    print(process.pid, flush=True)
    time.sleep(60)
