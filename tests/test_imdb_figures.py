"""The evaluation section on 5,000 IMDB reviews: every figure beside scikit-learn's, through
`batch --gold`.
"""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from batchsent.commands.batch import batch
from batchsent.evaluation.quality import LENGTH_EDGES
from tests.word_model import WordModels

IMDB = Path(__file__).parents[2] / "shared" / "data" / "imdb" / "test-5k.parquet"
UNSURE = 0.7

pytestmark = pytest.mark.skipif(not IMDB.exists(), reason=f"{IMDB} is not there")


class Run:
    """What the run wrote, row by row, and what its summary says of it."""

    def __init__(self, folder):
        output = folder / "out.parquet"
        batch(
            IMDB,
            output,
            models=WordModels(),
            gold="label",
            prefix="pred_",
            probabilities=True,
            details=True,
            unsure_below=UNSURE,
        )
        table = pq.read_table(output)
        self.gold = table["label"].to_numpy()
        self.probability = table["pred_prob_POSITIVE"].to_numpy()
        self.score = table["pred_score"].to_numpy()
        self.predicted = np.array(
            [label == "POSITIVE" for label in table["pred_label"].to_pylist()], dtype=int
        )
        self.lengths = np.array([len(text) for text in table["text"].to_pylist()])
        self.truncated = table["pred_truncated"].to_numpy(zero_copy_only=False)
        self.evaluation = json.loads((folder / "out.parquet.summary.json").read_bytes())[
            "evaluation"
        ]
        self.hit = self.gold == self.predicted


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("imdb"))


def exactly(value):
    """Equal but for the last bits of a float64."""
    return pytest.approx(value, rel=1e-12, abs=1e-12)


def wilson(hits, rows):
    """Wilson's interval, as its roots: |share - p| = z sqrt(p (1 - p) / rows)."""
    z, share = 1.959963984540054, hits / rows
    return sorted(
        np.roots([1 + z * z / rows, -2 * share - z * z / rows, share * share]).real.tolist()
    )


def brief(gold, predicted):
    """The main figures of some rows, as scikit-learn gives them."""
    from sklearn import metrics

    return {
        "rows": len(gold),
        "accuracy": metrics.accuracy_score(gold, predicted),
        "accuracy_interval": wilson((gold == predicted).sum(), len(gold)),
        # Without the warning of balanced_accuracy_score where three short reviews are all of one
        # label.
        "balanced_accuracy": metrics.recall_score(
            gold, predicted, labels=np.unique(gold), average="macro"
        ),
        "macro_f1": metrics.f1_score(gold, predicted, average="macro"),
        "mcc": metrics.matthews_corrcoef(gold, predicted),
    }


def check_counts(run, found):
    """Confusion matrix, its mistakes, labels with their figures, the majority."""
    from sklearn import metrics

    matrix = metrics.confusion_matrix(run.gold, run.predicted)
    assert found["confusion"]["counts"] == matrix.tolist()
    mistakes = [("NEGATIVE", "POSITIVE", matrix[0, 1]), ("POSITIVE", "NEGATIVE", matrix[1, 0])]
    assert [tuple(m.values()) for m in found["confusion"]["mistakes"]] == sorted(
        mistakes, key=lambda m: -m[2]
    )
    most = int(np.bincount(run.gold).argmax())
    assert found["majority"] == {
        "label": ["NEGATIVE", "POSITIVE"][most],
        "accuracy": exactly((run.gold == most).mean()),
    }
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        run.gold, run.predicted
    )
    for i, entry in enumerate(found["labels"]):
        hits = matrix[i, i]
        assert entry == {
            "label": ["NEGATIVE", "POSITIVE"][i],
            "gold": support[i],
            "predicted": (run.predicted == i).sum(),
            "precision": exactly(precision[i]),
            "precision_interval": pytest.approx(wilson(hits, (run.predicted == i).sum())),
            "recall": exactly(recall[i]),
            "recall_interval": pytest.approx(wilson(hits, support[i])),
            "f1": exactly(f1[i]),
        }


def check_shares(run, found):
    """Accuracy and its kin: exact."""
    from sklearn import metrics

    expected = brief(run.gold, run.predicted)
    for name in ("rows", "accuracy", "balanced_accuracy", "mcc"):
        assert found[name] == exactly(expected[name])
    assert found["accuracy_interval"] == pytest.approx(expected["accuracy_interval"])
    macro = metrics.precision_recall_fscore_support(run.gold, run.predicted, average="macro")
    assert found["macro"] == {
        name: exactly(value)
        for name, value in zip(("precision", "recall", "f1"), macro[:3], strict=True)
    }


