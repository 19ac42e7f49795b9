"""What a run costs beside its model: processor seconds a stage for short rows, peak memory for
inputs of any size, and how many reviews a second the processor can give a fast device.

    python examples/bench_rows.py --short-rows 1000000               a tiny DistilBERT, CSV to CSV
    python examples/bench_rows.py --memory 10MB 1GB 10GB             a hash for a model, CSV from a pipe to a pipe
    python examples/bench_rows.py --memory 10MB 1GB --parquet        the same from a Parquet file to another
    python examples/bench_rows.py --device-rate 5e6                  reviews as long as IMDB's, a device that only
                                                                     takes time: 5 million tokens a second

Each run is a process of its own, on one thread, so that its seconds and its memory are its own. The
seconds are those of the run's own summary.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9}
# As made-up reviews go; the tiny model's whole vocabulary.
VOCABULARY = """
a the this that it was is not very so film movie story plot acting cast ending music great good bad awful boring
lovely terrible wonderful loved hated best worst ever never again really one two of in on for with
"""
WORDS = VOCABULARY.split()


def size(text: str) -> int:
    """Read a size such as 10MB or 1GB."""
    match = re.fullmatch(r"(\d+)(KB|MB|GB)", text.upper())
    if match is None:
        raise argparse.ArgumentTypeError("a size such as 10MB or 1GB is expected")
    return int(match[1]) * UNITS[match[2]]


def sentences(rows: int, shortest: int, longest: int, seed: int = 0) -> list[str]:
    """Make texts of `shortest` to `longest` words."""
    random = np.random.default_rng(seed)
    lengths = random.integers(shortest, longest + 1, rows)
    words = np.array(WORDS)[random.integers(0, len(WORDS), int(lengths.sum()))].tolist()
    ends = np.cumsum(lengths).tolist()
    return [
        " ".join(words[end - length : end])
        for end, length in zip(ends, lengths.tolist(), strict=True)
    ]


# --- short rows


def tiny_model(folder: Path) -> None:
    """Write a random DistilBERT of two layers, 32 wide, and its tokenizer."""
    import torch
    import transformers

    vocabulary = {
        word: n for n, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])
    }
    transformers.BertTokenizerFast(vocab=vocabulary, model_max_length=64).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.DistilBertConfig(
        vocab_size=len(vocabulary),
        dim=32,
        hidden_dim=64,
        n_layers=2,
        n_heads=2,
        max_position_embeddings=64,
        id2label={0: "NEGATIVE", 1: "POSITIVE"},
    )
    transformers.DistilBertForSequenceClassification(config).save_pretrained(folder)


def short_rows(rows: int) -> str:
    """Score `rows` reviews of 10 to 28 words from CSV to CSV and lay out where the time went."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny_model(folder / "model")
        with (folder / "in.csv").open("w") as file:
            file.write("id,text,stars\n")
            file.writelines(
                f"{n:07},{text},{n % 5 + 1}\n" for n, text in enumerate(sentences(rows, 10, 28))
            )
        command = [
            sys.executable,
            "-m",
            "batchsent",
            "batch",
            "in.csv",
            "-o",
            "out.csv",
            "-m",
            "model",
            "-q",
        ]
        subprocess.run([*command, "--device=cpu"], cwd=folder, env=ENVIRONMENT, check=True)
        summary = json.loads((folder / "out.csv.summary.json").read_bytes())
        read = summary["input"]["bytes"] / 1e6
    return stages(
        summary,
        f"{rows:,} rows, {read:,.0f} MB of CSV, {summary['text']['tokens_read'] / rows:.0f} tokens "
        "each",
    )


def stages(summary: dict[str, Any], title: str) -> str:
    """Lay out the processor seconds of a run's stages."""
    rows, seconds = summary["rows"]["read"], dict(summary["performance"]["cpu_seconds"])
    whole = seconds.pop("process") - seconds.pop("load")
    names = {
        "check": "check every row",
        "read": "read",
        "tokenize": "tokenize",
        "score": "model",
        "write": "write and count",
    }
    table = {title: seconds[name] for name, title in names.items()}
    table["the rest"] = whole - sum(table.values())
    lines = [title, f"{'':26}{'CPU s':>9}{'us a row':>10}"]
    lines += [f"{name:26}{value:>9.2f}{value / rows * 1e6:>10.2f}" for name, value in table.items()]
    beside = whole - seconds["score"]
    without = beside - seconds["tokenize"]
    for name, value in (
        ("all but the model", beside),
        ("all but model, tokenizer", without),
        ("all", whole),
    ):
        lines.append(
            f"{name:26}{value:>9.2f}{value / rows * 1e6:>10.2f}{rows / value:>12,.0f} rows/s a core"
        )
    lines.append(
        f"as it ran: {summary['performance']['rows_per_s']:,.0f} rows/s, loading the model left out"
    )
    return "\n".join(lines)


# --- memory


