"""What a cluster costs: processor time and memory of the process that the command runs in, beside
workers that give each text a constant score; and whole runs beside those of one machine.

    python examples/bench_cluster.py --driver 100MB 1GB        one file, its chunks on two workers
    python examples/bench_cluster.py --files 20 120            files of 2,000 reviews, one on a worker each
    python examples/bench_cluster.py --compare 4000            one file and four, plain and on 1 and 2 workers,
                                                               with the embedded model

Ray runs on this machine; each run is a process of its own. Seconds without start-up begin with the
first batch.
"""

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from bench_rows import size
from made_up_reviews import made_up_reviews

from batchsent import Reporter
from batchsent.chunk import SCORED, Scores
from batchsent.model.submission import LocalScorer, Prepared
from batchsent.options import build
from batchsent.run.folder import batch_all
from batchsent.run.models import OneModel
from batchsent.run.options import BatchOptions


class ConstantScorer(LocalScorer):
    """Gives each text the same score, at once."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.labels = labels

    def prepare(self, texts: list[str | None], reused: Any = None) -> Prepared:
        """Take the texts."""
        return Prepared(len(texts), None)

    def score(self, prepared: Prepared, **_: Any) -> Scores:
        """Return the scores."""
        rows = prepared.rows
        counts = np.ones(rows, np.int32)
        given = np.tile(np.array([0.25, 0.75], np.float32), (rows, 1))
        return Scores(given, counts, 0 * counts, np.full(rows, SCORED, np.uint8), rows)

    def facts(self) -> dict[str, Any]:
        """Return what is known of it: of this process its most memory."""
        kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        device = {"name": "cpu", "description": "none", "peak_memory_bytes": kb * 1024}
        return {"model": {"labels": list(self.labels), "precision": "float32"}, "device": device}

    def close(self) -> None:
        """Do nothing."""


class ConstantModels(OneModel):
    """The embedded model, by its name only."""

    def open(self) -> Any:
        """Return the scorer."""
        return ConstantScorer(self.identity().labels)


class FirstBatch(Reporter):
    """Notes when the first batch is done."""

    at: float | None = None

    def progress(self, rows: int, total_rows: int | None, *, reused_rows: int = 0) -> None:
        """Note the time."""
        self.at = self.at or time.monotonic()


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Run one job in this process; return what it took."""
    options = job["options"]
    models = ConstantModels(build(BatchOptions, options)) if job["constant"] else None
    reporter = FirstBatch()
    began, cpu = time.monotonic(), time.process_time()
    document = batch_all([job["input"]], job["output"], models=models, reporter=reporter, **options)
    ended = time.monotonic()
    kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "rows": document["rows"]["written"],
        "seconds": ended - began,
        "without_startup": ended - (reporter.at or began),
        "cpu": time.process_time() - cpu,
        "memory": kb * 1024,
        "worker_memory": (document.get("device") or {}).get("peak_memory_bytes") or 0,
    }


def in_a_process(source: Path, output: Path, *, constant: bool, **options: Any) -> dict[str, Any]:
    """Run one job in a process of its own; return what it took."""
    job = {"input": str(source), "output": str(output), "constant": constant, "options": options}
    done = subprocess.run(
        [sys.executable, __file__, "--job", json.dumps(job)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def write_reviews(path: Path, rows: int | None = None, least_bytes: int = 0) -> None:
    """Write so many reviews, or as many as have so many bytes; 20,000 texts in turn."""
    texts = made_up_reviews(min(rows or 20_000, 20_000))
    n = 0
    with path.open("w") as file:
        file.write("id,text\n")
        while (rows is not None and n < rows) or file.tell() < least_bytes:
            block = range(n, min(n + 20_000, rows or n + 20_000))
            file.writelines(f'{n},"{texts[n % len(texts)]}"\n' for n in block)
            n = block.stop


def measure_driver(folder: Path, sizes: list[int]) -> None:
    """Print what one file costs this process."""
    print("bytes reviews driver_s driver_MB worker_MB driver_us_a_review")
    before = None
    for least_bytes in sizes:
        source, output = folder / "in.csv", folder / "out.csv"
        write_reviews(source, least_bytes=least_bytes)
        found = in_a_process(source, output, constant=True, engine="ray", workers=2, overwrite=True)
        figures = [source.stat().st_size, found["rows"], round(found["cpu"], 1)]
        figures += [found["memory"] >> 20, found["worker_memory"] >> 20]
        if before is not None:  # what all runs have in common is left out
            more = found["rows"] - before["rows"]
            figures.append(round((found["cpu"] - before["cpu"]) / more * 1e6, 1))
        print(*figures, flush=True)
        before = found


def measure_files(folder: Path, counts: list[int]) -> None:
    """Print what many files cost this process."""
    print("files driver_s driver_MB driver_ms_a_file")
    before = None
    for count in counts:
        source, output = folder / f"in-{count}", folder / f"out-{count}"
        source.mkdir()
        write_reviews(source / "0.csv", rows=2_000)
        for n in range(1, count):
            os.link(source / "0.csv", source / f"{n}.csv")
        found = in_a_process(source, output, constant=True, engine="ray", workers=2)
        figures = [count, round(found["cpu"], 2), found["memory"] >> 20]
        if before is not None:
            more = count - before[0]
            figures.append(round((found["cpu"] - before[1]) / more * 1e3, 1))
        print(*figures, flush=True)
        before = (count, found["cpu"])


def compare(folder: Path, rows: int) -> None:
    """Print whole runs with the embedded model: of one machine, and on one and two workers."""
    print("input workers seconds without_startup bytes sha256")
    one, several = folder / "in.csv", folder / "in"
    write_reviews(one, rows=rows)
    lines = one.read_text().splitlines(keepends=True)
    several.mkdir()
    for n in range(4):
        part = lines[1 + n * rows // 4 : 1 + (n + 1) * rows // 4]
        (several / f"{n}.csv").write_text(lines[0] + "".join(part))
    for source in (one, several):
        for workers in (None, 1, 2):
            output = folder / f"{source.stem}-{workers}{source.suffix}"
            options = {"engine": "ray", "workers": workers} if workers else {}
            if source == one:
                options["chunk_rows"] = max(rows // 16, 1)
            found = in_a_process(source, output, constant=False, device="cpu", **options)
            files = sorted(output.rglob("*.csv")) if output.is_dir() else [output]
            content = b"".join(file.read_bytes() for file in files)
            figures = [round(found["seconds"], 1), round(found["without_startup"], 1)]
            sha256 = hashlib.sha256(content).hexdigest()[:12]
            print(source.name, workers or "plain", *figures, len(content), sha256, flush=True)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--driver", nargs="+", type=size, metavar="SIZE")
    parser.add_argument("--files", nargs="+", type=int, metavar="N")
    parser.add_argument("--compare", type=int, metavar="ROWS")
    parser.add_argument("--folder", help="where the data go [default: a temporary folder]")
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        print(json.dumps(run(arguments.job)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        if arguments.driver:
            measure_driver(folder, arguments.driver)
        if arguments.files:
            measure_files(folder, arguments.files)
        if arguments.compare:
            compare(folder, arguments.compare)


if __name__ == "__main__":
    main()
