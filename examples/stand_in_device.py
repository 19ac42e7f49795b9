"""What the processor allows: a run whose device only takes time (bench_rows.py --device-rate).

Everything is what it is in a run on a GPU: the file is read, the embedded model's tokenizer splits
the texts, batches of 131,072 tokens are launched and their results fetched, parts are kept, the
output is written. Only the model is not run: a batch takes its tokens by the rate of the device, and
nobody holds Python's lock meanwhile.
"""

import argparse
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from made_up_reviews import write_reviews

from batchsent.commands.batch import batch
from batchsent.model.batch_runner import BatchRunner
from batchsent.model.device import Device
from batchsent.model.device_time import share
from batchsent.model.loading import EMBEDDED
from batchsent.model.scorer import ModelScorer
from batchsent.model.submission import Scorer
from batchsent.run.models import OneModel
from batchsent.run.options import BatchOptions

GPU_BATCH_TOKENS = 131_072
# How often the lock is looked at, and what a sleeping thread is late without anybody holding it.
LOOK_S, LATE_S = 0.005, 0.0003


class StandIn:
    """A device that runs batches one after the other, each at a rate; an encoder and its time."""

    shape, path, reason, warning = "packed", "stand-in", "it only takes time", None
    early_exit, early_exits, pack_tokens = None, 0, None

    def __init__(self, tokens_per_s: float, labels: int) -> None:
        self.tokens_per_s, self.labels = tokens_per_s, labels
        self._first_s: float | None = None
        self._free_s = self._busy_s = 0.0

    def probabilities(self, ids: np.ndarray, lengths: np.ndarray) -> "Result":
        """Launch a batch: its result is there when the device has run it and those before it."""
        now = time.monotonic()
        self._first_s = now if self._first_s is None else self._first_s
        takes_s = len(ids) / self.tokens_per_s
        self._free_s = max(now, self._free_s) + takes_s
        self._busy_s += takes_s
        found = np.full((len(lengths), self.labels), 0.25 / max(1, self.labels - 1), np.float32)
        found[np.arange(len(lengths)), lengths % self.labels] = 0.75
        return Result(found, self._free_s)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Stand around a launch: the device counts its own time."""
        yield

    def read(self) -> None:
        """Do nothing: the time is known."""

    def busy_share(self) -> float | None:
        """Return the share of the time from the first launch on in which a batch ran."""
        if self._first_s is None:
            return None
        return share(self._busy_s, self._free_s - self._first_s)


class Result:
    """What a batch gives, once the device has run it."""

    def __init__(self, values: np.ndarray, there_s: float) -> None:
        self._values, self._there_s = values, there_s

    def cpu(self) -> "Result":
        """Wait for it."""
        time.sleep(max(0.0, self._there_s - time.monotonic()))
        return self

    def numpy(self) -> np.ndarray:
        """Return the probabilities (texts, labels)."""
        return self._values


class StandInRunner(BatchRunner):
    """Runs batches on the stand-in, which knows its own time."""

    def __init__(self, device: Device, stand_in: StandIn) -> None:
        self._stand_in = stand_in
        super().__init__(device)
        self.runs_ahead = True

    def begin_counts(self) -> None:
        """Count anew; the device's time goes on."""
        super().begin_counts()
        self.time = self._stand_in


class StandInModel(OneModel):
    """The embedded model on a device of the given rate."""

    def __init__(self, options: BatchOptions, tokens_per_s: float, processes: int) -> None:
        super().__init__(options)
        self.tokens_per_s, self.processes = tokens_per_s, processes

    def open(self) -> Scorer:
        """Load the model, and replace the device, once."""
        scorer = super().open()
        assert isinstance(scorer, ModelScorer)
        if isinstance(scorer.encoder, StandIn):
            return scorer
        device = StandIn(self.tokens_per_s, len(scorer.labels))
        scorer.device = replace(scorer.device, description="a stand-in that only takes time")
        scorer.encoder, scorer.runner = device, StandInRunner(scorer.device, device)
        scorer.batch_tokens = GPU_BATCH_TOKENS
        scorer.tokenizer_processes = self.processes
        return scorer


