"""Trees of dumps: read to the bottom, mirrored, nothing of them lost in silence."""

import json
import os
import shutil
import signal
import subprocess
from importlib import resources
from pathlib import Path

import jsonschema
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchsent.errors import GateFailed, UsageError
from batchsent.formats.dumps import find_dumps
from batchsent.reporting import Reporter
from batchsent.run.folder import batch_all
from batchsent.verification.verify import verify
from tests.children import Child, wait_for
from tests.children import run as run_child
from tests.hash_model import HashModels, Meanwhile


def put(root, **files):
    """Write CSV files; `__` in a name stands for a slash, and for the dot before its suffix."""
    for name, text in files.items():
        path = root / (name.replace("__", "/") + ".csv")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text\n{text}\n")


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """The folder `dump` with files on three levels; the tests run beside it."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "dump"
    put(root, a="one", sub__b="two", sub__deep__c="three")
    return root


def score(inputs, output="scored", **options):
    models = options.pop("models", None) or HashModels()
    return batch_all([str(i) for i in inputs], str(output), models=models, **options)


def scored_in(folder):
    """The outputs below a folder, without the files beside them."""
    return sorted(
        str(path.relative_to(folder))
        for path in Path(folder).rglob("*")
        if path.is_file() and path.suffix in {".csv", ".parquet"}
    )


def inside(found):
    return [str(dump.inside) for dump in found.dumps]


def test_a_tree_is_mirrored(tree):
    """Each file is scored to the same place below the output, with a summary beside it."""
    document = score([tree])
    assert document["exit_code"] == 0
    assert scored_in("scored") == ["a.csv", "sub/b.csv", "sub/deep/c.csv"]
    assert Path("scored/sub/deep/c.csv.summary.json").is_file()
    assert document["rows"]["written"] == 3
    assert json.loads(Path("scored/batchsent.summary.json").read_bytes()) == document
    again = score([tree])
    assert {file["status"] for file in again["files"]} == {"up_to_date"}


def test_a_tree_reuses_the_outputs_at_the_same_places(tree):
    """Of last night's tree each file reuses the one that has its name and its folders."""
    score([tree], "old")
    put(tree, sub__deep__c="new")
    assert score([tree], "new", reuse=("old",))["reuse"]["reused_rows"] == 2


def test_hive_partitions_are_folders(tree):
    """year=2024/part-0.parquet keeps its place; no column comes from the name of a folder."""
    for year in ("2023", "2024"):
        (tree / f"year={year}").mkdir()
        pq.write_table(pa.table({"text": [year]}), tree / f"year={year}" / "part-0.parquet")
    score([tree])
    table = pq.ParquetFile("scored/year=2024/part-0.parquet").read()
    assert table.column_names == ["text", "label", "score"]
    assert table["text"].to_pylist() == ["2024"]


PATTERNS = [
    ("dump/**/*.csv", ["a.csv", "sub/b.csv", "sub/deep/c.csv"]),
    ("dump/*.csv", ["a.csv"]),
    ("dump/*/*.csv", ["sub/b.csv"]),
    ("dump/**/deep/*", ["sub/deep/c.csv"]),
    ("dump/s*", ["sub/b.csv", "sub/deep/c.csv"]),
    ("dump/**", ["a.csv", "sub/b.csv", "sub/deep/c.csv"]),
    ("dump/sub/[bx].c?v", ["b.csv"]),
    ("**/c.csv", ["dump/sub/deep/c.csv"]),
    ("d*/**/**/c.csv", ["dump/sub/deep/c.csv"]),
]


@pytest.mark.parametrize(("pattern", "expected"), PATTERNS, ids=[p[0] for p in PATTERNS])
def test_a_quoted_pattern_is_expanded(tree, pattern, expected):
    """What stands before its first wildcard is the folder that is mirrored."""
    assert inside(find_dumps([pattern])) == expected


def test_a_pattern_that_nothing_matches_is_refused(tree):
    """Though another input is there: it is most likely misspelt."""
    with pytest.raises(UsageError, match=r"no file matches dumb/\*\.csv"):
        score([tree, "dumb/*.csv"])
    assert not Path("scored").exists()


def test_a_file_with_wildcards_in_its_name_is_that_file(tree):
    """`what[1]?.csv` needs no escape where there is such a file."""
    put(Path(), **{"what[1]?": "x"})
    score(["what[1]?.csv"], "out.csv")
    assert Path("out.csv").is_file()


