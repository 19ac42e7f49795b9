"""The one metric of fine-tuning and scoring: scikit-learn's figures, from rows or from a confusion
matrix.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from batchsent.evaluation.metrics import load_metric

PAIRS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40)


def columns(pairs):
    """Return references and predictions of (reference, prediction) pairs."""
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def test_two_classes_are_measured_as_scikit_learn_measures_them():
    """Accuracy, precision, recall and F1 of the second class are those that a notebook shows."""
    gold, predicted = [0, 0, 0, 1, 1, 1, 1, 0], [0, 1, 0, 1, 1, 0, 1, 0]
    found = load_metric(["NEGATIVE", "POSITIVE"]).compute(predictions=predicted, references=gold)
    assert found["accuracy"] == metrics.accuracy_score(gold, predicted)
    assert found["precision"] == metrics.precision_score(gold, predicted)
    assert found["recall"] == metrics.recall_score(gold, predicted)
    assert found["f1"] == pytest.approx(metrics.f1_score(gold, predicted))
    assert found["balanced_accuracy"] == metrics.balanced_accuracy_score(gold, predicted)
    assert found["mcc"] == pytest.approx(metrics.matthews_corrcoef(gold, predicted))
    assert found["per_class"]["POSITIVE"]["support"] == 4


@given(PAIRS)
@settings(deadline=None, max_examples=40)
def test_macro_figures_are_those_of_scikit_learn(pairs):
    """Macro precision, recall and F1 are scikit-learn's, whichever classes occur."""
    gold, predicted = columns(pairs)
    found = load_metric(["a", "b", "c"]).compute(predictions=predicted, references=gold)
    for name, function in (
        ("precision", metrics.precision_score),
        ("recall", metrics.recall_score),
    ):
        expected = function(gold, predicted, average="macro", zero_division=0.0)
        assert found[f"macro_{name}"] == pytest.approx(expected)
    assert found["macro_f1"] == pytest.approx(
        metrics.f1_score(gold, predicted, average="macro", zero_division=0.0)
    )


@given(PAIRS)
@settings(deadline=None, max_examples=40)
def test_a_confusion_matrix_gives_the_figures_of_its_rows(pairs):
    """Nine weighted cells, empty ones among them, say the same as the rows they count.

    Nothing warns.
    """
    gold, predicted = columns(pairs)
    matrix = metrics.confusion_matrix(gold, predicted, labels=[0, 1, 2])
    cells = np.indices((3, 3)).reshape(2, -1)
    metric = load_metric(["a", "b", "c"])
    of_rows = metric.compute(predictions=predicted, references=gold)
    of_cells = metric.compute(
        predictions=cells[1], references=cells[0], sample_weight=matrix.ravel()
    )
    per_class = of_rows.pop("per_class"), of_cells.pop("per_class")
    assert of_cells == pytest.approx(of_rows)
    for name in ("a", "b", "c"):
        assert per_class[1][name] == pytest.approx(per_class[0][name])


def test_nothing_to_measure_gives_no_figures():
    """Cells that are all empty give None and not a made-up zero."""
    metric = load_metric(["NEGATIVE", "POSITIVE"])
    found = metric.compute(
        predictions=[0, 1, 0, 1], references=[0, 0, 1, 1], sample_weight=[0, 0, 0, 0]
    )
    assert found["accuracy"] is None
    assert found["f1"] is None
    assert found["per_class"]["POSITIVE"] == {
        "precision": None,
        "recall": None,
        "f1": None,
        "support": 0.0,
    }


def test_one_class_on_both_sides_is_measured():
    """A file of praise alone, all recognised, has accuracy 1 and no correlation to speak of."""
    found = load_metric(["NEGATIVE", "POSITIVE"]).compute(predictions=[1, 1], references=[1, 1])
    assert (found["accuracy"], found["balanced_accuracy"], found["macro_f1"], found["mcc"]) == (
        1.0,
        1.0,
        1.0,
        0.0,
    )


def test_an_index_that_is_no_class_is_refused():
    """A class number beyond the labels is an error and not a silent row of its own."""
    with pytest.raises(ValueError, match="0 to 2 for 2 classes"):
        load_metric(["a", "b"]).compute(predictions=[0, 2], references=[0, 1])


def test_it_works_without_home_and_network():
    """A metric needs no cache folder: cron may give it no HOME, and evaluate's own metrics need the
    Hub.
    """
    program = (
        "from batchsent.evaluation.metrics import load_metric\n"
        "print(load_metric(['a', 'b']).compute(predictions=[1, 0], references=[1, 1])['accuracy'])"
    )
    nowhere = {"HOME": "/proc/nowhere", "HF_HUB_OFFLINE": "1", "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=nowhere,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout == "0.5\n"
