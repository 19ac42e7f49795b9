"""Tune a model on few labelled one-sentence reviews; compare it with TF-IDF and with what it was.

    python examples/few_rows.py train.parquet
    python examples/few_rows.py train.parquet --learning-rate 1e-4 --rows 50

A sentence has the label of its review, which it need not say, so no model reaches 100 %. The rows
to measure on are the same for every seed, of other reviews than the rows to learn from.
"""

import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import batchsent
from batchsent.training.crops import crops_of

ROWS = (50, 200, 1_000)  # labelled rows to learn from, without --rows
MEASURED = 1_000  # rows to measure on
SEED = 42


@click.command()
@click.argument("reviews")
@click.option("--model", default="embedded", show_default=True, help="Model folder or Hub id.")
@click.option("--rows", "counts", type=int, multiple=True, help="Labelled rows; several times.")
@click.option("--seeds", default=10, show_default=True, help="Trainings with each number of rows.")
@click.option("--learning-rate", type=float, help="Without it: as finetune takes it.")
@click.option("--epochs", type=float, help="Without it: as finetune takes them.")
def main(
    reviews: str, model: str, counts: tuple[int, ...], seeds: int, **pace: float | None
) -> None:
    """Print accuracies as means over the seeds, and how often tuning made the model worse."""
    rows = one_sentence_each(pq.read_table(reviews, columns=["text", "label"]))
    measured, pool = rows.slice(0, MEASURED), rows.slice(MEASURED)
    base = accuracy(model, measured)
    click.echo(f"the model as it came: {base:.3f}")
    click.echo(
        f"{'rows':>5} {'TF-IDF':>7} {'tuned':>6} {'least':>6} {'change':>16} {'worse':>8} kept as it came"
    )
    for count in counts or ROWS:
        found = []
        for seed in range(seeds):
            found.append(measure(pool, measured, count, seed, model, pace))
            tfidf, tuned, _ = found[-1]
            click.echo(f"{count:,} rows, seed {seed}: {tfidf:.3f} {tuned:.3f}", err=True)
        tfidf, tuned, kept = map(np.array, zip(*found, strict=True))
        change = tuned - base
        click.echo(
            f"{count:>5,} {tfidf.mean():>7.3f} {tuned.mean():>6.3f} {tuned.min():>6.3f} "
            f"{change.min():>+7.3f} to {change.max():>+.3f} {int((change < 0).sum())} of {seeds} "
            f"{int(kept.sum())} of {seeds}"
        )


def one_sentence_each(reviews: pa.Table) -> pa.Table:
    """Return one random sentence of every review, each text once, in random order."""
    random = np.random.default_rng(SEED)
    found: dict[str, int] = {}
    for row in random.permutation(len(reviews)).tolist():
        for crop in crops_of(reviews["text"][row].as_py(), 1, 1, random):
            found.setdefault(crop, reviews["label"][row].as_py())
    return pa.table({"text": list(found), "label": pa.array(found.values(), pa.int8())})


def measure(
    pool: pa.Table, measured: pa.Table, count: int, seed: int, model: str, pace: dict[str, Any]
) -> tuple[float, float, bool]:
    """Return the accuracy of TF-IDF and of the tuned model, and whether that is the model as it
    came.
    """
    chosen = np.random.default_rng(seed).choice(len(pool), count, replace=False)
    rows = pool.take(chosen)
    tfidf = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10)
    )
    tfidf.fit(rows["text"].to_pylist(), rows["label"].to_pylist())
    judged = tfidf.score(measured["text"].to_pylist(), measured["label"].to_pylist())
    with tempfile.TemporaryDirectory() as folder:
        train, tuned = Path(folder, "train.parquet"), Path(folder, "model")
        pq.write_table(rows, train)
        # Of these rows finetune keeps some to measure on, as with a user's own.
        trained = batchsent.finetune(tuned, train=str(train), base_model=model, seed=seed, **pace)
        return judged, accuracy(str(tuned), measured), trained["training"]["kept_base"]


def accuracy(model: str, measured: pa.Table) -> float:
    """Return how often a model names the label of a row."""
    said = batchsent.load(model, device="cpu").predict(measured["text"].to_pylist())
    positive = [one.label == "POSITIVE" for one in said]
    return float(np.mean(np.array(positive) == measured["label"].to_numpy()))


if __name__ == "__main__":
    main()
