"""Fixtures every test may use: a model small enough to make in a second, and a closed network."""

import os
import tempfile

# Before any Hugging Face library is imported: no test reaches beyond loopback, and none shows a
# progress bar. One thread: the models are so small that two would spend their time waiting for each
# other, in children as well.
os.environ.update(
    OMP_NUM_THREADS="1",
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    TOKENIZERS_PARALLELISM="false",
    # What was checked in one session is not believed in the next.
    XDG_CACHE_HOME=tempfile.mkdtemp(prefix="batchsent-tests-"),
)

import socket

import pytest

from tests.models import make_model
from tests.trainings import ForkServer


@pytest.fixture(autouse=True)
def closed_network(monkeypatch):
    """Let sockets connect to loopback and nowhere else."""
    connect = socket.socket.connect

    def loopback_only(self, address):
        if self.family != socket.AF_UNIX and address[0] not in {"127.0.0.1", "::1", "localhost"}:
            raise AssertionError(f"a test tried to reach {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", loopback_only)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A DistilBERT sentiment folder (2 layers, 32 wide, 64 positions, NEGATIVE/POSITIVE), random
    but seeded.
    """
    return make_model(tmp_path_factory.mktemp("tiny-model"))


@pytest.fixture(scope="session")
def fork_server():
    """Where trainings are forked from."""
    made = ForkServer()
    yield made
    made.close()
