"""One `evaluate.Metric` over scikit-learn, used by fine-tuning and by the summary.

It is part of the package, since `evaluate.load` downloads a script even for accuracy.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

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
    is None. To measure a confusion matrix, give its cells as pairs and their counts as weights.
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
    from sklearn.metrics import accuracy_score, matthews_corrcoef, precision_recall_fscore_support

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
    # scikit-learn warns about classes whose weights are all zero, such as empty cells of a
    # confusion matrix.
    predicted, gold, weight = predicted[weight > 0], gold[weight > 0], weight[weight > 0]
    if not len(gold):
        return figures_of_nothing(labels)
    columns = precision_recall_fscore_support(
        gold, predicted, labels=range(len(labels)), sample_weight=weight, zero_division=0.0
    )
    precision, recall, f1, support = (column.tolist() for column in columns)
    occurring = sorted(set(gold.tolist()) | set(predicted.tolist()))
    figures: dict[str, Any] = {
        "accuracy": float(accuracy_score(gold, predicted, sample_weight=weight)),
        "balanced_accuracy": mean([recall[i] for i in sorted(set(gold.tolist()))]),
        "mcc": correlation(matthews_corrcoef, gold, predicted, weight),
        "macro_precision": mean([precision[i] for i in occurring]),
        "macro_recall": mean([recall[i] for i in occurring]),
        "macro_f1": mean([f1[i] for i in occurring]),
    }
    if len(labels) == 2:
        figures |= {"precision": precision[1], "recall": recall[1], "f1": f1[1]}
    figures["per_class"] = {
        name: {"precision": precision[i], "recall": recall[i], "f1": f1[i], "support": support[i]}
        for i, name in enumerate(labels)
    }
    return figures


def figures_of_nothing(labels: Sequence[str]) -> dict[str, Any]:
    """Return the figures of `classification` for no pairs at all: each is None."""
    names = ["accuracy", "balanced_accuracy", "mcc"]
    names += ["macro_precision", "macro_recall", "macro_f1"]
    if len(labels) == 2:
        names += SHARES
    empty = {**dict.fromkeys(SHARES), "support": 0.0}
    return {**dict.fromkeys(names), "per_class": {name: dict(empty) for name in labels}}


def mean(values: Sequence[float]) -> float:
    """Return the mean of at least one number."""
    return sum(values) / len(values)


def correlation(matthews_corrcoef: Any, gold: Any, predicted: Any, weight: Any) -> float:
    """Return Matthews' correlation coefficient, 0 where a side is constant."""
    # By convention it is 0 for one class on both sides; scikit-learn would warn of a single label.
    if len(set(gold.tolist()) | set(predicted.tolist())) < 2:
        return 0.0
    return float(matthews_corrcoef(gold, predicted, sample_weight=weight))
