"""What a user gets on a GPU: the whole command on a Parquet file, beside pipeline and the limit.

    python examples/bench_gpu.py --device cuda                       500,000 reviews as long as IMDB's (make bench-gpu)
    python examples/bench_gpu.py --device cuda --input dump.parquet --model MODEL
    python examples/bench_gpu.py --device cpu --rows 200 --pipeline-rows 50 --pipeline-batches 1,8

`batchsent batch` runs once on few rows to warm up, and then three times on all of them, and once in each
other precision. `pipeline` scores a share of the rows at several batch sizes, of which the best counts.
The limit is the model's own matrix products, measured on the same device in the same sizes. At last the
forward pass alone, in packs as large as their texts and in packs of one size, which filler fills up.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from bench import in_a_process, made_up_model
from made_up_reviews import made_up_reviews, write_reviews

from batchsent.model.batches import plan_batches
from batchsent.model.budget import default_budget
from batchsent.model.encoder import packed_encoder
from batchsent.model.loading import identify, load_model
from batchsent.model.packs import PackSize
from batchsent.model.tokens import make_text_encoder
from batchsent.precisions import PRECISIONS

STAGES = ("check", "load", "read", "tokenize", "score", "write")
WARM_ROWS = 2_000
# By kind of device: the usual precision, and sizes of packs.
USUAL = {"cuda": "float16", "cpu": "float32"}
PACK_SIZES = {"cuda": (8_192, 16_384, 32_768, 131_072), "cpu": (1_024, 4_096)}
CHUNK_ROWS, CPU_ROWS = 8_192, 30


def run_command(
    options: argparse.Namespace, output: Path, rows: int | None, precision: str = "auto"
) -> tuple[float, dict[str, Any]]:
    """Run `batchsent batch` as it is typed; return its seconds and its summary.

    Raises RuntimeError with the first line of what it said where it failed.
    """
    command = [sys.executable, "-m", "batchsent", "batch", str(options.input), "-o", str(output)]
    command += ["--model", options.model, "--device", options.device, "--prefix", "bench_"]
    command += ["--overwrite", "--restart", "--quiet", "--precision", precision]
    if rows is not None:
        command += ["--limit", str(rows)]
    output.unlink(missing_ok=True)  # a finished output would only be checked
    start = time.perf_counter()
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().partition("\n")[0])
    return time.perf_counter() - start, json.loads(
        Path(f"{output}.summary.json").read_text(encoding="utf-8")
    )


def products(options: argparse.Namespace, precision: str) -> tuple[float, float]:
    """Measure the dense layers' matrix products; return the FLOP of a token, and FLOP/s."""
    import torch
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(options.model)
    width = config.hidden_size
    inner = getattr(config, "intermediate_size", None) or config.hidden_dim
    sizes = [(width, 3 * width), (width, width), (width, inner), (inner, width)]
    cuda = options.device.startswith("cuda")
    tokens, repeats = (65_536, 20) if cuda else (1_024, 2)
    dtype = getattr(torch, PRECISIONS[precision].weights)  # of int8 the products in float32
    seconds = 0.0
    with torch.inference_mode():
        for inputs, outputs in sizes:
            weight = torch.randn(outputs, inputs, device=options.device, dtype=dtype)
            states = torch.randn(tokens, inputs, device=options.device, dtype=dtype)
            found = []
            for _ in range(5):
                start = time.perf_counter()
                for _ in range(repeats):
                    torch.nn.functional.linear(states, weight)
                if cuda:
                    torch.cuda.synchronize()
                found.append((time.perf_counter() - start) / repeats)
            seconds += min(found)
    of_layer = 2 * sum(inputs * outputs for inputs, outputs in sizes)
    return of_layer * config.num_hidden_layers, of_layer * tokens / seconds


def precisions_of(kind: str) -> list[str]:
    """Return the precisions in which the whole command runs once more on a kind of device."""
    opt_in = [name for name, found in PRECISIONS.items() if found.opt_in and kind in found.devices]
    return [USUAL[kind], *opt_in]


def measure(options: argparse.Namespace, folder: Path) -> Iterator[str]:
    """Yield the figures, the most important first."""
    output = folder / "scored.parquet"
    if options.rows is None or options.rows > WARM_ROWS:
        run_command(options, output, WARM_ROWS)
    runs = [run_command(options, output, options.rows) for _ in range(options.times)]
    seconds, summary = min(runs, key=lambda run: run[0])
    rows, performance = summary["rows"]["read"], summary["performance"]
    tokens = summary["text"]["tokens_read"] / rows
    model, device = summary["model"], summary["device"]
    yield (
        f"{rows:,} reviews of {tokens:.0f} tokens; {device['description']}, {model['precision']}, "
        f"{os.cpu_count()} CPUs"
    )
    all_seconds = ", ".join(f"{taken:.1f}" for taken, _ in runs)
    yield f"whole command: {all_seconds} s; the fastest is {rows / seconds:,.1f} reviews/s"
    yield (
        f"scoring alone: {performance['rows_per_s']:,.1f} reviews/s, "
        f"{performance['tokens_per_s']:,.0f} tokens/s"
    )
    stages = [
        f"{stage} {performance['seconds'][stage]:.1f}"
        for stage in STAGES
        if stage in performance["seconds"]
    ]
    yield f"seconds of each stage (they run at once): {', '.join(stages)}"
    yield f"device busy: {performance['device_busy_share']:.1%}; bound by: {performance['bottleneck']}"
    flop, rate = products(options, model["precision"])
    limit = rate / flop / tokens
    yield (
        f"limit: {rate / 1e12:,.2f} TFLOP/s in the model's products, {flop / 1e6:.0f} MFLOP a token: "
        f"{limit:,.1f} reviews/s, of which scoring reaches {performance['rows_per_s'] / limit:.0%}"
    )
    yield pipeline(options, rows / seconds)
    for precision in precisions_of("cuda" if options.device.startswith("cuda") else "cpu"):
        if precision != model["precision"]:
            yield in_precision(options, output, precision)
    yield from packs(options)


