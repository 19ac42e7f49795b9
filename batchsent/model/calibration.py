"""Scores that are probabilities of being right: one temperature, fitted on held-out rows.

Temperature scaling (Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks",
2017): logits are divided by one number T before the softmax. The labels stay the same.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.chunk import Scores
from batchsent.model.files import read_own_json

FILE = "calibration.json"
SCHEMA = "batchsent.calibration/1"

# Encoders have temperatures from 1 to 3. At these limits the data do not determine one.
LOWEST, HIGHEST = 0.05, 20.0
BINS = 20  # of the calibration error, as in the summary
FOLDS = 5
# Each fold's temperature is fitted on the others' rows, and judged on rows it has not seen.
FEWEST_ROWS = 50


@dataclass(frozen=True)
class Calibration:
    """A temperature, and how much it improves the scores."""

    temperature: float  # 1 leaves scores as they are
    rows: int
    error_before: float | None  # expected calibration error, 0 is best
    error_after: float | None  # on rows that the temperature was not fitted on
    loss_before: float | None  # mean negative log-likelihood
    loss_after: float | None
    weights_sha256: str | None = None  # of the weights it belongs to, where known


def fit_temperature(logits: NDArray[Any], labels: NDArray[Any]) -> float:
    """Return the temperature that makes the right labels most likely.

    `logits` (rows, labels) may also be logarithms of probabilities; `labels` (rows,) are label
    numbers. The loss is convex in 1/T, so that bisection finds its minimum. Returns 1 where there
    is none between LOWEST and HIGHEST: for a model that is always right, or no better than chance.
    """
    z, y = _checked(logits, labels)
    if not len(z):
        return 1.0

    def slope(beta: float) -> float:
        """Return the derivative of the mean loss after 1/T: expected minus right logit."""
        p = softmax(z * beta)
        return float((np.where(p > 0, p * z, 0).sum(axis=1) - z[np.arange(len(z)), y]).mean())

    low, high = 1 / HIGHEST, 1 / LOWEST
    if slope(low) >= 0 or slope(high) <= 0:
        return 1.0
    # 50 steps in the logarithm reach the last digit of a float32.
    for _ in range(50):
        middle = (low * high) ** 0.5
        if slope(middle) < 0:
            low = middle
        else:
            high = middle
    return float(1 / (low * high) ** 0.5)


def calibrate(
    logits: NDArray[Any], labels: NDArray[Any], *, weights_sha256: str | None = None
) -> Calibration:
    """Fit a temperature on held-out rows and measure how much it improves the scores.

    The temperature is fitted on all rows. The figures after calibration are measured by
    cross-validation: each fold is scored with the temperature of the others. With fewer than
    FEWEST_ROWS rows the temperature is 1.
    """
    z, y = _checked(logits, labels)
    rows = len(z)
    if rows < FEWEST_ROWS:
        error = loss = None
        if rows:
            error, loss = calibration_error(softmax(z), y), _loss(z, y)
        return Calibration(1.0, rows, error, error, loss, loss, weights_sha256)
    # Held-out rows may be sorted by label: a seeded order gives every fold some of each.
    folds = np.random.default_rng(0).permutation(rows) % FOLDS
    scaled = np.empty_like(z)
    for fold in range(FOLDS):
        inside = folds == fold
        scaled[inside] = z[inside] / fit_temperature(z[~inside], y[~inside])
    return Calibration(
        temperature=fit_temperature(z, y),
        rows=rows,
        error_before=calibration_error(softmax(z), y),
        error_after=calibration_error(softmax(scaled), y),
        loss_before=_loss(z, y),
        loss_after=_loss(scaled, y),
        weights_sha256=weights_sha256,
    )


def apply_temperature(
    probabilities: NDArray[np.float32], temperature: float
) -> NDArray[np.float32]:
    """Return softmax(log p / T) of probabilities (rows, labels), which is softmax(logits / T).

    The most probable label stays the most probable: where rounding to float32 would tie it with
    another, that one is lowered by the last digit. T = 1 returns the same bits; rows of NaN stay
    NaN.
    """
    if temperature == 1:
        return probabilities
    with np.errstate(divide="ignore"):
        z = np.log(probabilities.astype(np.float64)) / temperature
    scaled = softmax(z).astype(np.float32)
    rows = np.flatnonzero(np.isfinite(scaled).all(axis=1))
    winners = probabilities[rows].argmax(axis=1)
    best = scaled[rows, winners][:, None]
    # Only labels that were less probable before: a tie stays one.
    lower = probabilities[rows] < probabilities[rows, winners][:, None]
    limited = np.minimum(scaled[rows], np.nextafter(best, np.float32(0)))
    scaled[rows] = np.where(lower, limited, scaled[rows])
    return scaled


def calibrated(scores: Scores, temperature: float, fast: float | None = None) -> Scores:
    """Return the scores of a chunk, and of its sentences, with calibrated probabilities.

    `fast` is the temperature of a cascade's fast model, for the rows that it decided.
    """
    sentences = scores.sentences
    if sentences is not None:
        sentences = replace(sentences, scores=calibrated(sentences.scores, temperature, fast))
    probabilities = apply_temperature(scores.probabilities, temperature)
    if fast is not None and scores.escalated is not None:
        of_fast = apply_temperature(scores.probabilities, fast)
        probabilities = np.where(scores.escalated[:, None], probabilities, of_fast)
    return replace(scores, probabilities=probabilities, sentences=sentences)


def calibration_error(
    probabilities: NDArray[Any], labels: NDArray[Any], bins: int = BINS
) -> float | None:
    """Return the expected calibration error over equal bins of the score; None without rows."""
    if not len(labels):
        return None
    score = probabilities.max(axis=1)
    hit = probabilities.argmax(axis=1) == labels
    place = np.minimum((score * bins).astype(np.int64), bins - 1)
    gaps = np.abs(np.bincount(place, weights=score - hit, minlength=bins))
    return float(gaps.sum() / len(labels))


def dumps(calibration: Calibration) -> bytes:
    """Return the content of a model folder's calibration.json."""
    document = {
        "schema": SCHEMA,
        "method": "temperature scaling (Guo et al. 2017)",
        **asdict(calibration),
    }
    return json.dumps(document, indent=2, allow_nan=False).encode() + b"\n"


