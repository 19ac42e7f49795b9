"""Figures of the model that comes with batchsent, and its card."""

import json
import time
from pathlib import Path
from typing import Any

import click
import crops
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import batchsent
from batchsent.evaluation.quality import interval

WORD_EDGES = (10, 20, 40, 80, 160)
WORD_NAMES = ("under 10", "10 to 19", "20 to 39", "40 to 79", "80 to 159", "160 and more")


def measure(model: Path, train: str, test: str, work: Path) -> None:
    """Score the test reviews and their crops with the finished model, print its figures, and write
    them into its card.
    """
    reviews = pq.read_table(test, columns=["text", "label"])
    scored = work / "whole.parquet"
    whole = batchsent.batch(
        test, scored, model=str(model), gold="label", prefix="pred_", overwrite=True
    )
    of_crops = crops.measure(reviews, str(model), crops.PER_REVIEW, crops.SEED, keep=work)
    linear, linear_rate = baseline(train, reviews)
    figures = {
        "rows": whole["evaluation"]["rows"],
        "accuracy": whole["evaluation"]["accuracy"],
        "interval": whole["evaluation"]["accuracy_interval"],
        "roc_auc": whole["evaluation"]["roc_auc"],
        "calibration_error": whole["evaluation"]["calibration_error"],
        "precision": whole["model"]["precision"],
        "rate": rate(whole),
        "crops": of_crops,
        "by_words": by_words([scored, *(work / crops.scored_name(n) for n in crops.SENTENCES)]),
        "linear_accuracy": linear,
        "linear_rate": linear_rate,
        "device": whole["device"]["description"],
        "megabytes": sum(path.stat().st_size for path in model.iterdir()) / 1e6,
    }
    click.echo(json.dumps(figures, indent=2))
    (work / "figures.json").write_text(json.dumps(figures, indent=2))
    card = Path(__file__).with_name("embedded_card.md").read_text()
    rows = "\n".join(words_row(row) for row in figures["by_words"])
    exits = exit_line([whole["model"]["early_exit"], *(row["early_exit"] for row in of_crops)])
    card = card.format(**figures, words_rows=rows, exit_line=exits, made=time.strftime("%Y-%m-%d"))
    (model / "README.md").write_text(card)


def by_words(scored: list[Path]) -> list[dict[str, Any]]:
    """Return figures of scored reviews and crops together, by the number of words."""
    columns = ["text", "label", "pred_label", "pred_score"]
    together = pa.concat_tables(
        [pq.read_table(path, columns=columns) for path in scored], promote_options="permissive"
    )
    words = np.array([len(text.split()) for text in together["text"].to_pylist()])
    bins = np.searchsorted(WORD_EDGES, words, "right")
    positive = np.array(together["pred_label"].to_pylist()) == "POSITIVE"
    labels, scores = together["label"].to_numpy(), together["pred_score"].to_numpy()
    found = []
    for number, name in enumerate(WORD_NAMES):
        rows = bins == number
        if not rows.any():
            continue
        right = int((positive[rows] == labels[rows]).sum())
        low, high = interval(right, int(rows.sum()))
        found.append(
            {
                "name": name,
                "texts": int(rows.sum()),
                "accuracy": right / int(rows.sum()),
                "interval": [low, high],
                "mean_score": float(scores[rows].mean()),
                "share_positive": float(positive[rows].mean()),
                "true_share_positive": float(labels[rows].mean()),
            }
        )
    return found


def words_row(row: dict[str, Any]) -> str:
    """Return a line of the card's table by the number of words."""
    low, high = row["interval"]
    return (
        f"| {row['name']} | {row['texts']:,} | {row['accuracy']:.4f} ({low:.3f} to {high:.3f}) "
        f"| {row['mean_score'] - row['accuracy']:+.3f} | {row['share_positive']:.1%} "
        f"| {row['true_share_positive']:.1%} |"
    )


def exit_line(exits: list[dict[str, Any] | None]) -> str:
    """Say how many reviews and crops of one, two and three sentences skipped layers."""
    shares = [found["exited"] / max(1, found["texts"]) for found in exits if found is not None]
    rule = exits[0]
    if rule is None:
        return "All texts run through all layers."
    whole, *crops_of = (f"{share:.0%}" for share in shares)
    return (
        f"A text that gets a label with {rule['threshold']:g} or more after {rule['layer']} layers "
        f"skips the others (`early_exit.json`):\n{whole} of these reviews, {', '.join(crops_of)} of "
        "their crops of one, two and three sentences below."
    )


def rate(summary: dict[str, Any]) -> float:
    """Return the reviews a second of a run, once its model was loaded."""
    return summary["rows"]["scored"] / summary["performance"]["seconds"]["score"]


def baseline(train: str, reviews: pa.Table) -> tuple[float, float]:
    """Return accuracy and reviews a second of TF-IDF over words and pairs with a logistic
    regression.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    labelled = pq.read_table(train, columns=["text", "label"])
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True), LogisticRegression(C=10)
    )
    model.fit(labelled["text"].to_pylist(), labelled["label"].to_numpy())
    texts = reviews["text"].to_pylist()
    begin = time.perf_counter()
    said = model.predict(texts)
    return float((said == reviews["label"].to_numpy()).mean()), len(texts) / (
        time.perf_counter() - begin
    )