def in_precision(options: argparse.Namespace, output: Path, precision: str) -> str:
    """Run the whole command once in another precision; say how fast, and how far it agrees."""
    try:
        seconds, summary = run_command(options, output, options.rows, precision)
    except RuntimeError as error:
        return f"--precision {precision} did not run: {error}"
    performance, found = summary["performance"], summary["model"]["agreement"]
    line = (
        f"--precision {precision}: {seconds:.1f} s, {summary['rows']['read'] / seconds:,.1f} "
        f"reviews/s; scoring alone {performance['rows_per_s']:,.1f} reviews/s"
    )
    if found is None:
        return line
    return (
        f"{line}; of {found['texts']} texts {found['label_flips']} get another label than in "
        f"float32, and no probability differs by more than {found['largest_difference']:.2g}"
    )


def packs(options: argparse.Namespace) -> Iterator[str]:
    """Measure the forward pass alone over some reviews, in packs of several kinds."""
    texts = pq.read_table(options.input, columns=["text"]).slice(0, options.rows)["text"]
    on_gpu = options.device.startswith("cuda")
    model = load_model(identify(options.model), device=options.device)
    encoder = packed_encoder(model)
    text_encoder = make_text_encoder(model.tokenizer, model.max_length)
    tokens = text_encoder.encode(texts.slice(0, CHUNK_ROWS if on_gpu else CPU_ROWS).to_pylist())
    for size in (None, *PACK_SIZES["cuda" if on_gpu else "cpu"]):
        filled = None if size is None else PackSize(size, model.max_length)
        encoder.use_packs_of(filled)
        budget = size or default_budget(model)
        plan = plan_batches(tokens.lengths, budget, encoder.shape)
        seconds = []
        for _ in range(3 if on_gpu else 1):
            start = time.perf_counter()
            for rows in plan:
                output = encoder.probabilities(tokens.take(rows), tokens.lengths[rows])
            output.cpu()  # once all are done
            seconds.append(time.perf_counter() - start)
        total = int(tokens.lengths.sum())
        name = f"packs of up to {budget:,} tokens without filler"
        if size is not None:
            name = f"packs of {size:,} tokens, {1 - total / (size * len(plan)):.1%} of it filler"
        yield f"{name}: {total / min(seconds):,.0f} tokens/s of {len(tokens.lengths):,} reviews"


def pipeline(options: argparse.Namespace, ours: float) -> str:
    """Measure transformers.pipeline at several batch sizes, and say how far the best one comes."""
    forwarded = [f"--model={options.model}", f"--texts={options.input}"]
    forwarded += [f"--rows={options.pipeline_rows}", f"--device={options.device}"]
    found, errors = {}, []
    for size in options.pipeline_batches.split(","):
        result = in_a_process(f"pipeline {size}", forwarded)
        if "error" in result:
            errors.append(f"pipeline with batches of {size} did not run: {result['error']}")
        else:
            found[size] = result["reviews_s"]
    if not found:
        return "; ".join(errors)
    best = max(found, key=lambda size: found[size])
    return (
        f"pipeline, batches of {best} (the best of {', '.join(found)}), {options.pipeline_rows:,} "
        f"reviews from memory: {found[best]:,.1f} reviews/s; the whole command is "
        f"{ours / found[best]:.2f} x"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What a user gets on a GPU.")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--model", help="model folder (default: random, DistilBERT's size)")
    parser.add_argument("--input", type=Path, help="Parquet file of reviews with a text")
    parser.add_argument("--rows", type=int, help="rows to score [default: all; 500,000 made up]")
    parser.add_argument("--pipeline-rows", type=int, default=5_000)
    parser.add_argument("--pipeline-batches", default="32,128,256", metavar="N,...")
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.input is None:
            options.input = folder / "in.parquet"
            options.rows = options.rows or 500_000
            write_reviews(options.input, options.rows)
        if options.model is None:
            options.model = str(folder / "model")
            made_up_model(Path(options.model), made_up_reviews(2_000, seed=1))
        for line in measure(options, folder):
            print(line, flush=True)


if __name__ == "__main__":
    main()
