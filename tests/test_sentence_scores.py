"""Reviews judged sentence by sentence: the columns of --sentences, and what stays as it was."""

import csv
import io
import json
import os
import signal
import time

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from batchsent.chunk import Scores, Sentences, SentenceScores
from batchsent.cli import cli
from batchsent.commands.batch import batch
from batchsent.commands.predict import Sentence, load
from batchsent.commands.predict_texts import predictions
from batchsent.errors import DeviceError, GateFailed, UsageError
from batchsent.evaluation.sentences import judge
from batchsent.model.calibration import calibrated
from batchsent.pages.report import render
from batchsent.sentences import sentence_spans
from batchsent.terminal.sentences import show as show_sentences
from batchsent.terminal.summaries import show
from batchsent.verification.verify import verify
from tests.children import Child, run, wait_for
from tests.csv_cases import UGLY
from tests.hash_model import HashModels, HashScorer
from tests.models import make_model
from tests.pages import Reader
from tests.word_model import WordModels, praise

TEXTS = [
    "The best film. I love it, perfect! Mr. Bean is in it. Boring, bad, awful and terrible music.",
    "Nothing to say",
    None,
    "I saw it.<br />Awful, boring, a terrible waste of time.<br />Poor, bad and a horrible waste!",
    "   ",
    'He said "the best, excellent and perfect, love it"\nand left.\n\n1. The plot',
    "The best, excellent and perfect! The best, excellent and perfect! Love it 😀",
]
COUNTS = ["n_sentences", "n_positive", "n_negative", "mixed"]
STRONGEST = [
    f"{side}_{what}" for side in ("positive", "negative") for what in ("sentence", "start", "end")
]


@pytest.fixture
def dump(tmp_path):
    """A Parquet file of a few reviews."""
    path = tmp_path / "in.parquet"
    pd.DataFrame({"id": range(len(TEXTS)), "text": TEXTS}).to_parquet(path)
    return path