def blocks(total: int) -> Iterator[bytes]:
    """Yield about `total` bytes of CSV records of a kilobyte each."""
    made = [
        "".join(
            f'{n:09},"{text}",4\n' for n, text in enumerate(sentences(1_000, 120, 260, seed))
        ).encode()
        for seed in range(16)
    ]
    yield b"id,text,stars\n"
    done = turn = 0
    while done < total:
        yield made[turn % len(made)]
        done, turn = done + len(made[turn % len(made)]), turn + 1


def wait_for(process: "subprocess.Popen[bytes]") -> int:
    """Wait for a child; return the peak of its memory in bytes. Raises CalledProcessError."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def hashing(*arguments: str) -> list[str]:
    """Return the command of a run with a hash for a model: rows/s are those of everything else."""
    return [sys.executable, "-m", "tests.hash_model", *arguments, "--quiet"]


def pipe_memory(total: int) -> tuple[int, int, float]:
    """Stream `total` bytes of CSV through a run.

    Return its peak memory, the bytes that came out, the seconds.
    """
    start, out = time.monotonic(), [0]
    with subprocess.Popen(
        hashing("-", "-o", "-"),
        cwd=ROOT,
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None

        def count() -> None:
            while data := stdout.read(1 << 20):
                out[0] += len(data)

        reader = threading.Thread(target=count)
        reader.start()
        for block in blocks(total):
            stdin.write(block)
        stdin.close()
        reader.join()
        return wait_for(process), out[0], time.monotonic() - start


def parquet_memory(total: int) -> tuple[int, int, float]:
    """Score a Parquet file of about `total` bytes of text into another; return the same."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name, "in.parquet"), Path(name, "out.parquet")
        schema = pa.schema([("id", pa.int64()), ("text", pa.string())])
        # Neither packed nor a dictionary: what is on the disk is what goes through the memory.
        with pq.ParquetWriter(source, schema, compression="none", use_dictionary=False) as writer:
            done = 0
            while done < total:
                texts = [f"{done} {text}" for text in sentences(10_000, 120, 260, done % 97)]
                writer.write_table(pa.table([range(len(texts)), texts], schema=schema))
                done += sum(map(len, texts))
        start = time.monotonic()
        with subprocess.Popen(
            hashing(str(source), "-o", str(target)), cwd=ROOT, env=ENVIRONMENT
        ) as process:
            peak = wait_for(process)
        return peak, target.stat().st_size, time.monotonic() - start


def memory(sizes: list[int], measure: Callable[[int], tuple[int, int, float]]) -> Iterator[str]:
    """Yield a line with the peak of each size, and at last how far they differ."""
    yield f"{'input MB':>10}{'output MB':>11}{'seconds':>9}{'MB/s':>8}{'peak MB':>9}"
    peaks = []
    for total in sizes:
        peak, out, seconds = measure(total)
        peaks.append(peak)
        yield f"{total / 1e6:>10,.0f}{out / 1e6:>11,.0f}{seconds:>9.0f}{total / 1e6 / seconds:>8.1f}{peak / 1e6:>9.0f}"
    yield f"the largest peak is {max(peaks) / min(peaks):.2f} x the smallest"


def main() -> None:
    """Run what was asked for and print it."""
    parser = argparse.ArgumentParser(description="What a run costs beside its model.")
    parser.add_argument(
        "--short-rows",
        type=int,
        metavar="N",
        help="processor seconds a stage for N one-line reviews",
    )
    parser.add_argument(
        "--memory",
        type=size,
        nargs="+",
        metavar="SIZE",
        help="peak memory for inputs of these sizes",
    )
    parser.add_argument(
        "--parquet", action="store_true", help="measure the memory from Parquet to Parquet"
    )
    parser.add_argument(
        "--device-rate",
        type=float,
        metavar="TOKENS_PER_S",
        help="the processor's limit beside a device that only takes time",
    )
    parser.add_argument(
        "--rows", type=int, default=50_000, metavar="N", help="reviews for --device-rate"
    )
    parser.add_argument(
        "--input", metavar="FILE", help="for --device-rate: take the reviews from this file"
    )
    parser.add_argument("--csv", action="store_true", help="for --device-rate: make them up as CSV")
    parser.add_argument(
        "--tokenizers",
        type=int,
        default=0,
        metavar="N",
        help="for --device-rate: tokenize in so many processes",
    )
    options = parser.parse_args()
    if options.short_rows:
        print(short_rows(options.short_rows))
    if options.memory:
        for line in memory(options.memory, parquet_memory if options.parquet else pipe_memory):
            print(line, flush=True)
    if options.device_rate:
        import stand_in_device

        for line in stand_in_device.measure(options):
            print(line, flush=True)
    if not (options.short_rows or options.memory or options.device_rate):
        parser.error("nothing to measure: give --short-rows, --memory or --device-rate")


if __name__ == "__main__":
    main()
