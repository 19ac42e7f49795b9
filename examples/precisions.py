"""How far the products of each precision agree with float32, computed on this CPU.

    python examples/precisions.py test-5k.parquet --rows 200 [--model MODEL]

FP8 and the tanh form of GELU are for GPUs; here torch's kernels for the CPU compute the same products.
"""

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from batchsent.model.batches import plan_batches
from batchsent.model.dense import MakeDense, dense_of
from batchsent.model.encoder import centred, packed_on_cpu, share_of_spread
from batchsent.model.int8 import has_int8
from batchsent.model.loading import identify, load_model
from batchsent.model.tokens import make_text_encoder
from batchsent.precisions import PRECISIONS

BATCH_TOKENS = 2_048


def table_rows() -> Iterator[tuple[str, str, MakeDense | None]]:
    """Yield the name of each row, the format of the weights, and how dense layers are made.

    Float16 is inexact on a CPU: dense layers of it are computed in float32.
    """
    for name, precision in PRECISIONS.items():
        dense = dense_of(precision)
        if precision.weights != "float16" and name != "float32":
            yield name, precision.weights, dense
        elif dense is not None:
            yield f"float32 with {precision.path.removeprefix('packed, ')}", "float32", dense


def softmax(logits: Any) -> Any:
    """Return probabilities (texts, labels)."""
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="How far each precision agrees with float32.")
    parser.add_argument("file", help="Parquet file with the columns text and label (0, 1, ...)")
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--model", help="model folder [default: the embedded one]")
    options = parser.parse_args()
    table = pq.read_table(options.file, columns=["text", "label"])
    chosen = np.random.default_rng(0).permutation(table.num_rows)[: options.rows]
    table = table.take(np.sort(chosen))
    gold = table["label"].to_numpy()
    models = {
        name: load_model(identify(options.model), device="cpu", precision=name)
        for name in ("float32", "bfloat16")
    }
    exact = models["float32"]
    tokens = make_text_encoder(exact.tokenizer, exact.max_length).encode(table["text"].to_pylist())

    def logits_of(weights: str, dense: MakeDense | None) -> Any:
        encoder = packed_on_cpu(models[weights], dense)
        found = np.empty((len(tokens.lengths), len(exact.identity.labels)), dtype=np.float32)
        for rows in plan_batches(tokens.lengths, BATCH_TOKENS, "packed"):
            output = encoder.logits(tokens.take(rows), tokens.lengths[rows])
            found[rows] = output.numpy()
        return found

    wanted = logits_of("float32", None)
    print("| | largest difference of a logit, share of the spread | of a probability ", end="")
    print("| label flips | accuracy |\n|---|---|---|---|---|")
    print(f"| float32 | | | | {(wanted.argmax(axis=1) == gold).mean():.4f} |", flush=True)
    for name, weights, dense in table_rows():
        if name == "int8" and not has_int8():
            continue
        found = logits_of(weights, dense)
        change = np.abs(softmax(centred(found)) - softmax(centred(wanted))).max()
        flips = int((found.argmax(axis=1) != wanted.argmax(axis=1)).sum())
        accuracy = (found.argmax(axis=1) == gold).mean()
        share = share_of_spread(found, wanted)
        print(f"| {name} | {share:.2g} | {change:.2g} | {flips} | {accuracy:.4f} |", flush=True)


if __name__ == "__main__":
    main()
