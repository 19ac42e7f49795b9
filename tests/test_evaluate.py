"""Judging a file that is scored already: the figures of the run that scored it, without its model."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchsent.commands.batch import batch
from batchsent.commands.compare import compare
from batchsent.commands.evaluate import evaluate
from batchsent.commands.sample import sample
from batchsent.errors import GateFailed, InputError, UsageError
from batchsent.terminal.tables import show_evaluation
from tests.hash_model import HashModels
from tests.summaries import HOSTILE

GOLD = ["neg", "pos", "pos", "", "neither", "neg"]


@pytest.fixture
def reviews(tmp_path):
    """Return a dump of 300 reviews with a gold and a stars column, in CSV."""
    path = tmp_path / "reviews.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "gold", "stars"])
        for i in range(300):
            text = "" if i % 50 == 7 else f"review {i} " * (i + 1)
            writer.writerow([f"{i:04}", text, GOLD[i % 6], i % 5 + 1])
    return path


def scored(source, target, **options):
    return batch(source, target, models=HashModels(), **options)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "tsv.gz"])
@pytest.mark.parametrize("options", [{}, {"probabilities": True, "details": True, "prefix": "my_"}])
def test_the_same_figures_as_while_scoring(reviews, tmp_path, suffix, options):
    """What evaluate says of a scored file is what batch --gold said when it scored it, figure by
    figure.
    """
    target = tmp_path / f"out.{suffix}"
    while_scoring = scored(reviews, target, gold="gold", **options)
    document = evaluate(target, gold="gold", prefix=options.get("prefix", ""))
    expected, got = while_scoring["evaluation"], document["evaluation"]
    if not options.get("details"):
        expected = {**expected, "whole": None, "truncated": None}
    assert got == expected
    assert got["rows"] == 196
    assert document["rows"]["read"] == 300
    assert document["rows"]["blank"] == while_scoring["rows"]["blank"]
    # Shares are corrected by the model's own folder, which a scored file does not name.
    assert document["predictions"] == while_scoring["predictions"] | {"corrected": None}


def test_the_prefix_of_the_run_is_found(reviews, tmp_path):
    """Evaluate, sample and compare take the names of the label columns from the summary beside the
    file; two files may have different ones, and a prefix that is given counts.
    """
    old, new = tmp_path / "old.csv", tmp_path / "new.csv"
    run = scored(reviews, old, gold="gold", prefix="a_")
    scored(reviews, new, prefix="b_")
    assert evaluate(old, gold="gold")["evaluation"]["accuracy"] == run["evaluation"]["accuracy"]
    assert sample(old, tmp_path / "drawn.csv", rows=20)["rows"] == 20
    assert compare(old, new, gold="gold")["gold"]["accuracy_old"] == run["evaluation"]["accuracy"]
    with pytest.raises(UsageError, match="c_label"):
        evaluate(old, gold="gold", prefix="c_")


def test_without_a_text_column_there_are_no_figures_by_length(tmp_path):
    """A file of labels alone is judged too; by length and truncation nothing is said."""
    path = tmp_path / "labels.csv"
    path.write_text(
        "label,score,gold\nPOSITIVE,0.75,pos\nNEGATIVE,0.5,pos\n,,neg\nPOSITIVE,0.5,pos\n"
    )
    document = evaluate(path, gold="gold")
    evaluation = document["evaluation"]
    assert evaluation["accuracy"] == pytest.approx(2 / 3)
    assert evaluation["brier"] == pytest.approx((0.25**2 + 0.5**2 + 0.5**2) / 3)
    assert evaluation["by_length"] == []
    assert evaluation["truncated"] is None
    assert evaluation["gold"]["not_scored"] == 1


def many_labels(tmp_path, *, columns):
    path = tmp_path / "emotions.parquet"
    table = {
        "text": ["a", "b", "c", "d"],
        "label": ["joy", "anger", "love", "joy"],
        "score": pa.array([0.6, 0.5, 0.9, 0.4], pa.float32()),
        "gold": ["joy", "joy", "love", "anger"],
    }
    if columns:
        table["prob_anger"] = pa.array([0.3, 0.5, 0.0, 0.3], pa.float32())
        table["prob_joy"] = pa.array([0.6, 0.25, 0.1, 0.4], pa.float32())
        table["prob_love"] = pa.array([0.1, 0.25, 0.9, 0.3], pa.float32())
    pq.write_table(pa.table(table), path)
    return path


def test_more_than_two_labels_with_their_probabilities(tmp_path):
    """With a column for each probability the Brier score and the curves are known."""
    evaluation = evaluate(many_labels(tmp_path, columns=True), gold="gold")["evaluation"]
    assert evaluation["accuracy"] == 0.5
    brier = (0.16 + 0.09 + 0.01) + (0.25 + 0.5625 + 0.0625) + (0.01 + 0.01) + (0.49 + 0.16 + 0.09)
    assert evaluation["brier"] == pytest.approx(brier / 4)
    assert evaluation["roc_auc"] is not None


def test_more_than_two_labels_without_their_probabilities(tmp_path):
    """What needs the other probabilities is null rather than made up; the rest is there."""
    evaluation = evaluate(many_labels(tmp_path, columns=False), gold="gold")["evaluation"]
    assert evaluation["accuracy"] == 0.5
    assert (evaluation["brier"], evaluation["roc_auc"], evaluation["average_precision"]) == (
        None,
        None,
        None,
    )
    assert evaluation["calibration_error"] == pytest.approx((0.4 + 0.5 + 0.1 + 0.4) / 4)


def test_labels_come_in_the_order_of_the_model(reviews, tmp_path):
    """The summary beside the file says which label is the positive one.

    Without it the names are sorted.
    """
    path = tmp_path / "x.csv"
    path.write_text("text,label,score,gold\na,sad,0.9,sad\nb,glad,0.8,sad\n")
    assert evaluate(path, gold="gold")["evaluation"]["positive"] == "sad"
    assert evaluate(path, gold="gold", labels="sad, glad")["evaluation"]["positive"] == "glad"
    out = tmp_path / "out.csv"
    scored(reviews, out)
    assert evaluate(out, gold="gold")["evaluation"]["positive"] == "POSITIVE"


def test_the_columns_of_probabilities_tell_the_labels(tmp_path):
    """A part of a file in which one of three labels never comes first is still judged as of three
    labels.
    """
    path = many_labels(tmp_path, columns=True)
    table = pq.read_table(path)
    pq.write_table(table.slice(0, 2), path)
    evaluation = evaluate(path, gold="gold")["evaluation"]
    assert [entry["label"] for entry in evaluation["labels"]] == ["anger", "joy", "love"]
    assert evaluation["positive"] is None


def test_a_single_label_does_not_tell_the_others(tmp_path):
    """A file filtered down to one label is not judged as if the model had one label only."""
    path = tmp_path / "x.csv"
    path.write_text("text,label,score,gold\na,POSITIVE,0.9,neg\nb,POSITIVE,0.8,pos\n")
    with pytest.raises(InputError, match="POSITIVE is the only label in it") as caught:
        evaluate(path, gold="gold")
    assert "--labels" in caught.value.hint
    assert evaluate(path, gold="gold", labels="NEGATIVE,POSITIVE")["evaluation"]["accuracy"] == 0.5
    for labels in ("", "POSITIVE,", "NEGATIVE,POSITIVE,NEGATIVE"):
        with pytest.raises(UsageError, match="--labels"):
            evaluate(path, gold="gold", labels=labels)


@pytest.mark.parametrize(
    "labels", [5, "POSITIVE", ["NEGATIVE", "POSITIVE", 3], ["NEGATIVE", "POSITIVE", "POSITIVE"]]
)
def test_a_damaged_summary_beside_the_file_is_left_alone(reviews, tmp_path, labels):
    """Labels that are none are not taken from it; those of the column are."""
    out = tmp_path / "out.csv"
    scored(reviews, out)
    beside = tmp_path / "out.csv.summary.json"
    document = json.loads(beside.read_bytes())
    document["model"]["labels"] = labels
    beside.write_text(json.dumps(document))
    assert evaluate(out, gold="gold")["evaluation"]["positive"] == "POSITIVE"


def test_stars_are_weak_labels(reviews, tmp_path):
    """Agreement with star ratings, the middling ones left out and counted."""
    out = tmp_path / "out.csv"
    scored(reviews, out)
    evaluation = evaluate(out, gold_stars="stars", stars="1-2:NEGATIVE,4-5:POSITIVE")["evaluation"]
    assert evaluation["gold"]["kind"] == "stars"
    assert evaluation["gold"]["left_out"] == 60


def test_a_model_on_a_labelled_file(tmp_path, tiny_model):
    """With a model the texts are scored, nothing is written, and the figures are those of batch
    --gold.
    """
    path = tmp_path / "reviews.csv"
    path.write_text(
        "text,gold\nI loved this movie,pos\nawful boring film,neg\n,pos\na great book,pos\n"
    )
    before = sorted(tmp_path.iterdir())
    document = evaluate(path, gold="gold", model=str(tiny_model))
    assert sorted(tmp_path.iterdir()) == before
    assert (
        document["evaluation"]
        == batch(path, tmp_path / "o.csv", model=str(tiny_model), gold="gold")["evaluation"]
    )
    assert document["model"]["labels"] == ["NEGATIVE", "POSITIVE"]


def test_a_floor_is_a_gate(reviews, tmp_path):
    """Under its floor a figure ends with exit code 8, naming both.

    The figures can still be shown.
    """
    out = tmp_path / "out.csv"
    scored(reviews, out)
    assert evaluate(out, gold="gold", fail_under=("accuracy=0.1",))
    with pytest.raises(GateFailed, match=r"accuracy is 0\.\d+, below 0.99") as caught:
        evaluate(out, gold="gold", fail_under=("accuracy=99%", "macro_f1=0.1"))
    assert caught.value.exit_code == 8
    assert caught.value.document["evaluation"]["rows"] == 196


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "name one column"),
        ({"gold": "gold", "gold_stars": "stars", "stars": "1:NEGATIVE"}, "name one column"),
        ({"gold_stars": "stars"}, "require each other"),
        ({"gold": "gold", "stars": "1:NEGATIVE"}, "require each other"),
        ({"gold": "gold", "fail_under": ("acuracy=1",)}, "no figure"),
        ({"gold": "gold", "unsure_below": 70.0}, "--unsure-below 70 is not a score"),
        ({"gold": "gold", "unsure_below": float("nan")}, "--unsure-below nan: not a number"),
        ({"gold": "golden"}, "no column called golden"),
        ({"gold": "gold", "prefix": "my_"}, "no column called my_label"),
    ],
)
def test_what_cannot_be_meant_is_refused(reviews, tmp_path, options, said):
    """Columns and gates that do not exist are named."""
    out = tmp_path / "out.csv"
    scored(reviews, out)
    with pytest.raises(UsageError, match=said):
        evaluate(out, **options)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("a,POSITIVE,high,pos", "row 2: 'high' is not a probability"),
        ("a,POSITIVE,,pos", "row 2: '' is not a probability"),
        ("a,POSITIVE,1.5,pos", "row 2: '1.5' is not a probability"),
        ("a,POSITIVE,nan,pos", "row 2: 'nan' is not a probability"),
        (
            "a,POSITIVE,0.2,pos",
            "row 2: its label cannot have the highest probability with a score of 0.2",
        ),
    ],
)
def test_scores_that_are_none_are_refused(tmp_path, row, said):
    """A score that cannot be the probability of its label is named with its row."""
    path = tmp_path / "x.csv"
    path.write_text(f"text,label,score,gold\nb,NEGATIVE,0.9,neg\n{row}\n")
    with pytest.raises(InputError) as caught:
        evaluate(path, gold="gold")
    assert said in caught.value.message


def test_columns_under_a_prefix_are_asked_for(reviews, tmp_path):
    """A file scored with --prefix and judged without it or its summary: the error names the
    option.
    """
    out = tmp_path / "scored.csv"
    scored(reviews, out, prefix="p_")
    (tmp_path / "scored.csv.summary.json").unlink()
    with pytest.raises(UsageError, match="no column called") as caught:
        evaluate(out, gold="gold")
    assert "--prefix" in caught.value.hint


def test_a_label_that_was_not_named_is_refused(tmp_path):
    """Given --labels, a label outside of them is an error and not a wrong figure."""
    path = tmp_path / "x.csv"
    path.write_text("label,score,gold\nNEGATIVE,0.9,neg\nMIXED,0.9,neg\n")
    with pytest.raises(InputError, match="the label 'MIXED' is not one of NEGATIVE, POSITIVE"):
        evaluate(path, gold="gold", labels="NEGATIVE,POSITIVE")


def test_a_column_that_holds_no_labels_is_refused(tmp_path):
    """A label column with a thousand different values is not one that batchsent wrote."""
    path = tmp_path / "x.csv"
    path.write_text("label,score,gold\n" + "".join(f"{i},0.9,1\n" for i in range(3_000)))
    with pytest.raises(InputError, match="more than 1,000 labels"):
        evaluate(path, gold="gold")


def test_the_table_of_an_evaluation(tmp_path, capsys):
    """Figures, labels, the confusion matrix and unmatched values are shown, and hostile ones are
    inert.
    """
    import sys

    path = tmp_path / "x.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(
            [
                ["label", "score", "gold"],
                [HOSTILE, "0.9", HOSTILE],
                ["ok", "0.8", HOSTILE],
                ["ok", "0.8", f"?{HOSTILE}"],
            ]
        )
    show_evaluation(evaluate(path, gold="gold"), sys.stdout)
    text = capsys.readouterr().out
    for said in ("accuracy", "0.5000", "precision", "gold \\ predicted", "no label: '?[red]"):
        assert said in text
    assert not set(text) & set("\x1b\x07\u202e\r")


def test_the_table_tells_what_a_threshold_buys(reviews, tmp_path, capsys):
    """Share and accuracy of the rows with at least a score, --unsure-below among the thresholds."""
    import sys

    out = tmp_path / "out.csv"
    scored(reviews, out)
    document = evaluate(out, gold="gold", unsure_below=0.73)
    show_evaluation(document, sys.stdout)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    start = lines.index(["score", "at", "least", "rows", "share", "accuracy"])
    shown = lines[start + 1 : start + 9]
    assert [line[0] for line in shown] == [
        "0.5",
        "0.6",
        "0.7",
        "0.73",
        "0.8",
        "0.9",
        "0.95",
        "0.99",
    ]
    assert [line[0] for line in shown if line[-1] == "--unsure-below"] == ["0.73"]
    with out.open(newline="") as file:
        rows = [
            row for row in csv.DictReader(file) if row["label"] and row["gold"] in {"neg", "pos"}
        ]
    sure = [row for row in rows if float(row["score"]) >= 0.73]
    right = sum(row["label"].lower().startswith(row["gold"]) for row in sure)
    assert shown[3][1:4] == [
        f"{len(sure)}",
        f"{len(sure) / len(rows):.4f}",
        f"{right / len(sure):.4f}",
    ]