def test_a_pattern_takes_any_suffix_where_the_format_is_given(tree):
    """'*.dat' names its files; a folder does not."""
    (tree / "x.dat").write_text("text\nx\n")
    found = find_dumps(["dump/*.dat"], input_format="csv")
    assert inside(found) == ["x.dat"]
    assert "x.dat" not in inside(find_dumps(["dump"], input_format="csv"))


def test_what_is_left_out_is_counted(tree):
    """Hidden files and folders, other formats, pipes: in the summary and on stderr."""
    put(tree, **{".hidden": "x", ".git__x": "x", "_temporary__0__part": "x"})
    (tree / "sub" / "_SUCCESS").touch()
    os.mkfifo(tree / "sub" / "p.csv")
    code, stderr = run_child(["dump", "-o", "scored"], tree.parent)
    assert code == 0
    document = json.loads(Path("scored/batchsent.summary.json").read_bytes())
    assert document["left_out"] == {
        "not_files": 1,
        "linked_folders": 0,
        "other_formats": 1,
        "hidden": 3,
        "own": 0,
    }
    assert "warning: left out pipes and devices: 1 (dump/sub/p.csv)" in stderr
    assert "hidden: 3 (dump/.git, dump/.hidden.csv, dump/_temporary)" in stderr
    assert len(document["files"]) == 3


def test_links_to_folders_are_not_followed(tree):
    """In a circle, twice to the same files, or out of the tree: counted and told."""
    put(tree.parent, outside__x="x")
    (tree / "circle").symlink_to(".")
    (tree / "sub" / "up").symlink_to("..")
    (tree / "twice").symlink_to("sub")
    (tree / "out").symlink_to("../outside")
    (tree / "self").symlink_to("self")
    found = find_dumps([str(tree)])
    assert inside(found) == ["a.csv", "sub/b.csv", "sub/deep/c.csv"]
    assert found.left_out == {"linked_folders": 4, "other_formats": 1}
    assert inside(find_dumps(["dump/*/*.csv"])) == ["sub/b.csv"]


def test_a_link_to_a_file_is_read(tree):
    """As in a cache of the Hub; a link to nothing, or to itself, is a file that failed."""
    put(tree.parent, outside="linked")
    (tree / "sub" / "l.csv").symlink_to("../../outside.csv")
    (tree / "self.csv").symlink_to("self.csv")
    document = score([tree])
    assert "linked" in Path("scored/sub/l.csv").read_text()
    failed = [file for file in document["files"] if file["status"] == "failed"]
    assert [file["input"] for file in failed] == [f"{tree}/self.csv"]
    assert document["exit_code"] == 3


def test_the_output_folder_may_be_inside_the_input(tree):
    """It is left out, whatever runs have put there: the next run scores nothing twice."""
    os.chdir(tree)
    put(Path(), bad="x")
    Path("bad.csv").write_text("id,text\n1\n2,x\n")
    options = {"bad_rows": "reject", "group_by": "text"}
    first = score(["."], **options)
    assert first["exit_code"] == 3
    assert first["left_out"]["own"] == 0
    again = score(["."], **options)
    assert [file["input"] for file in again["files"]] == [f["input"] for f in first["files"]]
    assert {file["status"] for file in again["files"]} == {"up_to_date"}
    assert again["left_out"]["own"] == 1
    assert "scored/scored" not in str(list(Path().rglob("*")))


def test_an_output_folder_inside_the_input_holds_no_dumps(tree):
    """They would be left out in silence: refused before anything is written."""
    before = sorted(tree.rglob("*"))
    with pytest.raises(
        UsageError, match=r"sub is inside .*dump and holds files .* sub/b.csv|sub/b"
    ):
        score([tree], tree / "sub")
    assert sorted(tree.rglob("*")) == before


def test_outputs_of_earlier_runs_are_no_dumps(tree):
    """An output among the dumps, its rejects and its work folder are left out and counted.

    Another file under its name is a dump.
    """
    (tree / "a.csv").write_text("id,text\n1\n2,x\n")
    score([tree / "a.csv"], tree / "a scored\n.csv", bad_rows="reject")
    (tree / "x.csv.batchsent").mkdir()
    found = find_dumps([str(tree)])
    assert inside(found) == ["a.csv", "sub/b.csv", "sub/deep/c.csv"]
    assert found.left_out["own"] == 3
    assert inside(find_dumps([str(tree)], prefix="again_")) == inside(found)
    (tree / "a scored\n.csv").write_text("text\nanother dump of this name\n")
    assert "a scored\n.csv" in inside(find_dumps([str(tree)]))


