"""The commands as typed: what they print, where, and the code they end with."""

import csv
import io
import json
import re
import subprocess
import sys

import pandas as pd
import pytest

import batchsent
from batchsent.cli import cli
from batchsent.commands.predict_texts import arrived_lines
from batchsent.errors import GateFailed, InputError, ModelError, UsageError
from tests.models import change_weights, make_model


def command(*words):
    """Run a command in this process; return its exit code."""
    return cli.main([str(word) for word in words], standalone_mode=False)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Forty reviews with gold labels and stars."""
    path = tmp_path_factory.mktemp("labelled") / "reviews.csv"
    words = ["great", "awful", "lovely", "boring", "good", "bad"]
    rows = [
        (f"{n:03d}", f"the film was {words[n % 6]} {words[n % 5]}", ["pos", "neg"][n % 2])
        for n in range(40)
    ]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "text", "sentiment"), *rows])
    return path


@pytest.fixture(scope="module")
def scored(labelled, tiny_model, tmp_path_factory):
    """The same, scored by the tiny model."""
    path = tmp_path_factory.mktemp("scored") / "scored.csv"
    assert (
        command(
            "batch",
            labelled,
            "-o",
            path,
            "-m",
            tiny_model,
            "--gold",
            "sentiment",
            "-q",
            "--probabilities",
        )
        == 0
    )
    return path


def test_batch_scores_a_file_with_a_real_model(labelled, scored, tiny_model):
    """Label and score are what transformers.pipeline gives for the same folder."""
    import transformers

    pipeline = transformers.pipeline(
        "sentiment-analysis", model=str(tiny_model), tokenizer=str(tiny_model), device="cpu"
    )
    frame = pd.read_csv(scored, dtype={"id": str})
    answers = pipeline(frame["text"].tolist())
    assert frame["label"].tolist() == [answer["label"] for answer in answers]
    assert frame["score"].tolist() == pytest.approx(
        [answer["score"] for answer in answers], abs=1e-5
    )
    assert frame["id"].tolist()[:2] == ["000", "001"]


def test_batch_writes_an_evaluation_into_the_summary(scored):
    """--gold sentiment gives accuracy and a confusion matrix, neg and pos understood."""
    evaluation = json.loads((scored.parent / "scored.csv.summary.json").read_bytes())["evaluation"]
    frame = pd.read_csv(scored)
    right = (frame["label"].str[:3].str.lower() == frame["sentiment"]).mean()
    assert evaluation["accuracy"] == pytest.approx(right)


def test_batch_json_prints_the_summary_and_nothing_else(labelled, tiny_model, tmp_path, capsys):
    """--json is for programs: the summary on stdout."""
    command("batch", labelled, "-o", tmp_path / "out.parquet", "-m", tiny_model, "--json", "-q")
    assert json.loads(capsys.readouterr().out)["rows"]["written"] == 40


def test_evaluate_agrees_with_the_run(scored, capsys):
    """Judging the scored file afterwards gives the accuracy of the run."""
    command("evaluate", scored, "--gold", "sentiment", "--json")
    document = json.loads(capsys.readouterr().out)
    summary = json.loads((scored.parent / "scored.csv.summary.json").read_bytes())
    assert document["evaluation"]["accuracy"] == summary["evaluation"]["accuracy"]


def test_evaluate_is_a_gate(scored, capsys):
    """--fail-under prints the figures and ends with 8."""
    with pytest.raises(GateFailed) as caught:
        command("evaluate", scored, "--gold", "sentiment", "--fail-under", "accuracy=1.0")
    assert caught.value.exit_code == 8
    assert "accuracy" in capsys.readouterr().out


def test_report_writes_a_page_and_prints_its_path(scored, tmp_path, capsys):
    """`batchsent report SUMMARY` gives one HTML file."""
    command("report", scored.parent / "scored.csv.summary.json", "-o", tmp_path / "page.html")
    assert capsys.readouterr().out.strip() == str(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_bytes().startswith(b"<!doctype html>")


def test_compare_of_a_run_with_itself_passes_any_gate(scored, capsys):
    """No drift where nothing changed; a condition that holds ends with 8."""
    summary = scored.parent / "scored.csv.summary.json"
    assert command("compare", summary, summary, "--fail-on", "psi>0.2") == 0
    with pytest.raises(GateFailed):
        command("compare", summary, summary, "--fail-on", "psi>=0")


def test_info_says_how_a_model_would_run_and_why(tiny_model, capsys):
    """Labels, limit, path and reasons."""
    command("info", tiny_model, "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["model"]["labels"] == ["NEGATIVE", "POSITIVE"]
    assert found["device"]["path_reason"]
    assert found["versions"]["torch"]


def test_predict_prints_a_line_a_text(tiny_model, capsys):
    """POSITIVE 0.9991  a great film, and an empty line for nothing to read."""
    command("predict", "-m", tiny_model, "a great film", "   ")
    first, second = capsys.readouterr().out.splitlines()
    label, score, text = first.split(maxsplit=2)
    assert text == "a great film"
    assert label in {"NEGATIVE", "POSITIVE"}
    assert 0.5 <= float(score) <= 1
    assert second == ""


def batchsent_command(fork_server, *words, text=None):
    """Run the command in a process of its own."""
    command = [fork_server.python, "-m", "batchsent", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, input=text)


def test_k04_predict_tells_rows_without_a_finite_number(fork_server, one_word_of_nan):
    """K04: some texts NaN: exit 3 and a warning; blank texts are none of them; all NaN: exit 6."""
    some = batchsent_command(
        fork_server, "predict", "-m", one_word_of_nan, "a great film", "br", "  ", "br br"
    )
    assert some.returncode == 3, some.stderr
    assert [bool(line) for line in some.stdout.split("\n")] == [True, False, False, False, False]
    assert some.stderr.startswith(
        "loading the model\nwarning: the model gives no finite number for 2 of 3 texts"
    )
    none = batchsent_command(fork_server, "predict", "-m", one_word_of_nan, "a great film", "  ")
    assert (none.returncode, none.stderr) == (0, "loading the model\n")
    every = batchsent_command(
        fork_server, "predict", "-m", one_word_of_nan, "--json", text="br\n\nbr\n"
    )
    assert every.returncode == 6
    assert [json.loads(line)["status"] for line in every.stdout.splitlines()] == [
        "nonfinite",
        "blank",
        "nonfinite",
    ]
    assert "no finite number for any of 2 texts" in every.stderr


def test_k04_a_model_of_nan_is_refused_by_predict(fork_server, tmp_path):
    """K04: where no weight is finite, nothing is printed and the exit code is 6."""
    folder = make_model(tmp_path / "model")
    change_weights(folder, "classifier.bias", lambda bias: bias.fill_(float("nan")))
    done = batchsent_command(fork_server, "predict", "-m", folder, "a great film")
    assert (done.returncode, done.stdout) == (6, "")
    assert "gives no finite number" in done.stderr


def test_predict_reads_lines_of_stdin(tiny_model, capsys, monkeypatch):
    """Without texts each line of stdin is one; --json gives an object a line."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a great film\nawful \xff\n")))
    command("predict", "-m", tiny_model, "--json")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["text"] for line in lines] == ["a great film", "awful \ufffd"]
    assert sum(lines[0]["probabilities"].values()) == pytest.approx(1)


