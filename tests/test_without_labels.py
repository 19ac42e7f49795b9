"""What a run says of its accuracy and shares without gold labels, and when it stays silent."""

import dataclasses
import json
import shutil
import subprocess

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import batchsent
from batchsent import verify
from batchsent.chunk import BLANK, SCORED, Scores
from batchsent.errors import GateFailed, ModelError, UsageError
from batchsent.evaluation.without_labels import LEAST_ROWS, WithoutLabels
from batchsent.model import calibration, held_out
from batchsent.model.loading import EMBEDDED_FOLDER, identify
from batchsent.training.held_out import count_held_out, write_held_out

TWO = ("NEGATIVE", "POSITIVE")


def drawn(rows, positive, random, gap=2.0):
    """Calibrated probabilities (rows, 2) of a model for equal shares, and the right labels."""
    labels = (np.arange(rows) < positive * rows).astype(np.int64)
    evidence = random.normal(gap * (2 * labels - 1), (2 * gap) ** 0.5)  # a log-likelihood ratio
    p = 1 / (1 + np.exp(-evidence))
    return np.stack([1 - p, p], axis=1).astype(np.float32), labels


def scored(probabilities):
    """The scores of a chunk with these probabilities."""
    rows = len(probabilities)
    none = np.zeros(rows, np.int32)
    return Scores(probabilities, none, none, np.full(rows, SCORED, np.uint8), distinct=rows)


def counts_of(rows=1_000, seed=0):
    """The held-out rows of that model."""
    probabilities, labels = drawn(rows, 0.5, np.random.default_rng(seed))
    return count_held_out(TWO, probabilities, labels, temperature=1.0).calibrated


def section_of(probabilities, held_out=None, why_not=None):
    """What is said of rows with these probabilities."""
    counts = WithoutLabels(TWO, held_out, why_not)
    for start in range(0, len(probabilities), 300):
        counts.add(scored(probabilities[start : start + 300]))
    return counts.section()


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_share_that_leans_to_the_middle_is_corrected(share):
    """Over 100 pairs of held-out rows and dumps the interval holds the true share 95 times."""
    random = np.random.default_rng(int(10 * share))
    inside, counted, passed = 0, 0.0, 0
    for seed in range(100):
        found = section_of(drawn(1_000, share, random)[0], counts_of(seed=seed))["corrected"]
        passed += found["why_not"] is None
        for entry in found["labels"][1:]:
            inside += entry["interval"][0] <= share <= entry["interval"][1]
            counted += entry["counted"]
            assert abs(entry["emq"] - entry["share"]) < 0.12
    assert passed >= 98, "the drift check refuses dumps of the same kind"
    assert inside >= 0.89 * passed
    assert (counted / passed - share) * (0.5 - share) >= 0


def test_another_kind_of_text_gets_no_corrected_share():
    """Rows whose scores are less sure than any mixture of the held-out rows: the summary says so
    and points to the audit.
    """
    probabilities, _ = drawn(2_000, 0.7, np.random.default_rng(5), gap=0.5)
    found = section_of(probabilities, counts_of())["corrected"]
    assert found["labels"] == []
    assert "another kind" in found["why_not"]
    assert "batchsent sample" in found["hint"]
    assert found["drift"]["distance"] > found["drift"]["limit"]


def test_the_distance_is_that_of_the_sorted_scores():
    """Kolmogorov-Smirnov over the signed scores, row by row, is within a bin of that over cells."""
    probabilities, _ = drawn(3_000, 0.6, np.random.default_rng(6))
    counts = counts_of(4_000)
    found = section_of(probabilities, counts)["corrected"]
    shares = [entry["share"] for entry in found["labels"]]
    held, labels = drawn(4_000, 0.5, np.random.default_rng(0))
    points = np.sort(np.concatenate([probabilities[:, 1], held[:, 1]]))

    def below(values):
        return np.searchsorted(np.sort(values), points, side="right") / len(values)

    mixture = sum(s * below(held[labels == i, 1]) for i, s in enumerate(shares))
    exact = np.abs(below(probabilities[:, 1]) - mixture).max()
    assert found["drift"]["distance"] == pytest.approx(exact, abs=0.01)


def test_the_expected_accuracy_is_the_mean_score():
    """Of rows with a score; rows without text do not count, and without rows there is none."""
    scores = scored(np.array([[0.9, 0.1], [0.4, 0.6], [np.nan, np.nan]], np.float32))
    scores = dataclasses.replace(scores, status=np.array([SCORED, SCORED, BLANK], np.uint8))
    counts = WithoutLabels(TWO, why_not="the model has no held_out.json")
    assert counts.section()["expected_accuracy"] is None
    counts.add(scores)
    assert counts.section()["expected_accuracy"] == pytest.approx(0.75, abs=1e-6)
    assert counts.section()["corrected"]["why_not"] == "the model has no held_out.json"


