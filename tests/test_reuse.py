"""batch --reuse: scores of texts that an earlier output has, without running the model on them."""

import dataclasses
import json
import os
import re
import resource
import shutil
import signal
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import batchsent
from batchsent.chunk import PENDING, SCORED, Scores
from batchsent.commands.batch import batch
from batchsent.errors import GateFailed, InputError, UsageError
from batchsent.formats.text_table import TextTable, keys_of
from batchsent.model import calibration
from batchsent.model.loading import identify
from batchsent.model.options import ModelOptions
from batchsent.model.scorer import ModelScorer
from batchsent.pages.report import render
from batchsent.terminal.summaries import line
from batchsent.verification.verify import verify
from tests.children import Child, run, wait_for
from tests.hash_model import HashModels, HashScorer
from tests.models import make_model

ODD = ["", None, "   ", 'a "quoted", one', "two\nlines", "é 漢 😀", "same", "same"]
OLD = [ODD[n % len(ODD)] if n % 3 else f"old {n}" for n in range(60)]
NEW = [*OLD[10:50], *(f"new {n}" for n in range(7)), *OLD[:2], "new 1"]
SECTIONS = ("rows", "text", "predictions", "sentences", "evaluation", "warnings")


class Counting(HashModels):
    """The hash model, which notes the texts that it has been run on."""

    def __init__(self, *, scorer=HashScorer, **settings):
        super().__init__(**settings)
        self.ran, self.scorer = [], scorer

    def open(self):
        self.opened += 1
        scorer = self.scorer(**self.settings)
        score = scorer.score

        def noting(prepared, *, done=None, **more):
            status = np.zeros(prepared.rows) if done is None else done.status.copy()
            self.ran += [
                text
                for text, state in zip(prepared.content, status, strict=True)
                if state == PENDING and text and text.strip()
            ]
            return score(prepared, done=done, **more)

        scorer.score = noting
        return scorer


def write(path, texts):
    """A dump of these texts with a number and a gold label beside each; CSV has no null."""
    frame = pd.DataFrame(
        {"id": range(len(texts)), "text": texts, "gold": [n % 2 for n in range(len(texts))]}
    )
    if path.suffix == ".parquet":
        frame.to_parquet(path, row_group_size=25)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, index=False)
    return path


@pytest.fixture
def score(tmp_path):
    """Score texts into a file of this name; return path and summary."""

    def run_batch(texts, name, models=None, form="csv", **options):
        source = write(tmp_path / f"{name.partition('.')[0]}-in.{form}", texts)
        output = tmp_path / name
        models = models or HashModels()
        return output, batch(source, output, models=models, **{"chunk_rows": 20} | options)

    return run_batch


@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl"])
@pytest.mark.parametrize("old_name", ["old.csv", "old.parquet", "old.tsv.gz", "old.jsonl.zst"])
def test_the_output_is_that_of_a_full_run(score, form, old_name):
    """To the byte, whatever formats the old and the new files have; and so are all counts."""
    options = {"gold": "gold", "details": True}
    old, _ = score(OLD, old_name, form=form, **options)
    before = old.read_bytes()
    full, expected = score(NEW, f"full.{form}", form=form, **options)
    models = Counting()
    reused, summary = score(NEW, f"reused.{form}", models, form=form, reuse=[old], **options)
    assert reused.read_bytes() == full.read_bytes()
    assert {name: summary[name] for name in SECTIONS} == {name: expected[name] for name in SECTIONS}
    assert models.ran == [f"new {n}" for n in range(7)] + ["new 1"]
    assert old.read_bytes() == before
    assert not reused.with_name(reused.name + ".batchsent").exists()


def test_rows_are_counted(score, tmp_path):
    """Reused and new rows are those of the new dump, gone ones those of the old; blank ones none."""
    old, _ = score(["a", "b", "b", "", "c", "c", "d"], "old.csv")
    _, summary = score(["b", "x", "", "a", "a", "y", "d"], "new.csv", reuse=[old], report=True)
    reuse = summary["run"]["reuse"]
    assert (reuse["reused_rows"], reuse["new_rows"], reuse["gone_rows"]) == (4, 2, 2)
    (entry,) = reuse["outputs"]
    assert (entry["rows"], entry["reused_rows"], entry["gone_rows"]) == (6, 4, 2)
    assert "4 rows reused, 2 new, 2 gone" in line(summary)
    page = (tmp_path / "new.csv.report.html").read_text()
    assert "4 rows have the score that their text had in an earlier output, 2 are new" in page
    assert summary["run"]["resumed_rows"] == 0


