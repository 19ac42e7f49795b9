"""No file is replaced or removed that is not the output's own, unless --overwrite is given."""

import json
import shutil

import pytest

import batchsent
from batchsent.commands.batch import batch
from batchsent.errors import Locked, UsageError
from batchsent.files.lock import held_lock
from batchsent.verification.verify import verify
from tests.children import run as run_child
from tests.hash_model import HashModels, Meanwhile

ROWS = "id,text\n1,a\n2\n3,c\n"
GOOD = "id,text\n1,a\n3,c\n"


@pytest.fixture
def folder(tmp_path):
    """A folder with an input that has one bad row."""
    (tmp_path / "in.csv").write_text(ROWS)
    return tmp_path


def score(folder, output="out.csv", **options):
    """Score the input, leaving out bad rows."""
    models = options.pop("models", None) or HashModels()
    options = {"bad_rows": "reject"} | options
    return batch(folder / "in.csv", folder / output, models=models, **options)


FILES = [
    ("summary", "out.csv.summary.json", {}),
    ("summary", "notes.json", {"summary": "notes.json"}),
    ("rejects", "out.csv.rejects.csv", {}),
    ("rejects", "notes.txt", {"rejects": "notes.txt"}),
    ("report", "out.csv.report.html", {"report": True}),
    ("groups", "out.groups.csv", {"group_by": "id"}),
    (
        "disagreements",
        "g.csv",
        {"disagreements": "g.csv", "gold": "id", "gold_map": "1=POSITIVE,3=NEGATIVE"},
    ),
]


@pytest.mark.parametrize(
    ("role", "name", "options"), FILES, ids=[f"{role}:{name}" for role, name, _ in FILES]
)
def test_k02_a_foreign_file_is_refused_before_the_model_loads(
    folder, monkeypatch, role, name, options
):
    """Exit 2, nothing written, the file as it was; with --overwrite it is replaced."""
    monkeypatch.chdir(folder)
    (folder / name).write_text("precious")
    models = HashModels()
    with pytest.raises(
        UsageError, match=rf"{role} .*{name} exists already and is not a file of this output"
    ):
        score(folder, models=models, **options)
    assert (folder / name).read_text() == "precious"
    assert (models.opened, sorted(path.name for path in folder.iterdir())) == (
        0,
        sorted(["in.csv", name]),
    )
    score(folder, overwrite=True, **options)
    assert (folder / name).read_text() != "precious"


def test_k02_files_that_a_run_does_not_write_stay(folder):
    """A plain run neither removes nor refuses a page or rejects file that it has nothing to do
    with.
    """
    (folder / "in.csv").write_text(GOOD)
    for name in ("out.csv.report.html", "out.csv.rejects.csv", "out.csv.summary.failed.json"):
        (folder / name).write_text("precious")
    score(folder, bad_rows="error")
    score(folder, bad_rows="error", overwrite=True, prefix="x_")
    for name in ("out.csv.report.html", "out.csv.rejects.csv", "out.csv.summary.failed.json"):
        assert (folder / name).read_text() == "precious"


def test_the_files_of_an_earlier_run_are_its_outputs_own(folder):
    """The same command with --overwrite over a mended input replaces all of them, and removes stale
    rejects.
    """
    options = {"report": True, "group_by": "id"}
    score(folder, **options)
    page = (folder / "out.csv.report.html").read_bytes()
    (folder / "in.csv").write_text(GOOD)
    (folder / "out.csv").unlink()
    score(folder, **options)
    assert not (folder / "out.csv.rejects.csv").exists()
    assert (folder / "out.csv.report.html").read_bytes() != page


def test_rejects_that_were_edited_since_are_not_replaced(folder):
    """Somebody mended the rows in place: that work is not lost."""
    score(folder)
    (folder / "out.csv").unlink()
    with (folder / "out.csv.rejects.csv").open("a") as file:
        file.write("mine\n")
    with pytest.raises(UsageError, match="not a file of this output"):
        score(folder)


