"""Crops of reviews are whole sentences that follow each other, the same ones for every model."""

import importlib.util
import json
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchsent.commands.finetune import finetune
from batchsent.errors import UsageError
from batchsent.training.crops import add_crops, crops_of, sentences_of
from batchsent.training.examples import Examples

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
def test_crops_are_made_of_sentences_of_two_words_and_more(text, parts):
    """Numbers are not split, and parts of one word are left out."""
    if parts is None:
        parts = ["A good film!", "A bad plot...", "It is 3.5 of 5."]
    assert sentences_of(text) == parts


def test_a_crop_is_neighbouring_sentences():
    """Crops of a review come from different places, as many as there are at most."""
    text = "S 0. S 1. S 2. S 3."
    found = crops_of(text, 2, 5, np.random.default_rng(0))
    assert sorted(found) == ["S 0. S 1.", "S 1. S 2.", "S 2. S 3."]
    assert crops_of(text, 5, 5, np.random.default_rng(0)) == []


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


def test_it_prints_figures_of_every_length(fork_server, tmp_path, tiny_model):
    """The share called positive stands beside the true one; short reviews are left out of longer
    crops.
    """
    reviews = tmp_path / "reviews.parquet"
    pq.write_table(
        pa.table({"text": ["Great film. Great plot. Good end.", "Bad film."], "label": [1, 0]}),
        reviews,
    )
    done = subprocess.run(
        [fork_server.python, str(CROPS), "reviews.parquet", "--model", str(tiny_model), "--json"],
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


def test_training_rows_get_crops_with_the_label_of_their_review():
    """The reviews stay first; a crop is part of its review and has its label and row number."""
    texts = [" ".join(f"Review {r} part {s}." for s in range(8)) for r in range(20)]
    reviews = Examples(texts, [r % 2 for r in range(20)], {"name": "r"}, numbers=range(1, 21))
    found = add_crops(reviews, [], 4, seed=3)
    assert found.texts[:20] == texts
    assert found.facts == {"name": "r", "crops": len(found.texts) - 20}
    crops = list(zip(found.texts, found.labels, found.numbers, strict=True))[20:]
    assert 60 < len(crops) <= 80
    assert {text.count(".") for text, _, _ in crops} == {1, 2, 3}
    for text, label, number in crops:
        assert text in texts[number - 1]
        assert label == (number - 1) % 2
    assert add_crops(reviews, [], 4, seed=3) == found
    assert add_crops(reviews, [], 4, seed=4) != found


def test_no_crop_is_a_text_to_measure_on_nor_of_two_labels():
    """Crops that are measured on, whole reviews and crops of both classes are left out."""
    reviews = Examples(
        ["I saw it. Very good.", "I saw it. Very bad.", "One good film.", "A fine  end. A cat."],
        [1, 0, 1, 1],
        {},
    )
    measured = Examples(["A fine end."], [1], {})
    found = add_crops(reviews, [measured], 30, seed=0)
    assert sorted(found.texts[4:]) == ["A cat.", "Very bad.", "Very good."]


def test_finetune_learns_from_crops_and_never_measures_on_them(tmp_path, tiny_model):
    """metrics.json counts the crops among the training rows; the evaluation rows stay the same."""
    lines = [f"The film {i} is great. Really lovely {i}! Best love,pos" for i in range(20)]
    lines += [f"The film {i} is awful. Really boring {i}! Worst hate,neg" for i in range(20)]
    (tmp_path / "r.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    shared = {"train": str(tmp_path / "r.csv"), "base_model": str(tiny_model), "epochs": 1}
    plain = finetune(tmp_path / "plain", **shared)["data"]
    cropped = finetune(tmp_path / "cropped", crops=2, **shared)["data"]
    assert cropped["eval"] == plain["eval"]
    assert cropped["train"]["crops"] > 20
    assert cropped["train"]["rows"] == plain["train"]["rows"] + cropped["train"]["crops"]
    assert f"{cropped['train']['crops']:,}" in (tmp_path / "cropped" / "README.md").read_text()
    assert (tmp_path / "cropped" / "seen_texts.hashes").stat().st_size > (
        tmp_path / "plain" / "seen_texts.hashes"
    ).stat().st_size


def test_crops_have_no_probabilities_of_a_teacher(tmp_path):
    """--distill learns what the teacher says of the whole review."""
    with pytest.raises(UsageError, match="--crops"):
        finetune(tmp_path / "m", train="x.csv", distill=True, crops=1)
