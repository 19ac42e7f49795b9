"""The counts and figures of a run, against scikit-learn and against counting by hand."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchsent.chunk import BLANK, NONFINITE, SCORED
from batchsent.evaluation.bins import Lengths
from batchsent.evaluation.gold import GoldRule
from batchsent.evaluation.quality import LENGTH_EDGES, interval
from batchsent.evaluation.summary import dumps
from batchsent.evaluation.tally import Tally
from tests.scored_rows import FOUR, TWO, Rows, small


def test_every_row_is_accounted_for():
    """Rows read = scored + blank + rejected + nonfinite, and what was not rejected was written."""
    tally = Tally(TWO)
    tally.add(*small(["good", None, "bad", "  "], [SCORED, BLANK, NONFINITE, BLANK]))
    tally.reject(3)
    assert tally.sections()["rows"] == {
        "read": 7,
        "scored": 1,
        "blank": 2,
        "rejected": 3,
        "nonfinite": 1,
        "written": 4,
        "distinct": 2,
    }


def test_nothing_read_has_figures_too():
    """A run over no rows, or one that failed before it knew the labels, still has its sections."""
    for labels in (TWO, ()):
        sections = Tally(labels).sections()
        assert sections["rows"]["read"] == 0
        assert sections["predictions"]["mean_score"] is None
        dumps(sections)


def test_no_gold_label_at_all_gives_no_figures():
    """Without one judged row every figure of the evaluation is null."""
    tally = Tally(TWO, GoldRule.parse(TWO))
    tally.add(*small(["good"], [SCORED], gold=[None]))
    evaluation = tally.sections()["evaluation"]
    assert evaluation["gold"]["missing"] == 1
    for name in (
        "accuracy",
        "balanced_accuracy",
        "mcc",
        "roc_auc",
        "brier",
        "calibration_error",
        "majority",
    ):
        assert evaluation[name] is None
    dumps(evaluation)


@pytest.mark.parametrize("labels", [TWO, FOUR])
def test_figures_do_not_depend_on_the_chunks(labels):
    """The same rows give the same summary, to the last digit, however they are cut into chunks."""
    rows = Rows(labels)
    whole = dumps(rows.tally(unsure_below=0.7).sections())
    assert dumps(rows.tally(1, 7, 2_000, unsure_below=0.7).sections()) == whole


@pytest.mark.parametrize("labels", [TWO, FOUR])
def test_figures_are_those_of_scikit_learn(labels):
    """Accuracy, balanced accuracy, precision, recall, F1, MCC and the matrix are scikit-learn's,
    exactly.
    """
    from sklearn import metrics

    rows = Rows(labels)
    got = rows.tally(1_000).sections()["evaluation"]
    winners = rows.p.argmax(axis=1)
    assert got["rows"] == 3_000
    assert got["accuracy"] == pytest.approx(metrics.accuracy_score(rows.y, winners), abs=1e-12)
    assert got["balanced_accuracy"] == pytest.approx(
        metrics.balanced_accuracy_score(rows.y, winners), abs=1e-12
    )
    assert got["mcc"] == pytest.approx(metrics.matthews_corrcoef(rows.y, winners), abs=1e-12)
    assert got["confusion"]["counts"] == metrics.confusion_matrix(rows.y, winners).tolist()
    each = metrics.precision_recall_fscore_support(rows.y, winners)
    for name, values in zip(("precision", "recall", "f1", "gold"), each, strict=True):
        assert [entry[name] for entry in got["labels"]] == pytest.approx(values.tolist(), abs=1e-12)
    macro = metrics.precision_recall_fscore_support(rows.y, winners, average="macro")
    assert list(got["macro"].values()) == pytest.approx(list(macro[:3]), abs=1e-12)


def test_brier_is_that_of_scikit_learn():
    """The Brier score is scikit-learn's: of the positive label for two, summed over the labels for
    more.
    """
    from sklearn.metrics import brier_score_loss

    two = Rows()
    got = two.tally().sections()["evaluation"]["brier"]
    assert got == pytest.approx(brier_score_loss(two.y, two.p[:, 1].astype(float)), abs=1e-8)
    four = Rows(FOUR)
    onehot = np.eye(4)[four.y]
    assert four.tally().sections()["evaluation"]["brier"] == pytest.approx(
        ((four.p - onehot) ** 2).sum(axis=1).mean(), abs=1e-8
    )


def test_calibration_error():
    """The calibration error is the mean distance of score and accuracy over twenty bins of the
    score.
    """
    rows = Rows(FOUR, spread=1.0)
    got = rows.tally().sections()["evaluation"]
    score, hit = rows.p.max(axis=1).astype(float), rows.p.argmax(axis=1) == rows.y
    expected = 0.0
    for i in range(20):
        inside = (score >= i / 20) & (score < (i + 1) / 20) if i < 19 else score >= 0.95
        if inside.any():
            expected += abs(hit[inside].mean() - score[inside].mean()) * inside.mean()
            assert got["calibration"][i]["rows"] == inside.sum()
            assert got["calibration"][i]["accuracy"] == pytest.approx(hit[inside].mean())
            assert got["calibration"][i]["mean_score"] == pytest.approx(
                score[inside].mean(), abs=1e-8
            )
    assert got["calibration_error"] == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("hits", [0, 1, 8, 10])
def test_intervals_are_wilsons(hits):
    """The 95 % interval of a share is Wilson's, as scipy computes it."""
    from scipy.stats import binomtest

    exact = binomtest(hits, 10).proportion_ci(method="wilson")
    assert interval(hits, 10) == pytest.approx([exact.low, exact.high], abs=1e-12)