def test_predict_says_that_json_lines_are_scored_as_they_stand(tiny_model, capsys, monkeypatch):
    """With the command that reads their texts; a review that only begins like JSON is a review."""
    for line, warned in ((b'{"text": "a great film"}', True), (b"{sigh} awful", False)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(line + b"\n")))
        command("predict", "-m", tiny_model)
        captured = capsys.readouterr()
        assert ("batchsent batch - --input-format jsonl -o -" in captured.err) is warned
        assert line.decode() in captured.out


def test_predict_of_a_file_names_the_command_for_files(tiny_model, tmp_path, monkeypatch, capsys):
    """The name of a file is no text: nothing is loaded or printed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reviews.csv").write_text("text\na great film\n")
    for name in ("reviews.csv", f"{tmp_path}/reviews.csv"):
        with pytest.raises(UsageError, match=r"reviews\.csv is a file") as caught:
            command("predict", "-m", tiny_model, name)
        said = f"use batch: batchsent batch {name} -o scored_reviews.csv --model {tiny_model}"
        assert caught.value.hint == said
    with pytest.raises(UsageError, match=r"there is no file rewievs\.csv"):
        command("predict", "-m", tiny_model, "rewievs.csv")
    assert capsys.readouterr() == ("", "")


class Pipe(io.BytesIO):
    """A stream whose bytes arrive in blocks."""

    def __init__(self, *blocks):
        super().__init__()
        self.blocks = list(blocks)

    def read1(self, size=-1):
        return self.blocks.pop(0) if self.blocks else b""


def test_lines_that_have_arrived_are_scored_together():
    """Each list holds whole lines; a line may come in several blocks, the last without an end."""
    pipe = Pipe(b"one\ntwo\r\nthr", b"e", b"e\n\nfour \xe2", b"\x82\xac\xff")
    assert list(arrived_lines(pipe)) == [["one", "two"], ["three", ""], ["four \u20ac\ufffd"]]
    assert list(arrived_lines(Pipe())) == []


def test_python_functions_take_the_options_of_the_commands(labelled, tiny_model, tmp_path):
    """batchsent.batch(...) returns the summary it wrote; a misspelt option is told."""
    summary = batchsent.batch(labelled, tmp_path / "out.csv", model=str(tiny_model), details=True)
    assert summary == json.loads((tmp_path / "out.csv.summary.json").read_bytes())
    with pytest.raises(UsageError, match="overwite") as caught:
        batchsent.batch(labelled, tmp_path / "out.csv", overwite=True)
    assert "overwrite" in caught.value.hint


def test_the_console_script_and_the_module_are_the_same():
    """`python -m batchsent` answers like `batchsent`."""
    done = subprocess.run(
        [sys.executable, "-m", "batchsent", "--version"], capture_output=True, text=True, check=True
    )
    assert "batchsent" in done.stdout or "version" in done.stdout


def test_verify_proves_the_rows_of_a_run(labelled, scored, tmp_path, capsys):
    """A run's output is proven; a changed byte is a difference and ends with 8."""
    assert command("verify", labelled, scored) == 0
    assert capsys.readouterr().out
    damaged = tmp_path / "scored.csv"
    damaged.write_bytes(scored.read_bytes().replace(b"000,", b"0,", 1))
    with pytest.raises(GateFailed):
        command("verify", labelled, damaged)


