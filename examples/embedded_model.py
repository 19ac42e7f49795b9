"""Make the model that comes with batchsent: reviews and a public encoder in, a compact classifier
out.

    python examples/embedded_model.py --train train.parquet --unlabelled unsupervised.parquet --test test.parquet

The recipe, each step kept in --work so that a stopped run goes on where it was, with its seconds:

1. A linear teacher says how likely every review is positive (embedded_teacher.py).
2. The encoder is all-MiniLM-L6-v2 with the pieces of its vocabulary that reviews need
   (embedded_encoder.py).
3. It learns whole reviews and crops of one to three sentences (embedded_rows.py,
   embedded_training.py): at first the labelled reviews, then these again with other crops and some
   of the unlabelled ones, at last crops of all.
4. It is stored in 8 bits, with an early exit (embedded_exit.py), and measured on the test reviews,
   which no step before has used, beside TF-IDF with a logistic regression (embedded_measure.py).
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import embedded_training as training
import numpy as np
import pyarrow.parquet as pq
from embedded_encoder import cut_out
from embedded_exit import add_early_exit, logits_of
from embedded_measure import measure
from embedded_rows import Reviews, Rows, first_rows, second_rows, third_rows
from embedded_teacher import SEED, teach, texts_of

from batchsent.model import calibration, early_exit, int8_storage
from batchsent.model.canaries import write_canaries
from batchsent.model.files import sha256_of
from batchsent.training import seen
from batchsent.training.held_out import write_held_out

# Head and tail of so many tokens are learned; 512 are read.
TRAINED_TOKENS = 256
LEARNING_RATE = 1.5e-4

# What all-MiniLM-L6-v2 has learned is not known.
NOTHING_KNOWN = seen.SeenTexts(np.zeros(0, dtype=np.uint32), complete=False)


@dataclass(frozen=True)
class Recipe:
    """How large the model is, and how long each part of its training."""

    layers: int = 6
    pieces: int = 14_000
    exit_layer: int = 2  # texts of which the model is sure after so many layers need no more
    held_out: int = 1_000  # labelled reviews that no step learns from: they calibrate
    # Steps of the first rows, of a schedule of so many steps; then the second rows, to the end.
    first_steps: int = 600
    first_schedule: int = 2_150
    steps: int = 2_700
    second_whole: int = 10_000
    second_cropped: int = 30_000
    # The third rows, with a new rise and fall of the learning rate.
    third_steps: int = 2_500
    third_whole: int = 10_000
    third_others_whole: int = 6_000


@click.command()
@click.option(
    "--train", required=True, help="Labelled reviews: Parquet with text and label (0 or 1)."
)
@click.option("--unlabelled", required=True, help="Reviews without labels: Parquet with text.")
@click.option("--test", required=True, help="Labelled reviews to measure on.")
@click.option(
    "--encoder",
    default="sentence-transformers/all-MiniLM-L6-v2",
    help="Hub id or folder of the encoder.",
)
@click.option("--work", default="embedded-work", help="Folder for what is made on the way.")
@click.option("-o", "--output", default="batchsent/embedded", help="Folder of the finished model.")
def main(train: str, unlabelled: str, test: str, encoder: str, work: str, output: str) -> None:
    """Make the embedded model, step by step; finished steps are not done again."""
    make(train, unlabelled, test, encoder, Path(work), Path(output), Recipe())


def make(
    train: str,
    unlabelled: str,
    test: str,
    encoder: str,
    work: Path,
    output: Path,
    recipe: Recipe,
) -> None:
    """Make a model by a recipe, from the steps that are finished in `work` on."""
    work.mkdir(parents=True, exist_ok=True)
    taught, held = work / "taught.parquet", work / "held-out.parquet"
    if not taught.exists():
        with timed("teacher"), whole(taught) as pending:
            teach(train, unlabelled, pending, held, recipe.held_out)
    if not (work / "base").exists():
        with timed("encoder"), whole(work / "base") as pending:
            cut_out(encoder, texts_of(taught), pending, recipe.layers, recipe.pieces)
    if not (work / "model").exists():
        with timed("training"), whole(work / "model") as pending:
            learn(Reviews(taught, train), work, pending, recipe)
    with timed("storing"):
        store(work / "model", output, texts_of(taught), held, recipe.exit_layer)
    with timed("measuring"):
        measure(output, train, test, work)


@contextmanager
def timed(step: str) -> Iterator[None]:
    """Print how long a step took."""
    begin = time.monotonic()
    yield
    click.echo(f"{step}: {time.monotonic() - begin:.0f} s")


@contextmanager
def whole(final: Path) -> Iterator[Path]:
    """Give a path to write to, which gets its final name when the block has ended."""
    pending = final.with_name(f"{final.name}.unfinished")
    shutil.rmtree(pending, ignore_errors=True)
    yield pending
    pending.rename(final)


def learn(reviews: Reviews, work: Path, output: Path, recipe: Recipe) -> None:
    """Train the encoder in `work`/base and write it to `output`; goes on where it was."""
    import torch
    import transformers

    torch.manual_seed(SEED)  # the classifier is new, and drops out
    tokenizer = transformers.AutoTokenizer.from_pretrained(work / "base")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        work / "base",
        attn_implementation="eager" if training.BFLOAT16 else "sdpa",  # whichever is faster
        id2label={0: "NEGATIVE", 1: "POSITIVE"},
        label2id={"NEGATIVE": 0, "POSITIVE": 1},
    )
    first = training.Schedule(LEARNING_RATE, recipe.first_schedule, recipe.first_steps, SEED)
    second = training.Schedule(LEARNING_RATE, recipe.steps, recipe.steps, SEED)
    trained = training.Training(model, work / "training", first)
    trained.resume()
    random = np.random.default_rng(SEED)
    rows = first_rows(reviews, random)
    trained.run(*encoded(tokenizer, rows))
    trained.schedule = second
    rows = second_rows(reviews, random, recipe.second_whole, recipe.second_cropped)
    trained.run(*encoded(tokenizer, rows), recipe.first_steps)
    with trained.averaged() as averaged:
        refine(tokenizer, averaged, reviews, work, output, recipe)


def refine(
    tokenizer: Any, model: Any, reviews: Reviews, work: Path, output: Path, recipe: Recipe
) -> None:
    """Train a model that has learned already, most of it crops, and write it to `output`."""
    steps = recipe.third_steps
    schedule = training.Schedule(1e-4, steps, steps, SEED + 1, average_keep=0.99)
    trained = training.Training(model, work / "refining", schedule, recipe.exit_layer)
    trained.resume()
    random = np.random.default_rng(schedule.seed)
    rows = third_rows(reviews, random, recipe.third_whole, recipe.third_others_whole)
    trained.run(*encoded(tokenizer, rows))
    with trained.averaged() as averaged:
        averaged.config.long_text = "head-tail"
        averaged.save_pretrained(output)
    tokenizer.save_pretrained(output)


def encoded(tokenizer: Any, rows: Rows) -> tuple[list[Any], Any]:
    """Return the token ids of each row, and how likely each is positive: (rows,) float32."""
    ids = training.encode(tokenizer, rows.texts, TRAINED_TOKENS)
    return ids, np.array(rows.positive, dtype=np.float32)


def store(model: Path, output: Path, learned: list[str], held: Path, exit_layer: int) -> None:
    """Write the trained model in 8 bits to the folder that batchsent ships, with what belongs to
    it: early exit, calibration, canaries, how it did on the reviews held out, and hashes of those
    learned.
    """
    from safetensors.torch import load_file

    reviews = pq.read_table(held, columns=["text", "label"])
    texts, labels = reviews["text"].to_pylist(), reviews["label"].to_numpy()
    output.mkdir(parents=True, exist_ok=True)
    for name in (early_exit.FILE, calibration.FILE, "canaries.json", "held_out.json"):
        (output / name).unlink(missing_ok=True)  # of the model that was there
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(model / name, output / name)
    weights = load_file(model / "model.safetensors")
    head = {name: weights.pop(f"early_exit.{name}") for name in ("weight", "bias")}
    int8_storage.write(weights, output)
    # Soft targets make it too careful. Divided by the temperature that the reviews held out ask for,
    # its logits are calibrated as they are.
    temperature = calibration.calibrate(logits_of(output, texts), labels).temperature
    for name in ("classifier.weight", "classifier.bias"):
        weights[name] = weights[name] / temperature
    path = int8_storage.write(weights, output)
    add_early_exit(output, exit_layer, head, texts, labels)
    # A later training measures on other reviews.
    (output / seen.FILE).write_bytes(seen.dumps(NOTHING_KNOWN.with_texts(learned)))
    fitted = calibration.calibrate(logits_of(output, texts), labels, weights_sha256=sha256_of(path))
    (output / calibration.FILE).write_bytes(calibration.dumps(fitted))
    write_canaries(output)
    write_held_out(output, texts, labels.tolist())


if __name__ == "__main__":
    main()
