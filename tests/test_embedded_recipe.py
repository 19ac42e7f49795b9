"""The recipe of the embedded model: from reviews and an encoder to a model with its card."""

import importlib
import json
import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import batchsent
from batchsent.model.loading import identify
from tests.models import make_model

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def recipe(monkeypatch):
    """Return the script as a module, with the scripts beside it."""
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    return importlib.import_module("embedded_model")


@pytest.fixture
def reviews(tmp_path):
    """Labelled reviews and reviews without labels, as the recipe takes them."""
    table = pyarrow.csv.read_csv(EXAMPLES / "reviews-train.csv")
    positive = pc.equal(table["label"], "POSITIVE").cast(pa.int8())
    table = pa.table({"text": table["text"], "label": positive})
    pq.write_table(table, tmp_path / "train.parquet")
    others = pa.table({"text": [f"{text} Again!" for text in table["text"].to_pylist()[:40]]})
    pq.write_table(others, tmp_path / "unlabelled.parquet")
    pq.write_table(table.slice(0, 40), tmp_path / "test.parquet")
    return tmp_path


def test_the_recipe_runs_from_reviews_to_a_model(recipe, reviews, capsys):
    """Small in every part. A second call finds the steps done, and gives the same model."""
    encoder = make_model(
        reviews / "encoder", "bert", num_hidden_layers=3, max_position_embeddings=512
    )
    small = recipe.Recipe(
        layers=3,
        pieces=200,
        exit_layer=1,
        held_out=20,
        first_steps=2,
        first_schedule=4,
        steps=4,
        second_whole=10,
        second_cropped=10,
        third_steps=3,
        third_whole=10,
        third_others_whole=10,
    )

    def make():
        recipe.make(
            str(reviews / "train.parquet"),
            str(reviews / "unlabelled.parquet"),
            str(reviews / "test.parquet"),
            str(encoder),
            reviews / "work",
            reviews / "model",
            small,
        )
        return {path.name: path.read_bytes() for path in (reviews / "model").iterdir()}

    labels = {"NEGATIVE", "POSITIVE"}
    first = make()
    assert "training: " in capsys.readouterr().out
    assert batchsent.load(str(reviews / "model")).predict(["good"])[0].label in labels
    assert identify(str(reviews / "model")).early_exit.layer == 1
    assert "after 1 layers" in (reviews / "model" / "README.md").read_text()
    again = make()
    assert "training: " not in capsys.readouterr().out
    for files in (first, again):
        files.pop("README.md")  # it has the speed
    assert first == again


def test_the_card_has_the_figures_of_the_test_reviews_and_their_crops(
    recipe, reviews, tmp_path, tiny_model
):
    """Every figure of the card's template is measured, and none is left as a name."""
    source = str(reviews / "test.parquet")
    model = shutil.copytree(tiny_model, tmp_path / "model")
    recipe.measure(model, source, source, tmp_path)
    card = (model / "README.md").read_text()
    figures = json.loads((tmp_path / "figures.json").read_text())
    one_sentence = figures["crops"][0]
    assert one_sentence["sentences"] == 1
    assert f"| one sentence | {one_sentence['crops']} | {one_sentence['accuracy']:.4f} |" in card
    assert f"| 40 IMDB test reviews, float32 | {figures['accuracy']:.4f} |" in card
    assert "{" not in card