def test_coverage_tells_what_a_threshold_buys():
    """Only rows with at least the score count, at each threshold and at the user's own."""
    rows = Rows(FOUR)
    score, hit = rows.p.max(axis=1).astype(float), rows.p.argmax(axis=1) == rows.y
    table = rows.tally(unsure_below=0.73).sections()["evaluation"]["coverage"]
    assert [entry["score_at_least"] for entry in table] == [
        0.5,
        0.6,
        0.7,
        0.73,
        0.8,
        0.9,
        0.95,
        0.99,
    ]
    for entry in table:
        sure = score >= entry["score_at_least"]
        assert entry["rows"] == sure.sum()
        assert entry["accuracy"] == pytest.approx(hit[sure].mean())


def test_a_threshold_is_kept_as_it_is_read():
    """The score that a file shows as 0.7 counts as at least 0.7, once, though float32 holds a hair
    less.
    """
    tally = Tally(TWO, GoldRule.parse(TWO), unsure_below=0.7)
    shown, less = np.float32(0.7), np.nextafter(np.float32(0.7), np.float32(0))
    for score, gold in ((shown, "pos"), (less, "pos"), (shown, "neg")):
        tally.add(*small(["t"], [SCORED], gold=[gold], p=(1 - score, score)))
    sections = tally.sections()
    assert str(shown) == "0.7" > str(less)
    assert sections["predictions"]["unsure"] == 1
    table = {entry["score_at_least"]: entry for entry in sections["evaluation"]["coverage"]}
    assert len(table) == len(sections["evaluation"]["coverage"]) == 7
    assert (table[0.6]["rows"], table[0.7]["rows"], table[0.8]["rows"]) == (3, 2, 0)
    assert (table[0.7]["share"], table[0.7]["accuracy"]) == (pytest.approx(2 / 3), 0.5)