def test_the_summary_of_another_output_is_not_replaced(folder):
    """It is that output's mark of success."""
    score(folder, "one.csv", summary=str(folder / "s.json"))
    with pytest.raises(UsageError, match="not a file of this output"):
        score(folder, "two.csv", summary=str(folder / "s.json"))


def test_k03_two_runs_do_not_share_one_rejects_file(folder, monkeypatch):
    """The second run is clean, and the first one's rejects stay.

    While a run lasts the name is locked.
    """
    monkeypatch.chdir(folder)
    score(folder, "one.csv", rejects="r.csv")
    rejected = (folder / "r.csv").read_bytes()
    (folder / "in.csv").write_text(GOOD)
    with pytest.raises(UsageError, match=r"r\.csv exists already"):
        score(folder, "two.csv", rejects="r.csv")
    assert (folder / "r.csv").read_bytes() == rejected
    with held_lock(folder / "q.csv", 0), pytest.raises(Locked):
        score(folder, "three.csv", rejects="q.csv")


def test_a_file_that_appears_while_the_run_lasts_is_not_replaced(folder):
    """The names are looked at again before anything is committed; the work is kept."""

    class Slow(HashModels):
        def open(self):
            (folder / "out.csv.report.html").write_text("precious")
            return super().open()

    with pytest.raises(UsageError, match=r"report\.html exists already"):
        score(folder, report=True, models=Slow())
    assert (folder / "out.csv.report.html").read_text() == "precious"
    assert not (folder / "out.csv").exists()
    (folder / "out.csv.report.html").unlink()
    assert score(folder, report=True)["run"]["resumed_rows"] == 2


@pytest.mark.parametrize("kind", ["folder", "link", "file"])
def test_a_foreign_work_folder_is_refused(folder, kind):
    """OUT.batchsent that no run made is somebody's own, and so is what is in it."""
    work = folder / "out.csv.batchsent"
    if kind == "file":
        work.write_text("precious")
    else:
        made = folder / ("elsewhere" if kind == "link" else work.name)
        made.mkdir()
        (made / "thesis.txt").write_text("precious")
        if kind == "link":
            work.symlink_to("elsewhere")
    for options in ({}, {"restart": True}, {"overwrite": True}):
        with pytest.raises(UsageError, match="is not the work folder of a run"):
            score(folder, **options)
    kept = work if kind == "file" else work / "thesis.txt"
    assert kept.read_text() == "precious"


def test_a_kill_between_output_and_summary_leaves_files_that_are_known(folder):
    """Whichever file operation is the last, the same command again replaces its own half-finished
    set.
    """
    command = [
        "in.csv",
        "-o",
        "out.csv",
        "--bad-rows",
        "reject",
        "--report",
        "--group-by",
        "id",
        "-q",
    ]
    calm = folder / "calm"
    calm.mkdir()
    (calm / "in.csv").write_text(ROWS)
    assert run_child(command, calm)[0] == 3
    wanted = {
        name: (calm / name).read_bytes()
        for name in ("out.csv", "out.csv.rejects.csv", "out.groups.csv")
    }
    for number in range(1, 120):
        here = folder / str(number)
        here.mkdir()
        (here / "in.csv").write_text(ROWS)
        killed = run_child(command, here, env={"BATCHSENT_FAULT": f"*:{number}:kill"})[0] == -9
        code, stderr = run_child(command, here)
        assert code == 3, stderr
        assert {name: (here / name).read_bytes() for name in wanted} == wanted
        assert {path.name for path in here.iterdir()} == {path.name for path in calm.iterdir()}
        if not killed:
            break
    assert number > 30


def test_k10_a_redelivered_input_is_told_apart(folder):
    """The refusal says what the output was made from, how many rows there are now, and which flag
    scores it again.
    """
    (folder / "in.csv").write_text(GOOD)
    score(folder)
    (folder / "in.csv").write_text(GOOD + "4,d\n")
    with pytest.raises(UsageError) as caught:
        score(folder)
    assert "was made from an earlier" in caught.value.message
    assert "of 2 rows; it has 3 now" in caught.value.message
    assert caught.value.hint == "add --overwrite to score it again"
    assert score(folder, overwrite=True)["rows"]["read"] == 3
    with pytest.raises(UsageError, match=r"other options: --prefix was , now x_"):
        score(folder, prefix="x_")