def test_a_run_without_it_says_nothing_of_reuse(score):
    """Neither in its last line nor on its page."""
    _, summary = score(OLD, "old.csv")
    assert summary["run"]["reuse"] is None
    assert "reused" not in line(summary)
    assert "earlier output" not in render(summary).decode()


def test_of_several_outputs_the_first_with_a_text_counts(score):
    """Each is counted for itself."""
    monday, _ = score(["a", "b"], "monday.csv")
    tuesday, _ = score(["b", "c"], "tuesday.parquet")
    models = Counting()
    _, summary = score(["a", "b", "c", "d"], "new.csv", models, reuse=[monday, tuesday])
    assert models.ran == ["d"]
    counts = [(e["reused_rows"], e["gone_rows"]) for e in summary["run"]["reuse"]["outputs"]]
    assert counts == [(2, 0), (1, 0)]


@pytest.mark.parametrize(
    "options",
    [
        {"probabilities": True, "prefix": "p_"},
        {"polarity": True},
        {"neutral_band": 0.3, "unsure_below": 0.7},
        {"polarity": True, "polarity_labels": "negative=POSITIVE,positive=NEGATIVE"},
        {"group_by": "gold", "report_examples": 2},
        {"sentences": True},
    ],
)
def test_every_column_that_a_run_adds_is_that_of_a_full_run(score, options):
    """With the prefix, the polarity and the tables beside the output."""
    old, _ = score(OLD, "old.csv", Counting(scorer=Uneven), **options)
    full, expected = score(NEW, "full.csv", Counting(scorer=Uneven), **options)
    models = Counting(scorer=Uneven)
    reused, summary = score(NEW, "reused.csv", models, reuse=[old], **options)
    assert reused.read_bytes() == full.read_bytes()
    assert summary["predictions"]["labels"] == expected["predictions"]["labels"]
    assert summary["predictions"]["neutral"] == expected["predictions"]["neutral"]
    if not options.get("sentences"):
        assert set(models.ran) == {f"new {n}" for n in range(7)}
    assert verify(reused.with_name("reused-in.csv"), reused)["status"] == "same"


class Uneven(HashScorer):
    """Gives probabilities that do not add up to 1 in the last digit, as a softmax does."""

    def score(self, prepared, *, done=None, **more):
        pending = np.ones(prepared.rows, bool) if done is None else done.status == PENDING
        scores = super().score(prepared, done=done, **more)
        fresh = pending & (scores.status == SCORED)
        scores.probabilities[fresh, 0] = np.nextafter(scores.probabilities[fresh, 0], np.float32(0))
        return scores


def test_other_columns_may_be_asked_for(score):
    """What the old output tells is enough: NEUTRAL rows have their polarity."""
    old, _ = score(OLD, "old.csv", neutral_band=0.4, prefix="old_", details=True)
    full, _ = score(NEW, "full.parquet", unsure_below=0.6)
    reused, _ = score(NEW, "reused.parquet", reuse=[old], unsure_below=0.6)
    assert pq.read_table(reused).equals(pq.read_table(full))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"probabilities": True}, "--probabilities needs"),
        ({"polarity": True}, "--polarity needs"),
        ({"neutral_band": 0.2}, "--neutral-band needs"),
    ],
)
def test_columns_that_the_old_output_does_not_tell_are_refused(score, options, said):
    """The exact probability of the other label is not in label and score."""
    old, _ = score(OLD, "old.csv")
    with pytest.raises(UsageError, match=said) as error:
        score(NEW, "new.csv", reuse=[old], **options)
    assert "--probabilities" in error.value.hint