def test_an_output_folder_can_be_scored_once_more(tree):
    """With another prefix, sub-folders and all; with the same there is nothing to score."""
    score([tree])
    with pytest.raises(UsageError, match=r"no file to score in scored: .* of earlier runs: 3"):
        score(["scored"], "twice")
    assert score(["scored"], "twice", prefix="again_")["exit_code"] == 0
    assert b"label,score,again_label" in Path("twice/sub/deep/c.csv").read_bytes()
    assert verify("scored", "twice")["status"] == "same"


def test_an_output_is_never_an_input(tree):
    """`-o .` puts nothing in the place of a dump, and makes no dump for the next run."""
    put(tree, dump__a="x")
    with pytest.raises(UsageError, match=r"would be both the output of .* and the input"):
        score(["dump"], ".")


def test_names_that_differ_in_case_or_suffix_are_two_files(tree):
    """A.csv, a.csv and a.parquet each have an output; --output-format cannot keep two apart."""
    put(tree, A="big")
    pq.write_table(pa.table({"text": ["p"]}), tree / "a.parquet")
    assert score([tree])["exit_code"] == 0
    texts = {name: Path("scored", name).read_bytes() for name in ("A.csv", "a.csv", "a.parquet")}
    assert b"big" in texts["A.csv"]
    assert b"one" in texts["a.csv"]
    assert texts["a.parquet"][:4] == b"PAR1"
    with pytest.raises(UsageError, match=r"would both become other/a\.csv"):
        score([tree], "other", output_format="csv")
    assert not Path("other").exists()


def test_an_output_and_a_folder_of_one_name_are_refused(tree):
    """Spark calls a folder reviews.parquet; reviews.csv with --output-format parquet is a file."""
    put(tree, reviews="x")
    (tree / "reviews.parquet").mkdir()
    pq.write_table(pa.table({"text": ["p"]}), tree / "reviews.parquet" / "part-0.parquet")
    assert score([tree])["exit_code"] == 0
    with pytest.raises(UsageError, match="and a folder with the output of"):
        score([tree], "other", output_format="parquet")


def test_two_outputs_that_are_one_file_lose_nothing(tree):
    """A link among the outputs, as on a file system that ignores case: the second file failed."""
    put(tree, b="other")
    Path("scored").mkdir()
    Path("scored/b.csv").symlink_to("a.csv")
    document = score([tree], overwrite=True)
    assert [file["status"] for file in document["files"]][:2] == ["complete", "failed"]
    assert "is the same file as scored/a.csv" in document["files"][1]["error"]["message"]
    assert "one" in Path("scored/a.csv").read_text()


ODD = [
    "with space",
    "line\nbreak",
    "quote'\"",
    os.fsdecode(b"latin-\xe9"),
    "-o",
    "ünïcode",
    "*",
    "a[b]",
]


def test_odd_names_keep_their_place(tree):
    """Files and folders with any bytes in their names; what is shown of them is printable."""
    for name in ODD:
        (tree / name).mkdir()
        (tree / name / f"{name}.csv").write_text("text\nodd\n")
    document = score([tree])
    assert document["exit_code"] == 0
    for name in ODD:
        assert (Path("scored") / name / f"{name}.csv").is_file()
    assert all(file["output"].isprintable() for file in document["files"])
    assert {file["status"] for file in score([tree])["files"]} == {"up_to_date"}


def test_a_folder_that_cannot_be_read_is_a_failure(tree):
    """Its name is too long for the system here: it is reported, the rest is scored, exit code 3."""
    folder = os.open(tree / "sub", os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=folder)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)
    document = score([tree])
    assert document["exit_code"] == 3
    assert scored_in("scored") == ["a.csv", "sub/b.csv", "sub/deep/c.csv"]
    (failed,) = [file for file in document["files"] if file["status"] == "failed"]
    assert "the folder cannot be read: file name too long" in failed["error"]["message"]
    validate(document)
    shutil.rmtree(tree / "sub")