def test_compare_writes_a_page(scored, tmp_path):
    """--html gives the comparison as one file."""
    summary = scored.parent / "scored.csv.summary.json"
    command("compare", summary, summary, "--html", tmp_path / "page.html")
    assert (tmp_path / "page.html").read_bytes().startswith(b"<!doctype html>")


def test_tables_beside_the_output(labelled, tiny_model, tmp_path):
    """--group-by rolls up by a column, --disagreements lists the rows furthest from gold, --report
    draws the page.
    """
    words = [
        "--gold",
        "sentiment",
        "--group-by",
        "sentiment",
        "--disagreements",
        tmp_path / "worst.csv",
        "--report",
    ]
    out = tmp_path / "out.csv"
    assert (
        command(
            "batch", labelled, "-o", out, "-m", tiny_model, "-q", "--unsure-below", "0.7", *words
        )
        == 0
    )
    groups = pd.read_csv(tmp_path / "out.groups.csv")
    assert groups["n"].tolist() == [20, 20]
    scored = pd.read_csv(out)
    assert scored["unsure"].tolist() == (scored["score"] < 0.7).tolist()
    wrong = (scored["label"].str[:3].str.lower() != scored["sentiment"]).sum()
    assert 0 < len(pd.read_csv(tmp_path / "worst.csv")) <= max(wrong, 40)
    assert (tmp_path / "out.csv.report.html").exists()
    roles = {
        o["role"] for o in json.loads((tmp_path / "out.csv.summary.json").read_bytes())["outputs"]
    }
    assert roles == {"data", "groups", "disagreements"}
    assert (
        command(
            "batch", labelled, "-o", out, "-m", tiny_model, "-q", "--unsure-below", "0.7", *words
        )
        == 0
    )


