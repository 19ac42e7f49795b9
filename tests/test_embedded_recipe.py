"""The recipe of the embedded model writes a card with the figures that it measured."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def recipe(monkeypatch):
    """Load the script as a module, with the scripts beside it."""
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    spec = importlib.util.spec_from_file_location("embedded_model", EXAMPLES / "embedded_model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_card_has_the_figures_of_the_test_reviews_and_their_crops(recipe, tmp_path, tiny_model):
    """Every figure of the card's template is measured, and none is left as a name."""
    reviews = pyarrow.csv.read_csv(EXAMPLES / "reviews-train.csv").slice(0, 40)
    positive = pc.equal(reviews["label"], "POSITIVE").cast(pa.int8())
    pq.write_table(
        pa.table({"text": reviews["text"], "label": positive}), tmp_path / "reviews.parquet"
    )
    source = str(tmp_path / "reviews.parquet")
    model = shutil.copytree(tiny_model, tmp_path / "model")
    recipe.measure(model, source, source, tmp_path)
    card = (model / "README.md").read_text()
    figures = json.loads((tmp_path / "figures.json").read_text())
    one_sentence = figures["crops"][0]
    assert one_sentence["sentences"] == 1
    assert f"| one sentence | {one_sentence['crops']} | {one_sentence['accuracy']:.4f} |" in card
    assert f"| 40 IMDB test reviews, float32 | {figures['accuracy']:.4f} |" in card
    assert "{" not in card
