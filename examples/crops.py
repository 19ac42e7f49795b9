"""Measure a model on crops of labelled reviews: one, two or three sentences that follow each other.

    python examples/crops.py test.parquet
    python examples/crops.py test.parquet --model MODEL --rows 1000 --json

A crop is judged by the label of its review. It need not say what the review does, so no model
reaches 100 %: the figures compare models and show whether a model leans to one label.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import batchsent
from batchsent.training.crops import SENTENCES, crops_of

PER_REVIEW = 2  # crops of each length
SEED = 42


@click.command()
@click.argument("reviews")
@click.option("--model", default="embedded", show_default=True, help="Model folder or Hub id.")
@click.option(
    "--per-review",
    default=PER_REVIEW,
    show_default=True,
    type=click.IntRange(1),
    help="Crops of each length that are cut from a review.",
)
@click.option(
    "--rows",
    type=click.IntRange(1),
    help="Reviews to cut, the first of the file. Without it: all.",
)
@click.option("--seed", default=SEED, show_default=True, help="Seed of the choice of crops.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def main(
    reviews: str, model: str, per_review: int, rows: int | None, seed: int, as_json: bool
) -> None:
    """Print accuracy, calibration error and share of positive crops for every length of crops.

    REVIEWS is a Parquet file with text and label (0 negative, 1 positive).
    """
    labelled = pq.read_table(reviews, columns=["text", "label"]).slice(0, rows)
    figures = measure(labelled, model, per_review, seed)
    if as_json:
        click.echo(json.dumps(figures, indent=2))
        return
    click.echo(f"{'sentences':>9} {'crops':>7} {'accuracy':>8} {'95 % interval':>16} ", nl=False)
    click.echo(f"{'calibration error':>17} {'positive':>8} {'in truth':>8}")
    for row in figures:
        low, high = row["accuracy_interval"]
        click.echo(
            f"{row['sentences']:>9} {row['crops']:>7,} {row['accuracy']:>8.4f} "
            f"{f'{low:.4f} to {high:.4f}':>16} {row['calibration_error']:>17.4f} "
            f"{row['share_positive']:>8.4f} {row['true_share_positive']:>8.4f}"
        )


def scored_name(sentences: int) -> str:
    """Return the name of the file with the scored crops of so many sentences."""
    return f"crops-{sentences}.parquet"


def measure(
    labelled: pa.Table, model: str, per_review: int, seed: int, keep: Path | None = None
) -> list[dict[str, Any]]:
    """Return the figures of a model for every length of crops; the scored ones go to `keep`.

    `labelled` has the columns text and label (0 negative, 1 positive). Reviews with fewer sentences
    than a crop has are left out of that length.
    """
    figures = []
    for sentences in SENTENCES:
        crops = crop_table(labelled, sentences, per_review, seed)
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "crops.parquet")
            pq.write_table(crops, source)
            summary = batchsent.batch(
                source,
                (keep or Path(folder)) / scored_name(sentences),
                model=model,
                gold="label",
                prefix="pred_",
                overwrite=True,
            )
        judged = summary["evaluation"]
        shares = {row["label"]: row["share"] for row in summary["predictions"]["labels"]}
        figures.append(
            {
                "sentences": sentences,
                "crops": judged["rows"],
                "accuracy": judged["accuracy"],
                "accuracy_interval": judged["accuracy_interval"],
                "calibration_error": judged["calibration_error"],
                "share_positive": shares["POSITIVE"],
                "true_share_positive": float(np.mean(crops["label"].to_numpy())),
                "early_exit": summary["model"]["early_exit"],
            }
        )
    return figures


def crop_table(labelled: pa.Table, sentences: int, per_review: int, seed: int) -> pa.Table:
    """Return crops with the labels of their reviews, at most `per_review` of each.

    The same crops for the same reviews, lengths and seed, whichever model is measured.
    """
    random = np.random.default_rng([seed, sentences])
    texts: list[str] = []
    labels: list[int] = []
    for text, label in zip(
        labelled["text"].to_pylist(), labelled["label"].to_pylist(), strict=True
    ):
        found = crops_of(text, sentences, per_review, random)
        texts += found
        labels += [label] * len(found)
    return pa.table({"text": texts, "label": pa.array(labels, pa.int8())})


if __name__ == "__main__":
    main()
