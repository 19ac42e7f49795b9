"""Texts of which a model is sure after its first layers skip the others, by a rule for each text."""

import io
import json
import re

import numpy as np
import pytest
import torch
import transformers
from click.testing import CliRunner

import batchsent
from batchsent.cli import cli
from batchsent.errors import ModelError
from batchsent.model import early_exit
from batchsent.model.canaries import write_canaries
from batchsent.model.loading import identify, load_model
from batchsent.model.stock import StockEncoder
from batchsent.terminal.summaries import show
from tests.models import make_model

TEXTS = [
    "great",
    "the plot was awful and the acting boring",
    "a lovely film " * 15,
    "bad",
    "good " * 9,
]
TEXTS += [f"{text} {word}" for text in TEXTS for word in ("film", "plot", "never", "awful great")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model that is sure of about half of the texts after its first layer."""
    place = make_model(tmp_path_factory.mktemp("exit") / "model", "distilbert", n_layers=3)
    add_exit(place, 0.5001)
    sure = np.sort(first_layer(place, TEXTS).max(axis=1))
    middle = len(sure) // 2
    assert sure[middle] - sure[middle - 1] > 1e-5
    add_exit(place, float(sure[middle - 1 : middle + 1].mean()))
    return place


def add_exit(place, at_least=0.9, **changed):
    """Give a model folder an early exit; return what it says."""
    identity = identify(str(place))
    width = json.loads((place / "config.json").read_text())["dim"]
    weight = np.random.default_rng(7).normal(size=(2, width)).astype(np.float32)
    rule = early_exit.EarlyExit(1, at_least, weight, np.zeros(2, np.float32))
    early_exit.write(rule, place, identity.weights_sha256)
    path = place / early_exit.FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    return rule


def transformers_output(place, text):
    """Return what transformers itself computes for one text."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(place)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(place)
    with torch.inference_mode():
        return model(**tokenizer([text], return_tensors="pt"), output_hidden_states=True)


def first_layer(place, texts):
    """Return (texts, labels) what the early exit says of each text."""
    rule = json.loads((place / early_exit.FILE).read_text())
    found = []
    for text in texts:
        states = transformers_output(place, text).hidden_states[1][0, 0].numpy()
        logits = np.array(rule["weight"]) @ states + np.array(rule["bias"])
        found.append(np.exp(logits) / np.exp(logits).sum())
    return np.array(found)


def test_a_run_says_that_the_model_has_one(folder, tmp_path):
    """Before the rows are scored, and in the summary how many texts took it; an export says that it
    is gone.
    """
    source = tmp_path / "in.csv"
    source.write_text("text\n" + "\n".join(TEXTS) + "\n")
    output = tmp_path / "out.csv"
    command = ["batch", str(source), "-o", str(output), "--model", str(folder), "--device", "cpu"]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0
    assert "after 1 layers of the model is not run through the others" in done.stderr
    document = json.loads((tmp_path / "out.csv.summary.json").read_text())
    found, shown = document["model"]["early_exit"], io.StringIO()
    show(document, shown)
    assert f"{found['exited']} of {found['texts']} texts ended after 1 layers" in shown.getvalue()
    plain = ["export", str(folder), "-o", str(tmp_path / "plain"), "--to", "transformers"]
    assert "the early exit is not in it" in CliRunner().invoke(cli, plain).stderr


def probabilities(place, texts, **options):
    """Return (texts, labels) what batchsent says of them."""
    model = batchsent.load(str(place), device="cpu", **options)
    return np.array([list(one.probabilities.values()) for one in model.predict(texts)])


def test_a_text_ends_early_where_a_label_reaches_the_threshold(folder):
    """All others have the probabilities of the last layer: by hand, with transformers."""
    threshold = json.loads((folder / early_exit.FILE).read_text())["threshold"]
    early = first_layer(folder, TEXTS)
    last = np.array(
        [transformers_output(folder, text).logits.softmax(-1)[0].numpy() for text in TEXTS]
    )
    sure = early.max(axis=1) >= threshold
    assert 0 < sure.sum() < len(TEXTS)
    wanted = np.where(sure[:, None], early, last)
    assert np.abs(probabilities(folder, TEXTS) - wanted).max() < 1e-5


def test_what_a_text_gets_does_not_depend_on_the_others(folder):
    """Alone or among others, of which some leave: the same label and the same decision."""
    together = probabilities(folder, TEXTS)
    alone = np.concatenate([probabilities(folder, [text]) for text in TEXTS])
    assert np.abs(together - alone).max() < 1e-6


def test_the_model_as_transformers_runs_it_follows_the_same_rule(folder):
    """Where the forward pass without padding cannot be used, the scores are the same."""
    loaded = load_model(identify(str(folder)), device="cpu")
    stock = StockEncoder(loaded, "padded", "for the test")
    rows = [loaded.tokenizer(text)["input_ids"] for text in TEXTS]
    lengths = np.array([len(row) for row in rows])
    found = stock.probabilities(np.concatenate(rows).astype(np.int32), lengths).numpy()
    assert np.abs(found - probabilities(folder, TEXTS)).max() < 1e-5
    assert 0 < stock.early_exits < len(TEXTS)


def test_the_summary_counts_the_texts_that_ended_early(folder, tmp_path):
    """And says by which rule; a model without an early exit has null there."""
    source = tmp_path / "in.csv"
    source.write_text("text\n" + "\n".join(TEXTS) + "\n")
    said = batchsent.batch(source, tmp_path / "out.csv", model=str(folder))["model"]["early_exit"]
    sure = first_layer(folder, TEXTS).max(axis=1) >= said["threshold"]
    assert said["layer"] == 1
    assert said["texts"] == len(set(TEXTS))
    assert said["exited"] == len({t for t, s in zip(TEXTS, sure, strict=True) if s})
    plain = make_model(tmp_path / "plain", "distilbert")
    summary = batchsent.batch(source, tmp_path / "other.csv", model=str(plain))
    assert summary["model"]["early_exit"] is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"schema": "other"}, "its schema is 'other'"),
        ({"threshold": 0.2}, "threshold 0.2 is not between 0.5 and 1"),
        ({"layer": 0}, "layer 0 is below 1"),
        ({"layer": True}, "layer True or threshold 0.9 is no number"),
        ({"threshold": "0.9"}, "layer 1 or threshold '0.9' is no number"),
        ({"bias": [1e300, 0.0]}, "a weight or bias is not finite"),
        ({"bias": [0.0]}, "not about 2 labels"),
        ({"bias": [0.0, float("nan")]}, "a weight or bias is not finite"),
        ({"weight": [[1.0]]}, "not about 2 labels"),
        ({"weight": [["x"] * 16] * 2}, "could not convert"),
        ({"weights_sha256": "0" * 64}, "belongs to other weights"),
    ],
)
def test_a_damaged_early_exit_is_refused_with_a_way_out(tmp_path, changed, message):
    """The model could be scored without it, but not silently."""
    place = make_model(tmp_path / "model", "distilbert")
    add_exit(place, **changed)
    with pytest.raises(ModelError, match=re.escape(message)) as caught:
        identify(str(place))
    assert "or remove the file" in caught.value.hint


