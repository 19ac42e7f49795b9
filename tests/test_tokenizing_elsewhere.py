"""Tokenizing in spawned processes gives the same ids and the same bytes, whatever becomes of them."""

import os
import signal
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from batchsent.commands.batch import batch
from batchsent.model.packing import Tokens
from batchsent.model.spawned_tokens import SpawnedTokens, shared_out
from batchsent.model.tokens import make_text_encoder
from batchsent.reporting import Reporter
from batchsent.run.models import OneModel
from batchsent.run.options import BatchOptions
from batchsent.run.tokenizing import useful_processes

TEXTS = [
    f"{'great ' * (n % 40)}film {n}, {'bad' * (n % 3)} é漢 unseen{n * 7}" for n in range(400)
] + ["", "." * 90, "\ud800 half", "great film\n" * 50]


def children():
    """Process ids of what this process has started and that runs."""
    tasks = Path("/proc/self/task").iterdir()
    return {pid for task in tasks for pid in (task / "children").read_text().split()}


def assert_same(one, other):
    for name in Tokens.__dataclass_fields__:
        left, right = getattr(one, name), getattr(other, name)
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.mark.parametrize("long_text", ["head-tail", "window"])
def test_the_tokens_are_the_same_also_after_a_process_has_died(tokenizer, long_text):
    """Same ids in the same order with two processes; one that is killed is told of once, and this
    process tokenizes from there on. None outlives the encoder.
    """
    own, said, before = make_text_encoder(tokenizer, 64, long_text), [], children()
    wanted = make_text_encoder(tokenizer, 64, long_text).encode(TEXTS)
    with closing(SpawnedTokens(own, 2, said.append, least_texts=10)) as elsewhere:
        assert_same(elsewhere.encode(TEXTS), wanted)
        assert_same(elsewhere.encode(TEXTS[:11]), own.encode(TEXTS[:11]))
        started = children() - before
        assert len(started) == 2
        assert not said
        os.kill(int(started.pop()), signal.SIGKILL)
        for _ in range(2):
            assert_same(elsewhere.encode(TEXTS), wanted)
    assert len(said) == 1
    assert "SIGKILL" in said[0]
    assert "the run itself tokenizes" in said[0]
    assert children() == before


def test_texts_are_shared_out_by_their_length():
    """Consecutive shares, nothing lost; a share may be empty where one text is most of it."""
    assert shared_out(["aaaa", "b", "c", "dd"], 2) == [["aaaa"], ["b", "c", "dd"]]
    assert shared_out(["a", "b" * 90, "c"], 3) == [["a"], [], ["b" * 90, "c"]]


class Told(Reporter):
    """Keeps the notices of a run."""

    def __init__(self):
        self.notices = []

    def notice(self, text, **facts):
        self.notices.append(text)


class Elsewhere(OneModel):
    """A model whose texts two other processes tokenize."""

    def open(self):
        scorer = super().open()
        scorer.tokenizer_processes = 2
        return scorer


def test_a_run_writes_the_same_bytes_and_says_who_tokenizes(tmp_path, tiny_model):
    """Also its sentences, and rows that several texts share; the processes end with the run."""
    source = tmp_path / "in.csv"
    rows = [f"{n},{'great ' * (n % 9)}film {n % 450}. It was bad\n" for n in range(600)]
    source.write_text("id,text\n" + "".join(rows))
    options = {"model": str(tiny_model), "details": True, "sentences": True, "device": "cpu"}
    told, before = Told(), children()
    models = Elsewhere(BatchOptions(**options))
    batch(source, tmp_path / "here.csv", **options)
    batch(source, tmp_path / "elsewhere.csv", models=models, reporter=told, **options)
    assert (tmp_path / "here.csv").read_bytes() == (tmp_path / "elsewhere.csv").read_bytes()
    assert any("2 processes tokenize" in said for said in told.notices)
    assert children() == before


@pytest.mark.parametrize(
    ("kind", "rows", "cores", "processes"),
    [
        ("cpu", 10**9, 64, 0),  # the model needs the cores
        ("cuda", 1_000, 64, 0),  # done before they are started
        ("cuda", 10**6, 1, 0),  # they would take from the run what they give it
        ("cuda", 10**6, 2, 2),
        ("cuda", 10**6, 4, 3),
        ("cuda", None, 64, 4),  # a pipe may have any number of rows
        ("mps", 10**6, 8, 4),
    ],
)
def test_other_processes_tokenize_where_a_gpu_has_many_rows(kind, rows, cores, processes):
    """The default needs no option."""
    assert useful_processes(kind, rows, cores) == processes