def test_by_length_is_the_same_on_a_part_of_the_rows():
    """The figures of a length bucket, and of whole and truncated texts, are scikit-learn's on those
    rows.
    """
    from sklearn import metrics

    rows = Rows(FOUR)
    got = rows.tally(500).sections()["evaluation"]
    winners = rows.p.argmax(axis=1)
    ends = [*LENGTH_EDGES[1:], 10**9]
    parts = [
        (entry, (rows.lengths >= start) & (rows.lengths < end))
        for entry, start, end in zip(got["by_length"], LENGTH_EDGES, ends, strict=True)
    ]
    parts += [(got["whole"], rows.cut == 0), (got["truncated"], rows.cut > 0)]
    for entry, inside in parts:
        y, guess = rows.y[inside], winners[inside]
        assert entry["rows"] == inside.sum() > 0
        assert entry["accuracy"] == pytest.approx(metrics.accuracy_score(y, guess))
        assert entry["balanced_accuracy"] == pytest.approx(
            metrics.balanced_accuracy_score(y, guess)
        )
        assert entry["macro_f1"] == pytest.approx(metrics.f1_score(y, guess, average="macro"))
        assert entry["mcc"] == pytest.approx(metrics.matthews_corrcoef(y, guess))


def test_majority_is_the_commonest_gold_label():
    """The figure to beat is the share of the commonest gold label."""
    tally = Tally(TWO, GoldRule.parse(TWO))
    tally.add(*small(["a", "b", "c", "d"], [SCORED] * 4, gold=["neg", "neg", "pos", "neg"]))
    evaluation = tally.sections()["evaluation"]
    assert evaluation["majority"] == {"label": "NEGATIVE", "accuracy": 0.75}
    assert evaluation["accuracy"] == 0.25


def test_gold_that_matches_no_label_is_listed():
    """Unmatched values are left out of the figures and listed with their counts, the commonest
    first.
    """
    tally = Tally(TWO, GoldRule.parse(TWO))
    gold = ["pos", "bad", "bad", "?", None, "pos\x1b[31m" + "x" * 100, "neg"]
    tally.add(*small(["t"] * 7, [SCORED] * 6 + [BLANK], gold=gold))
    evaluation = tally.sections()["evaluation"]
    listed = evaluation["gold"]["unmatched_values"]
    assert evaluation["rows"] == 1
    assert (
        evaluation["gold"]["unmatched"],
        evaluation["gold"]["missing"],
        evaluation["gold"]["not_scored"],
    ) == (
        4,
        1,
        1,
    )
    assert listed[0] == {"value": "bad", "count": 2}
    assert listed[2]["value"].startswith(r"pos\x1b[31mxxx")
    assert len(listed[2]["value"]) == 60


def test_a_column_of_ids_as_gold_stays_small():
    """A million values that match no label are counted, twenty are listed, and memory stays flat."""
    tally = Tally(TWO, GoldRule.parse(TWO))
    texts, statuses = ["t"] * 10_000, [SCORED] * 10_000
    tracemalloc.start()
    for start in range(0, 200_000, 10_000):
        tally.add(*small(texts, statuses, gold=[f"id-{i}" for i in range(start, start + 10_000)]))
        if start == 40_000:
            tracemalloc.reset_peak()
            early = tracemalloc.get_traced_memory()[0]
    late = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert late - early < 4_000_000
    gold = tally.sections()["evaluation"]["gold"]
    assert gold["unmatched"] == 200_000
    assert (
        sum(entry["count"] for entry in gold["unmatched_values"]) + gold["unmatched_others"]
        == 200_000
    )
    assert len(gold["unmatched_values"]) == 20


def test_stars_are_marked_as_such():
    """Figures against star ratings say that they are an agreement with stars, and how many were
    left out.
    """
    tally = Tally(TWO, GoldRule.parse(TWO, stars="1-2:NEGATIVE,4-5:POSITIVE"))
    tally.add(*small(["t"] * 4, [SCORED] * 4, gold=[5, "3", 1.0, None]))
    evaluation = tally.sections()["evaluation"]
    assert evaluation["gold"]["kind"] == "stars"
    assert evaluation["gold"]["rule"] == "1-2:NEGATIVE,4-5:POSITIVE"
    assert (evaluation["rows"], evaluation["gold"]["left_out"], evaluation["gold"]["missing"]) == (
        2,
        1,
        1,
    )


