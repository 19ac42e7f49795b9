"""A training on few rows does not make a model worse that has the same labels already."""

import html
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import batchsent
from batchsent.cli import cli
from batchsent.model.loading import EMBEDDED_FOLDER
from batchsent.training.few_rows import BaseWeights, must_beat_base
from batchsent.training.hf_trainer import Measurements
from batchsent.training.options import FEW_ROWS, FinetuneOptions
from tests.models import weights


def rows(path, count, right=True):
    """Write labelled rows that a model can learn, or with the labels the wrong way round."""
    words = ("awful boring", "great lovely")
    label = (0, 1) if right else (1, 0)
    lines = [f"{words[i % 2]} film {i},{label[i % 2]}" for i in range(count)]
    path.write_text("text,label\n" + "\n".join(lines) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def base(tmp_path_factory, tiny_model):
    """A model that knows these words."""
    place = tmp_path_factory.mktemp("base")
    train = rows(place / "train.csv", 120)
    batchsent.finetune(
        place / "model", train=train, base_model=str(tiny_model), learning_rate=5e-3, epochs=6
    )
    return place / "model"


def test_wrong_labels_in_few_rows_do_not_spoil_it(base, tmp_path):
    """It is no better on the rows kept for measuring than its base: the weights stay."""
    train = rows(tmp_path / "train.csv", 60, right=False)
    measured = rows(tmp_path / "eval.csv", 20)
    reporter = Lines()
    document = batchsent.finetune(
        tmp_path / "model", train=train, eval=measured, base_model=str(base), reporter=reporter
    )
    assert document["training"]["kept_base"] is True
    assert document["metrics"]["accuracy"] == document["comparison"]["base"]["accuracy"] == 1.0
    assert weights(tmp_path / "model") == weights(base)
    assert any("has the base model's weights" in line for line in reporter.lines)
    written = json.loads((tmp_path / "model" / "metrics.json").read_text())
    assert written["training"]["kept_base"] is True
    for name in ("README.md", "report.html"):
        page = html.unescape((tmp_path / "model" / name).read_text())
        assert "40 rows was not clearly better than the base model" in page
        assert "these are the base model's weights" in page
    shown = CliRunner().invoke(cli, ["finetune", "--help"]).output
    assert f"Fewer than {FEW_ROWS} rows" in " ".join(shown.split())


def test_a_folder_with_the_weights_of_its_base_is_as_good_as_its_base(tmp_path):
    """It has the early exit, the calibration, the held-out counts and the canaries of these weights,
    gives the same scores, and does not claim to have learned the rows.
    """
    train = rows(tmp_path / "train.csv", 40)
    document = batchsent.finetune(tmp_path / "model", train=train, base_model="embedded")
    assert document["training"]["kept_base"] is True
    texts = ["A great film.", "A boring mess of a film, and too long.", "It was on Tuesday."]
    ours, base = (
        batchsent.load(name, device="cpu").predict(texts)
        for name in (str(tmp_path / "model"), None)
    )
    for mine, theirs in zip(ours, base, strict=True):
        assert mine.label == theirs.label
        assert mine.score == pytest.approx(theirs.score, abs=1e-5)
    for name in ("early_exit.json", "held_out.json", "calibration.json", "canaries.json"):
        found, wanted = (
            json.loads((place / name).read_text())
            for place in (tmp_path / "model", EMBEDDED_FOLDER)
        )
        assert found.pop("weights_sha256") != wanted.pop("weights_sha256")
        assert found == wanted
    hashes = "seen_texts.hashes"
    assert (tmp_path / "model" / hashes).read_bytes() == (EMBEDDED_FOLDER / hashes).read_bytes()
    assert batchsent.info(str(tmp_path / "model"))["model"]["canaries"]["label_flips"] == 0


@pytest.mark.parametrize(
    ("right_before", "right_after", "kept"),
    [
        ([0] * 20, [1] * 20, False),
        ([1] * 20, [1] * 20, True),
        ([1] * 19 + [0], [1] * 20, True),  # one row more is chance
        ([1] * 20, [0] * 20, True),
    ],
)
def test_only_what_is_clearly_better_replaces_the_base(right_before, right_after, kept):
    """By the 95 % interval of the difference on the same rows."""
    trainer = Answers(right_before, right_after)
    base = BaseWeights(trainer, trainer.measurements)
    trainer.model.load_state_dict({"weight": torch.ones(1)})
    assert base.restore_unless_better(trainer, trainer.measurements) is kept
    assert trainer.model.weight.item() == (0.0 if kept else 1.0)


class Answers:
    """A trainer whose model is right on these rows before the training, and on those after it."""

    def __init__(self, before, after):
        self.before, self.after = before, after
        self.model = torch.nn.Linear(1, 1, bias=False)
        self.model.weight = torch.nn.Parameter(torch.zeros(1))
        self.measurements = Measurements(["NEGATIVE", "POSITIVE"])

    def evaluate(self, metric_key_prefix="eval"):
        right = self.after if self.model.weight.item() else self.before
        logits = np.eye(2)[np.array(right)]
        labels = np.ones(len(right), dtype=np.int64)
        self.measurements(SimpleNamespace(predictions=logits, label_ids=labels))


@pytest.mark.parametrize("pace", [{"learning_rate": 1e-4}, {"epochs": 1}])
def test_a_pace_that_is_named_is_obeyed(base, tmp_path, pace):
    """Whoever chooses the learning rate or the epochs gets what they give."""
    train = rows(tmp_path / "train.csv", 60, right=False)
    document = batchsent.finetune(tmp_path / "model", train=train, base_model=str(base), **pace)
    assert document["training"]["kept_base"] is False
    assert weights(tmp_path / "model") != weights(base)


def test_many_rows_are_learned_as_they_are(base, tmp_path):
    """From FEW_ROWS on the comparison with the base model is left to the reader."""
    train = rows(tmp_path / "train.csv", FEW_ROWS * 2, right=False)
    document = batchsent.finetune(tmp_path / "model", train=train, base_model=str(base))
    assert document["training"]["kept_base"] is False


@pytest.mark.parametrize(
    ("rows_to_train", "crops", "few"),
    [(249, 0, True), (250, 0, False), (249, 500, True), (250, 500, False)],
)
def test_few_rows_are_fewer_than_250_reviews(rows_to_train, crops, few):
    """A crop is no row of its own, and rows held out to choose by are not trained on."""
    labels = ("NEGATIVE", "POSITIVE")
    train = SimpleNamespace(labels=[0] * (rows_to_train + crops), facts={"crops": crops})
    if not crops:
        train.facts = {}
    setup = SimpleNamespace(
        base=SimpleNamespace(labels=labels),
        names=list(labels),
        splits=SimpleNamespace(train=train, validation=SimpleNamespace(labels=[0] * 50)),
    )
    assert must_beat_base(setup, FinetuneOptions()) is few


def test_the_rows_that_choose_decide_whether_the_base_stays(base, tmp_path):
    """With --early-stopping there are validation rows: the base is beaten there or it stays, and
    the figures on the evaluation rows are of the weights that are kept.
    """
    train = rows(tmp_path / "train.csv", 60, right=False)
    measured = rows(tmp_path / "eval.csv", 20)
    document = batchsent.finetune(
        tmp_path / "model",
        train=train,
        eval=measured,
        base_model=str(base),
        early_stopping=1,
        crops=1,
    )
    assert document["training"]["kept_base"] is (weights(tmp_path / "model") == weights(base))
    assert document["metrics"]["accuracy"] == document["comparison"]["tuned"]["accuracy"]


class Lines(batchsent.Reporter):
    """Keeps what it is told."""

    def __init__(self):
        self.lines = []

    def notice(self, line):
        self.lines.append(line)

    def warning(self, line):
        self.lines.append(line)