def test_few_rows_correct_nothing():
    """Too few held-out rows of a label, or too few rows in the dump, are said with their number."""
    few = counts_of(2 * LEAST_ROWS - 2)
    dump = drawn(500, 0.5, np.random.default_rng(1))[0]
    assert f"{LEAST_ROWS - 1} held-out rows of" in section_of(dump, few)["corrected"]["why_not"]
    small = section_of(dump[: LEAST_ROWS - 1], counts_of())["corrected"]
    assert small["why_not"] == f"{LEAST_ROWS - 1} rows have a score, {LEAST_ROWS} are required"


def test_a_model_that_guesses_corrects_nothing():
    """Where both labels are called the same equally often, counted shares say nothing."""
    random = np.random.default_rng(2)
    probabilities, labels = drawn(1_000, 0.5, random)
    guessed = count_held_out(TWO, probabilities, random.permutation(labels), temperature=1.0)
    found = section_of(probabilities, guessed.calibrated)["corrected"]
    assert "hardly tells" in found["why_not"]


# --- the whole command, with the embedded model


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    """120 reviews of the package's examples, and as many scraps of them without any judgement."""
    folder = tmp_path_factory.mktemp("reviews")
    table = pyarrow.csv.read_csv("examples/reviews-train.csv").slice(0, 120)
    pq.write_table(table.rename_columns({"label": "gold"}), folder / "reviews.parquet")
    texts = [f"{text.split()[0]} {i}" for i, text in enumerate(table["text"].to_pylist())]
    pq.write_table(pyarrow.table({"text": texts}), folder / "scraps.parquet")
    return folder