def check_areas(run, found):
    """Binned areas: within the error that is stated, which is small.

    Points of the curves lie on the curves.
    """
    from sklearn import metrics

    for name, exact in (
        ("roc_auc", metrics.roc_auc_score(run.gold, run.probability)),
        ("average_precision", metrics.average_precision_score(run.gold, run.probability)),
    ):
        assert 0 <= found[f"{name}_error"] < 1e-3
        assert abs(found[name] - exact) <= found[f"{name}_error"] + 1e-12
    (drawn,) = found["curves"]
    assert drawn["label"] == found["positive"] == "POSITIVE"
    fpr, tpr, _ = metrics.roc_curve(run.gold, run.probability, drop_intermediate=False)
    precision, recall, _ = metrics.precision_recall_curve(run.gold, run.probability)
    for (xs, ys), (exact_x, exact_y) in (
        (drawn["roc"].values(), (fpr, tpr)),
        (drawn["precision_recall"].values(), (recall, precision)),
    ):
        for x, y in zip(xs, ys, strict=True):
            assert np.maximum(np.abs(exact_x - x), np.abs(exact_y - y)).min() < 1e-6


def check_scores(run, found):
    """Brier score, calibration and coverage: sums in fixed point, right to a billionth."""
    from sklearn import metrics

    brier = metrics.brier_score_loss(run.gold, run.probability.astype(np.float64))
    assert found["brier"] == pytest.approx(brier, abs=1e-9)
    error = 0.0
    for entry in found["calibration"]:
        inside = (run.score >= np.float32(entry["from"])) & (run.score < np.float32(entry["to"]))
        inside |= (entry["to"] == 1) & (run.score >= 1)
        assert entry["rows"] == inside.sum()
        if inside.any():
            assert entry["accuracy"] == exactly(run.hit[inside].mean())
            assert entry["mean_score"] == pytest.approx(
                run.score[inside].mean(dtype=np.float64), abs=1e-9
            )
            error += abs(entry["accuracy"] - entry["mean_score"]) * inside.mean()
    assert sum(entry["rows"] for entry in found["calibration"]) == len(run.gold)
    assert found["calibration_error"] == pytest.approx(error, abs=1e-9)
    assert UNSURE in [entry["score_at_least"] for entry in found["coverage"]]
    for entry in found["coverage"]:
        sure = run.score >= np.float32(entry["score_at_least"])
        assert entry["rows"] == sure.sum()
        assert entry["share"] == exactly(sure.mean())
        assert entry["accuracy"] == exactly(run.hit[sure].mean())


def check_parts(run, found):
    """By length, whole and truncated: scikit-learn's on those rows alone."""
    ends = [*LENGTH_EDGES[1:], 1 << 40]
    parts = [
        (entry, (run.lengths >= start) & (run.lengths < end))
        for entry, start, end in zip(found["by_length"], LENGTH_EDGES, ends, strict=True)
    ]
    parts += [(found["whole"], ~run.truncated), (found["truncated"], run.truncated)]
    assert run.truncated.any()
    for entry, inside in parts:
        assert entry["rows"] == inside.sum()
        if inside.any():
            for name, value in brief(run.gold[inside], run.predicted[inside]).items():
                assert entry[name] == pytest.approx(value, abs=1e-9), name


CHECKS = {
    check_counts: {"confusion", "labels", "majority"},
    check_shares: {"rows", "accuracy", "accuracy_interval", "balanced_accuracy", "mcc", "macro"},
    check_areas: {
        "roc_auc",
        "roc_auc_error",
        "average_precision",
        "average_precision_error",
        "curves",
        "positive",
    },
    check_scores: {"brier", "calibration", "calibration_error", "coverage"},
    check_parts: {"by_length", "whole", "truncated"},
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_figures_on_imdb_are_those_of_scikit_learn(run, check):
    """On 5,000 real reviews the evaluation says what scikit-learn says of the rows that were
    written.
    """
    check(run, run.evaluation)


def test_no_figure_is_left_out(run):
    """The checks cover the whole section, and the model is right often enough to tell figures
    apart.
    """
    assert set().union(*CHECKS.values()) | {"gold"} == set(run.evaluation)
    assert 0.6 < run.evaluation["accuracy"] < 0.95