def read(path):
    """The rows of a CSV as dictionaries."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def expected(text):
    """The columns of a text, from each of its sentences scored by itself."""
    positive, negative = {}, {}
    spans = sentence_spans(text or "")
    for start, end in spans:
        probability = praise(text[start:end])
        if probability >= 0.8:
            positive[start, end] = probability
        if 1 - probability >= 0.8:
            negative[start, end] = 1 - probability
    row = {
        "n_sentences": len(spans),
        "n_positive": len(positive),
        "n_negative": len(negative),
        "mixed": bool(positive and negative),
    }
    for side, found in (("positive", positive), ("negative", negative)):
        start, end = max(found, key=found.get) if found else (None, None)
        row[f"{side}_sentence"] = text[start:end] if found else None
        row[f"{side}_start"], row[f"{side}_end"] = start, end
    return row


def test_a_review_gets_what_its_sentences_say_one_by_one(dump, tmp_path):
    """Counts, whether it is mixed, and of each side the strongest sentence with its place in the
    untouched text; the first of equal ones.
    """
    out = tmp_path / "out.parquet"
    batch(dump, out, models=WordModels(), sentences=True, details=True)
    table = pq.read_table(out)
    assert table.column_names[-10:] == COUNTS + STRONGEST
    rows = table.select(COUNTS + STRONGEST).to_pylist()
    assert rows == [expected(text) for text in TEXTS]
    assert rows[0]["mixed"]
    assert rows[0]["negative_sentence"] == "Boring, bad, awful and terrible music."
    assert [row["n_sentences"] for row in rows] == [4, 1, 0, 3, 0, 2, 3]
    assert rows[6]["positive_start"] == 0


def test_sentences_of_a_real_model_are_those_of_predict(tmp_path):
    """Each sentence counts as the model judges it when it is the only text."""
    texts = [
        "I loved the acting. The plot is a mess, boring and stale. It lasts two hours.",
        "A wonderful, moving film! Great cast. Not bad at all, but the ending is awful...",
    ]
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    pd.DataFrame({"text": texts}).to_csv(source, index=False)
    batch(source, out, sentences=True, details=True, device="cpu")
    model = load(device="cpu")
    for text, row in zip(texts, read(out), strict=True):
        sentences = [text[start:end] for start, end in sentence_spans(text)]
        alone = [model.predict([sentence])[0].probabilities for sentence in sentences]
        for side in ("positive", "negative"):
            of_label = [said[side.upper()] for said in alone]
            assert int(row[f"n_{side}"]) == sum(p >= 0.8 for p in of_label)
            strongest = sentences[of_label.index(max(of_label))]
            assert row[f"{side}_sentence"] == strongest
            assert text[int(row[f"{side}_start"]) : int(row[f"{side}_end"])] == strongest
        assert row["mixed"] == "true"


def test_the_review_itself_is_scored_as_without_sentences(tmp_path):
    """Label, score and probabilities are the same to the last bit: sentences share no batch with
    reviews.
    """
    texts = [" ".join(TEXTS[n % 2 :: 3][0].split()[: n + 1]) for n in range(40)]
    source = tmp_path / "in.csv"
    pd.DataFrame({"text": texts}).to_csv(source, index=False)
    columns = ["label", "score", "prob_NEGATIVE", "prob_POSITIVE"]
    found = []
    for sentences in (False, True):
        out = tmp_path / f"{sentences}.csv"
        batch(source, out, sentences=sentences, probabilities=True, chunk_rows=16, device="cpu")
        found.append([[row[name] for name in columns] for row in read(out)])
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["in.csv", "in.tsv", "in.parquet", "in.arrow"])
@pytest.mark.parametrize("out", ["out.csv", "out.tsv.gz", "out.parquet", "out.arrow.zst"])
def test_every_format_carries_them_and_verifies(dump, tmp_path, name, out):
    """Sentences with line breaks, quotes and emoji come through every format, and `verify` proves
    what can be proved of them.
    """
    source = dump
    if name != "in.parquet":
        source = tmp_path / name
        batch(dump, source, models=HashModels(), prefix="first_")
    batch(source, tmp_path / out, models=WordModels(), sentences=True, details=True, chunk_rows=3)
    verdict = verify(source, tmp_path / out, chunk_rows=2)
    assert verdict["status"] == "same"
    assert any("sentences" in said for said in verdict["checked"])
    summary = json.loads((tmp_path / f"{out}.summary.json").read_text())
    wanted = [expected(text) for text in TEXTS]
    assert summary["sentences"] == {
        "total": 13,
        "distinct": 12,  # the last chunk has one twice
        "clear_at_least": 0.8,
        "positive": sum(row["n_positive"] for row in wanted),
        "negative": sum(row["n_negative"] for row in wanted),
        "mixed_rows": sum(row["mixed"] for row in wanted),
        "mixed_share": sum(row["mixed"] for row in wanted) / 5,
    }


@pytest.mark.parametrize("data", [d for _, d in UGLY], ids=[n for n, _ in UGLY])
def test_ugly_files_verify_with_their_sentences(tmp_path, data):
    """Sentences are fields of the file: in its encoding, quoted as it quotes."""
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_bytes(data)
    batch(source, out, models=HashModels(), sentences=True, details=True)
    assert verify(source, out)["compared"] == "bytes"


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("Gut; böse. Nein, «so»!", {"delimiter": ";", "encoding": "cp1252"}),
        ("Gut, böse. Nein\n“so”!", {"encoding": "utf-16"}),
        ("Say 'no, it is great'. Fine", {"quotechar": "'"}),
        ('Back\\slash, "good". Fine', {"escapechar": "\\"}),
    ],
)
def test_sentences_are_written_in_the_dialect_of_the_file(tmp_path, text, options):
    """Delimiters, quotes and line breaks of a sentence read back as they are."""
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    dialect = {"sep": options.get("delimiter", ","), "encoding": options.get("encoding", "utf-8")}
    dialect |= {name: options[name] for name in ("quotechar", "escapechar") if name in options}
    pd.DataFrame({"id": [1], "text": [text]}).to_csv(source, index=False, **dialect)
    batch(source, out, models=HashModels(), sentences=True, details=True, **options)
    verify(source, out)
    row = pd.read_csv(out, **dialect).iloc[0]
    assert row["n_positive"] + row["n_negative"] > 0
    for side in ("positive", "negative"):
        if row[f"n_{side}"]:
            start, end = int(row[f"{side}_start"]), int(row[f"{side}_end"])
            assert row[f"{side}_sentence"] == text[start:end]


def test_the_summary_shows_how_many_rows_are_mixed(dump, tmp_path):
    """On the terminal and on the page; a summary of an older version, without the section, is shown
    too.
    """
    out = tmp_path / "out.csv"
    summary = batch(dump, out, models=WordModels(), sentences=True, report=True)
    section = summary["sentences"]
    mixed = f"{section['mixed_share']:.1%}"
    target = io.StringIO()
    show(summary, target)
    assert "sentences  13, 12 of them distinct; " in target.getvalue()
    assert f"{mixed} of the rows have both (mixed)" in " ".join(target.getvalue().split())
    page = Reader((tmp_path / "out.csv.report.html").read_bytes()).text
    assert f"of 13 sentences {section['positive']} are clearly positive" in page
    assert f"{section['mixed_rows']} rows ({mixed}) have both: they are mixed." in page

    older = {name: found for name, found in summary.items() if name != "sentences"}
    target = io.StringIO()
    show(older, target)
    assert "sentences" not in target.getvalue()
    assert "Sentence by sentence" not in Reader(render(older)).text


DAMAGE = {
    "n_sentences": lambda rows: rows[0].update(n_sentences="5"),
    "n_positive": lambda rows: rows[1].update(n_positive="1", n_negative="1"),
    "mixed": lambda rows: rows[0].update(mixed="false"),
    "positive_sentence": lambda rows: rows[0].update(positive_sentence="The best movie."),
    "positive_start": lambda rows: rows[0].update(positive_start="1"),
    "positive_end": lambda rows: rows[0].update(positive_end=""),
    "negative_start": lambda rows: rows[0].update(
        negative_sentence=rows[0]["positive_sentence"],
        negative_start=rows[0]["positive_start"],
        negative_end=rows[0]["positive_end"],
    ),
    "negative_sentence": lambda rows: rows[3].update(negative_sentence=""),
}


@pytest.mark.parametrize("column", DAMAGE)
def test_verify_finds_a_changed_cell(dump, tmp_path, column):
    """A count, a place or a sentence that cannot be right is named with its row."""
    source, out = tmp_path / "source.csv", tmp_path / "out.csv"
    pd.read_parquet(dump).to_csv(source, index=False)
    batch(source, out, models=WordModels(), sentences=True, details=True)
    rows = read(out)
    DAMAGE[column](rows)
    changed = tmp_path / "changed.csv"
    pd.DataFrame(rows).to_csv(changed, index=False)
    with pytest.raises(GateFailed) as caught:
        verify(source, changed)
    assert caught.value.document["difference"]["column"] == column


class Failing(HashScorer):
    """Scores so many texts in all, and then the device fails."""

    def __init__(self, texts, seen):
        super().__init__()
        self.left, self.seen = texts, seen

    def score(self, prepared, **settings):
        self.left -= prepared.rows
        if self.left < 0:
            raise DeviceError("the device is gone")
        self.seen += prepared.content
        return super().score(prepared, **settings)


class FailingModels(HashModels):
    """Gives a failing model to a run; `seen` are the texts that it scored."""

    def __init__(self, texts=10**9):
        super().__init__()
        self.texts, self.seen = texts, []

    def open(self):
        return Failing(self.texts, self.seen)


@pytest.mark.parametrize("texts", [2, 5, 9, 12])
def test_a_resumed_run_scores_no_text_and_no_sentence_twice(dump, tmp_path, texts):
    """Wherever a run ended, the same command writes the bytes of an undisturbed run from what is
    kept.
    """
    calm, out = tmp_path / "calm.parquet", tmp_path / "out.parquet"
    options = {"sentences": True, "details": True, "chunk_rows": 2}
    whole = FailingModels()
    batch(dump, calm, models=whole, **options)
    first, second = FailingModels(texts), FailingModels()
    with pytest.raises(DeviceError):
        batch(dump, out, models=first, **options)
    batch(dump, out, models=second, **options)
    assert out.read_bytes() == calm.read_bytes()
    assert first.seen + second.seen == whole.seen
    again = FailingModels()
    assert batch(dump, out, models=again, **options)["status"] == "up_to_date"


def test_sentences_may_be_asked_for_when_a_run_is_resumed(dump, tmp_path):
    """The scores of the reviews are the same: only the sentences are scored then."""
    out = tmp_path / "out.parquet"
    first, second = FailingModels(6), FailingModels()
    with pytest.raises(DeviceError):
        batch(dump, out, models=first, chunk_rows=2)
    batch(dump, out, models=second, sentences=True, chunk_rows=2)
    assert second.seen.count(TEXTS[0]) == 0
    assert pq.read_table(out)["n_sentences"].to_pylist() == [4, 1, 0, 3, 0, 2, 3]


def test_a_signal_among_the_sentences_keeps_those_that_are_scored(tmp_path):
    """Ctrl-C within a chunk of sentences, and the same command again: the same bytes, no rest."""
    source = tmp_path / "in.csv"
    text = " ".join(f"Sentence {n} is here." for n in range(100))
    source.write_text(f"text\n{text}\n")
    for name in ("calm", "work"):
        (tmp_path / name).mkdir()
    command = [source, "-o", "out.csv", "--sentences", "--details"]
    assert run(command, tmp_path / "calm")[0] == 0
    child = Child(command, tmp_path / "work", batch_s=0.5)
    wait_for(lambda: list(tmp_path.glob("work/*.batchsent/part-*")))
    time.sleep(1)  # one of seven batches takes half of that
    os.kill(child.pid, signal.SIGINT)
    assert child.wait() == 130
    assert len(list(tmp_path.glob("work/*.batchsent/sentences-*"))) == 1
    assert run(command, tmp_path / "work")[0] == 0
    found, wanted = (tmp_path / name / "out.csv" for name in ("work", "calm"))
    assert found.read_bytes() == wanted.read_bytes()
    assert not list(tmp_path.glob("work/*.batchsent"))


def test_calibrated_scores_decide_which_sentences_are_clear():
    """The threshold is compared with the probabilities that the columns would show."""
    sentences = Sentences.of(["Good. Bad."])
    p = np.array([[0.1, 0.9], [0.15, 0.85]], np.float32)
    nothing = np.zeros(2, np.int32)
    scored = SentenceScores(sentences, Scores(p, nothing, nothing, np.ones(2, np.uint8), 2))
    one = Scores(p[:1], nothing[:1], nothing[:1], np.ones(1, np.uint8), 1, sentences=scored)
    assert judge(scored, 1, positive=1, negative=0).n_positive.tolist() == [2]
    softer = calibrated(one, 1.5).sentences
    assert judge(softer, 1, positive=1, negative=0).n_positive.tolist() == [1]


def test_a_model_without_positive_and_negative_is_refused_before_it_loads(dump, tmp_path):
    """Topics have no sides: the message names the labels."""
    folder = make_model(tmp_path / "model", labels=("sports", "politics"))
    with pytest.raises(UsageError, match="sports"):
        list(predictions(["good"], model=str(folder), sentences=True))
    with pytest.raises(UsageError, match="sports"):
        batch(dump, tmp_path / "out.parquet", model=str(folder), sentences=True)
    assert not (tmp_path / "out.parquet").exists()


def test_labels_of_other_names_can_be_named(dump, tmp_path, capsys):
    """--polarity-labels says which of three labels are the sides; a sentence may be neither."""
    folder = make_model(tmp_path / "model", labels=("bad", "so so", "fine"))
    named = {"sentences": True, "polarity_labels": "negative=bad,positive=fine"}
    out = tmp_path / "out.parquet"
    batch(dump, out, model=str(folder), details=True, device="cpu", **named)
    verify(dump, out)
    model = load(str(folder), device="cpu")
    frame = model.score_frame(pd.read_parquet(dump), **named)
    assert frame["n_sentences"].tolist() == [4, 1, 0, 3, 0, 2, 3]
    assert frame["mixed"].tolist() == pq.read_table(out)["mixed"].to_pylist()
    for one in model.predict(TEXTS, **named):
        assert all(sentence.label in model.labels for sentence in one.sentences)
    with pytest.raises(UsageError, match="so so"):
        model.score_frame(pd.read_parquet(dump), sentences=True)
    named = ["--sentences", "--polarity-labels", "negative=bad,positive=fine"]
    cli.main(["predict", "-m", str(folder), *named, "a good film. bad plot"], standalone_mode=False)
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_predict_prints_each_sentence_under_its_text(capsys):
    """Label, score and sentence, two spaces in; JSON has their places."""
    text = "I loved the acting. The plot is a mess, boring and stale."
    assert cli.main(["predict", "--sentences", text], standalone_mode=False) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["NEGATIVE", "POSITIVE", "NEGATIVE"]
    assert lines[1].startswith("  POSITIVE 0.")
    assert lines[1].endswith("  I loved the acting.")
    assert cli.main(["predict", "--sentences", "--json", text], standalone_mode=False) == 0
    said = json.loads(capsys.readouterr().out)["sentences"]
    assert [text[one["start"] : one["end"]] for one in said] == [one["text"] for one in said]
    assert [one["clearly"] for one in said] == ["positive", "negative"]


def test_sentences_are_coloured_on_a_terminal_only():
    """Green where it is clearly positive, red where negative; a pipe gets plain text."""
    sentences = [
        Sentence("Great.", 0, 6, "POSITIVE", 0.9, "positive"),
        Sentence("Two hours.", 7, 17, "NEGATIVE", 0.6, None),
        Sentence("A\x1b mess.", 18, 26, "NEGATIVE", 0.95, "negative"),
    ]
    plain = ["  POSITIVE 0.9000  Great.", "  NEGATIVE 0.6000  Two hours."]
    plain.append(r"  NEGATIVE 0.9500  A\x1b mess.")
    console = Console(
        file=io.StringIO(), force_terminal=True, color_system="standard", width=10, no_color=False
    )
    show_sentences(sentences, console)
    lines = console.file.getvalue().splitlines()
    assert lines == [f"\x1b[32m{plain[0]}\x1b[0m", plain[1], f"\x1b[31m{plain[2]}\x1b[0m"]
    pipe = io.StringIO()
    show_sentences(sentences, pipe)
    assert pipe.getvalue().splitlines() == plain


def test_a_frame_gets_the_same_columns(dump, tmp_path):
    """score_frame(sentences=True) adds what batch adds."""
    out = tmp_path / "out.parquet"
    batch(dump, out, sentences=True, details=True, device="cpu")
    frame = load(device="cpu").score_frame(pd.read_parquet(dump), sentences=True, details=True)
    wanted = pq.read_table(out).select(COUNTS + STRONGEST).to_pylist()
    columns = frame[COUNTS + STRONGEST].astype(object)
    assert columns.where(columns.notna(), None).to_dict("records") == wanted
    assert frame["n_sentences"].dtype == "int32"