@pytest.mark.parametrize("changed", [{"layer": 99}, {"weight": [[1.0, 2.0]] * 2}])
def test_an_early_exit_of_another_model_is_refused(tmp_path, changed):
    """After more layers than there are, or of states of another width."""
    place = make_model(tmp_path / "model", "distilbert")
    add_exit(place, **changed)
    with pytest.raises(ModelError, match="does not fit the model"):
        batchsent.load(str(place), device="cpu").predict(["good"])


def test_another_rule_is_another_configuration(tmp_path):
    """A changed threshold changes scores, so unfinished work is not resumed with it."""
    place = make_model(tmp_path / "model", "distilbert")
    without = identify(str(place)).config_sha256
    add_exit(place, 0.9)
    with_rule = identify(str(place)).config_sha256
    add_exit(place, 0.95)
    assert len({without, with_rule, identify(str(place)).config_sha256}) == 3


def test_canaries_run_through_all_layers(tmp_path):
    """So that they tell of the machine and not of the threshold: without the file they are right
    too, and the message of a damaged one may say to remove it.
    """
    place = make_model(tmp_path / "model", "distilbert")
    add_exit(place, 0.5001)
    write_canaries(place)
    source = tmp_path / "in.csv"
    source.write_text("text\n" + "\n".join(TEXTS) + "\n")
    summary = batchsent.batch(source, tmp_path / "out.csv", model=str(place), device="cpu")
    assert summary["model"]["canaries"]["largest_difference"] < 1e-4
    assert summary["model"]["early_exit"]["texts"] == len(set(TEXTS))
    (place / early_exit.FILE).unlink()
    summary = batchsent.batch(source, tmp_path / "all.csv", model=str(place), device="cpu")
    assert summary["model"]["canaries"]["largest_difference"] < 1e-4


def test_a_text_without_a_number_ends_nothing():
    """NaN is not sure of anything: such a text runs through all layers."""
    rule = early_exit.EarlyExit(1, 0.9, np.zeros((2, 2), np.float32), np.zeros(2, np.float32))
    found = torch.tensor([[float("nan")] * 2, [0.95, 0.05], [0.6, 0.4]])
    assert rule.undecided(found).tolist() == [0, 2]