def validate(document):
    schema = resources.files("batchsent.run").joinpath("folder.schema.json").read_bytes()
    jsonschema.Draft202012Validator(json.loads(schema)).validate(json.loads(json.dumps(document)))


def test_a_file_that_vanishes_before_it_is_read_is_a_failure(tree):
    """Listed, and gone when its turn comes: the others are scored, exit code 3."""
    document = score([tree], models=Meanwhile((tree / "sub" / "b.csv").unlink))
    assert [file["status"] for file in document["files"]] == ["complete", "failed", "complete"]
    assert "no such file" in document["files"][1]["error"]["message"]
    assert document["exit_code"] == 3
    assert not Path("scored/sub/b.csv").exists()


def test_a_folder_that_vanishes_leaves_none_behind(tree):
    """No empty folder among the outputs."""
    document = score([tree], models=Meanwhile(lambda: shutil.rmtree(tree / "sub")))
    assert document["exit_code"] == 3
    assert not Path("scored/sub").exists()


def after_scoring(path, happens):
    """A reporter that lets something happen to a dump once its output is finished."""

    class Watching(Reporter):
        def __init__(self):
            self.said = []

        def file_finished(self, document, name):
            if name.endswith(path):
                happens()

        def warning(self, text, **facts):
            self.said.append(text)

    return Watching()


