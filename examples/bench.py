"""Reviews a second beside the alternatives, on the same reviews and the same model, in one run.

    python examples/bench.py --texts reviews.parquet --rows 500          (make bench)
    python examples/bench.py --device cuda --rows 20000                  the same on a GPU (see bench_gpu.py too)

Without --model it is a random model of DistilBERT's size, without --texts made-up reviews as long
as IMDB's. Each alternative runs in a process of its own, so that its peak memory is its own. All of
them read texts from memory and give a label and a score for each; loading is not counted. `--train`
with a label column adds TF-IDF, `--gold` the accuracy. On a CPU a second table times whole commands
on `--command-rows` reviews.
"""

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bench_commands import table as table_of_commands
from made_up_reviews import made_up_reviews

CPU = [
    "batchsent",
    "batchsent int8",
    "pipeline 1",
    "pipeline 8",
    "pipeline 32",
    "sorted padded",
    "onnxruntime",
    "openvino",
    "openvino int8",
]
GPU = ["batchsent", "pipeline 1", "pipeline 32", "pipeline 128", "sorted padded"]
POSITIONS = 512
# Numbers of a token that share a scale in OpenVINO's int8 products. DistilBERT's size, 2 x 128
# tokens, one busy core: float32 376 ms, groups of 32 164 ms, 64 105 ms, 128 75 ms, 256 104 ms, 768
# 81 ms; 128 was also the most exact.
OPENVINO_GROUP = 128
# texts -> label numbers, tokens read (0: not known)
Score = Callable[[list[str]], tuple[list[int], int]]


def read_column(path: Path, column: str) -> list[Any]:
    """Read a column of a Parquet or CSV file."""
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        return pq.read_table(path, columns=[column])[column].to_pylist()
    with path.open(newline="", encoding="utf-8") as file:
        return [row[column] for row in csv.DictReader(file)]


def made_up_model(folder: Path, texts: list[str]) -> None:
    """Write a random DistilBERT and a WordPiece tokenizer trained on the texts."""
    import torch
    import transformers
    from tokenizers import BertWordPieceTokenizer

    tokenizer = BertWordPieceTokenizer(lowercase=True)
    tokenizer.train_from_iterator(texts, vocab_size=30_522, show_progress=False)
    folder.mkdir(parents=True)
    tokenizer.save_model(str(folder))
    fast = transformers.BertTokenizerFast(
        vocab=str(folder / "vocab.txt"), model_max_length=POSITIONS
    )
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.DistilBertConfig(id2label={0: "NEGATIVE", 1: "POSITIVE"})
    transformers.DistilBertForSequenceClassification(config).save_pretrained(folder)


def max_length(model: str) -> int:
    """Return how many tokens the model reads."""
    from batchsent.model.loading import identify

    return identify(model).max_length


# --- the alternatives: each returns a function from texts to label numbers


def batchsent(model: str, device: str, precision: str = "auto") -> Score:
    """Score with this package."""
    from batchsent.model.loading import identify
    from batchsent.model.options import ModelOptions
    from batchsent.model.scorer import ModelScorer

    scorer = ModelScorer.open(identify(model), ModelOptions(device=device, precision=precision))
    scorer.score(scorer.prepare(["warm up " * 9]))

    def score(texts: list[str]) -> tuple[list[int], int]:
        labels: list[int] = []
        tokens = 0
        for start in range(0, len(texts), 8_192):
            scores = scorer.score(scorer.prepare(list(texts[start : start + 8_192])))
            labels += scores.winners.tolist()
            tokens += int(scores.n_tokens.sum())
        return labels, tokens

    return score


def pipeline(model: str, device: str, batch_size: int) -> Score:
    """Score with transformers.pipeline."""
    import torch
    import transformers

    dtype = torch.float16 if device.startswith("cuda") else torch.float32
    run = transformers.pipeline(
        "sentiment-analysis", model=model, tokenizer=model, device=device, dtype=dtype
    )
    # label2id may be left out
    numbers = {name: number for number, name in run.model.config.id2label.items()}
    run(["warm up"] * 9, batch_size=batch_size)
    options = {"batch_size": batch_size, "truncation": True, "max_length": max_length(model)}
    return lambda texts: ([numbers[row["label"]] for row in run(texts, **options)], 0)