class Calibrated(Counting):
    """A model whose folder has a temperature."""

    def __init__(self, folder, temperature=1.7, **settings):
        super().__init__(**settings)
        self.folder = folder
        found = calibration.Calibration(temperature, 100, 0.1, 0.05, 0.5, 0.4)
        folder.mkdir(exist_ok=True)
        (folder / calibration.FILE).write_bytes(calibration.dumps(found))

    def identity(self):
        return dataclasses.replace(super().identity(), path=self.folder)


def test_calibrated_scores_are_not_calibrated_again(score, tmp_path):
    """Reused scores stay as they stand in the old output; the expected accuracy is the same."""
    models = Calibrated(tmp_path / "model")
    old, _ = score(OLD, "old.csv", models, calibrated=True)
    full, expected = score(NEW, "full.csv", models, calibrated=True)
    reused, summary = score(NEW, "reused.csv", models, calibrated=True, reuse=[old])
    assert reused.read_bytes() == full.read_bytes()
    assert summary["predictions"] == expected["predictions"]
    with pytest.raises(UsageError, match=r"calibration temperature was 1\.7, now raw"):
        score(NEW, "raw.csv", models, reuse=[old])
    other = Calibrated(tmp_path / "model", temperature=2.0)
    with pytest.raises(UsageError, match=r"was 1\.7, now 2"):
        score(NEW, "other.csv", other, calibrated=True, reuse=[old])


def test_raw_scores_are_calibrated_for_the_expected_accuracy(score, tmp_path):
    """As in a full run."""
    models = Calibrated(tmp_path / "model")
    old, _ = score(OLD, "old.csv", models)
    _, expected = score(NEW, "full.csv", models)
    _, summary = score(NEW, "reused.csv", models, reuse=[old])
    assert summary["predictions"] == expected["predictions"]


@pytest.fixture
def refuse(tmp_path):
    """Run with --reuse, expect an error before anything is written, return it."""

    def run_batch(kind, match, models=None, output="new.csv", **options):
        source = write(tmp_path / "new-in.csv", NEW)
        before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
        models = models or HashModels()
        with pytest.raises(kind, match=match) as error:
            batch(source, tmp_path / output, models=models, **{"chunk_rows": 20} | options)
        assert before == {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
        assert not (tmp_path / f"{output}.batchsent").exists()
        return error.value

    return run_batch


@pytest.mark.parametrize(
    ("options", "models", "said"),
    [
        ({}, {"version": "4"}, "model weights was"),
        ({"precision": "float32"}, {}, "--precision was auto, now float32"),
        ({"max_length": 64}, {}, "--max-length was not given, now 64"),
        ({"long_text": "tail"}, {}, "--long-text was not given, now tail"),
        ({"batch_tokens": 99}, {}, "--batch-tokens was not given, now 99"),
    ],
)
def test_an_output_of_another_model_or_option_is_refused(score, refuse, options, models, said):
    """The difference is named, with what to type; --dry-run says so too."""
    old, _ = score(OLD, "old.csv")
    for dry_run in (False, True):
        error = refuse(
            UsageError, said, HashModels(**models), reuse=[old], dry_run=dry_run, **options
        )
        assert "old.csv has other scores" in error.message
        assert "reuse" in error.hint


def test_an_output_of_another_version_is_refused(score, refuse):
    """The package is named, however many there are."""
    old, _ = score(OLD, "old.csv")
    path = old.with_name("old.csv.summary.json")
    document = json.loads(path.read_bytes())
    versions = document["run"]["fingerprint"]["versions"]
    document["run"]["fingerprint"]["versions"] = re.sub(r"numpy \S+", "numpy 1.0", versions)
    path.write_text(json.dumps(document))
    refuse(UsageError, f"versions was numpy 1.0, now numpy {np.__version__}", reuse=[old])


def test_how_the_files_are_read_does_not_matter(score):
    """A limit, the size of a chunk and the name of the text column are not the model's."""
    old, _ = score(OLD, "old.csv", limit=30, chunk_rows=7)
    _, summary = score(OLD, "new.csv", reuse=[old], chunk_rows=11)
    assert summary["run"]["reuse"]["new_rows"] == 10  # old 30, old 33, ... old 57


def test_an_output_of_another_device_is_refused(score, refuse):
    """There the same text may get other last digits."""
    old, _ = score(OLD, "old.csv")

    class Elsewhere(HashScorer):
        def facts(self):
            facts = super().facts()
            facts["device"]["description"] = "another CPU"
            return facts

    error = refuse(
        UsageError, "description was CPU, now another CPU", Counting(scorer=Elsewhere), reuse=[old]
    )
    assert "last digits" in error.message


@pytest.mark.parametrize("damage", ["truncated", "one byte", "no file", "no summary", "failed"])
def test_a_damaged_old_output_is_an_error_before_anything_is_written(score, refuse, damage):
    """It names the file and what is wrong with it."""
    old, _ = score(OLD, "old.csv")
    summary = old.with_name("old.csv.summary.json")
    content, said = old.read_bytes(), ""
    if damage == "truncated":
        old.write_bytes(content[:-40])
        said = "bytes, not"
    elif damage == "one byte":
        old.write_bytes(content.replace(b"0.", b"0,", 1))
        said = "another SHA-256"
    elif damage == "no file":
        old.unlink()
        said = "is not a file"
    elif damage == "no summary":
        summary.unlink()
        said = "has no summary beside it"
    else:
        document = json.loads(summary.read_bytes())
        summary.write_text(json.dumps({**document, "status": "failed"}))
        said = "did not finish"
    refuse(InputError, said, reuse=[old])


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.update(outputs=[]),
        lambda document: document["outputs"][0].pop("sha256"),
        lambda document: document["run"].pop("fingerprint"),
        lambda document: document["model"].update(labels=["A", "B"]),
        lambda document: document["run"]["options"].update(prefix=3),
        lambda document: document["run"]["options"].update(probabilities=True),
        lambda document: document["input"].pop("columns"),
        lambda document: document["input"].update(dialect={"odd": 1}),
    ],
)
def test_a_damaged_summary_is_refused(score, refuse, change):
    """Not believed, and no traceback."""
    old, _ = score(OLD, "old.csv")
    path = old.with_name("old.csv.summary.json")
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))
    refuse(InputError, "is damaged", reuse=[old])