def read(folder: Path, *, weights_sha256: str | None = None) -> Calibration | None:
    """Read the calibration of a model folder; None where it has none.

    Raises ModelError for a file that is damaged, or was fitted for other weights than
    `weights_sha256`.
    """
    hint = "make the model again with batchsent finetune, or leave out --calibrated"
    return read_own_json(folder / FILE, SCHEMA, hint, _parse, weights_sha256)


def _parse(document: Mapping[str, Any]) -> Calibration:
    """Return what a document says. Raises a built-in error for one that cannot be."""
    found = Calibration(**{name: document[name] for name in Calibration.__dataclass_fields__})
    if isinstance(found.temperature, bool) or not LOWEST <= found.temperature <= HIGHEST:
        raise ValueError(f"a temperature of {found.temperature!r}")
    return found


def rename_weights(folder: Path, weights_sha256: str) -> None:
    """Say in a folder's calibration.json that it belongs to weights of this SHA-256.

    For the same weights in another file. Does nothing where there is no calibration. Raises
    ModelError for a file that is damaged.
    """
    found = read(folder)
    if found is not None:
        (folder / FILE).write_bytes(dumps(replace(found, weights_sha256=weights_sha256)))


def _checked(
    logits: NDArray[Any], labels: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return label numbers, and logits shifted so that the highest of each row is 0."""
    z, y = np.asarray(logits, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    assert z.ndim == 2
    assert y.shape == z.shape[:1]
    assert np.isfinite(z).all()
    if len(z):
        z = z - z.max(axis=1, keepdims=True, initial=-np.inf)
    return z, y


def softmax(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return probabilities (rows, labels) of logits."""
    shifted = np.exp(z - z.max(axis=1, keepdims=True))
    result: NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
    return result


def _loss(z: NDArray[np.float64], y: NDArray[np.int64]) -> float:
    shifted = z - z.max(axis=1, keepdims=True)
    return float((np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(y)), y]).mean())
