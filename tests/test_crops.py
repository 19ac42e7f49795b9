"""Crops of reviews are whole sentences that follow each other, the same ones for every model."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

CROPS = Path(__file__).parents[1] / "examples" / "crops.py"
REVIEW = (
    'One good film. "Two bad films!" Three (of the) plots?<br /><br />Four lines\nremain. 10/10'
)


@pytest.fixture(scope="module")
def crops():
    """Load the script as a module."""
    spec = importlib.util.spec_from_file_location("crops", CROPS)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        ("Good", []),
        ("A good film", ["A good film"]),
        ("A good film! A bad plot... It is 3.5 of 5.", None),
        (
            REVIEW,
            ["One good film.", '"Two bad films!"', "Three (of the) plots?", "Four lines\nremain."],
        ),
        ("Wait for it.<BR>\nGreat end", ["Wait for it.", "Great end"]),
    ],
)
def test_crops_are_made_of_sentences_of_two_words_and_more(crops, text, parts):
    """Numbers are not split, and parts of one word are left out."""
    if parts is None:
        parts = ["A good film!", "A bad plot...", "It is 3.5 of 5."]
    assert crops.sentences_of(text) == parts


def test_a_crop_is_neighbouring_sentences(crops):
    """Crops of a review come from different places, as many as there are at most."""
    text = "S 0. S 1. S 2. S 3."
    found = crops.crops_of(text, 2, 5, np.random.default_rng(0))
    assert sorted(found) == ["S 0. S 1.", "S 1. S 2.", "S 2. S 3."]
    assert crops.crops_of(text, 5, 5, np.random.default_rng(0)) == []


def test_the_seed_decides_the_crops(crops):
    """The same seed gives the same crops, another one others; labels stay with their reviews."""
    reviews = pa.table(
        {
            "text": [" ".join(f"Review {r} part {s}." for s in range(30)) for r in range(9)],
            "label": [r % 2 for r in range(9)],
        }
    )
    first = crops.crop_table(reviews, 1, 3, seed=1)
    assert first == crops.crop_table(reviews, 1, 3, seed=1)
    assert first != crops.crop_table(reviews, 1, 3, seed=2)
    assert len(first) == 27
    for text, label in zip(first["text"].to_pylist(), first["label"].to_pylist(), strict=True):
        assert int(text.split()[1]) % 2 == label


def test_it_prints_figures_of_every_length(tmp_path, tiny_model):
    """The share called positive stands beside the true one; short reviews are left out of longer
    crops.
    """
    reviews = tmp_path / "reviews.parquet"
    pq.write_table(
        pa.table({"text": ["Great film. Great plot. Good end.", "Bad film."], "label": [1, 0]}),
        reviews,
    )
    done = subprocess.run(
        [sys.executable, str(CROPS), "reviews.parquet", "--model", str(tiny_model), "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert [(row["sentences"], row["crops"]) for row in figures] == [(1, 3), (2, 2), (3, 1)]
    assert [row["true_share_positive"] for row in figures] == [pytest.approx(2 / 3), 1, 1]
    for row in figures:
        assert 0 <= row["share_positive"] <= 1
        low, high = row["accuracy_interval"]
        assert low <= row["accuracy"] <= high
