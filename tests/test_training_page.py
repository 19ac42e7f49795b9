"""The page, the table and the last lines of a training: what a person sees when it is done."""

import html
import io
import json
import re

import pytest

from batchsent.cli import cli
from batchsent.commands.finetune import finetune
from batchsent.pages.training import render_training
from batchsent.terminal.tables import show_metrics
from tests.listener import Listener
from tests.models import make_model
from tests.reviews import write_reviews

QUICK = {"batch_size": 8, "learning_rate": 1.5e-5, "device": "cpu", "max_length": 16, "epochs": 2}
WORDS = re.compile(r"<[^>]*>")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A training that learns next to nothing: its folder, its document and what was said."""
    folder = tmp_path_factory.mktemp("page")
    listener = Listener()
    document = finetune(
        folder / "model",
        train=write_reviews(folder / "reviews.csv", rows=60),
        eval=write_reviews(folder / "held.csv", rows=40, words=(["<b>fine"] * 6, ["poor"] * 6)),
        base_model=str(make_model(folder / "base")),
        reporter=listener,
        **QUICK,
    )
    return folder / "model", document, listener


def words_of(page):
    """The words of a page in one line."""
    return " ".join(WORDS.sub(" ", page).split())


def test_the_base_model_is_measured_on_the_same_rows(trained):
    """metrics.json has both models' figures on the same rows, with intervals and the difference."""
    _, document, _ = trained
    found = document["comparison"]
    assert found["why_not"] is None
    assert found["rows"] == found["base"]["rows"] == found["tuned"]["rows"] == 40
    assert found["tuned"]["accuracy"] == document["metrics"]["accuracy"]
    assert found["difference"] == pytest.approx(
        found["tuned"]["accuracy"] - found["base"]["accuracy"]
    )
    low, high = found["difference_interval"]
    assert low < found["difference"] < high
    low, high = document["evaluation"]["accuracy_interval"]
    assert low < document["metrics"]["accuracy"] < high


def test_the_labels_of_the_base_may_stand_in_another_order(tmp_path):
    """A base that numbers its labels the other way round, in other case, is compared by name."""
    base = str(make_model(tmp_path / "base", labels=("positive", "Negative")))
    same = str(make_model(tmp_path / "same", labels=("NEGATIVE", "POSITIVE")))
    held = write_reviews(tmp_path / "held.csv", words=(["fine"] * 6, ["poor"] * 6))
    reviews = write_reviews(tmp_path / "reviews.csv")
    options = QUICK | {"train": reviews, "eval": held, "epochs": 1}
    turned, straight = (
        finetune(tmp_path / f"from-{name}", base_model=model, **options)["comparison"]["base"]
        for name, model in (("base", base), ("same", same))
    )
    assert turned["accuracy"] == pytest.approx(1 - straight["accuracy"])


@pytest.mark.parametrize(
    ("labels", "why"),
    [(("good", "bad"), "the base model has other labels: good, bad"), (None, "no classification")],
)
def test_a_base_that_cannot_be_compared_is_said_to_be_so(tmp_path, labels, why):
    """Another head, or none, is no figure but a reason, in metrics.json and in the card."""
    base = make_model(tmp_path / "base", labels=labels or ("a", "b"))
    if labels is None:
        config = json.loads((base / "config.json").read_text())
        config["architectures"] = ["DistilBertModel"]
        (base / "config.json").write_text(json.dumps(config))
    document = finetune(
        tmp_path / "out",
        train=write_reviews(tmp_path / "reviews.csv"),
        base_model=str(base),
        **QUICK | {"epochs": 1},
    )
    assert why in document["comparison"]["why_not"]
    assert why in (tmp_path / "out" / "README.md").read_text().replace("\\", "")


def test_mistakes_are_named_by_row_and_quoted_where_they_stay(trained):
    """metrics.json numbers the surest mistakes, the surest first; page and terminal quote them."""
    folder, document, listener = trained
    mistakes = document["mistakes"]
    assert 3 <= len(mistakes) <= 10
    scores = [mistake["score"] for mistake in mistakes]
    assert scores == sorted(scores, reverse=True)
    rows = (folder.parent / "held.csv").read_text().splitlines()
    for mistake in mistakes:
        text, _, label = rows[mistake["row"]].rpartition(",")
        assert {"pos": "POSITIVE", "neg": "NEGATIVE"}[label] == mistake["label"]
        assert mistake["label"] != mistake["predicted"]
        assert text not in (folder / "metrics.json").read_text()
    said = [line for line in listener.said if line.startswith("mistake: ")]
    assert len(said) == 3
    first = mistakes[0]
    text = rows[first["row"]].rpartition(",")[0]
    labels = f"is labelled {first['label']}, the model says {first['predicted']}"
    assert said[0].startswith(f"mistake: row {first['row']} {labels} (")
    assert said[0].endswith(f": {text}")
    page = (folder / "report.html").read_text()
    assert f"row {first['row']}:" in page
    assert html.escape(text) in page
    assert "<b>fine" not in page