def test_a_dry_run_refuses_what_the_run_would_refuse(folder):
    """And says of a finished output that there is nothing to do."""
    (folder / "out.csv.summary.json").write_text("precious")
    with pytest.raises(UsageError, match="not a file of this output"):
        score(folder, dry_run=True)
    (folder / "out.csv.summary.json").unlink()
    assert score(folder, dry_run=True)["up_to_date"] is False
    score(folder)
    assert score(folder, dry_run=True)["up_to_date"] is True


def test_a_foreign_summary_of_a_folder_is_refused(folder):
    """`batchsent.summary.json` in the output folder belongs to somebody else."""
    from batchsent.run.folder import batch_all

    (folder / "scored").mkdir()
    (folder / "scored" / "batchsent.summary.json").write_text(json.dumps({"mine": 1}))
    with pytest.raises(UsageError, match="is not a summary of batchsent"):
        batch_all(
            [str(folder / "in.csv")], f"{folder}/scored/", models=HashModels(), bad_rows="reject"
        )
    assert json.loads((folder / "scored" / "batchsent.summary.json").read_text()) == {"mine": 1}


def test_no_file_of_the_model_is_replaced(folder, tiny_model):
    """-o and --summary inside the model folder, whatever --overwrite says."""
    model = folder / "model"
    shutil.copytree(tiny_model, model)
    before = (model / "config.json").read_bytes()
    for output, options in (
        ("model/config.json", {"output_format": "csv"}),
        ("out.csv", {"summary": str(model / "config.json")}),
    ):
        with pytest.raises(UsageError, match="is a file of the model"):
            batch(
                folder / "in.csv",
                folder / output,
                model=str(model),
                bad_rows="reject",
                overwrite=True,
                **options,
            )
    assert (model / "config.json").read_bytes() == before


def test_a_page_of_another_run_is_not_replaced(folder):
    """`report -o` and `compare --html` replace pages of their own alone."""
    for name in ("one.csv", "two.csv"):
        score(folder, name, report=True)
    page = (folder / "two.csv.report.html").read_bytes()
    summaries = [str(folder / f"{name}.csv.summary.json") for name in ("one", "two")]
    with pytest.raises(UsageError, match="is the page of another run"):
        batchsent.report(summaries[0], folder / "two.csv.report.html")
    with pytest.raises(UsageError, match="is the page of another run"):
        batchsent.compare(*summaries, html=folder / "two.csv.report.html")
    assert (folder / "two.csv.report.html").read_bytes() == page
    batchsent.report(summaries[1], folder / "two.csv.report.html")
    for _ in range(2):
        batchsent.compare(*summaries, html=folder / "drift.html")


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_an_output_that_appears_while_the_run_works_is_kept(tmp_path, form):
    """Exit code 2, and the scores are kept: once it is moved away the run ends at once."""
    source, output = tmp_path / "in.csv", tmp_path / f"out.{form}"
    source.write_text("text\none\ntwo\n")
    with pytest.raises(UsageError, match="appeared while the run worked") as caught:
        batch(source, output, models=Meanwhile(lambda: output.write_text("mine")))
    assert caught.value.exit_code == 2
    assert output.read_text() == "mine"
    assert not (tmp_path / f"out.{form}.summary.json").exists()
    output.rename(tmp_path / "mine")
    summary = batch(source, output, models=HashModels())
    assert summary["run"]["resumed_rows"] == 2
    assert verify(source, output)["status"] == "same"


def test_overwrite_replaces_what_appears_too(tmp_path):
    """The user has said so."""
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("text\none\n")
    models = Meanwhile(lambda: output.write_text("mine"))
    batch(source, output, models=models, overwrite=True)
    assert verify(source, output)["status"] == "same"
