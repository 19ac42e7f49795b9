"""Rows that a base model has learned are told from rows that are new to it."""

import io
import json

import numpy as np
import pytest

from batchsent.commands.evaluate import evaluate
from batchsent.commands.finetune import finetune
from batchsent.errors import ModelError
from batchsent.model import held_out
from batchsent.model.loading import EMBEDDED_FOLDER
from batchsent.terminal.tables import show_evaluation
from batchsent.training import seen
from batchsent.training.options import BASE_MODEL
from batchsent.training.seen import SeenTexts, seen_by
from tests.models import make_model
from tests.reviews import write_reviews

QUICK = {"batch_size": 8, "learning_rate": 1e-3, "device": "cpu", "max_length": 16, "epochs": 1}
NOTHING = SeenTexts(np.zeros(0, dtype=np.uint32), complete=True)


def test_texts_are_known_again_whatever_their_white_space():
    """A text that was added is seen, also with other spaces; another text is not."""
    known = NOTHING.with_texts(["a good film", "dull\n"]).with_texts(
        ["dull", "smile \U0001f600 \ud800"]
    )
    assert known.texts == 3
    texts = ["a  good film ", "dull", "smile \U0001f600 \ud800", "A good film", ""]
    assert known.contains(texts).tolist() == [True, True, True, False, False]
    assert NOTHING.contains(texts).tolist() == [False] * 5
    assert known.false_positive_rate == 3 / 2**32


@pytest.mark.parametrize("count", [0, 1, 2, 5_000])
def test_the_file_gives_the_same_texts_back(count):
    """What is written is read, the first and the last possible hash among them."""
    ends = np.array([0, 2**32 - 1], dtype=np.uint32)[:count]
    known = SeenTexts(ends, complete=False).with_texts([f"text {i}" for i in range(count)])
    again = seen.loads(seen.dumps(known))
    assert again.hashes.tolist() == known.hashes.tolist()
    assert again.complete is False


def test_a_list_that_is_damaged_is_refused(tmp_path):
    """Cut short, longer than it says, or something else: a ModelError that names the file."""
    whole = seen.dumps(NOTHING.with_texts([f"text {i}" for i in range(100)]))
    head, _, packed = whole.partition(b"\n")
    larger = json.dumps(json.loads(head) | {"texts": seen.MOST_TEXTS + 1}).encode()
    other = json.dumps(json.loads(head) | {"texts": 99}).encode()
    for data in (whole[:-20], b"", b"[]\n", larger + b"\n" + packed, other + b"\n" + packed):
        (tmp_path / seen.FILE).write_bytes(data)
        with pytest.raises(ModelError, match=r"seen_texts\.hashes is damaged"):
            seen_by(tmp_path)


@pytest.fixture
def files(tmp_path):
    """A base model that has learned 20 of 48 reviews, and 28 of these to measure on: 20 and 8."""
    reviews = write_reviews(tmp_path / "reviews.csv", rows=48)
    header, *lines = (tmp_path / "reviews.csv").read_text().splitlines()
    (tmp_path / "mixed.csv").write_text("\n".join([header, *lines[:28]]) + "\n")
    (tmp_path / "known.csv").write_text("\n".join([header, *lines[:20]]) + "\n")
    base = make_model(tmp_path / "base")
    known = NOTHING.with_texts([line.partition(",")[0] for line in lines[:20]])
    (base / seen.FILE).write_bytes(seen.dumps(SeenTexts(known.hashes, complete=False)))
    return {"train": reviews, "base_model": str(base), **QUICK}


def test_rows_that_the_base_has_learned_are_counted(tmp_path, files):
    """Measured on rows that the base has learned, a model says so and has the figures of the others;
    the base is compared on these alone, and the next model knows the texts of both.
    """
    document = finetune(tmp_path / "out", eval=str(tmp_path / "mixed.csv"), **files)
    found = document["seen"]
    assert (found["texts"], found["complete"], found["rows"]) == (20, False, 20)
    assert found["evaluation_of_others"]["rows"] == document["comparison"]["rows"] == 8
    assert document["comparison"]["tuned"] == found["evaluation_of_others"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "20 of the 28 evaluation texts are among the 20 texts that the base model was" in card
    assert "On the other 8 rows the accuracy is" in card
    assert "accuracy on rows that the base model has not seen" in card
    afterwards = seen_by(tmp_path / "out")
    assert afterwards.texts == 20 + 20
    assert not afterwards.complete
    counted = held_out.read(tmp_path / "out")
    assert counted.confusion.tolist() == found["evaluation_of_others"]["confusion"]["counts"]


def test_evaluate_with_a_model_says_which_rows_it_has_learned(tmp_path, files):
    """Rows that the model has learned are counted in a warning, and the table has the accuracy on
    the others.
    """
    document = evaluate(tmp_path / "mixed.csv", gold="label", model=files["base_model"])
    assert document["seen"]["rows"] == 20
    others = document["seen"]["evaluation_of_others"]
    assert others["rows"] == 8
    out = io.StringIO()
    show_evaluation(document, out)
    assert "! 20 of 28 evaluation rows are among the texts that the model has learned" in (
        out.getvalue()
    )
    # More decimals would be noise.
    assert f"accuracy on the other 8 rows: {others['accuracy']:.2f} (" in out.getvalue()


def test_figures_on_seen_rows_alone_are_marked(tmp_path, files):
    """Where the base has learned every evaluation row there is no comparison, and the card and its
    metadata say what the figures are of.
    """
    document = finetune(tmp_path / "out", eval=str(tmp_path / "known.csv"), **files)
    assert document["seen"]["evaluation_of_others"] is None
    assert document["comparison"] == {"why_not": "the base model has seen every evaluation row"}
    card = (tmp_path / "out" / "README.md").read_text()
    assert "There are no other rows to measure on." in card
    assert held_out.read(tmp_path / "out") is None, "learned rows were counted as held out"
    assert "accuracy on rows that the base model has seen" in card


def test_what_is_not_known_is_not_claimed(tmp_path, files):
    """A base without a list may have learned any text; a base with one and a model from scratch are
    said to be free of what they have not seen.
    """
    held = write_reviews(tmp_path / "held.csv", words=(["fine"] * 6, ["poor"] * 6))
    unknown = str(make_model(tmp_path / "unknown"))
    claims = {
        "unknown": ({"base_model": unknown}, "Which texts the base model has learned is not known"),
        "none": ({}, "None is among the 20 texts that the base model was fine-tuned on either"),
        "scratch": ({"base_model": BASE_MODEL, "from_scratch": True}, "the training texts.\n"),
    }
    for name, (options, claim) in claims.items():
        finetune(tmp_path / f"model-{name}", **files | {"eval": held} | options)
        card = (tmp_path / f"model-{name}" / "README.md").read_text()
        assert "No evaluation text is among the training texts." in card
        assert claim in card
        assert ("is not known" in card) is (name != "scratch")
    assert seen_by(tmp_path / "model-scratch").complete


def test_the_embedded_model_knows_what_it_has_learned():
    """Its list comes with it: nearly 75,000 reviews of IMDB in less than 200 kB."""
    known = seen_by(EMBEDDED_FOLDER)
    assert 70_000 < known.texts < 75_000
    assert known.complete is False
    assert (EMBEDDED_FOLDER / seen.FILE).stat().st_size < 200_000
    assert known.false_positive_rate < 1 / 50_000