def test_the_page_has_base_model_matrix_and_intervals(trained):
    """The page shows both models, what is taken for what, and how sure the figures are."""
    folder, document, _ = trained
    words = words_of((folder / "report.html").read_text())
    for part in ("Beside its base model", "Confusion matrix", "Its surest mistakes", "95%: "):
        assert part in words
    base = document["comparison"]["base"]["accuracy"]
    assert f"accuracy {base:.3f} {document['metrics']['accuracy']:.3f}" in words


def test_every_number_of_an_axis_is_whole(trained):
    """No number beside an axis is wider than the margin that it stands in, learning rates included."""
    page = (trained[0] / "report.html").read_text()
    assert "Learning rate, in units of 1e-05" in page
    ticks = re.findall(r'class="tick" x="(\d+)" y="[\d.]+" text-anchor="end">([^<]*)<', page)
    assert len(ticks) > 8
    for x, number in ticks:
        # A digit of 10.5 units in a common font is 6 wide.
        assert 6 * len(number) <= int(x), number


def test_the_table_shows_the_same(trained):
    """The table on stdout has interval, confusion matrix and base model."""
    _, document, _ = trained
    out = io.StringIO()
    show_metrics(document, out)
    words = " ".join(out.getvalue().split())
    low, high = document["evaluation"]["accuracy_interval"]
    assert document["evaluation"]["rows"] == 40  # so two decimals are what the rows carry
    assert f"accuracy {document['metrics']['accuracy']:.2f} 95%: {low:.2f} to {high:.2f}" in words
    assert "0." not in re.sub(r"0\.\d\d\b", "", words)
    assert (
        f"Matthews correlation {document['metrics']['mcc']:.2f} 0 is chance, 1 is perfect" in words
    )
    assert "gold \\ predicted NEGATIVE POSITIVE" in words
    assert f"base model on these rows: {document['comparison']['base']['accuracy']:.2f}" in words
    assert "difference: " in words


def test_rows_that_were_seen_are_marked_on_the_page_and_in_the_table(trained):
    """The figure on all rows never stands alone where the base model has learned some of them."""
    folder, document, _ = trained
    others = document["evaluation"] | {"rows": 30, "accuracy": 0.4, "accuracy_interval": [0.2, 0.6]}
    seen = document["seen"] | {"rows": 10, "evaluation_of_others": others}
    marked = document | {"seen": seen}
    page = render_training(marked, (folder / "training_curve.csv").read_text()).decode()
    assert "10 of the 40 evaluation rows are among the texts that the base model has" in page
    assert "On the other 30 the accuracy is 40.0%" in page
    assert "; 10 rows seen by the base model</bdi>" in page
    out = io.StringIO()
    show_metrics(marked, out)
    first = next(line for line in out.getvalue().splitlines() if line.startswith("accuracy "))
    assert "; 10 rows seen before" in first
    assert "10 of these 40 rows were seen by the base model" in out.getvalue()
    assert "accuracy on the other 30 rows: 0.40 " in out.getvalue()


def test_a_page_for_the_hub_quotes_no_review(trained):
    """Without texts the page names its mistakes by their rows alone."""
    folder, document, _ = trained
    page = render_training(document, (folder / "training_curve.csv").read_text()).decode()
    assert f"row {document['mistakes'][0]['row']}:" in page
    assert "fine" not in page.replace("Fine-tuned", "")


def test_it_ends_with_the_page_and_the_next_command(tmp_path, monkeypatch, capsys):
    """The last two lines on stderr name the page and what to type next, unless quiet."""
    monkeypatch.chdir(tmp_path)
    write_reviews(tmp_path / "reviews.csv")
    make_model(tmp_path / "base", labels=("bad", "good"))  # other labels: nothing to compare with
    words = ["finetune", "--train", "reviews.csv", "--base-model", "base", "--device", "cpu"]
    cli.main([*words, "--epochs", "1", "-o", "my model"], standalone_mode=False)
    printed = capsys.readouterr()
    assert printed.err.splitlines()[-2:] == [
        "page: my model/report.html",
        "next: batchsent batch reviews.csv -o scored.csv --model 'my model'",
    ]
    assert "accuracy" in printed.out
    cli.main([*words, "--epochs", "1", "-o", "quiet", "--quiet"], standalone_mode=False)
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if not line.startswith("warning: ")] == []


def test_without_a_gain_no_next_command_is_proposed(tmp_path, monkeypatch, capsys):
    """A model that is no better than its base model is no reason to score with it."""
    monkeypatch.chdir(tmp_path)
    write_reviews(tmp_path / "reviews.csv")
    make_model(tmp_path / "base")
    words = ["finetune", "--train", "reviews.csv", "--base-model", "base", "--device", "cpu"]
    cli.main([*words, "--epochs", "1", "--learning-rate", "1e-12"], standalone_mode=False)
    printed = capsys.readouterr()
    assert "difference: +0.00 (" in printed.out
    assert printed.err.splitlines()[-1] == "page: model/report.html"
