"""Fixtures that several files use: tiny models, summaries of runs, a closed network."""

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
# Containers often set it: each of 200 new interpreters would compile batchsent anew, 0.5 s.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import json
import signal
import socket

import numpy as np
import pytest
from hypothesis import settings

from batchsent.commands.predict import load
from tests.fork_server import ForkServer
from tests.models import change_weights, make_model
from tests.s3 import SECRET
from tests.scored_rows import TWO, Rows
from tests.summaries import summary_of

# These files take longest, waits included. Begun first, one of them is never what one process still
# runs while the other has nothing left to do (make test keeps this order).
LONGEST = ("ray", "bench", "readme", "acceptance_bounds", "training_choices", "finetune", "export")

# A shell lets what it starts in the background ignore Ctrl-C, which children inherit, and so a run:
# tests that send SIGINT would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No test asserts a time.
settings.register_profile("without deadlines", deadline=None)
settings.load_profile("without deadlines")


def pytest_collection_modifyitems(items):
    """Put the files that take longest first; the order is otherwise as it was."""
    first = {f"test_{name}": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: first.get(item.path.stem, len(first)))


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
def fork_server(tmp_path_factory):
    """Where `batchsent` processes are forked from."""
    made = ForkServer(tmp_path_factory.mktemp("fork-server"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def monday():
    """The summary of a run."""
    return summary_of(Rows(seed=1))


@pytest.fixture(scope="module")
def tuesday():
    """Another sample of the same source."""
    return summary_of(Rows(seed=2))


@pytest.fixture(scope="module")
def short_reviews():
    """Return a dump of another kind: short texts, hardly any negative ones, a model less sure."""
    rows = Rows(seed=3, spread=0.7)
    keep = (rows.y == 1) | (np.arange(len(rows.y)) % 10 == 0)
    for name in ("y", "p", "status"):
        setattr(rows, name, getattr(rows, name)[keep])
    count = int(keep.sum())
    rows.texts = ["fine, arrived early"] * count
    rows.n_tokens, rows.cut = np.full(count, 6, np.int32), np.zeros(count, np.int32)
    rows.gold = [TWO[i] for i in rows.y]
    return summary_of(rows)


@pytest.fixture(scope="module")
def model(tiny_model):
    """The tiny model, ready to predict."""
    return load(str(tiny_model), device="cpu")


@pytest.fixture(scope="module")
def one_word_of_nan(tmp_path_factory):
    """A model that gives NaN for texts with the word br, which no text of the check at load has."""
    folder = make_model(tmp_path_factory.mktemp("nan") / "model")
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]

    def spoil(words):
        words[vocabulary["br"]] = float("nan")

    change_weights(folder, "distilbert.embeddings.word_embeddings.weight", spoil)
    return folder


@pytest.fixture(scope="module")
def s3():
    """A client of an S3 on loopback with the bucket `dumps`; the environment is that of a user."""
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    moto = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    import boto3
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()  # those of another module know its server
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "loopback-key-id")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        client = boto3.client("s3")
        client.create_bucket(Bucket="dumps")
        yield client
    server.stop()