def test_labels_and_scores():
    """Each label has its count, share, mean score and histogram.

    The unsure are those below the threshold.
    """
    rows = Rows(FOUR)
    got = rows.tally(gold=False, unsure_below=0.6).sections()
    winners, score = rows.p.argmax(axis=1), rows.p.max(axis=1).astype(float)
    assert got["evaluation"] is None
    predictions = got["predictions"]
    for i, entry in enumerate(predictions["labels"]):
        assert entry["count"] == (winners == i).sum() == sum(entry["score_counts"])
        assert entry["share"] == pytest.approx((winners == i).mean())
        assert entry["mean_score"] == pytest.approx(score[winners == i].mean(), abs=1e-8)
    edges = predictions["score_histogram"]["edges"]
    assert predictions["score_histogram"]["counts"] == np.histogram(score, edges)[0].tolist()
    assert predictions["unsure"] == (score < 0.6).sum()


lengths = st.lists(
    st.one_of(st.integers(0, 300), st.integers(4_000, 5_000), st.integers(0, 2**36)), min_size=1
)


@settings(deadline=None)
@given(lengths)
def test_quantiles_of_lengths(values):
    """Quantiles are the nearest rank's length: exact below 4,096 characters, within 1/4096 above."""
    distribution = Lengths()
    for start in range(0, len(values), 7):
        distribution.add(np.array(values[start : start + 7], dtype=np.int64))
    got = distribution.section()
    assert (got["count"], got["max"], got["total"]) == (len(values), max(values), sum(values))
    for name, share in (("p1", 0.01), ("p25", 0.25), ("p50", 0.5), ("p99", 0.99)):
        exact = int(np.quantile(np.array(values), share, method="inverted_cdf"))
        assert abs(got[name] - exact) <= (exact / 4096 if exact >= 4096 else 0)


@settings(deadline=None)
@given(lengths)
def test_histogram_of_lengths(values):
    """Every length is counted between the edges it lies between."""
    distribution = Lengths()
    distribution.add(np.array(values, dtype=np.int64))
    shown = distribution.section()["histogram"]
    assert shown["counts"] == np.histogram(values, [*shown["edges"], 2**62])[0].tolist()


def test_truncation_is_counted():
    """Truncated texts, tokens read and the least number of tokens cut are those of the rows with
    text.
    """
    rows = Rows()
    text = rows.tally().sections()["text"]
    assert text["truncated_rows"] == (rows.cut > 0).sum()
    assert text["tokens_cut_at_least"] == rows.cut.sum()
    assert text["tokens_read"] == rows.n_tokens.sum()
    assert text["tokens"]["max"] == (rows.n_tokens + rows.cut).max()


def test_size_does_not_grow_with_the_rows():
    """A million rows make the same summary as a thousand, but for the digits of its counts."""
    small_rows, many = Rows(rows=1_000), Tally(TWO, GoldRule.parse(TWO))
    chunks = list(small_rows.chunks(500))
    for _ in range(1_000):
        for chunk, scores in chunks:
            many.add(chunk, scores)
    few = len(dumps(small_rows.tally().sections()))
    assert many.sections()["rows"]["read"] == 1_000_000
    assert len(dumps(many.sections())) < few * 1.3 < 40_000


def test_a_model_of_a_thousand_labels_does_not_bury_the_summary():
    """With very many labels the figures stay, the whole matrix and the curves do not."""
    labels = tuple(f"label {i}" for i in range(1_000))
    rows = Rows(labels, rows=2_000)
    evaluation = rows.tally().sections()["evaluation"]
    assert evaluation["accuracy"] == pytest.approx((rows.p.argmax(axis=1) == rows.y).mean())
    assert evaluation["confusion"]["counts"] is None
    assert len(evaluation["confusion"]["mistakes"]) == 10
    assert evaluation["curves"] == []
    assert len(dumps(evaluation)) < 1_000_000
