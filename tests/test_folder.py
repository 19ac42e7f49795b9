"""Many dumps in one command: finished ones are skipped, new ones done, a bad one does not stop the
others.
"""

import json
import os
import shutil
import signal
import time
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

from batchsent.errors import UsageError
from batchsent.reporting import Reporter
from batchsent.run.folder import batch_all
from tests.children import Child
from tests.children import run as run_child
from tests.hash_model import HashModels


@pytest.fixture
def dumps(tmp_path):
    """A folder with three dumps, one of them bad, and things that are none."""
    folder = tmp_path / "dumps"
    folder.mkdir()
    (folder / "a.csv").write_text("text\none\ntwo\n")
    (folder / "b.csv").write_text("id,text\n1\n")
    (folder / "c.tsv").write_text("text\tid\nthree\t1\n")
    (folder / "notes.md").write_text("not a dump")
    (folder / ".hidden.csv").write_text("text\nx\n")
    return folder


def score(inputs, output, **options):
    models = options.pop("models", None) or HashModels()
    return batch_all([str(i) for i in inputs], str(output), models=models, **options)


def test_a_bad_file_does_not_stop_the_others(dumps, tmp_path):
    """The others are scored, the exit code is 3, and the summary of the whole says which failed and
    why.
    """
    models = HashModels()
    document = score([dumps], tmp_path / "scored", models=models)
    assert document["exit_code"] == 3
    assert document["status"] == "complete_with_errors"
    found = {
        Path(file["input"]).name: (file["status"], file["exit_code"]) for file in document["files"]
    }
    assert found == {"a.csv": ("complete", 0), "b.csv": ("failed", 4), "c.tsv": ("complete", 0)}
    assert "line 2: 1 field" in document["files"][1]["error"]["message"]
    assert document["rows"]["written"] == 3
    assert json.loads((tmp_path / "scored" / "batchsent.summary.json").read_bytes()) == document
    names = ["a.csv", "a.csv.summary.json", "batchsent.summary.json", "c.tsv", "c.tsv.summary.json"]
    assert sorted(path.name for path in (tmp_path / "scored").iterdir()) == names


def test_the_model_is_loaded_once_and_only_for_new_files(dumps, tmp_path):
    """The second time only what is new or mended is scored.

    The third time the model is not loaded.
    """
    score([dumps], tmp_path / "scored")
    before = (tmp_path / "scored" / "a.csv").stat().st_mtime_ns
    (dumps / "b.csv").write_text("id,text\n1,mended\n")
    (dumps / "d.csv").write_text("text\nnew\n")
    document = score([dumps], tmp_path / "scored")
    assert [file["status"] for file in document["files"]] == [
        "up_to_date",
        "complete",
        "up_to_date",
        "complete",
    ]
    assert document["exit_code"] == 0
    assert document["rows"]["written"] == 5
    assert (tmp_path / "scored" / "a.csv").stat().st_mtime_ns == before
    models = HashModels()
    again = score([dumps], tmp_path / "scored", models=models)
    assert ({file["status"] for file in again["files"]}, models.opened) == ({"up_to_date"}, 0)


def test_a_dump_that_changed_is_told_not_overwritten(dumps, tmp_path):
    """Its old output is somebody's data: exit 3 with the hint, --overwrite replaces it."""
    (dumps / "b.csv").unlink()
    score([dumps], tmp_path / "scored")
    (dumps / "a.csv").write_text("text\nchanged\n")
    document = score([dumps], tmp_path / "scored")
    assert document["exit_code"] == 3
    assert "--overwrite" in document["files"][0]["error"]["hint"]
    assert score([dumps], tmp_path / "scored", overwrite=True)["exit_code"] == 0
    assert "changed" in (tmp_path / "scored" / "a.csv").read_text()