def test_the_old_output_is_never_written_over(score, refuse, tmp_path):
    """Not as the output, by a link either, nor as another file of the run."""
    old, _ = score(OLD, "old.csv")
    (tmp_path / "link.csv").symlink_to(old)
    for options in (
        {"output": "old.csv", "overwrite": True},
        {"output": "link.csv", "overwrite": True},
        {"output": "new.csv", "summary": str(old)},
        {"output": "new.csv", "summary": f"{old}.summary.json", "overwrite": True},
    ):
        refuse(UsageError, "are the same file", reuse=[old], **options)
    refuse(UsageError, "--reuse names an output twice", reuse=[old, tmp_path / "link.csv"])
    refuse(UsageError, "--reuse is empty", reuse=[""])
    refuse(InputError, "is not a file", reuse=["."])


def test_it_requires_an_output_file(score, tmp_path):
    """Stdout is refused, with what to do."""
    old, _ = score(OLD, "old.csv")
    source = write(tmp_path / "one.csv", NEW)
    with pytest.raises(UsageError, match="--reuse requires an output file"):
        batch(source, "-", models=HashModels(), reuse=[old])


def test_a_frame_is_no_output_to_reuse(score, tmp_path):
    """Its columns are not taken for the names of files."""
    old, _ = score(OLD, "old.csv")
    source = write(tmp_path / "one.csv", NEW)
    with pytest.raises(UsageError, match="not a frame"):
        batch(source, tmp_path / "new.csv", models=HashModels(), reuse=pd.read_csv(old))


def test_a_dry_run_names_what_it_would_reuse(score, tmp_path):
    """And says that the rows were not looked for; without --reuse there is nothing of it."""
    old, _ = score(OLD, "old.csv")
    source = write(tmp_path / "one.csv", NEW)
    plain = {"models": HashModels(), "dry_run": True}
    document = batch(source, tmp_path / "new.csv", **plain, reuse=[old])
    assert document["reuse"] == {"outputs": [str(old)], "reused_rows": "not checked"}
    assert batch(source, tmp_path / "new.csv", **plain)["reuse"] is None


