"""The curves of an evaluation and the areas under them, against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchsent.evaluation import curves
from tests.scored_rows import FOUR, Rows


def test_areas_are_those_of_scikit_learn_within_the_stated_error():
    """ROC AUC and average precision differ from scikit-learn's by no more than stated, which is
    under 0.001.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    rows = Rows(rows=20_000)
    got = rows.tally().sections()["evaluation"]
    assert got["positive"] == "POSITIVE"
    for name, exact in (
        ("roc_auc", roc_auc_score(rows.y, rows.p[:, 1])),
        ("average_precision", average_precision_score(rows.y, rows.p[:, 1])),
    ):
        assert got[f"{name}_error"] < 1e-3
        assert abs(got[name] - exact) <= got[f"{name}_error"] + 1e-12


def test_areas_of_many_labels_are_one_against_the_rest():
    """With four labels each has its own area, and the whole one is their mean."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    rows = Rows(FOUR)
    got = rows.tally().sections()["evaluation"]
    roc = [roc_auc_score(rows.y == i, rows.p[:, i]) for i in range(4)]
    precision = [average_precision_score(rows.y == i, rows.p[:, i]) for i in range(4)]
    assert [entry["roc_auc"] for entry in got["labels"]] == pytest.approx(roc, abs=1e-3)
    assert [entry["average_precision"] for entry in got["labels"]] == pytest.approx(
        precision, abs=2e-3
    )
    assert abs(got["roc_auc"] - np.mean(roc)) <= got["roc_auc_error"] + 1e-12
    assert (
        abs(got["average_precision"] - np.mean(precision)) <= got["average_precision_error"] + 1e-12
    )


probabilities = st.one_of(
    st.floats(0, 1, width=32),
    st.floats(0.5, 0.5009765625, width=32),  # all within a few bins
    st.sampled_from([0.0, 1.0, 0.5, 1e-30, float(np.float32(1 - 6e-8))]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.booleans(), probabilities), min_size=2, max_size=60))
def test_the_stated_error_holds_for_any_scores(pairs):
    """However the probabilities lie, ties and all, the exact areas are within the stated error."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    y = np.array([positive for positive, _ in pairs])
    p = np.array([probability for _, probability in pairs], dtype=np.float32)
    places = curves.bin_numbers(p)
    positive, negative = (np.bincount(places[side], minlength=curves.BINS) for side in (y, ~y))
    areas = curves.areas(positive, negative)
    if y.all() or not y.any():
        assert set(areas.values()) == {None}
        return
    assert abs(areas["roc_auc"] - roc_auc_score(y, p)) <= areas["roc_auc_error"] + 1e-12
    exact = average_precision_score(y, p)
    assert abs(areas["average_precision"] - exact) <= areas["average_precision_error"] + 1e-12


def test_a_bin_never_turns_the_order_of_two_probabilities():
    """A higher probability never lands in a lower bin, up to the last float32 before 0 and 1."""
    p = np.linspace(0, 1, 100_001).astype(np.float32)
    p = np.sort(
        np.concatenate(
            [
                p,
                np.float32(10.0) ** -np.arange(1, 40),
                np.float32(1) - np.float32(2.0) ** -np.arange(1, 25),
            ]
        )
    )
    bins = curves.bin_numbers(p)
    assert (np.diff(bins) >= 0).all()
    assert (bins[0], bins[-1]) == (0, curves.BINS - 1)


def test_points_of_the_curves_lie_on_the_curves():
    """The points kept for drawing are points of scikit-learn's curves, from corner to corner."""
    from sklearn.metrics import precision_recall_curve, roc_curve

    rows = Rows(rows=20_000)
    (drawn,) = rows.tally().sections()["evaluation"]["curves"]
    fpr, tpr, _ = roc_curve(rows.y, rows.p[:, 1], drop_intermediate=False)
    got = drawn["roc"]
    assert len(got["fpr"]) <= 101
    assert (got["fpr"][0], got["tpr"][0], got["fpr"][-1], got["tpr"][-1]) == (0, 0, 1, 1)
    for x, y in zip(got["fpr"], got["tpr"], strict=True):
        assert np.abs(np.stack([fpr - x, tpr - y])).max(axis=0).min() < 1e-6
    precision, recall, _ = precision_recall_curve(rows.y, rows.p[:, 1])
    got = drawn["precision_recall"]
    assert got["recall"][-1] == 1
    for x, y in zip(got["recall"], got["precision"], strict=True):
        assert np.abs(np.stack([recall - x, precision - y])).max(axis=0).min() < 1e-6