def sorted_loop(model: str, forward: Callable[[Any, Any], Any], *, rows: int, equal: bool) -> Score:
    """Score sorted by length, batches of `rows` padded to their longest, or of equal lengths."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(model)

    def score(texts: list[str]) -> tuple[list[int], int]:
        ids = tokenizer(texts, truncation=True, max_length=max_length(model))["input_ids"]
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        labels, start = [0] * len(ids), 0
        while start < len(order):
            longest = len(ids[order[start]])
            batch = [i for i in order[start : start + rows] if not equal or len(ids[i]) == longest]
            table = np.zeros((len(batch), longest), dtype=np.int64)
            mask = np.zeros_like(table)
            for row, i in enumerate(batch):
                table[row, : len(ids[i])] = ids[i]
                mask[row, : len(ids[i])] = 1
            for i, label in zip(batch, forward(table, mask).argmax(axis=1).tolist(), strict=True):
                labels[i] = label
            start += len(batch)
        return labels, sum(map(len, ids))

    return score


def plain_torch(model: str, device: str) -> Score:
    """Score with transformers' model in a loop."""
    import torch
    import transformers

    dtype = torch.float16 if device.startswith("cuda") else torch.float32
    module = (
        transformers.AutoModelForSequenceClassification.from_pretrained(model, dtype=dtype)
        .eval()
        .to(device)
    )

    @torch.inference_mode()
    def forward(ids: Any, mask: Any) -> Any:
        on_device = [torch.from_numpy(array).to(device) for array in (ids, mask)]
        return (
            module(input_ids=on_device[0], attention_mask=on_device[1]).logits.float().cpu().numpy()
        )

    return sorted_loop(model, forward, rows=128 if device.startswith("cuda") else 16, equal=False)


def logits_of_ids(model: str) -> Any:
    """Return a torch module from ids to logits, for exporters: without a mask, since it gets equal
    lengths.
    """
    import torch
    import transformers

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = transformers.AutoModelForSequenceClassification.from_pretrained(
                model, attn_implementation="sdpa"
            )

        def forward(self, input_ids: Any) -> Any:
            return self.inner(input_ids=input_ids).logits

    return Logits().eval()


def onnxruntime(model: str) -> Score:
    """Score with ONNX Runtime, texts of equal length together."""
    import onnxruntime as runtime
    import torch

    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/model.onnx"
        axes = {"input_ids": {0: "texts", 1: "tokens"}}
        example = torch.ones(2, 16, dtype=torch.long)
        names = {"input_names": ["input_ids"], "output_names": ["logits"]}
        # The exporter that needs only the package onnx; the newer one needs onnxscript, and gives
        # the same.
        torch.onnx.export(
            logits_of_ids(model), (example,), path, dynamic_axes=axes, dynamo=False, **names
        )
        session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return sorted_loop(
        model, lambda ids, _: session.run(None, {"input_ids": ids})[0], rows=8, equal=True
    )


