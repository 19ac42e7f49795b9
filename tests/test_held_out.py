"""held_out.json of a model folder: how the model did on rows that it has not learned from."""

import dataclasses
import json

import numpy as np
import pytest

from batchsent.errors import ModelError
from batchsent.evaluation.score_cells import BINS, EDGES, ScoreCells
from batchsent.model import calibration, held_out
from batchsent.model.calibration import apply_temperature
from batchsent.model.loading import EMBEDDED_FOLDER, identify
from batchsent.training.held_out import count_held_out, write_held_out

LABELS = ("NEGATIVE", "NEUTRAL", "POSITIVE")


def drawn(rows=500, labels=3, seed=0):
    """Probabilities (rows, labels) and right labels, of which the model knows something."""
    random = np.random.default_rng(seed)
    gold = random.integers(labels, size=rows)
    z = random.normal(0, 1, (rows, labels)) + 2 * np.eye(labels)[gold]
    e = np.exp(z)
    return (e / e.sum(axis=1, keepdims=True)).astype(np.float32), gold


def test_every_row_is_counted_by_right_label_label_given_and_score():
    """The counts are those of a loop over the rows, raw and with the temperature."""
    probabilities, gold = drawn()
    found = count_held_out(LABELS, probabilities, gold, temperature=2.0)
    for counts, shown in (
        (found.raw, probabilities),
        (found.calibrated, apply_temperature(probabilities, 2.0)),
    ):
        wanted = np.zeros((3, 3, BINS), dtype=np.int64)
        for row, right in zip(shown, gold, strict=True):
            winner = int(row.argmax())
            inside = [k for k in range(BINS) if EDGES[k] <= row[winner] < EDGES[k + 1]]
            wanted[right, winner, inside[0] if inside else BINS - 1] += 1
        assert (counts == wanted).all()
    assert found.rows == 500
    assert found.confusion.tolist() == wanted.sum(axis=2).tolist()


def test_coverage_and_accuracy_at_a_threshold_follow():
    """How many rows have a score, and how many of them are right, as counted from the rows."""
    probabilities, gold = drawn()
    found = count_held_out(LABELS, probabilities, gold, temperature=1.0)
    score, hit = probabilities.max(axis=1), probabilities.argmax(axis=1) == gold
    for threshold in (0.0, 0.5, 0.65, 0.99, 0.995):
        kept = score >= threshold
        assert found.at_least(threshold) == (kept.sum(), (kept & hit).sum())


def test_what_is_written_is_read_back(tmp_path):
    """The file is strict, small JSON, and holds all that was counted."""
    probabilities, gold = drawn()
    found = count_held_out(LABELS, probabilities, gold, temperature=1.3, weights_sha256="1" * 64)
    (tmp_path / held_out.FILE).write_bytes(held_out.dumps(found))
    read = held_out.read(tmp_path, weights_sha256="1" * 64)
    assert (read.labels, read.temperature, read.rows) == (LABELS, 1.3, 500)
    assert (read.raw == found.raw).all()
    assert (read.calibrated == found.calibrated).all()
    document = json.loads((tmp_path / held_out.FILE).read_bytes())
    assert document["schema"] == "batchsent.held_out/1"
    assert document["scores"]["confusion"] == found.confusion.tolist()
    assert (tmp_path / held_out.FILE).stat().st_size < 10_000


def test_a_folder_without_the_file_has_no_counts(tmp_path):
    """Models of others, and of older versions, have none; that is no error."""
    assert held_out.read(tmp_path) is None


def test_counts_of_other_weights_are_refused(tmp_path):
    """A file that was copied from another model would give wrong shares."""
    found = count_held_out(LABELS, *drawn(), temperature=1.0, weights_sha256="1" * 64)
    (tmp_path / held_out.FILE).write_bytes(held_out.dumps(found))
    with pytest.raises(ModelError, match="belongs to other weights"):
        held_out.read(tmp_path, weights_sha256="2" * 64)