CHANGES = {
    "grew": lambda path: os.truncate(path, path.stat().st_size + 10),
    "vanished": lambda path: path.unlink(),
    "changed": lambda path: os.truncate(path, 5),
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_a_file_that_changes_after_it_was_scored_is_reported(tree, change):
    """Its output stays, the summary names it, stderr too, exit code 3."""
    reporter = after_scoring("a.csv", lambda: CHANGES[change](tree / "a.csv"))
    document = score([tree], reporter=reporter)
    assert [file["change"] for file in document["files"]] == [change, None, None]
    assert (document["exit_code"], document["status"]) == (3, "complete_with_errors")
    assert any(f"a.csv {change} after it was scored" in said for said in reporter.said)
    assert "one" in Path("scored/a.csv").read_text()
    validate(document)


def test_a_file_that_grows_while_it_is_scored_has_no_output(tree):
    """It failed, in words; its neighbours are scored."""
    document = score([tree], models=Meanwhile(lambda: CHANGES["grew"](tree / "a.csv")))
    assert [file["status"] for file in document["files"]] == ["failed", "complete", "complete"]
    assert "changed while it was read" in document["files"][0]["error"]["message"]
    assert scored_in("scored") == ["sub/b.csv", "sub/deep/c.csv"]


def test_a_run_that_was_killed_in_the_tree_is_resumed(tree):
    """SIGKILL in the second file: the same bytes as without it, the first file is not done again."""
    (tree / "sub" / "b.csv").write_text("text\n" + "".join(f"review {n}\n" for n in range(40)))
    score([tree], "whole", chunk_rows=4)
    command = ["dump", "-o", "scored", "--chunk-rows", "4"]
    child = Child(command, tree.parent, batch_s=0.1)
    wait_for(lambda: list(Path().glob("scored/sub/*.batchsent/part-*")))
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -9
    first = Path("scored/a.csv").stat().st_mtime_ns
    assert not Path("scored/sub/b.csv").exists()
    code, stderr = run_child(command, tree.parent)
    assert code == 0, stderr
    assert "resuming an earlier run" in stderr
    assert Path("scored/a.csv").stat().st_mtime_ns == first
    assert scored_in("scored") == scored_in("whole")
    for name in scored_in("whole"):
        assert Path("scored", name).read_bytes() == Path("whole", name).read_bytes()


def test_a_signal_while_a_file_gets_its_name_stops_the_next_one(tree):
    """The file is finished, with its summary; the others wait for the same command."""
    code, _ = run_child(
        ["dump", "-o", "scored"], tree.parent, env={"BATCHSENT_FAULT": "rename:4:terminate"}
    )
    assert code == 143
    assert scored_in("scored") == ["a.csv"]
    assert Path("scored/a.csv.summary.json").is_file()
    assert not list(Path("scored").glob("*.failed.json"))


def test_a_dry_run_over_a_tree_leaves_no_folder(tree):
    """Nor does a bad file leave an empty one."""
    assert score([tree], dry_run=True)["exit_code"] == 0
    assert not Path("scored").exists()
    (tree / "sub" / "deep" / "c.csv").write_text("id,text\n1\n")
    assert score([tree])["exit_code"] == 3
    assert not Path("scored/sub/deep").exists()


def test_a_tree_without_dumps_says_what_is_there(tree):
    """Empty, or all of other formats."""
    (tree.parent / "empty" / "x").mkdir(parents=True)
    (tree.parent / "empty" / "x" / "notes.md").touch()
    with pytest.raises(UsageError, match=r"no file to score in empty: .* \(empty/x/notes.md\)"):
        score(["empty"])


def verdict_of_command(fork_server, folder, *arguments):
    """Run `batchsent verify`; return its exit code, stdout and stderr."""
    done = subprocess.run(
        [fork_server.python, "-m", "batchsent", "verify", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_verify_goes_through_the_tree(fork_server, tree):
    """Every file is proven; the verdict counts the rows of all."""
    score([tree], output_format="parquet", prefix="pred_")
    code, stdout, stderr = verdict_of_command(fork_server, tree.parent, "dump", "scored")
    assert code == 0, stderr
    assert stdout.startswith("scored is dump, scored: 3 files")
    verdict = verify("dump/**/*.csv", "scored")
    assert (verdict["status"], verdict["rows"]["written"]) == ("same", 3)
    assert [file["status"] for file in verdict["files"]] == ["same"] * 3
    assert verify("dump/a.csv", "scored", output_format="parquet")["rows"]["written"] == 1


DAMAGE = {
    "a row changed": (
        lambda: Path("scored/sub/b.csv").write_bytes(
            Path("scored/sub/b.csv").read_bytes().replace(b"two", b"owt")
        ),
        "scored/sub/b.csv is not what it should be",
    ),
    "an output is missing": (Path("scored/sub/deep/c.csv").unlink, "c.csv has no output"),
    "a new dump": (lambda: put(Path("dump"), sub__new="x"), "new.csv has no output"),
    "a dump grew": (
        lambda: Path("dump/a.csv").write_text("text\none\nmore\n"),
        "scored/a.csv is not what it should be",
    ),
    "a summary is damaged": (
        lambda: Path("scored/a.csv.summary.json").write_text("{"),
        "a.csv.summary.json",
    ),
    "the whole claims other rows": (
        lambda: Path("scored/batchsent.summary.json").write_text(
            Path("scored/batchsent.summary.json").read_text().replace('"read": 3', '"read": 4')
        ),
        "batchsent.summary.json claims the rows",
    ),
}


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_verify_of_a_tree_finds(tree, damage):
    """Exit code 8, the file is named, the others are looked at all the same."""
    score([tree])
    assert verify("dump", "scored")["status"] == "same"
    happens, message = DAMAGE[damage]
    happens()
    with pytest.raises(GateFailed, match=message) as caught:
        verify("dump", "scored")
    assert len(caught.value.document["files"]) >= 3
    assert caught.value.exit_code == 8


def test_verify_names_outputs_of_no_input(tree):
    """Their dump is gone: nothing is known of them."""
    score([tree])
    (tree / "a.csv").unlink()
    (said,) = verify("dump", "scored")["unchecked"]
    assert said == "1 outputs that are of no file of the input: scored/a.csv"


def test_verify_of_several_needs_a_folder(tree):
    """A folder against a file, and names for one file, are refused."""
    score([tree])
    with pytest.raises(UsageError, match="is no folder"):
        verify("dump", "scored/a.csv")
    with pytest.raises(UsageError, match="name one file"):
        verify("dump", "scored", summary="scored/a.csv.summary.json")


def test_notes_beside_dumps_are_no_dumps(tmp_path):
    """A .txt file in a folder is left out and named; a pattern that names .txt takes it."""
    folder = tmp_path / "dumps"
    folder.mkdir()
    (folder / "a.csv").write_text("text\ngood\n")
    (folder / "notes.txt").write_text("ask bob\n")
    (folder / "more.txt.gz").write_bytes(b"")
    found = find_dumps([str(folder)])
    assert [dump.inside.name for dump in found.dumps] == ["a.csv"]
    assert [Path(name).name for name in found.names["other_formats"]] == [
        "more.txt.gz",
        "notes.txt",
    ]
    named = find_dumps([f"{folder}/*.txt"])
    assert [dump.inside.name for dump in named.dumps] == ["notes.txt"]