def test_a_folder_reuses_the_outputs_of_the_same_names_in_another_folder(tmp_path):
    """A file that was not there before is scored in full; the counts of all files are added up."""
    monday, tuesday = tmp_path / "monday-in", tmp_path / "tuesday-in"
    monday.mkdir()
    tuesday.mkdir()
    write(monday / "a.csv", ["x", "y", "z"])
    write(monday / "b.csv", ["p"])
    write(tuesday / "a.csv", ["x", "new", "z"])
    write(tuesday / "b.csv", ["p"])
    write(tuesday / "c.csv", ["x"])
    batch(monday, tmp_path / "monday", models=HashModels())
    models = Counting()
    summary = batch(tuesday, tmp_path / "tuesday", models=models, reuse=tmp_path / "monday")
    assert models.ran == ["new", "x"]
    assert summary["reuse"] == {"reused_rows": 3, "new_rows": 1, "gone_rows": 1}
    assert "3 rows reused, 1 new, 1 gone" in line(summary)
    batch(tuesday, tmp_path / "full", models=HashModels())
    for name in ("a.csv", "b.csv", "c.csv"):
        assert (tmp_path / "tuesday" / name).read_bytes() == (tmp_path / "full" / name).read_bytes()
    schema = Path(batchsent.__file__).parent / "run" / "folder.schema.json"
    jsonschema.validate(
        json.loads((tmp_path / "tuesday" / "batchsent.summary.json").read_bytes()),
        json.loads(schema.read_bytes()),
    )
    for wrong in (tmp_path / "tuesday", tmp_path / "monday" / "a.csv"):
        with pytest.raises(UsageError, match="--reuse"):
            batch(tuesday, tmp_path / "tuesday", models=HashModels(), reuse=wrong)


def test_a_finished_output_is_up_to_date_without_the_old_one(score, tmp_path):
    """The same command again asks for nothing."""
    old, _ = score(OLD, "old.csv")
    _, first = score(NEW, "new.csv", reuse=[old])
    old.unlink()
    _, again = score(NEW, "new.csv", reuse=[old])
    assert again["status"] == "up_to_date"
    assert again["run"]["reuse"] == first["run"]["reuse"]


def test_a_chain_of_days(score):
    """An output that reused scores is reused itself."""
    monday, _ = score(OLD, "monday.csv")
    tuesday, _ = score(NEW, "tuesday.csv", reuse=[monday])
    models = Counting()
    wednesday, _ = score([*NEW, "more"], "wednesday.csv", models, reuse=[tuesday])
    full, _ = score([*NEW, "more"], "full.csv")
    assert models.ran == ["more"]
    assert wednesday.read_bytes() == full.read_bytes()


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ("n;review\n1;caf\xe9\n2;'a;b'\n", {"delimiter": ";", "quotechar": "'"}),
        ("n;review\n1;caf\xe9\n2;b\n", {"delimiter": "auto", "encoding": "auto"}),
        ("1,caf\xe9\n2,b\n", {"no_header": True, "text_column_index": 2}),
        ("caf\xe9\nb\n", {"no_header": True}),
        ("# a line\nn,text\n1,caf\xe9\n2,b\n", {"skip_lines": 1}),
        ("text,text\n1,caf\xe9\n2,b\n", {"text_column_index": 2}),
        ("title,body\nx,caf\xe9\n,b\n", {"text_column": ("title", "body")}),
        ("n\treview\n1\tcaf\xe9\n2\tb\n", {"delimiter": "tab"}),
    ],
)
@pytest.mark.parametrize("name", ["old.csv", "old.parquet"])
def test_the_old_output_is_read_as_its_run_wrote_it(tmp_path, content, options, name):
    """Delimiter, encoding, header and the place of the text are in its summary."""
    if name == "old.parquet" and content.startswith("text,text"):
        pytest.skip("Parquet has no two columns of one name")
    options = {"encoding": "cp1252"} | options
    source = tmp_path / "in.csv"
    source.write_bytes(content.encode("cp1252"))
    batch(source, tmp_path / name, models=HashModels(), **options)
    models = Counting()
    full = batch(source, tmp_path / "full.csv", models=HashModels(), **options)
    batch(source, tmp_path / "new.csv", models=models, reuse=[tmp_path / name], **options)
    assert full["rows"]["scored"] == 2
    assert models.ran == []
    assert (tmp_path / "new.csv").read_bytes() == (tmp_path / "full.csv").read_bytes()
    assert "scores of 2 reused rows" in str(verify(source, tmp_path / "new.csv")["checked"])


