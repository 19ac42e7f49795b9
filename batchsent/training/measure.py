"""How good a model is on the evaluation rows, beside its base model, and what it got wrong."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.chunk import SCORED
from batchsent.errors import DeviceError, ModelError, UsageError
from batchsent.evaluation.quality import Quality, Z
from batchsent.model.calibration import softmax
from batchsent.model.loading import identify
from batchsent.model.options import ModelOptions
from batchsent.model.scorer import ModelScorer
from batchsent.reporting import Reporter
from batchsent.training.examples import Examples
from batchsent.training.plan import Setup
from batchsent.training.seen import SeenTexts

Probabilities = NDArray[np.float32]  # (rows, labels)

# Of the figures of an evaluation those that a training reports; the others are `batchsent
# evaluate`'s.
REPORTED = ("rows", "accuracy", "accuracy_interval", "majority", "macro", "labels", "confusion")
MOST_MISTAKES = 10
SLICE_ROWS = 512


def measure(setup: Setup, logits: NDArray[Any], reporter: Reporter) -> dict[str, Any]:
    """Return what metrics.json says of the evaluation rows beyond the metrics of the Trainer.

    `logits` (rows, labels) are the trained model's. Figures on rows that the base model has seen
    say little, so where there are such rows they are counted, and both models are also measured on
    the others.
    """
    examples = setup.splits.evaluation
    gold = np.array(examples.labels)
    tuned: Probabilities = softmax(logits.astype(np.float64)).astype(np.float32)
    seen = setup.seen
    known = seen.contains(examples.texts)
    new = np.flatnonzero(~known)
    others = quality_of(setup.names, gold[new], tuned[new])
    return {
        "evaluation": evaluate_rows(setup.names, gold, tuned),
        "seen": seen_section(seen, len(gold), others),
        "comparison": compare(
            setup, gold[new], tuned[new], [examples.texts[i] for i in new], reporter
        ),
        "mistakes": mistakes(setup.names, examples, tuned),
    }


def evaluate_rows(
    names: Sequence[str], gold: NDArray[np.int64], probabilities: Probabilities
) -> dict[str, Any]:
    """Return the figures of REPORTED, with 95 % intervals, as `batchsent evaluate` counts them."""
    return reported(quality_of(names, gold, probabilities))


def quality_of(
    names: Sequence[str], gold: NDArray[np.int64], probabilities: Probabilities
) -> Quality:
    """Judge rows (rows,) by their probabilities (rows, labels)."""
    quality = Quality(names)
    # Quality also counts by text length and truncation, which REPORTED does not contain.
    nothing = np.zeros(len(gold), dtype=np.int64)
    quality.add(
        gold, probabilities.argmax(axis=1), probabilities, nothing, nothing.astype(np.bool_)
    )
    return quality


def reported(quality: Quality) -> dict[str, Any]:
    """Return the figures of REPORTED."""
    section = quality.section()
    return {name: section[name] for name in REPORTED}


def seen_section(seen: SeenTexts, rows: int, others: Quality) -> dict[str, Any]:
    """Return how many of `rows` judged rows a model has learned, and its figures on the others.

    `others` has judged the rows that are new to the model.
    """
    new = int(others.confusion.sum())
    return {
        "texts": seen.texts,
        "complete": seen.complete,
        "rows": rows - new,
        "rows_by_chance": round(seen.false_positive_rate * rows, 4),
        "evaluation_of_others": reported(others) if 0 < new < rows else None,
    }


def compare(
    setup: Setup,
    gold: NDArray[np.int64],
    tuned: Probabilities,
    texts: list[str],
    reporter: Reporter,
) -> dict[str, Any]:
    """Compare the tuned model with its base on rows that the base has not seen.

    Returns the figures of both on these rows and the difference of their accuracies with a 95 %
    interval, or why there is no such comparison.
    """
    why_not = why_not_compared(setup, len(gold))
    base: Probabilities | None = None
    if why_not is None:
        reporter.stage("scoring the evaluation rows with the base model")
        try:
            base = score_base(setup, texts, reporter.progress)
        except (ModelError, DeviceError, UsageError) as error:
            why_not = f"the base model cannot score: {error.message}"
    if base is None:
        return {"why_not": why_not}
    difference, interval = paired_difference(
        tuned.argmax(axis=1) == gold, base.argmax(axis=1) == gold
    )
    return {
        "why_not": None,
        "rows": len(gold),
        "base": evaluate_rows(setup.names, gold, base),
        "tuned": evaluate_rows(setup.names, gold, tuned),
        "difference": difference,
        "difference_interval": interval,
    }


def why_not_compared(setup: Setup, rows: int) -> str | None:
    """Say why base and tuned model cannot be compared; None where they can."""
    base = setup.base
    if base is None:
        return "there is no base model"
    if not base.labels:
        return "the base model has no classification head"
    theirs = {name.casefold() for name in base.labels}
    if theirs != {name.casefold() for name in setup.names}:
        return f"the base model has other labels: {', '.join(base.labels[:20])}"
    if not rows:
        return "the base model has seen every evaluation row"
    return None


def score_base(
    setup: Setup, texts: list[str], progress: Callable[[int, int | None], None]
) -> Probabilities:
    """Score texts with the base model as it comes, and return its probabilities (rows, labels).

    Columns are in the order of the new model's labels. Raises ModelError, DeviceError or
    UsageError.
    """
    assert setup.base is not None
    scorer = ModelScorer.open(
        identify(str(setup.base.path)), ModelOptions(device=setup.device.name)
    )
    slices = []
    try:
        for start in range(0, len(texts), SLICE_ROWS):
            rows: list[str | None] = [*texts[start : start + SLICE_ROWS]]
            scores = scorer.score(scorer.prepare(rows))
            if not (scores.status == SCORED).all():
                raise ModelError("it gives no number for some of the rows")
            slices.append(scores.probabilities)
            progress(start + len(rows), len(texts))
    finally:
        scorer.close()
    theirs = [name.casefold() for name in setup.base.labels]
    order = [theirs.index(name.casefold()) for name in setup.names]
    found: Probabilities = np.concatenate(slices)[:, order]
    return found


def paired_difference(
    tuned: NDArray[np.bool_], base: NDArray[np.bool_]
) -> tuple[float, list[float]]:
    """Return how much more often `tuned` is right, with a 95 % interval (Agresti and Min 2005).

    Both (rows,) are about the same rows, so that only rows where one is right alone count; half a
    row is added to each of the four cells of the table.
    """
    rows = len(tuned) + 2
    tuned_alone = int((tuned & ~base).sum()) + 0.5
    base_alone = int((base & ~tuned).sum()) + 0.5
    middle = (tuned_alone - base_alone) / rows
    half = Z * (tuned_alone + base_alone - (tuned_alone - base_alone) ** 2 / rows) ** 0.5 / rows
    return float(tuned.mean() - base.mean()), [max(-1.0, middle - half), min(1.0, middle + half)]


def mistakes(
    names: Sequence[str], examples: Examples, probabilities: Probabilities
) -> list[dict[str, Any]]:
    """Return the wrong answers with the highest scores, by row number: no text of them."""
    gold = np.array(examples.labels)
    winners, scores = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(winners != gold)
    # Stable: of equal scores the first row comes first.
    surest = wrong[np.argsort(-scores[wrong], kind="stable")][:MOST_MISTAKES]
    return [
        {
            "row": examples.numbers[row] if examples.numbers else row + 1,
            "label": names[gold[row]],
            "predicted": names[winners[row]],
            "score": round(float(scores[row]), 4),
        }
        for row in surest.tolist()
    ]