def test_c18_files_with_different_columns_are_runs_of_their_own(tmp_path):
    """Each output has its own input's columns."""
    (tmp_path / "a.csv").write_text("text,x\na,1\n")
    (tmp_path / "b.csv").write_text("id,review,y\n1,b,2\n")
    document = score([tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "out")
    assert document["exit_code"] == 0
    heads = [(tmp_path / "out" / name).read_text().splitlines()[0] for name in ("a.csv", "b.csv")]
    assert heads == ["text,x,label,score", "id,review,y,label,score"]


def test_one_input_into_a_folder_goes_by_its_name(tmp_path):
    """`-o scored/` with one file puts it there."""
    (tmp_path / "a.csv").write_text("text\na\n")
    assert score([tmp_path / "a.csv"], f"{tmp_path}/scored/")["exit_code"] == 0
    assert (tmp_path / "scored" / "a.csv").exists()


def test_an_output_format_gives_the_suffix(tmp_path):
    """--output-format parquet makes a.parquet of a.csv.gz."""
    (tmp_path / "a.csv").write_text("text\na\n")
    score([tmp_path / "a.csv"], f"{tmp_path}/one/", output_format="parquet")
    assert (tmp_path / "one" / "a.parquet").read_bytes()[:4] == b"PAR1"


REFUSED = [
    ("same_names", ["a/x.csv", "b/x.csv"], "out", {}, "would both become"),
    ("stdin_among_them", ["a/x.csv", "-"], "out", {}, "stdin cannot be one of several"),
    ("output_is_a_file", ["a/x.csv", "b/y.csv"], "a/x.csv", {}, "a/x.csv is a file"),
    ("no_parent", ["a/x.csv", "b/y.csv"], "no/such", {}, "does not exist"),
    ("empty_folder", ["empty"], "out", {}, "no file to score"),
    ("into_its_own_folder", ["a"], "a", {}, "is input and output"),
    ("summary_for_several", ["a", "b"], "out", {"summary": "s.json"}, "name one file"),
    ("disagreements_for_several", ["a", "b"], "out", {"disagreements": "d.csv"}, "name one file"),
    ("stdout_for_several", ["a/x.csv", "b/y.csv"], "-", {}, "stdout"),
]


@pytest.mark.parametrize(
    ("inputs", "output", "options", "message"),
    [r[1:] for r in REFUSED],
    ids=[r[0] for r in REFUSED],
)
def test_what_cannot_be_meant_is_refused_before_anything_runs(
    tmp_path, monkeypatch, inputs, output, options, message
):
    """No file is written, no model loaded."""
    monkeypatch.chdir(tmp_path)
    for name in ("a/x.csv", "b/x.csv", "b/y.csv", "empty/notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text\na\n")
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    models = HashModels()
    with pytest.raises(UsageError, match=message):
        batch_all(inputs, output, models=models, **options)
    assert not models.opened
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def test_a_dry_run_over_a_folder_writes_nothing(dumps, tmp_path):
    """It says of each file what would be done, and which are bad."""
    document = score([dumps], tmp_path / "scored", dry_run=True)
    assert [file["status"] for file in document["files"]] == ["dry_run", "failed", "dry_run"]
    assert not (tmp_path / "scored").exists()


def test_a_signal_ends_the_whole_and_the_rest_is_done_next_time(dumps, tmp_path):
    """SIGTERM in the first of many files: 143; the same command again does all of them."""
    shutil.copy(dumps / "a.csv", dumps / "b.csv")
    command = [dumps, "-o", "scored", "--chunk-rows", "1"]
    child = Child(command, tmp_path, batch_s=0.5)
    until = time.monotonic() + 20
    while not list(tmp_path.glob("scored/*.batchsent/part-*")):
        assert time.monotonic() < until, child.stderr
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGTERM)
    assert child.wait() == 143
    code, stderr = run_child(command, tmp_path)
    assert code == 0, stderr
    assert len(list((tmp_path / "scored").glob("*sv"))) == 3


def test_the_list_of_failures_is_on_stderr(dumps, tmp_path):
    """Each bad file is named with line and hint, even when quiet; the exit code is 3."""
    code, stderr = run_child([dumps, "-o", "scored", "-q"], tmp_path)
    assert code == 3
    (first, *_) = stderr.splitlines()
    assert first.startswith("warning: ")
    assert "b.csv, line 2" in first