def openvino(model: str, *, int8: bool = False) -> Score:
    """Score with OpenVINO in float32, or with int8 products, texts of equal length together."""
    import openvino as ov
    import torch

    converted = ov.convert_model(
        logits_of_ids(model), example_input=torch.ones(2, 16, dtype=torch.long)
    )
    # Its default on newer CPUs is bfloat16, which would compare different things.
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
    if int8:
        compress_weights(converted)
        settings["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = OPENVINO_GROUP
    compiled = ov.compile_model(converted, "CPU", settings)
    return sorted_loop(model, lambda ids, _: compiled([ids])[0], rows=8, equal=True)


def compress_weights(converted: Any) -> None:
    """Turn the weights of an OpenVINO model's matrix products into int8 with a scale for each
    output, in place.
    """
    import openvino.opset15 as ops

    for node in converted.get_ordered_ops():
        weight = node.input_value(1).get_node() if node.get_type_name() == "MatMul" else None
        if weight is None or weight.get_type_name() != "Constant" or len(weight.shape) != 2:
            continue
        values = weight.get_data()
        by_output = 1 if node.get_attributes()["transpose_b"] else 0
        scale = np.maximum(np.abs(values).max(axis=by_output, keepdims=True), 1e-12) / 127
        rounded = ops.constant(np.round(values / scale).astype(np.int8))
        node.input(1).replace_source_output(
            ops.multiply(
                ops.convert(rounded, "f32"), ops.constant(scale.astype(np.float32))
            ).output(0)
        )


def tf_idf(train: Path, text_column: str, label_column: str) -> Score:
    """Score with TF-IDF of words and pairs of words and a logistic regression."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True), LogisticRegression(C=10)
    )
    labels = [int(label) for label in read_column(train, label_column)]
    model.fit(read_column(train, text_column), labels)
    return lambda texts: (model.predict(texts).tolist(), 0)


def make(name: str, options: argparse.Namespace) -> Score:
    """Load one alternative."""
    kind, _, number = name.partition(" ")
    if kind == "batchsent":
        return batchsent(options.model, options.device, number or "auto")
    if kind == "pipeline":
        return pipeline(options.model, options.device, int(number))
    if kind == "sorted":
        return plain_torch(options.model, options.device)
    if kind == "TF-IDF":
        return tf_idf(options.train, options.text_column, options.gold or "label")
    if kind == "openvino":
        return openvino(options.model, int8=number == "int8")
    if kind == "onnxruntime":
        return onnxruntime(options.model)
    raise ValueError(f"no alternative is called {name!r}")


# --- measuring


def measure(
    name: str, options: argparse.Namespace, texts: list[str], gold: list[int] | None
) -> dict[str, Any]:
    """Run one alternative in this process and return its figures."""
    score = make(name, options)
    seconds, labels, tokens = [], [], 0
    for _ in range(options.repeat):
        start = time.perf_counter()
        labels, tokens = score(texts)
        seconds.append(time.perf_counter() - start)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if options.device.startswith("cuda"):
        import torch

        memory = torch.cuda.max_memory_allocated()
    correct = None if gold is None else float(np.mean(np.array(labels) == np.array(gold)))
    return {
        "reviews_s": len(texts) / min(seconds),
        "tokens": tokens,
        "memory": memory,
        "accuracy": correct,
    }


def matrix_limit(options: argparse.Namespace, lengths: Any) -> dict[str, float]:
    """Measure the matrix products of this machine and divide by what the model needs for these
    lengths.
    """
    import torch
    import transformers

    module = transformers.AutoModelForSequenceClassification.from_pretrained(options.model)
    hidden, layers = module.config.hidden_size, module.config.num_hidden_layers
    dense = [
        m for n, m in module.named_modules() if isinstance(m, torch.nn.Linear) and ".layer." in n
    ]
    operations = 2 * sum(m.weight.numel() for m in dense) * lengths.sum()
    operations += 4 * hidden * layers * (lengths.astype(float) ** 2).sum()
    cuda = options.device.startswith("cuda")
    rows, dtype = (16_384, torch.float16) if cuda else (2_048, torch.float32)
    weight = max((m.weight for m in dense), key=torch.numel).to(options.device, dtype)
    states = torch.randn(rows, weight.shape[1], device=options.device, dtype=dtype)
    best = float("inf")
    with torch.inference_mode():
        for _ in range(20):
            start = time.perf_counter()
            for _ in range(20 if cuda else 1):
                torch.nn.functional.linear(states, weight)
            if cuda:
                torch.cuda.synchronize()
            best = min(best, (time.perf_counter() - start) / (20 if cuda else 1))
    rate = 2 * rows * weight.numel() / best
    return {"rate": rate, "reviews_s": rate * len(lengths) / operations}


def table(results: dict[str, dict[str, Any]], lengths: Any, limit: dict[str, float]) -> str:
    """Lay the figures out."""
    ours = results.get("batchsent", {}).get("reviews_s")
    lines = [
        f"{'':18}{'reviews/s':>10}{'tokens/s':>11}{'memory MB':>11}{'ours is':>9}{'of limit':>10}{'accuracy':>10}"
    ]
    for name, row in results.items():
        if "error" in row:
            lines.append(f"{name:18}not run: {row['error']}")
            continue
        rate = row["reviews_s"]
        times = f"{ours / rate:.2f} x" if ours else ""
        accuracy = "" if row["accuracy"] is None else f"{row['accuracy']:.4f}"
        share = "" if name.startswith("TF-IDF") else f"{rate / limit['reviews_s']:.0%}"
        lines.append(
            f"{name:18}{rate:>10.1f}{rate * lengths.mean():>11,.0f}{row['memory'] / 1e6:>11,.0f}"
            f"{times:>9}{share:>10}{accuracy:>10}"
        )
    lines.append(
        f"{'limit':18}{limit['reviews_s']:>10.1f}{limit['reviews_s'] * lengths.mean():>11,.0f}"
        f"   measured {limit['rate'] / 1e9:,.1f} GFLOP/s in the model's largest matrix product"
    )
    return "\n".join(lines)


def in_a_process(name: str, arguments: list[str]) -> dict[str, Any]:
    """Run one alternative in a process of its own."""
    command = [sys.executable, __file__, *arguments, "--only", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
    return {"error": lines[-1][:100] if lines else f"exit {done.returncode}"}


def arguments() -> argparse.ArgumentParser:
    """Declare the command line."""
    parser = argparse.ArgumentParser(description="Reviews a second beside the alternatives.")
    parser.add_argument("--model", help="model folder (default: random, DistilBERT's size)")
    parser.add_argument(
        "--texts", type=Path, help="Parquet or CSV file of reviews (default: made up)"
    )
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--gold", help="column of label numbers, for the accuracy")
    parser.add_argument(
        "--train", type=Path, help="labelled file for TF-IDF (columns as in --texts)"
    )
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument(
        "--command-rows",
        type=int,
        nargs="*",
        default=[100],
        metavar="N",
        help="reviews of the whole commands, such as 100 1000 10000; nothing for none",
    )
    parser.add_argument("--repeat", type=int, default=1, help="runs of each, the fastest counts")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compare", help="which to run, separated by commas")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    return parser


def main() -> None:
    """Run the alternatives and print the table."""
    options = arguments().parse_args()
    every_text = read_column(options.texts, options.text_column) if options.texts else None
    texts = every_text[: options.rows] if every_text else made_up_reviews(options.rows)
    gold = None
    if options.gold and options.texts:
        gold = [int(label) for label in read_column(options.texts, options.gold)[: options.rows]]
    if options.only:
        warnings.simplefilter("ignore")
        print(json.dumps(measure(options.only, options, texts, gold)))
        return
    names = (
        [name for name in options.compare.split(",") if name]
        if options.compare is not None
        else GPU
        if options.device.startswith("cuda")
        else CPU
    )
    if options.train:
        names = [*names, "TF-IDF"]
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory() as folder:
        if options.model is None:
            options.model = f"{folder}/model"
            made_up_model(Path(options.model), texts)
        import transformers

        tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
        ids = tokenizer(texts, truncation=True, max_length=max_length(options.model))["input_ids"]
        lengths = np.array([len(row) for row in ids])
        print(
            f"{len(texts):,} reviews, {lengths.mean():.0f} tokens on average; {os.cpu_count()} "
            f"CPUs, {options.device}"
        )
        forwarded = [
            f"--{key.replace('_', '-')}={value}"
            for key, value in vars(options).items()
            if value is not None and key not in {"compare", "command_rows"}
        ]
        results = {}
        for name in names:
            print(f"running {name} ...", file=sys.stderr)
            results[name] = in_a_process(name, forwarded)
        if results:
            print(table(results, lengths, matrix_limit(options, lengths)))
        if options.command_rows and options.device == "cpu":
            texts = every_text or texts
            place, counts = Path(folder), options.command_rows
            print(table_of_commands(texts, options.model, place, counts, options.repeat))


if __name__ == "__main__":
    main()