def test_a_text_of_a_parquet_column_may_be_anything(score):
    """Texts that differ in one character, white space among them, are others."""
    texts = ["a", "a ", "A", "a\x00", "\ufeffa", "a\u200b", "x" * 100_000, "x" * 99_999]
    old, _ = score(texts[::2], "old.parquet", form="parquet")
    models = Counting()
    score(texts, "new.parquet", models, form="parquet", reuse=[old])
    assert models.ran == texts[1::2]


def test_rows_without_a_number_are_scored_again(score):
    """The old output says nothing of them, so they count as new."""

    class Nan(HashScorer):
        def score(self, prepared, *, done=None, **more):
            scores = super().score(prepared, done=done, **more)
            for row, text in enumerate(prepared.content):
                if text == "odd":
                    scores.status[row], scores.probabilities[row] = 3, np.nan
            return scores

    old, _ = score(["a", "odd"], "old.csv", Counting(scorer=Nan))
    models = Counting(scorer=Nan)
    _, summary = score(["a", "odd", "b"], "new.csv", models, reuse=[old])
    assert models.ran == ["odd", "b"]
    assert summary["rows"]["nonfinite"] == 1
    assert summary["run"]["reuse"]["new_rows"] == 2


def test_verify_proves_that_reused_rows_are_those_of_before(score, tmp_path):
    """A score, a label or a count that was changed later is found, with its row."""
    old, _ = score(OLD, "old.csv")
    new, _ = score(NEW, "new.csv", reuse=[old])
    source = tmp_path / "new-in.csv"
    reused = sum(bool(text and text.strip()) for text in NEW) - 8
    checked = str(verify(source, new)["checked"])
    assert f"the scores of {reused} reused rows against" in checked
    content = new.read_bytes()
    lines = content.split(b"\n")
    place = next(n for n, text in enumerate(lines) if b"old 12" in text)
    lines[place] = lines[place].rpartition(b",")[0] + b",0.75"
    new.write_bytes(b"\n".join(lines))
    with pytest.raises(GateFailed, match=r"row 3, column score: '0\.75', where the output that"):
        verify(source, new)
    new.write_bytes(content)
    path = tmp_path / "new.csv.summary.json"
    document = json.loads(path.read_bytes())
    document["run"]["reuse"]["reused_rows"] -= 1
    path.write_text(json.dumps(document))
    with pytest.raises(GateFailed, match=f"reuse reused_rows: '{reused - 1}' in the summary"):
        verify(source, new)


def test_verify_finds_the_old_output_where_it_was_moved_to(score, tmp_path):
    """Together with the new one; where it is gone or another file it says what it cannot check."""
    old, _ = score(OLD, "old.csv")
    score(NEW, "new.csv", reuse=[old])
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in list(tmp_path.glob("*.csv*")):
        shutil.move(path, moved / path.name)
    source, new = moved / "new-in.csv", moved / "new.csv"
    assert "reused rows against" in str(verify(source, new)["checked"])
    batch(moved / "old-in.csv", moved / "old.csv", models=HashModels(), limit=9, overwrite=True)
    found = verify(source, new)
    assert "was scored again since" in str(found["unchecked"])
    (moved / "old.csv").unlink()
    found = verify(source, new)
    assert found["status"] == "same"
    assert "old.csv is not a file" in str(found["unchecked"])