@pytest.mark.parametrize("kind", ["complete", "with_errors", "dry_run", "up_to_date"])
def test_the_summary_of_a_folder_has_a_schema(dumps, tmp_path, kind):
    """batchsent.dumps/1 says what stands in it, and real runs keep to it."""
    schema = json.loads(
        resources.files("batchsent.run").joinpath("folder.schema.json").read_bytes()
    )
    if kind != "with_errors":
        (dumps / "b.csv").write_text("id,text\n1,a\n")
    document = score([dumps], tmp_path / "scored", dry_run=kind == "dry_run")
    if kind == "up_to_date":
        document = score([dumps], tmp_path / "scored")
    jsonschema.Draft202012Validator(schema).validate(json.loads(json.dumps(document)))
    assert document["schema"] == schema["properties"]["schema"]["const"]


def test_a_file_beside_one_output_is_never_another_output(dumps, tmp_path):
    """A dump called like another one's rejects or groups is refused before anything runs."""
    for name in ("a.csv.rejects.csv", "a.groups.csv"):
        (dumps / name).write_text("text\nx\n")
        with pytest.raises(UsageError, match=rf"{name} would be both the (rejects|groups) of"):
            score([dumps], tmp_path / "out", bad_rows="reject", group_by="text", overwrite=True)
        (dumps / name).unlink()
    assert not (tmp_path / "out").exists()


def test_what_is_left_out_of_a_folder_is_told(dumps, tmp_path):
    """Pipes by a warning; a link to a missing dump as a file that failed."""
    os.mkfifo(dumps / "p.csv")
    (dumps / "lost.csv").symlink_to("nowhere.csv")
    code, stderr = run_child([dumps, "-o", "scored"], tmp_path)
    assert code == 3
    assert f"warning: left out pipes and devices: 1 ({dumps}/p.csv)" in stderr
    assert f"lost.csv: it is a link to {tmp_path}/dumps/nowhere.csv, which is not there" in stderr


def test_finished_files_stay_finished_when_bad_rows_are_rejected_from_now_on(dumps, tmp_path):
    """The hint says --bad-rows reject: files without bad rows are up to date under it."""
    score([dumps], tmp_path / "scored")
    document = score([dumps], tmp_path / "scored", bad_rows="reject")
    statuses = [file["status"] for file in document["files"]]
    assert statuses == ["up_to_date", "complete", "up_to_date"]


def test_a_first_look_does_not_throw_the_work_of_the_whole_away(tmp_path):
    """--limit is an option like others: unfinished work without it is refused, not replaced."""
    (tmp_path / "in.csv").write_text("text\n" + "".join(f"review {n}\n" for n in range(60)))
    command = ["in.csv", "-o", "out.csv", "--chunk-rows", "20"]
    assert run_child(command, tmp_path, env={"BATCHSENT_FAULT": "rename:4:kill"})[0] == -9
    parts = sorted(tmp_path.glob("*.batchsent/part-*"))
    code, stderr = run_child([*command, "--limit", "10"], tmp_path)
    assert (code, "--limit was not given, now 10" in stderr) == (2, True)
    assert sorted(tmp_path.glob("*.batchsent/part-*")) == parts
    assert parts


def test_the_work_folder_is_no_name_for_another_file(tmp_path):
    """--summary OUT.batchsent is refused before anything is scored."""
    (tmp_path / "in.csv").write_text("text\na\n")
    code, stderr = run_child(["in.csv", "-o", "o.csv", "--summary", "o.csv.batchsent"], tmp_path)
    assert (code, "are the same file" in stderr) == (2, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "stderr.log"]


def test_the_model_is_described_once_for_all_files(dumps, tmp_path):
    """What is said of the model and the device stands in front of the first file only."""

    class Lines(Reporter):
        def __init__(self):
            self.lines = []

        def notice(self, text, **facts):
            self.lines.append(text)

    (dumps / "b.csv").unlink()
    said = Lines()
    document = score([dumps], tmp_path / "scored", reporter=said)
    assert [file["status"] for file in document["files"]] == ["complete", "complete"]
    assert len([line for line in said.lines if line.startswith("model ")]) == 1
    assert len([line for line in said.lines if line.startswith("device ")]) == 1
