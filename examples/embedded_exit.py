"""The early exit of the model that comes with batchsent: how sure its first layers must be.

The classifier after these layers was trained with the model. Here it is calibrated, and the lowest
threshold is chosen at which the texts that leave keep the label that all layers would give them.
"""

from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

import batchsent
from batchsent.model import calibration, early_exit
from batchsent.model.loading import identify

THRESHOLDS = (0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.975, 0.98, 0.985, 0.99, 0.995)
# Of the texts that leave so many may get another label than from all layers.
LARGEST_FLIPS = 0.005


def add_early_exit(
    model: Path, layer: int, head: dict[str, Any], texts: list[str], labels: NDArray[np.int64]
) -> None:
    """Write the early exit of a finished model folder.

    `head` has the tensors weight and bias of the classifier after `layer` layers. It is calibrated
    on reviews with their labels (0 or 1), which no training has seen.
    """
    sha = identify(str(model)).weights_sha256
    full = logits_of(model, texts)

    def exit_of(threshold: float, temperature: float) -> early_exit.EarlyExit:
        weight, bias = (head[name].float().numpy() / temperature for name in ("weight", "bias"))
        return early_exit.EarlyExit(layer, threshold, weight, bias)

    # At this threshold every text leaves, so that these are the logits of the early classifier.
    everyone = 0.5 + 1e-9
    early_exit.write(exit_of(everyone, 1.0), model, sha)
    temperature = calibration.calibrate(logits_of(model, texts), labels).temperature
    early_exit.write(exit_of(everyone, temperature), model, sha)
    threshold = lowest_threshold(full, logits_of(model, texts), labels)
    early_exit.write(exit_of(threshold, temperature), model, sha)


def lowest_threshold(
    full: NDArray[np.float64], early: NDArray[np.float64], labels: NDArray[np.int64]
) -> float:
    """Return the lowest threshold at which those that leave keep their labels, and print all.

    `full` and `early` (texts, labels) are log probabilities after all layers and after the first.
    """
    sureness = np.exp(early).max(axis=1)
    click.echo("early exit at: texts that leave, of these with another label, accuracy")
    chosen = 1.0
    for threshold in reversed(THRESHOLDS):
        leaves = sureness >= threshold
        flips = float((early.argmax(1) != full.argmax(1))[leaves].sum() / max(leaves.sum(), 1))
        said = np.where(leaves, early.argmax(1), full.argmax(1))
        click.echo(
            f"  {threshold}: {leaves.mean():.1%}, {flips:.2%}, {(said == labels).mean():.4f}"
        )
        if flips > LARGEST_FLIPS:
            break
        chosen = threshold
    click.echo(f"  never: accuracy {(full.argmax(1) == labels).mean():.4f}; chosen: {chosen}")
    return chosen


def logits_of(model: Path, texts: list[str]) -> NDArray[np.float64]:
    """Return the logits (rows, labels) of reviews, up to a constant for each row."""
    found = batchsent.load(str(model), device="cpu", precision="float32").predict(texts)
    each = np.array([list(one.probabilities.values()) for one in found], dtype=np.float64)
    return np.log(np.maximum(each, 1e-30))