class Watch:
    """Looks at the process from a thread of its own: seconds of each thread, and who waits.

    It sleeps, and then needs Python's lock to go on. Where it comes late, another thread had the
    lock, or, on a machine with nothing to spare, the processor.
    """

    def __init__(self) -> None:
        self.cpu_s: dict[str, float] = {}
        self.late_s: list[float] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> "Watch":
        self._before_s = seconds_of(threading.main_thread(), 0.0)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        looks = 0
        while not self._ended.is_set():
            begun = time.perf_counter()
            time.sleep(LOOK_S)
            self.late_s.append(time.perf_counter() - begun - LOOK_S)
            looks += 1
            if looks % 20 == 0:
                for thread in threading.enumerate():
                    self.cpu_s[thread.name] = seconds_of(thread, self.cpu_s.get(thread.name, 0.0))
                self.cpu_s["write"] = self.cpu_s.pop("MainThread", 0.0) - self._before_s

    def held(self) -> str:
        """Say how often the lock was held, and for how long."""
        late = np.array(self.late_s)
        waited = late[late > LATE_S] * 1e3
        if not len(waited):
            return "Python's lock was free at every look"
        return (
            f"Python's lock was held at {len(waited) / len(late):.0%} of {len(late):,} looks; such a "
            f"look waited {np.median(waited):.1f} ms (median), {waited.max():.0f} ms at most"
        )


def seconds_of(thread: threading.Thread, before: float) -> float:
    """Return the processor seconds of a thread; those `before` where it is gone, or not on Linux."""
    try:
        status = Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text()
    except OSError:
        return before
    return int(status.split()[0]) / 1e9


def measure(options: argparse.Namespace) -> Iterator[str]:
    """Run the command and yield what it took, line by line."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    with tempfile.TemporaryDirectory() as name:
        source = options.input
        if source is None:
            source = str(Path(name, "in.csv" if options.csv else "in.parquet"))
            write_reviews(Path(source), options.rows)
        target = Path(name, "out" + "".join(Path(source).suffixes[-1:]))
        settings = {"prefix": "stand_in_", "limit": options.rows}
        model = StandInModel(
            BatchOptions(model=EMBEDDED, **settings), options.device_rate, options.tokenizers
        )
        model.open()  # before anything is counted
        before_s = seconds_of_children()
        with Watch() as watch:
            summary = batch(source, target, models=model, **settings)
        children_s = seconds_of_children() - before_s
        yield from lines(summary, watch, options.device_rate, children_s)


def seconds_of_children() -> float:
    """Return the processor seconds of the processes that this one has started and that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def lines(summary: dict[str, Any], watch: Watch, rate: float, children_s: float) -> Iterator[str]:
    """Lay out the figures of a run."""
    performance, rows = summary["performance"], summary["rows"]["read"]
    tokens = summary["text"]["tokens_read"] / rows
    yield (
        f"{rows:,} reviews of {tokens:.0f} tokens; the device runs {rate:,.0f} tokens/s, "
        f"{rate / tokens:,.0f} reviews/s"
    )
    waits = 1 - performance["device_busy_share"]
    yield f"{performance['rows_per_s']:,.0f} reviews/s; the device waits {waits:.1%} of the time"
    yield f"bound by: {performance['bottleneck']}"
    yield f"{'':12}{'busy':>8}{'CPU us a row':>14}{'whole thread':>14}"
    seconds = performance["cpu_seconds"]
    stages = [name for name in ("check", "read", "tokenize", "score", "write") if name in seconds]
    for stage in stages:
        busy = performance["busy_share"].get(stage)
        thread = watch.cpu_s.get(stage)
        yield (
            f"{stage:12}{'' if busy is None else f'{busy:.0%}':>8}{seconds[stage] / rows * 1e6:>14.1f}"
            + ("" if thread is None else f"{thread / rows * 1e6:>14.1f}")
        )
    whole = seconds["process"] - watch.cpu_s.get("watch", 0.0)
    rest = whole - sum(seconds[stage] for stage in stages)
    for title, value in (("the rest", rest), ("all", whole), ("tokenizers", children_s)):
        yield f"{title:12}{'':8}{value / rows * 1e6:>14.1f}"
    yield watch.held()


if __name__ == "__main__":
    sys.exit("run bench_rows.py --device-rate TOKENS_PER_S")