def test_a_killed_run_is_resumed_to_the_same_bytes(tmp_path):
    """By the same command; with another old output, or none, it is refused with the difference."""
    old_in = write(tmp_path / "old-in.csv", OLD)
    new_in = write(tmp_path / "new-in.csv", [t for n in range(60) for t in (f"n {n}", OLD[n])])
    more = ["--chunk-rows", 20]
    assert run([old_in, "-o", "old.csv", *more], tmp_path)[0] == 0
    assert run([new_in, "-o", "full.csv", *more], tmp_path)[0] == 0
    command = [new_in, "-o", "new.csv", *more, "--reuse", "old.csv"]
    old = (tmp_path / "old.csv").read_bytes()
    for killed in range(4):
        child = Child(command, tmp_path, batch_s=0.2)
        parts = 1 + killed
        wait_for(lambda parts=parts: len(list(tmp_path.glob("new.csv.batchsent/part-*"))) >= parts)
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        assert not (tmp_path / "new.csv").exists()
    code, stderr = run(command[:-2], tmp_path)
    assert code == 2
    assert "--reuse was" in stderr
    code, stderr = run(command, tmp_path)
    assert code == 0, stderr
    assert (tmp_path / "new.csv").read_bytes() == (tmp_path / "full.csv").read_bytes()
    summary = json.loads((tmp_path / "new.csv.summary.json").read_bytes())
    assert summary["run"]["resumed_rows"] >= 60
    assert summary["run"]["reuse"]["new_rows"] == 60
    assert summary["run"]["reuse"]["gone_rows"] == 0
    assert (tmp_path / "old.csv").read_bytes() == old
    assert not list(tmp_path.glob("*.batchsent"))


def test_a_full_disk_while_the_table_is_made_is_an_output_error(tmp_path):
    """The files of the table have no name, so nothing of them is left."""
    old_in = write(tmp_path / "old-in.csv", OLD)
    assert run([old_in, "-o", "old.csv"], tmp_path)[0] == 0
    command = [old_in, "-o", "new.csv", "--reuse", "old.csv"]
    code, stderr = run(command, tmp_path, setup=small_files)
    assert (code, "new.csv" in stderr) == (5, True), stderr
    left = [path.name for path in tmp_path.glob("new.csv.batchsent/*")]
    assert not [name for name in left if name.startswith("texts-")]
    assert run(command, tmp_path)[0] == 0


def small_files():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, resource.RLIM_INFINITY))


@pytest.fixture(scope="module")
def reviews():
    """Reviews of the tiny models' words, of many lengths."""
    from tests.models import WORDS

    dice = np.random.default_rng(5)
    return [" ".join(dice.choice(WORDS[:60], dice.integers(1, 40))) for _ in range(200)]


def test_reused_rows_of_a_real_model_have_the_bytes_of_before(tmp_path, tiny_model, reviews):
    """New rows are scored as ever, but for the last digit; tokens are counted of all rows."""

    def scored(texts, name, **more):
        source = write(tmp_path / f"{name}-in.csv", texts)
        return batch(source, tmp_path / name, model=str(tiny_model), details=True, **more)

    scored(reviews[:180], "old.csv")
    full = scored(reviews[20:], "full.csv")
    summary = scored(reviews[20:], "new.csv", reuse=[tmp_path / "old.csv"])
    old, new, due = (
        pd.read_csv(tmp_path / name, dtype=str, keep_default_na=False)
        for name in ("old.csv", "new.csv", "full.csv")
    )
    same = ["text", "label", "score", "n_tokens", "truncated"]
    assert new[same][:160].equals(old[same][20:].reset_index(drop=True))
    assert new["label"].equals(due["label"])
    assert np.abs(new["score"].astype(float) - due["score"].astype(float)).max() < 1e-6
    assert summary["text"] == full["text"]
    assert summary["rows"] == full["rows"]