DAMAGES = {
    "another schema": lambda d: d | {"schema": "batchsent.held_out/2"},
    "no scores": lambda d: {k: v for k, v in d.items() if k != "scores"},
    "rows": lambda d: d | {"rows": 7},
    "a label twice": lambda d: d | {"labels": ["NEGATIVE", "NEGATIVE", "POSITIVE"]},
    "one label": lambda d: d | {"labels": ["NEGATIVE"]},
    "labels that are numbers": lambda d: d | {"labels": [1, 2, 3]},
    "a temperature": lambda d: d | {"scores": d["scores"] | {"temperature": -1}},
    "a temperature in words": lambda d: d | {"scores": d["scores"] | {"temperature": "1"}},
    "edges": lambda d: d | {"scores": d["scores"] | {"edges": [0, 1]}},
    "no raw counts": lambda d: d | {"scores": d["scores"] | {"raw": []}},
    "confusion": lambda d: d | {"scores": d["scores"] | {"confusion": [[1]]}},
    "weights": lambda d: d | {"weights_sha256": 7},
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_refused(tmp_path, damage):
    """A held_out.json that contradicts itself gives no figure."""
    found = count_held_out(LABELS, *drawn(), temperature=1.0)
    document = damage(json.loads(held_out.dumps(found)))
    (tmp_path / held_out.FILE).write_text(json.dumps(document))
    with pytest.raises(ModelError, match=r"held_out\.json is damaged"):
        held_out.read(tmp_path)


@pytest.mark.parametrize("counts", [[-1] * BINS, [True] * BINS, [0.5] * BINS, [1], [2**70] * BINS])
def test_counts_that_are_none_are_refused(tmp_path, counts):
    """Negative, broken, missing and endless counts are no rows."""
    document = json.loads(held_out.dumps(count_held_out(LABELS, *drawn(), temperature=1.0)))
    document["scores"]["raw"][0]["counts"] = counts
    (tmp_path / held_out.FILE).write_text(json.dumps(document))
    with pytest.raises(ModelError, match="damaged"):
        held_out.read(tmp_path)


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{", b"[" * 100_000, b'{"a": "\xff"}'])
def test_a_file_that_is_no_such_document_is_refused(tmp_path, content):
    """Anything may stand in the file of a model from elsewhere."""
    (tmp_path / held_out.FILE).write_bytes(content)
    with pytest.raises(ModelError, match=r"held_out\.json"):
        held_out.read(tmp_path)


def test_labelled_rows_are_counted_with_a_finished_model(tiny_model, tmp_path):
    """`write_held_out` scores the rows as `batch` does; a row without text is left out."""
    folder = tmp_path / "model"
    folder.mkdir()
    for path in tiny_model.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    texts = ["a great movie", "awful plot", " ", "the best cast ever"]
    found = write_held_out(folder, texts, [1, 0, 1, 1])
    assert found.rows == 3
    assert found.confusion.sum(axis=1).tolist() == [1, 2]
    identity = identify(str(folder))
    read = held_out.read(folder, weights_sha256=identity.weights_sha256)
    assert dataclasses.asdict(read).keys() == dataclasses.asdict(found).keys()
    assert (read.raw == found.raw).all()


def test_the_embedded_model_has_its_counts():
    """1,000 reviews that no step of its recipe learned from, with the temperature of its scores."""
    identity = identify(None)
    found = held_out.read(EMBEDDED_FOLDER, weights_sha256=identity.weights_sha256)
    assert found.rows == 1_000
    assert found.labels == identity.labels
    assert found.temperature == calibration.read(EMBEDDED_FOLDER).temperature
    assert np.trace(found.confusion) / found.rows > 0.88


def test_cells_of_a_stream_do_not_depend_on_its_chunks():
    """Counts and mean probabilities are the same to the last bit, however the rows are cut."""
    probabilities, _ = drawn(1_000)
    whole, cut = ScoreCells(3), ScoreCells(3)
    whole.add(probabilities)
    for start in range(0, 1_000, 77):
        cut.add(probabilities[start : start + 77])
    assert (whole.counts == cut.counts).all()
    assert (whole.means == cut.means).all()
    used = whole.counts > 0
    assert whole.means[used].sum(axis=1) == pytest.approx(1)
    inside = (probabilities.argmax(axis=1) == 1) & (probabilities.max(axis=1) >= 0.9)
    inside &= probabilities.max(axis=1) < 0.91
    mean = probabilities[inside].astype(np.float64).mean(axis=0)
    assert whole.means[1, 90] == pytest.approx(mean / mean.sum(), abs=1e-6)