def test_a_job_fed_the_wrong_texts_stops(fork_server, reviews, tmp_path):
    """--fail-under expected_accuracy needs no gold labels and ends with exit code 8; the summary has
    the figure and says why no share is corrected.
    """
    wrong = subprocess.run(
        [
            *(fork_server.python, "-m", "batchsent", "batch", reviews / "scraps.parquet"),
            *("-o", tmp_path / "out.csv", "--quiet", "--report"),
            *("--fail-under", "expected_accuracy=0.85"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert wrong.returncode == 8
    assert "expected_accuracy is 0." in wrong.stderr
    document = json.loads((tmp_path / "out.csv.summary.json").read_text())
    assert document["exit_code"] == 8
    assert document["predictions"]["expected_accuracy"] < 0.85
    assert document["predictions"]["corrected"]["labels"] == []
    page = (tmp_path / "out.csv.report.html").read_text()
    assert "Gate failed:</b> expected_accuracy" in page
    assert "Shares are not corrected for the model" in page


@pytest.fixture(scope="module")
def at_home(tmp_path_factory):
    """The embedded model, measured on reviews like those of the package's examples."""
    made = shutil.copytree(EMBEDDED_FOLDER, tmp_path_factory.mktemp("at-home") / "model")
    table = pyarrow.csv.read_csv("examples/reviews-train.csv").slice(0, 300)
    gold = [TWO.index(label) for label in table["label"].to_pylist()]
    write_held_out(made, table["text"].to_pylist(), gold)
    return made


def test_the_figure_is_of_calibrated_scores_whatever_is_written(reviews, at_home, tmp_path):
    """With --calibrated the column changes and the figures of trust do not."""
    raw, likely = (
        batchsent.batch(
            reviews / "reviews.parquet",
            tmp_path / f"{name}.csv",
            model=at_home,
            calibrated=name == "likely",
        )["predictions"]
        for name in ("raw", "likely")
    )
    assert raw["mean_score"] != likely["mean_score"]
    assert raw["expected_accuracy"] == likely["expected_accuracy"]
    assert likely["expected_accuracy"] == pytest.approx(likely["mean_score"], abs=1e-6)
    assert raw["corrected"] == likely["corrected"]
    assert raw["corrected"]["why_not"] is None, "reviews of the package are of another kind"
    assert verify(reviews / "reviews.parquet", tmp_path / "raw.csv")["status"] == "same"
    damaged = tmp_path / "raw.csv.summary.json"
    counted = raw["corrected"]["labels"][0]["counted"]
    damaged.write_text(damaged.read_text().replace(f'"counted": {counted}', '"counted": 0.75'))
    with pytest.raises(GateFailed, match="shares that were corrected"):
        verify(reviews / "reviews.parquet", tmp_path / "raw.csv")


@pytest.fixture
def folder(tiny_model, tmp_path):
    """A tiny model with a temperature and held-out rows."""
    made = shutil.copytree(tiny_model, tmp_path / "model")
    weights = identify(str(made)).weights_sha256
    fitted = calibration.Calibration(1.0, 400, 0.1, 0.1, 0.5, 0.5, weights_sha256=weights)
    (made / calibration.FILE).write_bytes(calibration.dumps(fitted))
    probabilities, labels = drawn(400, 0.5, np.random.default_rng(0))
    counted = count_held_out(TWO, probabilities, labels, temperature=1.0, weights_sha256=weights)
    (made / held_out.FILE).write_bytes(held_out.dumps(counted))
    return made


def predictions_of(folder, tmp_path, name="out", **options):
    """What the summary of three rows says."""
    source = tmp_path / "three.csv"
    source.write_text("text\na great movie\nawful plot\nthe best cast ever\n")
    document = batchsent.batch(source, tmp_path / f"{name}.csv", model=str(folder), **options)
    return document["predictions"]


def test_a_model_of_somebody_else_says_what_it_lacks(folder, tmp_path):
    """Without the files of `finetune` the run is whole, and says why figures are missing."""
    assert predictions_of(folder, tmp_path)["expected_accuracy"] is not None
    (folder / held_out.FILE).unlink()
    found = predictions_of(folder, tmp_path, "no-rows")
    assert found["corrected"]["why_not"] == "the model has no held_out.json"
    (folder / calibration.FILE).unlink()
    found = predictions_of(folder, tmp_path, "nothing")
    assert found["expected_accuracy"] is None
    assert found["corrected"]["why_not"] == "the model has no calibration.json"
    with pytest.raises(ModelError, match=r"requires calibrated scores: the model has no calib"):
        predictions_of(folder, tmp_path, "gate", fail_under=["expected_accuracy=0.5"])
    assert not (tmp_path / "gate.csv").exists()


def test_the_gate_fails_again_where_the_output_is_up_to_date(folder, tmp_path):
    """The same command again scores nothing and ends with 8 again; a lower minimum passes."""
    for _ in range(2):
        with pytest.raises(GateFailed, match="expected_accuracy is 0") as caught:
            predictions_of(folder, tmp_path, fail_under=["expected_accuracy=1"])
    assert caught.value.document["status"] == "up_to_date"
    predictions_of(folder, tmp_path, fail_under=["expected_accuracy=0.5"])


@pytest.mark.parametrize("name", [calibration.FILE, held_out.FILE])
def test_damaged_counts_do_not_stop_a_run(folder, tmp_path, name):
    """Nobody asked for them; the summary says that the file is damaged."""
    (folder / name).write_text("{}")
    assert f"{name} is damaged" in predictions_of(folder, tmp_path)["corrected"]["why_not"]


def test_texts_read_otherwise_are_not_corrected(folder, tmp_path):
    """The error rates are those of texts read as in the training."""
    found = predictions_of(folder, tmp_path, long_text="tail")["corrected"]
    assert found["why_not"] == "--long-text tail reads texts otherwise than the held-out rows"
    found = predictions_of(folder, tmp_path, "short", max_length=8)["corrected"]
    assert found["why_not"].startswith("--max-length 8 reads texts otherwise")
    assert "rows have a score" in predictions_of(folder, tmp_path, "same")["corrected"]["why_not"]


def test_a_scored_file_has_no_such_figure(tmp_path):
    """`evaluate` of a scored file refuses the gate: its scores may not be calibrated."""
    with pytest.raises(UsageError, match="requires model"):
        batchsent.evaluate("scored.csv", gold="gold", fail_under=["expected_accuracy=0.9"])
    with pytest.raises(UsageError, match="requires gold labels"):
        batchsent.batch("in.csv", tmp_path / "out.csv", fail_under=["accuracy=0.9"])


def test_evaluate_with_a_model_expects_and_measures(folder, tmp_path):
    """The expected accuracy stands beside the measured one."""
    source = tmp_path / "labelled.csv"
    source.write_text("text,gold\na great movie,POSITIVE\nawful plot,NEGATIVE\n")
    document = batchsent.evaluate(source, gold="gold", model=str(folder))
    assert 0.5 <= document["predictions"]["expected_accuracy"] <= 1
    assert document["evaluation"]["rows"] == 2