def test_reused_texts_go_through_no_model(tiny_model, reviews):
    """What is given as their score is what comes back, whatever it is; the others are scored."""
    identity = identify(str(tiny_model), None)
    scorer = ModelScorer.open(identity, ModelOptions(device="cpu"))
    texts = [*reviews[:50], None, reviews[0]]
    reused = np.array([n % 2 == 0 for n in range(52)])
    reused[51] = reused[0]
    done = Scores(
        np.where(reused[:, None], np.float32(0.125), np.float32(np.nan)) * np.ones((52, 2), "f4"),
        np.zeros(52, np.int32),
        np.zeros(52, np.int32),
        np.where(reused, SCORED, PENDING).astype(np.uint8),
        0,
    )
    done.status[50] = PENDING
    ran = []
    encode = scorer.encoder.probabilities
    scorer.encoder.probabilities = lambda tokens, lengths: (
        ran.append(len(lengths)) or encode(tokens, lengths)
    )
    shares = []
    found = scorer.score(scorer.prepare(texts, reused), done=done, on_batch=shares.append)
    whole = scorer.score(scorer.prepare(texts))
    scorer.close()
    assert ran[0] == 25
    assert shares[-1] == 1
    assert (found.probabilities[:50:2] == 0.125).all()
    assert (found.probabilities[51] == 0.125).all()
    np.testing.assert_allclose(found.probabilities[1:50:2], whole.probabilities[1:50:2], atol=1e-6)
    assert found.n_tokens.tolist() == whole.n_tokens.tolist()
    assert found.distinct == whole.distinct == 50


def test_a_model_of_three_labels_needs_its_probabilities_for_gold(tmp_path, reviews):
    """Label and score are enough for label and score."""
    folder = str(make_model(tmp_path / "three", labels=("negative", "neutral", "positive")))

    def scored(texts, name, **more):
        source = write(tmp_path / f"{name}-in.csv", texts)
        batch(source, tmp_path / name, model=folder, **more)
        return tmp_path / name

    old = scored(reviews[:50], "old.csv")
    full = scored(reviews[:50], "full.csv")
    new = scored(reviews[:50], "new.csv", reuse=[old])
    assert new.read_bytes() == full.read_bytes()
    gold = {"gold": "gold", "gold_map": "0=negative,1=positive"}
    with pytest.raises(UsageError, match="--gold needs"):
        scored(reviews[:50], "judged.csv", reuse=[old], **gold)
    told = scored(reviews[:50], "told.csv", probabilities=True)
    due = scored(reviews[:50], "due.csv", **gold)
    judged = scored(reviews[:50], "judged.csv", reuse=[told], **gold)
    assert judged.read_bytes() == due.read_bytes()
    evaluations = [
        json.loads((tmp_path / f"{path.name}.summary.json").read_bytes())["evaluation"]
        for path in (judged, due)
    ]
    assert evaluations[0] == evaluations[1]


def test_a_table_of_texts_in_many_buckets():
    """Every text is found with the numbers of its first row, and no other text is."""
    texts = [f"text {n % 5_000}" for n in range(9_000)]
    numbers = np.arange(9_000, dtype=np.float32)[:, None]
    blocks = [(texts[n : n + 700], numbers[n : n + 700]) for n in range(0, 9_000, 700)]
    table = TextTable(blocks, 1, rows=40_000_000)
    asked = [f"text {n}" for n in range(4_000, 6_000)]
    found = table.find(keys_of(asked))
    assert (found[:1_000] >= 0).all()
    assert (found[1_000:] == -1).all()
    assert table.numbers(found[:1_000])[:, 0].tolist() == list(range(4_000, 5_000))
    table.mark(found[:1_000])
    assert table.rows == 9_000
    assert table.unmarked_rows() == 8_000  # texts 0 to 3999 stand there twice
    empty = TextTable([], 1, rows=0)
    assert empty.find(keys_of(asked)).max() == -1


@pytest.mark.parametrize("name", ["old.csv", "old.jsonl", "old.parquet"])
def test_an_old_output_without_rows_is_no_hindrance(score, name):
    """Everything is new."""
    old, _ = score([], name)
    full, _ = score(NEW, "full.csv")
    new, summary = score(NEW, "new.csv", reuse=[old])
    assert new.read_bytes() == full.read_bytes()
    assert summary["run"]["reuse"]["reused_rows"] == 0


def test_a_parquet_output_has_the_receipt_of_a_full_run(score):
    """Byte for byte: what was reused stands in the summary only."""
    old, _ = score(OLD, "old.parquet", form="parquet")
    full, _ = score(NEW, "full.parquet", form="parquet")
    new, _ = score(NEW, "new.parquet", form="parquet", reuse=[old])
    assert pq.read_schema(new).metadata == pq.read_schema(full).metadata
    assert new.read_bytes() == full.read_bytes()
