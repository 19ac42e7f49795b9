"""The model that comes with the package: there at once, without a download, and good enough to be
worth it.
"""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from batchsent.cli import cli
from batchsent.commands.batch import batch
from batchsent.commands.finetune import finetune
from batchsent.commands.predict import load
from batchsent.errors import ModelError, UsageError
from batchsent.model.loading import EMBEDDED_FOLDER, identify
from tests.listener import Listener
from tests.reviews import write_reviews

IMDB = Path(__file__).parents[2] / "shared" / "data" / "imdb"
# A port that nobody listens on.
NOWHERE = {"HF_ENDPOINT": "http://127.0.0.1:9"}


@pytest.fixture(scope="module")
def model():
    """The model of those who name none."""
    return load(device="cpu")


def test_a_dump_is_scored_without_naming_a_model(tmp_path):
    """`batchsent batch FILE -o FILE` works in a closed network, and its first line says with which
    model.
    """
    dump = tmp_path / "reviews.csv"
    dump.write_text(
        "id,text\n1,What a wonderful film. I loved every minute of it.\n2,A boring waste of time.\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "batchsent", "batch", "reviews.csv", "-o", "scored.csv"],
        cwd=tmp_path,
        env=os.environ | NOWHERE,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()
    assert said[0] == "loading the model"  # said again where it takes long
    assert next(line for line in said if line != said[0]).startswith(
        "model embedded (NEGATIVE, POSITIVE), which comes with batchsent; --model names"
    )
    with (tmp_path / "scored.csv").open() as file:
        assert [row["label"] for row in csv.DictReader(file)] == ["POSITIVE", "NEGATIVE"]
    summary = json.loads((tmp_path / "scored.csv.summary.json").read_text())
    assert summary["model"]["source"] == "embedded"
    assert summary["model"]["long_text"] == "head-tail"


def test_it_knows_plain_reviews(model):
    """What nobody could take for the opposite, it does not either."""
    good = [
        "An excellent movie, beautifully acted and deeply moving.",
        "Great fun! I recommend it to everybody.",
    ]
    bad = [
        "Terrible. The worst acting I have ever seen.",
        "Dull, predictable, and far too long. Avoid it.",
    ]
    assert [one.label for one in model.predict(good + bad)] == ["POSITIVE"] * 2 + ["NEGATIVE"] * 2


def test_a_text_is_scored_without_naming_a_model(capsys):
    """`batchsent predict TEXT` can be tried at once."""
    cli.main(["predict", "A wonderful film, I loved it."], standalone_mode=False)
    assert capsys.readouterr().out.startswith("POSITIVE")


def test_it_is_small_and_has_its_card():
    """At most 20 MB in all, weights as safetensors only, with a card that states data, figures and
    limits.
    """
    files = {path.name: path.stat().st_size for path in EMBEDDED_FOLDER.iterdir()}
    assert sum(files.values()) <= 20_000_000
    assert {
        "config.json",
        "model.int8.safetensors",
        "tokenizer.json",
        "calibration.json",
        "held_out.json",
        "canaries.json",
        "README.md",
    } <= set(files)
    card = (EMBEDDED_FOLDER / "README.md").read_text()
    for part in ("## Figures", "## Data and recipe", "## What it is not for", "## Licence"):
        assert part in card


def test_a_folder_of_its_name_wins_and_a_revision_is_refused(tmp_path, monkeypatch):
    """`--model embedded` names it, unless a folder is called so; it has no revisions."""
    monkeypatch.chdir(tmp_path)
    assert identify("embedded").path == EMBEDDED_FOLDER
    with pytest.raises(UsageError, match="has no revision"):
        identify(None, "main")
    (tmp_path / "embedded").mkdir()
    assert identify(None).path == EMBEDDED_FOLDER
    with pytest.raises(ModelError, match=r"embedded has no config\.json"):
        identify("embedded")


def test_finetune_starts_from_it_where_the_hub_cannot_be_reached(tmp_path, monkeypatch):
    """Without a network the default base model is the embedded one, which is said.

    A base that was named is not.
    """
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    listener = Listener()
    options = {
        "train": write_reviews(tmp_path / "reviews.csv"),
        "epochs": 1,
        "max_length": 16,
        "device": "cpu",
    }
    document = finetune(tmp_path / "model", reporter=listener, **options)
    assert any("the Hub cannot be reached" in line for line in listener.warned)
    assert document["base_model"]["kind"] == "embedded"
    assert "comes with batchsent" in (tmp_path / "model" / "README.md").read_text()
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
        finetune(tmp_path / "other", base_model="google/other", **options)


@pytest.mark.skipif(
    not IMDB.exists(), reason="needs the IMDB reviews, which are no part of the project"
)
def test_it_is_right_about_reviews_it_has_never_seen(tmp_path):
    """Of 600 IMDB test reviews at least 88 % are right, and its scores are chances: calibration
    error below 0.06.
    """
    reviews = pq.read_table(IMDB / "test-5k.parquet").slice(0, 600)
    pq.write_table(reviews, tmp_path / "test.parquet")
    found = batch(
        str(tmp_path / "test.parquet"),
        tmp_path / "o.parquet",
        gold="label",
        prefix="pred_",
        device="cpu",
    )
    assert found["evaluation"]["accuracy"] >= 0.88
    assert found["evaluation"]["calibration_error"] < 0.06
