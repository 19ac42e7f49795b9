"""Several processes together with the other options of a run: what is said, and the same bytes."""

import io
import json
from contextlib import closing

import numpy as np
import pandas as pd
import pytest
import torch

from batchsent.commands.batch import batch
from batchsent.errors import TimeUp
from batchsent.model.int8 import has_int8
from batchsent.model.machine import usable_cores
from batchsent.model.pool import ProcessPlan, ProcessPool
from batchsent.pages.report import render
from batchsent.terminal.summaries import show
from batchsent.verification.verify import verify
from tests.hash_model import HashModels, HashScorer, Models
from tests.listener import Listener
from tests.models import WORDS, make_model
from tests.spawned_targets import Counting


@pytest.fixture(scope="module")
def two():
    """Two processes that score by hash."""
    with closing(ProcessPool([ProcessPlan("cpu", HashScorer)] * 2)) as pool:
        yield Models(pool)


def write(path, rows):
    """Write a CSV of so many reviews of three sentences."""
    text = "".join(f'{n},"Film {n} was good. The end {n} was bad. Go."\n' for n in rows)
    path.write_text("id,text\n" + text)
    return path


def test_sentences_are_judged_as_in_one_process(tmp_path, two):
    """Texts and their sentences go through the processes; the bytes are the same."""
    source = write(tmp_path / "in.csv", range(40))
    options = {"sentences": True, "details": True, "chunk_rows": 7}
    batch(source, tmp_path / "two.csv", models=two, **options)
    batch(source, tmp_path / "one.csv", models=HashModels(), **options)
    assert (tmp_path / "two.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()


def test_an_output_of_one_process_is_reused_by_two(tmp_path, two):
    """Its rows are counted for no process, and verify compares them."""
    old = tmp_path / "old.csv"
    batch(write(tmp_path / "in.csv", range(30)), old, models=HashModels())
    grown = write(tmp_path / "grown.csv", range(40))
    done = batch(grown, tmp_path / "new.csv", models=two, reuse=old, chunk_rows=7)
    assert (done["run"]["reuse"]["reused_rows"], done["run"]["reuse"]["new_rows"]) == (30, 10)
    assert sum(process["rows"] for process in done["device"]["devices"]) == 10
    assert verify(grown, tmp_path / "new.csv")["status"] == "same"
    batch(grown, tmp_path / "one.csv", models=HashModels())
    assert (tmp_path / "new.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()


def test_a_run_that_stops_in_two_processes_is_resumed_in_one(tmp_path):
    """After --stop-after the work of both is kept, and the bytes are those of one sitting."""
    source, reporter = write(tmp_path / "in.csv", range(60)), Listener()
    slow = HashModels(processes=2, batch_s=0.3, batch_rows=2)
    with closing(slow.open()), pytest.raises(TimeUp, match=r"rows of .* are scored and kept"):
        batch(source, tmp_path / "out.csv", models=slow, chunk_rows=20, stop_after="1s")
    done = batch(
        source, tmp_path / "out.csv", models=HashModels(), chunk_rows=20, reporter=reporter
    )
    assert 2 <= done["run"]["resumed_rows"] < 60
    assert [line for line in reporter.said if "resuming an earlier run" in line]
    batch(source, tmp_path / "one.csv", models=HashModels(), chunk_rows=20)
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()


def test_with_other_threads_the_work_is_done_again_and_said(tmp_path, two):
    """Two processes have half of the threads each, so the last digits may be others."""
    source, reporter = write(tmp_path / "in.csv", range(60)), Listener()
    slow = HashModels(batch_s=0.3, batch_rows=2, description="CPU, 2 threads")
    with pytest.raises(TimeUp):
        batch(source, tmp_path / "out.csv", models=slow, chunk_rows=20, stop_after="1s")
    done = batch(source, tmp_path / "out.csv", models=two, chunk_rows=20, reporter=reporter)
    assert done["run"]["resumed_rows"] == 0
    assert [line for line in reporter.warned if "its rows are scored again" in line]


def test_each_input_of_a_command_has_its_own_counts(tmp_path):
    """A second file does not count what was scored of the first, in any process."""
    sizes = {"a": 12, "b": 3, "c": 5}
    inputs = [write(tmp_path / f"{name}.csv", range(size)) for name, size in sizes.items()]
    with closing(ProcessPool([ProcessPlan("cpu", Counting)] * 2)) as pool:
        batch(inputs, tmp_path / "two", models=Models(pool), chunk_rows=4)
    batch(inputs, tmp_path / "one", models=Models(Counting()), chunk_rows=4)
    for folder in ("one", "two"):
        for name, size in sizes.items():
            summary = json.loads((tmp_path / folder / f"{name}.csv.summary.json").read_bytes())
            assert summary["model"]["early_exit"]["texts"] == size


@pytest.mark.skipif(usable_cores() < 2, reason="needs two cores")
def test_a_cascade_in_two_processes(tmp_path, monkeypatch):
    """Each has half of the threads. Bytes and counts are those of one process with as many threads;
    agreement, sample and early exits are those of both.
    """
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    fast = make_model(tmp_path / "fast")
    main = make_model(tmp_path / "main", "bert", hidden_size=64, intermediate_size=128)
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(WORDS[:50], draw.integers(1, 20))) for _ in range(120)]
    pd.DataFrame({"text": texts}).to_csv(tmp_path / "in.csv", index=False)
    precision = "int8" if has_int8() else "float32"
    options = {"model": main, "cascade": fast, "cascade_below": 0.7, "precision": precision}
    options |= {"device": "cpu", "chunk_rows": 15, "details": True}
    two = batch(tmp_path / "in.csv", tmp_path / "two.csv", processes=2, **options)
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // 2))
    try:
        one = batch(tmp_path / "in.csv", tmp_path / "one.csv", **options)
    finally:
        torch.set_num_threads(threads)
    assert (tmp_path / "two.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    for name in ("predictions", "text"):
        assert two[name] == one[name]
    assert two["run"]["fingerprint"] == one["run"]["fingerprint"]
    assert two["device"]["description"] == one["device"]["description"]
    found, expected = two["model"]["cascade"], one["model"]["cascade"]
    for name in ("escalated_rows", "decided_rows", "escalated_share", "canaries"):
        assert found[name] == expected[name]
    assert found["escalated_rows"] > 0
    devices = two["device"]["devices"]
    assert sum(process["rows"] for process in devices) == 120
    if precision == "int8":
        working = sum(process["rows"] > 0 for process in devices)
        assert found["agreement"]["texts"] == working * expected["agreement"]["texts"]
    shown = io.StringIO()
    show(two, shown)
    (line,) = [line for line in shown.getvalue().splitlines() if "processes" in line]
    assert line.count("cpu: ") == 2
    page = render(two).decode()
    assert "Process 1 on cpu" in page
    assert "Process 2 on cpu" in page