def test_the_page_links_to_the_files_wherever_it_stands(labelled, tiny_model, tmp_path):
    """A page in another folder finds the files of the run; without them it links to nothing."""
    folder = tmp_path / "scored"
    folder.mkdir()
    words = ["-m", tiny_model, "-q", "--report", "--group-by", "sentiment"]
    words += ["--summary", folder / "s.json"]
    command("batch", labelled, "-o", tmp_path / "out.csv", *words)

    def links(page):
        return set(re.findall(r'href="(\.[^"]*)"', page.read_text()))

    beside = links(tmp_path / "out.csv.report.html")
    assert beside == {"./out.csv", "./out.groups.csv", "./scored/s.json"}
    page = tmp_path / "pages" / "p.html"
    page.parent.mkdir()
    batchsent.report(folder / "s.json", page)
    found = links(page)
    assert found == {"./../out.csv", "./../out.groups.csv", "./../scored/s.json"}
    assert all((page.parent / link).exists() for link in found)
    (tmp_path / "out.csv").unlink()
    batchsent.report(folder / "s.json", page)
    assert links(page) == set()


def test_batch_is_a_gate(labelled, tiny_model, tmp_path, capsys):
    """--fail-under writes everything, shows the summary as any run does, and ends with 8."""
    words = ["--gold", "sentiment", "--fail-under", "accuracy=1.0"]
    with pytest.raises(GateFailed):
        command("batch", labelled, "-o", tmp_path / "out.csv", "-m", tiny_model, "--json", *words)
    written = json.loads((tmp_path / "out.csv.summary.json").read_bytes())
    assert written["exit_code"] == 8
    said = capsys.readouterr()
    assert json.loads(said.out) == written
    assert "40 of 40 rows scored" in said.err


def test_calibrated_scores_use_the_temperature_of_the_model(labelled, tiny_model, tmp_path):
    """--calibrated needs a calibration.json made for these weights, and never changes a label."""
    import shutil

    from batchsent.model import calibration
    from batchsent.model.loading import identify

    with pytest.raises(ModelError, match=r"calibration\.json"):
        command(
            "batch", labelled, "-o", tmp_path / "raw.csv", "-m", tiny_model, "-q", "--calibrated"
        )
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    weights = identify(str(folder)).weights_sha256
    made = calibration.Calibration(2.0, 100, 0.2, 0.1, 0.6, 0.5, weights_sha256=weights)
    (folder / calibration.FILE).write_bytes(calibration.dumps(made))
    assert command("batch", labelled, "-o", tmp_path / "raw.csv", "-m", folder, "-q") == 0
    assert (
        command(
            "batch", labelled, "-o", tmp_path / "mended.csv", "-m", folder, "-q", "--calibrated"
        )
        == 0
    )
    raw, mended = pd.read_csv(tmp_path / "raw.csv"), pd.read_csv(tmp_path / "mended.csv")
    assert mended["label"].tolist() == raw["label"].tolist()
    odds = (raw["score"] / (1 - raw["score"])) ** 0.5
    assert mended["score"].tolist() == pytest.approx((odds / (1 + odds)).tolist(), abs=1e-5)
    model = json.loads((tmp_path / "mended.csv.summary.json").read_bytes())["model"]
    assert (model["scores"], model["temperature"]) == ("calibrated", 2.0)


def test_a_page_never_takes_the_place_of_its_summary(scored, tmp_path):
    """A summary that is called like the page, or named as it, is refused and stays."""
    named = tmp_path / "summary.html"
    named.write_bytes((scored.parent / "scored.csv.summary.json").read_bytes())
    before = named.read_bytes()
    for words in (["report", named, "-o", named], ["compare", named, named, "--html", named]):
        with pytest.raises(UsageError, match="is the summary itself"):
            command(*words)
    assert named.read_bytes() == before


