"""A training on few rows does not make a model worse that has the same labels already."""

import json

import pytest

import batchsent
from batchsent.training.few_rows import FEW_ROWS
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


def test_wrong_labels_in_few_rows_do_not_spoil_it(base, tmp_path, caplog):
    """It is right on no more of the rows kept for measuring than its base: the weights stay."""
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


def test_what_is_right_on_more_rows_replaces_the_base(tmp_path, tiny_model):
    """An untrained model that learns the words is another one afterwards."""
    train = rows(tmp_path / "train.csv", 400)
    document = batchsent.finetune(tmp_path / "model", train=train, base_model=str(tiny_model))
    better = document["comparison"]["difference"] > 0
    assert document["training"]["kept_base"] is not better


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


class Lines(batchsent.Reporter):
    """Keeps what it is told."""

    def __init__(self):
        self.lines = []

    def notice(self, line):
        self.lines.append(line)

    def warning(self, line):
        self.lines.append(line)
