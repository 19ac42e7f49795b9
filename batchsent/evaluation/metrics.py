"""Figures of a classifier from its confusion matrix, for the summary, and as an `evaluate.Metric`.

It is part of the package, since `evaluate.load` downloads a script even for accuracy.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHARES = ("precision", "recall", "f1")


def load_metric(labels: Sequence[str]) -> Any:
    """Return a fresh `evaluate.Metric` that knows the names of the classes.

    `compute(predictions=, references=, sample_weight=None)` takes class indices and returns a
    dictionary:

    - `accuracy`, `balanced_accuracy` (mean recall of the classes that occur in the references),
      `mcc`
    - `macro_precision`, `macro_recall`, `macro_f1`: over the classes that occur in references or
      predictions, which is scikit-learn's own choice
    - `per_class`: name -> `precision`, `recall`, `f1`, `support` (the weight of its references)
    - for two classes also `precision`, `recall`, `f1` of the second one

    A share of nothing is 0. Pairs of weight zero are left out; where no pair is left every figure
    is None. `figures_of` gives the same for a confusion matrix.
    """
    import datasets
    import evaluate

    class Classification(evaluate.Metric):  # type: ignore[misc]  # evaluate ships no types
        """Accuracy, precision, recall and F1 of a classifier, with weights."""

        def _info(self) -> Any:
            return evaluate.MetricInfo(
                description="Accuracy, balanced accuracy, MCC, and precision, recall and F1 by "
                "class and macro.",
                citation="",
                inputs_description="predictions and references: class indices; sample_weight: one "
                "number a pair.",
                features=datasets.Features(
                    {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
                ),
            )

        def _build_data_dir(self) -> str:
            # By default evaluate makes a folder under HOME, also for a metric in memory; cron may
            # have no HOME.
            return self._data_dir_root  # type: ignore[no-any-return]  # as above

        def _compute(
            self, *, predictions: Any, references: Any, sample_weight: Any = None
        ) -> dict[str, Any]:
            return classification(predictions, references, sample_weight, labels)

    # In memory, so that two runs at the same time share no file.
    return Classification(keep_in_memory=True)


def classification(
    predictions: Any, references: Any, sample_weight: Any, labels: Sequence[str]
) -> dict[str, Any]:
    """Compute what `load_metric` describes.

    Raises ValueError for an index that is no class or for weights of another length.
    """
    predicted = np.asarray(predictions, dtype=np.int64)
    gold = np.asarray(references, dtype=np.int64)
    weight = np.ones(len(gold))
    if sample_weight is not None:
        weight = np.asarray(sample_weight, dtype=np.float64)
    if weight.shape != gold.shape:
        raise ValueError(f"{len(weight)} weights for {len(gold)} pairs")
    for index in (predicted, gold):
        if len(index) and not 0 <= index.min() <= index.max() < len(labels):
            raise ValueError(
                f"class indices {index.min()} to {index.max()} for {len(labels)} classes"
            )
    confusion = np.zeros((len(labels), len(labels)))
    np.add.at(confusion, (gold, predicted), weight)
    return figures_of(confusion, labels)


def figures_of(confusion: NDArray[np.float64], labels: Sequence[str]) -> dict[str, Any]:
    """Return the figures of a confusion matrix: a row for each gold class, weights as cells.

    They are those of scikit-learn, which the tests compare; it is not imported, since a scoring
    run needs nothing else of it. The correlation is that of Gorodkin (2004), doi
    10.1016/j.compbiolchem.2004.09.006, for any number of classes.
    """
    total = confusion.sum()
    if not total:
        return figures_of_nothing(labels)
    right = confusion.diagonal()
    support, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    precision = share(right, predicted)
    recall = share(right, support)
    f1 = share(2 * right, support + predicted)
    occurring = support + predicted > 0
    figures: dict[str, Any] = {
        "accuracy": float(right.sum() / total),
        "balanced_accuracy": float(recall[support > 0].mean()),
        "mcc": correlation(confusion),
        "macro_precision": float(precision[occurring].mean()),
        "macro_recall": float(recall[occurring].mean()),
        "macro_f1": float(f1[occurring].mean()),
    }
    columns = [precision.tolist(), recall.tolist(), f1.tolist(), support.tolist()]
    names = (*SHARES, "support")
    each = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    if len(labels) == 2:
        figures |= {name: each[1][name] for name in SHARES}
    figures["per_class"] = dict(zip(labels, each, strict=True))
    return figures


def share(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return part / whole, 0 where there is nothing."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def correlation(confusion: NDArray[np.float64]) -> float:
    """Return Matthews' correlation coefficient, 0 where a side is constant."""
    support, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    total = confusion.sum()
    together = confusion.trace() * total - support @ predicted
    gold_alone = total**2 - support @ support
    predicted_alone = total**2 - predicted @ predicted
    if not gold_alone or not predicted_alone:
        return 0.0
    return float(together / np.sqrt(gold_alone) / np.sqrt(predicted_alone))


def figures_of_nothing(labels: Sequence[str]) -> dict[str, Any]:
    """Return the figures of `figures_of` for no pairs at all: each is None."""
    names = ["accuracy", "balanced_accuracy", "mcc"]
    names += ["macro_precision", "macro_recall", "macro_f1"]
    if len(labels) == 2:
        names += SHARES
    empty = {**dict.fromkeys(SHARES), "support": 0.0}
    return {**dict.fromkeys(names), "per_class": {name: dict(empty) for name in labels}}