def test_a_page_takes_the_place_of_a_page_only(scored, tmp_path):
    """Data that is called like the page is refused and stays.

    A page of an earlier day, or an empty file, gives way.
    """
    summary = scored.parent / "scored.csv.summary.json"
    reviews, page = tmp_path / "reviews.csv", tmp_path / "page.html"
    reviews.write_bytes(b"id,text\n1,a\n")
    for words in (["report", summary, "-o"], ["compare", summary, summary, "--html"]):
        with pytest.raises(UsageError, match="exists already and is not a page of batchsent"):
            command(*words, reviews)
        with pytest.raises(UsageError, match="is a folder"):
            command(*words, tmp_path)
        page.write_bytes(b"")
        assert command(*words, page) == 0
        assert command(*words, page) == 0
    assert reviews.read_bytes() == b"id,text\n1,a\n"


def test_report_is_a_function(scored, tmp_path):
    """batchsent.report(summary) writes the page of the command beside the summary and returns its
    path.
    """
    summary = tmp_path / "scored.csv.summary.json"
    summary.write_bytes((scored.parent / summary.name).read_bytes())
    assert batchsent.report(summary) == tmp_path / "scored.csv.report.html"
    assert batchsent.report(str(summary), output=tmp_path / "page.html") == tmp_path / "page.html"
    command("report", summary, "-o", tmp_path / "typed.html")
    pages = {path.read_bytes() for path in tmp_path.glob("*.html")}
    assert len(pages) == 1
    with pytest.raises(InputError, match="is not JSON"):
        batchsent.report(scored)


def test_compare_is_a_function(scored, tmp_path, capsys):
    """batchsent.compare(a, b) returns what the command prints.

    A condition that holds raises, with all figures.
    """
    summary = scored.parent / "scored.csv.summary.json"
    found = batchsent.compare(
        summary, str(summary), fail_on=["psi>0.2"], html=tmp_path / "page.html"
    )
    assert found["drift"]["psi"] == 0
    assert (tmp_path / "page.html").read_bytes().startswith(b"<!doctype html>")
    command("compare", summary, summary, "--json")
    assert json.loads(capsys.readouterr().out) == found
    for condition in ("psi>=0", ["psi>=0"]):  # one condition may stand for itself
        with pytest.raises(GateFailed, match="psi is 0: psi>=0") as caught:
            batchsent.compare(summary, summary, fail_on=condition, html=tmp_path / "failed.html")
        assert caught.value.document == found
        assert (tmp_path / "failed.html").exists()  # the page is there to see why
    with pytest.raises(UsageError, match="did you mean psi"):
        batchsent.compare(summary, summary, fail_on=["pssi>0.2"], html=tmp_path / "none.html")
    assert not (tmp_path / "none.html").exists()


def test_every_function_can_be_had_however_it_is_asked_for():
    """Every function can be had in any order, twice, by import and by dot, before and after its
    module is loaded.
    """
    code = """
import batchsent.verification.verify, batchsent.commands.compare
from batchsent.commands.report import report as first
from batchsent import compare, evaluate, export, finetune, info, report, verify
import batchsent
for name in batchsent.__all__ * 2:
    assert callable(getattr(batchsent, name)) or name == "__version__", name
assert report is batchsent.report and verify is batchsent.verify
assert report.__wrapped__ is first
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_names_the_gates_of_drift(capsys):
    """What --fail-on can say of scores, lengths and labels stands in the help."""
    assert command("compare", "--help") == 0
    said = capsys.readouterr().out
    for name in ("psi", "ks", "length_psi", "length_ks", "label_share_change", "accuracy_drop"):
        assert re.search(rf"\b{name}\b", said)


def test_an_unsure_below_that_is_no_score_is_refused(labelled, tiny_model, tmp_path):
    """70 for 70 % would call every row unsure: it is refused before the model loads, and nothing is
    left behind.
    """
    with pytest.raises(UsageError, match="--unsure-below 70 is not a score"):
        command(
            "batch", labelled, "-o", tmp_path / "o.csv", "-m", tiny_model, "--unsure-below", "70"
        )
    assert not list(tmp_path.iterdir())
