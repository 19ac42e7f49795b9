"""--report-examples: rows on the page, found in one pass, and the only texts that a run shows."""

import json

import numpy as np
import pandas as pd
import pytest

from batchsent.chunk import SCORED, Chunk, Scores
from batchsent.commands.batch import batch
from batchsent.commands.report import report
from batchsent.errors import UsageError
from batchsent.evaluation.examples import Examples, split_at
from batchsent.evaluation.gold import GoldRule
from tests.hash_model import LABELS, HashModels, probability
from tests.word_model import WordModels

TEXTS = [f"review number {n}" for n in range(300)]
GOLD = [n % 2 for n in range(300)]


def scores_of(texts):
    """The hash model's scores."""
    positive = np.array([probability(text) for text in texts], dtype=np.float32)
    rows = len(texts)
    return Scores(
        np.stack([1 - positive, positive], axis=1),
        np.ones(rows, np.int32),
        np.zeros(rows, np.int32),
        np.full(rows, SCORED, np.uint8),
        rows,
    )


def test_the_rows_are_those_that_pandas_sorts_first():
    """Chunk by chunk, whatever the size of the chunks; equal scores go by row."""
    frame = pd.DataFrame({"text": TEXTS * 2, "gold": GOLD * 2})
    scores = scores_of(frame["text"])
    frame["positive"] = scores.probabilities[:, 1]
    frame["score"] = scores.best
    frame["winner"] = scores.winners
    frame["row"] = np.arange(len(frame)) + 1
    frame["of_gold"] = np.where(frame["gold"] == 1, frame["positive"], 1 - frame["positive"])
    wrong = frame[frame["winner"] != frame["gold"]]
    wanted = {
        "wrong": wrong.sort_values(["of_gold", "row"]),
        "unsure": frame.sort_values(["score", "row"]),
        "positive": frame[frame["winner"] == 1].sort_values(
            ["positive", "row"], ascending=[False, True]
        ),
        "negative": frame[frame["winner"] == 0].sort_values(["positive", "row"]),
    }
    for size in (1, 7, 1_000):
        found = Examples(LABELS, 5, GoldRule.parse(LABELS, None, None), (1, 0))
        for start in range(0, len(frame), size):
            part = frame[start : start + size]
            chunk = Chunk(start, part["text"].tolist(), None, gold=part["gold"].tolist())
            found.add(chunk, scores_of(part["text"]), lambda rows: [()] * len(rows))
        sections = found.sections()
        assert list(sections) == list(wanted)
        for kind, rows in wanted.items():
            assert [one.row for one in sections[kind]] == rows["row"].tolist()[:5], (kind, size)


def test_a_text_is_split_at_its_marked_sentences():
    """Nothing is lost, and a mark beyond the cut is none."""
    assert split_at("One. Two. Three.", [(5, 9)]) == [
        ("One. ", False),
        ("Two.", True),
        (" Three.", False),
    ]
    assert split_at("One.", [(5, 9)]) == [("One.", False)]
    assert split_at("", []) == []


@pytest.fixture
def dump(tmp_path):
    """A CSV of reviews with gold labels and an id; one of them is HTML."""
    path = tmp_path / "in.csv"
    texts = ["<script>alert(1)</script> <b>bold</b>", *TEXTS[1:]]
    ids = [f"r{n}" for n in range(300)]
    pd.DataFrame({"id": ids, "text": texts, "gold": GOLD}).to_csv(path, index=False)
    return path


def test_the_page_shows_rows_with_their_columns_and_says_that_it_holds_texts(dump, tmp_path):
    """--keep columns stand beside them; the summary has no text; HTML is shown, not run."""
    out = tmp_path / "out.csv"
    run = {"gold": "gold", "report_examples": 100, "keep": "id", "models": HashModels()}
    batch(dump, out, **run)
    page = (tmp_path / "out.csv.report.html").read_text()
    for title in ("Most wrong", "Least sure", "Most positive", "Most negative"):
        assert title in page
    assert "This page holds texts of the input." in page
    assert "review number 17" in page
    assert "<script>" not in page
    assert ">r17<" in page
    assert "review number" not in (tmp_path / "out.csv.summary.json").read_text()


def test_a_page_drawn_from_the_summary_says_why_it_has_none(dump, tmp_path):
    """The summary holds no texts, so the page of the run, which has them, is not replaced."""
    out, again = tmp_path / "out.csv", tmp_path / "again.html"
    batch(dump, out, models=HashModels(), report_examples=3)
    with pytest.raises(UsageError, match="which the summary does not hold"):
        report(f"{out}.summary.json")
    assert "review number" in (tmp_path / "out.csv.report.html").read_text()
    report(f"{out}.summary.json", again)
    page = again.read_text()
    assert "review number" not in page
    assert "The summary holds no texts" in page


def test_strongest_sentences_are_marked_and_mixed_reviews_shown(tmp_path):
    """With --sentences."""
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    texts = [
        "The best film. I love it, perfect! Boring, bad, awful and terrible music.",
        "The best, excellent and perfect! The plot.",
    ]
    pd.DataFrame({"text": texts}).to_csv(source, index=False)
    batch(source, out, models=WordModels(), sentences=True, report_examples=5)
    page = (tmp_path / "out.csv.report.html").read_text()
    assert "<h3>Mixed</h3>" in page
    assert "<mark>Boring, bad, awful and terrible music.</mark>" in page


def test_what_cannot_be_shown_is_refused(dump, tmp_path):
    """A page needs a file beside it, and has at most 100 rows of each kind."""
    with pytest.raises(UsageError, match="require an output file"):
        batch(dump, "-", models=HashModels(), report_examples=3)
    with pytest.raises(UsageError, match="100 at most"):
        batch(dump, tmp_path / "out.csv", models=HashModels(), report_examples=1_000)
    with pytest.raises(UsageError, match="--keep requires"):
        batch(dump, tmp_path / "out.csv", models=HashModels(), keep="id")


def test_a_page_is_written_without_report(dump, tmp_path):
    """--report-examples implies it, and the finished output is up to date afterwards."""
    out = tmp_path / "out.csv"
    batch(dump, out, models=HashModels(), report_examples=3)
    page = (tmp_path / "out.csv.report.html").read_bytes()
    assert batch(dump, out, models=HashModels(), report_examples=3)["status"] == "up_to_date"
    assert (tmp_path / "out.csv.report.html").read_bytes() == page
    document = json.loads((tmp_path / "out.csv.summary.json").read_text())
    assert document["run"]["options"]["report_examples"] == 3
