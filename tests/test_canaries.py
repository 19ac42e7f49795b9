"""Canaries: a machine that gives other answers than the model was made with is found before a run."""

import json

import numpy as np
import pytest

from batchsent.commands.batch import batch
from batchsent.commands.evaluate import evaluate
from batchsent.commands.info import info
from batchsent.errors import ModelError
from batchsent.model import canaries
from batchsent.model.loading import identify, load_model
from tests.models import make_model


@pytest.fixture
def model(tmp_path):
    """A tiny model with canaries."""
    folder = make_model(tmp_path / "model", labels=("NEGATIVE", "POSITIVE"))
    canaries.write_canaries(folder)
    return folder


@pytest.fixture
def dump(tmp_path):
    """A CSV of two reviews."""
    path = tmp_path / "in.csv"
    path.write_text("text,gold\ngreat film,POSITIVE\nawful plot,NEGATIVE\n")
    return path


def change(folder, edit):
    """Change the document in a folder's canaries.json."""
    path = folder / canaries.FILE
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))


def test_there_are_64_made_up_texts_with_the_logits_of_transformers(model):
    """Centred: two logits of opposite sign, half of the difference that transformers gives."""
    import torch

    found = canaries.read(model, ("NEGATIVE", "POSITIVE"))
    assert len(set(found.texts)) == 64
    loaded = load_model(identify(str(model)), device="cpu", precision="float32")
    for text, logits in zip(found.texts, found.logits, strict=True):
        ids = loaded.tokenizer([text], truncation=True, return_tensors="pt")
        with torch.inference_mode():
            stock = loaded.module(**ids).logits[0].numpy()
        assert logits == pytest.approx(stock - stock.mean(), abs=1e-4)


def test_a_run_scores_them_first_and_says_how_far_they_are(model, dump, tmp_path):
    """In the summary, also of evaluate and info; texts that this run cuts are left out."""
    out = tmp_path / "out.csv"
    found = batch(dump, out, model=str(model), device="cpu")["model"]["canaries"]
    assert found["label_flips"] == 0
    assert found["largest_difference"] < found["tolerance"] == 1e-3
    assert 32 < found["texts"] < 64  # the tiny model reads 64 tokens
    judged = evaluate(str(dump), model=str(model), gold="gold", device="cpu")
    assert judged["model"]["canaries"] == found
    assert info(str(model), device="cpu")["model"]["canaries"] == found
    short = batch(dump, tmp_path / "short.csv", model=str(model), device="cpu", max_length=16)
    assert 0 < short["model"]["canaries"]["texts"] < found["texts"]


def test_other_answers_end_the_run_before_a_row_is_scored(model, dump, tmp_path):
    """With exit code 6; no output is written."""
    change(model, lambda document: document["logits"].reverse())
    with pytest.raises(ModelError, match="other answers here than where it was made") as caught:
        batch(dump, tmp_path / "out.csv", model=str(model), device="cpu")
    assert caught.value.exit_code == 6
    assert "--precision float32" in caught.value.hint
    assert not (tmp_path / "out.csv").exists()


def test_a_tokenizer_that_reads_otherwise_is_found(model, dump, tmp_path):
    """Such as one that a library no longer lower-cases texts with."""
    path = model / "tokenizer.json"
    document = json.loads(path.read_text())
    document["normalizer"] = None
    path.write_text(json.dumps(document))
    settings = json.loads((model / "tokenizer_config.json").read_text())
    settings["do_lower_case"] = False
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match="other answers"):
        batch(dump, tmp_path / "out.csv", model=str(model), device="cpu")


def test_a_model_without_canaries_is_scored_all_the_same(model, dump, tmp_path):
    """The summary says null."""
    (model / canaries.FILE).unlink()
    found = batch(dump, tmp_path / "out.csv", model=str(model), device="cpu")
    assert found["model"]["canaries"] is None


def test_a_finished_run_does_not_score_them(model, dump, tmp_path):
    """`up to date` needs no model: damaged canaries are not looked at."""
    out = tmp_path / "out.csv"
    batch(dump, out, model=str(model), device="cpu")
    (model / canaries.FILE).write_text("{")
    assert batch(dump, out, model=str(model), device="cpu")["status"] == "up_to_date"


def test_they_do_not_count_as_rows(model, dump, tmp_path):
    """Rows, distinct texts and lengths of the summary are those of the dump."""
    summary = batch(dump, tmp_path / "out.csv", model=str(model), device="cpu", precision="int8")
    assert summary["rows"]["distinct"] == summary["rows"]["scored"] == 2
    assert summary["model"]["agreement"]["texts"] == 1


DAMAGED = {
    "not JSON": lambda path: path.write_text("{"),
    "another schema": lambda path: edit(path, "schema", "other/1"),
    "fewer logits": lambda path: edit(path, "logits", [[0.0, 0.0]]),
    "no numbers": lambda path: edit(path, "logits", [["a", "b"]] * 64),
    "not a number": lambda path: edit(path, "logits", [[float("nan"), 0.0]] * 64),
    "huge": lambda path: edit(path, "logits", [[1e308, 0.0]] * 64),
    "beyond floats": lambda path: edit(path, "logits", [[10**400, 0.0]] * 64),
    "infinite": lambda path: edit(path, "logits", [[1e999, 0.0]] * 64),
    "too wide": lambda path: edit(path, "logits", [[0.0, 0.0, 0.0]] * 64),
    "no texts": lambda path: edit(path, "texts", [None] * 64),
    "a book": lambda path: edit(path, "texts", ["a" * 100_000] * 64),
    "other labels": lambda path: edit(path, "labels", ["A", "B"]),
    "other weights": lambda path: edit(path, "weights_sha256", "0" * 64),
    "a list": lambda path: path.write_text("[]"),
}


def edit(path, name, value):
    """Change a value of a JSON file."""
    document = json.loads(path.read_text())
    document[name] = value
    path.write_text(json.dumps(document))


@pytest.mark.parametrize("how", DAMAGED)
def test_a_damaged_file_is_an_error_of_the_model(model, dump, tmp_path, how):
    """With what to do; never a traceback, never scores."""
    DAMAGED[how](model / canaries.FILE)
    with pytest.raises(ModelError) as caught:
        batch(dump, tmp_path / "out.csv", model=str(model), device="cpu")
    assert canaries.FILE in str(caught.value)
    assert "remove the file" in caught.value.hint


def test_logits_are_those_that_probabilities_tell(model):
    """Written with six decimals and centred."""
    found = canaries.read(model, ("NEGATIVE", "POSITIVE"))
    known = found.logits[~np.isnan(found.logits).any(axis=1)]
    assert np.abs(known.sum(axis=1)).max() < 2e-6


def test_more_tokens_may_be_read_than_when_the_model_was_made(tmp_path, dump):
    """Texts that the model's own length cuts have logits of their first tokens: they are left out."""
    folder = make_model(tmp_path / "model")
    config = folder / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_max_length": 16}))
    canaries.write_canaries(folder)
    found = batch(dump, tmp_path / "o.csv", model=str(folder), device="cpu", max_length=64)
    assert 0 < found["model"]["canaries"]["texts"] < 64
