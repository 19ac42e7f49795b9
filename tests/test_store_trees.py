"""Trees of dumps in stores, in and out: the contract of a tree on the disk, on an S3 on loopback."""

import json
import os
import signal
from pathlib import Path

import pytest

from batchsent.errors import GateFailed, InputError, OutputError, UsageError
from batchsent.formats.dumps import find_dumps
from batchsent.formats.store_trees import StoreTree
from batchsent.reporting import Reporter
from batchsent.run.folder import batch_all
from batchsent.verification.fetched import fetch_output
from batchsent.verification.verify import verify
from tests.children import Child, wait_for
from tests.children import run as run_child
from tests.dump import make_input
from tests.hash_model import HashModels, Meanwhile
from tests.s3 import SECRET, Passing, objects, passing_on

NO_WAITS = (0.0, 0.0)
FILES = {"a.csv": "one", "sub/b.csv": "two", "sub/deep/c.csv": "three"}


@pytest.fixture
def bucket(s3, request, tmp_path, monkeypatch):
    """The URL of a folder of the store that is this test's own; the test runs in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return f"s3://dumps/{tmp_path.name}"


def put(s3, url, **files):
    """Put CSV files of one text each, by their names; `__` stands for a slash."""
    for name, text in files.items():
        put_bytes(s3, f"{url}/{name.replace('__', '/')}.csv", f"text\n{text}\n".encode())


def put_bytes(s3, url, data):
    bucket, _, key = url.removeprefix("s3://").partition("/")
    s3.put_object(Bucket=bucket, Key=key, Body=data)


def in_store(s3, url):
    return objects(s3, url.removeprefix("s3://dumps/").rstrip("/") + "/")


@pytest.fixture
def tree(s3, bucket):
    """The folder `in` of the bucket with files on three levels."""
    put(s3, f"{bucket}/in", a="one", sub__b="two", sub__deep__c="three")
    return f"{bucket}/in"


def score(inputs, output, **options):
    models = options.pop("models", None) or HashModels()
    inputs = [inputs] if isinstance(inputs, str) else inputs
    return batch_all(inputs, output, models=models, no_receipt=True, **options)


def statuses(document):
    return [file["status"] for file in document["files"]]


def inside(found):
    return [str(dump.inside) for dump in found.dumps]


def test_a_tree_in_a_store_is_scored_as_one_on_the_disk(s3, bucket):
    """From and to the disk and the store: the same bytes at the same places, the same counts; the
    second run has nothing to do, `verify` proves all, and nothing stays on this machine.
    """
    names = ["in.csv", "sub/in.parquet"]
    Path("in/sub").mkdir(parents=True)
    make_input(Path("in"), "csv")
    make_input(Path("in/sub"), "parquet")
    for name in (".hidden.csv", "_temporary/x.csv", "notes.md"):
        Path("in", name).parent.mkdir(exist_ok=True)
        Path("in", name).write_text("text\nx\n")
    for path in filter(Path.is_file, Path().rglob("*")):
        put_bytes(s3, f"{bucket}/{path}", path.read_bytes())
    put_bytes(s3, f"{bucket}/in/sub/", b"")  # as the console of S3 marks a folder
    plain = score("in", "plain/")
    for source, output in (
        (f"{bucket}/in", "fetched"),
        ("in", f"{bucket}/sent"),
        (f"{bucket}/in/", f"{bucket}/out/"),
    ):
        document = score(source, output)
        found = in_store(s3, output) if "://" in output else written_in(output)
        assert set(found) == set(written_in("plain")), output
        assert {name: found[name] for name in names} == {
            name: Path("plain", name).read_bytes() for name in names
        }
        assert json.loads(found["batchsent.summary.json"]) == document
        assert (document["rows"], document["left_out"]) == (plain["rows"], plain["left_out"])
        assert not [data for data in found.values() if SECRET.encode() in data]
    assert [file["output"] for file in document["files"]] == [f"{output}{name}" for name in names]
    assert statuses(score(source, output)) == ["up_to_date"] * 2
    verdict = verify(source, output)
    assert (verdict["status"], verdict["rows"]["written"]) == ("same", plain["rows"]["written"])
    assert [path for path in Path("cache").rglob("*") if path.is_file()] == []


def written_in(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in Path(folder).rglob("*")
        if path.is_file()
    }


PATTERNS = [
    ("in/**/*.csv", ["a.csv", "sub/b.csv", "sub/deep/c.csv"]),
    ("in/*.csv", ["a.csv"]),
    ("in/**/deep/*", ["sub/deep/c.csv"]),
    ("in/s*", ["sub/b.csv", "sub/deep/c.csv"]),
    ("in/sub/[bx].csv", ["b.csv"]),
    ("i*/**/c.csv", ["in/sub/deep/c.csv"]),
    ("in", ["a.csv", "sub/b.csv", "sub/deep/c.csv"]),
    ("in/sub/", ["b.csv", "deep/c.csv"]),
    ("in/sub/b.csv", ["b.csv"]),
]


@pytest.mark.parametrize(("named", "expected"), PATTERNS, ids=[p[0] for p in PATTERNS])
def test_folders_and_patterns_name_objects_as_they_name_files(bucket, tree, named, expected):
    found = find_dumps([f"{bucket}/{named}"])
    assert inside(found) == expected
    assert all(dump.path.startswith(f"{bucket}/in/") for dump in found.dumps)


def test_an_object_with_wildcards_in_its_name_is_that_object(s3, bucket):
    """`what[1].csv` needs no escape; nor do a question mark and colons."""
    put(s3, bucket, **{"what[1]": "x", "what1": "y", "is it?": "x", "a::b": "x"})
    assert inside(find_dumps([f"{bucket}/what[1].csv"])) == ["what[1].csv"]
    assert statuses(score(f"{bucket}/", "out")) == ["complete"] * 4
    assert Path("out/a::b.csv").read_text().startswith("text,label,score\nx,")


def test_names_that_no_file_can_have_are_failures(s3, bucket):
    """Objects may be called so: the others are scored, exit code 3, nothing outside the folder."""
    put(s3, f"{bucket}/in", a="x", __b="x", x____c="x", **{"..__d": "x", "e?versionId=1": "x"})
    put(s3, f"{bucket}/in", e="another object")
    Path("deep").mkdir()
    document = score(f"{bucket}/in/", "deep/out/")
    failed = [file["error"]["message"] for file in document["files"] if file["error"]]
    assert [f.removeprefix(f"{bucket}/in/").partition(" ")[0] for f in failed] == [
        "/",
        "../",
        "e?***",
        "x//",
    ]
    assert document["exit_code"] == 3
    assert sorted(name for name in written_in(".") if name.endswith(".csv")) == [
        "deep/out/a.csv",
        "deep/out/e.csv",
    ]


def test_the_output_folder_may_be_inside_the_input(s3, tree):
    """It is left out: the next run scores nothing twice. A dump in it is refused."""
    first = score(f"{tree}/**/*.csv", f"{tree}/scored/")
    assert first["left_out"]["own"] == 0
    again = score(f"{tree}/**/*.csv", f"{tree}/scored")
    assert statuses(again) == ["up_to_date"] * 3
    assert again["left_out"]["own"] == 1
    put(s3, tree, scored__mine="x")
    with pytest.raises(UsageError, match=r"scored is inside .*/in/ and holds .*/scored/mine\.csv"):
        score(f"{tree}/**/*.csv", f"{tree}/scored/")
    with pytest.raises(UsageError, match="is input and output"):
        score(tree, f"{tree}/")


def test_outputs_of_earlier_runs_are_no_dumps(s3, tree):
    """An output among the dumps is left out and counted; another object of its name is a dump."""
    score(f"{tree}/a.csv", f"{tree}/a scored.csv")
    found = find_dumps([tree])
    assert inside(found) == list(FILES)
    assert found.left_out["own"] == 1
    put(s3, tree, **{"a scored": "another dump of this name"})
    assert "a scored.csv" in inside(find_dumps([tree]))


def test_objects_that_are_not_ours_are_kept(s3, bucket, tree):
    """One in the place of an output makes its file a failure, and of the summary ends the run."""
    put(s3, bucket, out__sub__b="mine")
    document = score(f"{tree}/sub/", f"{bucket}/out/sub/")
    assert statuses(document) == ["failed", "complete"]
    assert "sub/b.csv exists already" in document["files"][0]["error"]["message"]
    assert in_store(s3, f"{bucket}/out")["sub/b.csv"] == b"text\nmine\n"
    document = score(f"{tree}/sub/", f"{bucket}/out/sub/", overwrite=True)
    assert statuses(document) == ["complete", "up_to_date"]
    put_bytes(s3, f"{bucket}/other/batchsent.summary.json", b"mine")
    models = HashModels()
    with pytest.raises(UsageError, match=r"other/batchsent\.summary\.json exists already"):
        score(tree, f"{bucket}/other/", models=models)
    assert models.opened == 0


REFUSED = [
    ("in/", "s3://no-such-bucket/out/", "there is no such bucket"),
    ("in/", "https://host/out/", "output https://host/out/: a web server is read"),
    ("in/", "{}/out.csv", "out.csv is the name of a file"),
    ("empty/", "out/", "there is no file to score in {}/empty/"),
    ("in/*.parquet", "out/", "no file matches {}/in/*.parquet"),
    ("*.csv", "out/", "no file matches {}/*.csv"),
]


@pytest.mark.parametrize(("source", "output", "message"), REFUSED, ids=[r[2] for r in REFUSED])
def test_what_cannot_be_meant_is_refused_at_once(bucket, tree, source, output, message):
    models = HashModels()
    with pytest.raises(UsageError) as caught:
        score(f"{bucket}/{source}", output.format(bucket), models=models)
    assert message.format(bucket) in caught.value.message
    assert models.opened == 0
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("url", ["s3://no-such-bucket/in/", "s3://dumps/no such folder"])
def test_a_folder_that_is_not_there_is_said(s3, bucket, url):
    with pytest.raises(InputError, match=f"{url}: it is not there") as caught:
        score(url, "out/")
    assert "check the spelling" in caught.value.hint


def test_a_folder_without_its_slash_is_told_from_an_object(s3, bucket):
    """Spark calls a folder reviews.csv: what to type is said."""
    put(s3, f"{bucket}/reviews.csv", part="x")
    with pytest.raises(UsageError) as caught:
        score(f"{bucket}/reviews.csv", "out.csv")
    assert caught.value.message == f"{bucket}/reviews.csv is a folder"
    assert "end its name with /" in caught.value.hint
    assert statuses(score(f"{bucket}/reviews.csv/", "out")) == ["complete"]


class AtTheEnd(Reporter):
    """Keeps what is said; once the last file is finished, something happens to the dumps."""

    def __init__(self, last, happens):
        self.last, self.happens, self.said = last, happens, []

    def file_finished(self, document, name):
        if name.endswith(self.last):
            self.happens()

    def warning(self, text, **facts):
        self.said.append(text)


def delete(s3, url):
    s3.delete_object(Bucket="dumps", Key=url.removeprefix("s3://dumps/"))


def test_an_object_that_vanishes_before_it_is_read_is_a_failure(s3, bucket, tree):
    """Listed, and gone when its turn comes: the others are scored, exit code 3."""
    models = Meanwhile(lambda: delete(s3, f"{tree}/sub/b.csv"))
    document = score(tree, f"{bucket}/out", models=models)
    assert statuses(document) == ["complete", "failed", "complete"]
    assert "sub/b.csv: it is not there" in document["files"][1]["error"]["message"]
    assert document["exit_code"] == 3


def test_objects_that_change_after_they_were_scored_are_reported(s3, bucket, tree):
    """Also where they were named one by one: their outputs stay, exit code 3."""

    def happens():
        delete(s3, f"{tree}/a.csv")
        put(s3, tree, sub__b="owt", sub__deep__c="three and more")

    reporter = AtTheEnd("c.csv", happens)
    urls = [f"{tree}/{name}" for name in FILES]
    document = score(urls, f"{bucket}/out/", reporter=reporter)
    assert [file["change"] for file in document["files"]] == ["vanished", "changed", "grew"]
    assert (document["exit_code"], document["status"]) == (3, "complete_with_errors")
    assert f"{tree}/a.csv vanished after it was scored" in reporter.said[0]
    assert len([name for name in in_store(s3, f"{bucket}/out") if name.endswith(".csv")]) == 3


def test_a_run_that_was_killed_in_the_tree_is_resumed(s3, bucket, tree):
    """SIGKILL in the second file: the same bytes as without it, the first file is not done again."""
    put_bytes(s3, f"{tree}/sub/b.csv", b"text\n" + b"".join(b"review %d\n" % n for n in range(40)))
    score(tree, "whole", chunk_rows=4)
    output = f"{bucket}/out"
    command = [tree, "-o", f"{output}/", "--chunk-rows", "4", "--work-folder", "work"]
    command.append("--no-receipt")
    environment = {name: os.environ[name] for name in os.environ if name.startswith("AWS_")}
    child = Child(command, Path(), batch_s=0.1, env=environment)
    wait_for(lambda: list(Path("work").glob("*/b.csv.batchsent/part-*")))
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -9
    first = in_store(s3, output)
    assert sorted(first) == ["a.csv", "a.csv.summary.json"]
    code, stderr = run_child(command, Path(), env=environment)
    assert code == 0, stderr
    assert "resuming an earlier run" in stderr
    found = in_store(s3, output)
    assert found["a.csv.summary.json"] == first["a.csv.summary.json"]
    assert {name: found[name] for name in FILES} == {
        name: Path("whole", name).read_bytes() for name in FILES
    }
    assert list(Path("work").iterdir()) == []


def test_an_output_without_its_summary_is_taken_for_a_runs_own(s3, tree):
    """SIGKILL between the two uploads, into a folder inside the input: the same command goes on."""
    command = [tree, "-o", f"{tree}/out/", "--work-folder", "work"]
    environment = {name: os.environ[name] for name in os.environ if name.startswith("AWS_")}
    code, stderr = run_child(
        command, Path(), env=environment | {"BATCHSENT_FAULT": "uploaded:1:kill"}
    )
    assert code == -9, stderr
    assert list(in_store(s3, f"{tree}/out")) == ["a.csv"]
    code, stderr = run_child(command, Path(), env=environment)
    assert code == 0, stderr
    assert verify(tree, f"{tree}/out")["status"] == "same"


def test_a_dry_run_writes_nothing(s3, bucket, tree):
    assert statuses(score(tree, f"{bucket}/out", dry_run=True)) == ["dry_run"] * 3
    assert in_store(s3, f"{bucket}/out") == {}
    assert not Path("cache/batchsent/work").exists() or not list(
        Path("cache/batchsent/work").iterdir()
    )


def test_a_listing_that_is_lost_is_asked_for_again(s3, tree, monkeypatch):
    """Three attempts; then it is an error, without a key in it."""

    class FirstListingsRefused(Passing):
        left = 2

        def refuses(self):
            refused = "list-type=2" in self.path and type(self).left > 0
            type(self).left -= refused
            return refused

    with passing_on(FirstListingsRefused, monkeypatch):
        found = StoreTree(tree, waits_s=NO_WAITS).entries(Path("sub"))
        assert [entry.name for entry in found] == ["b.csv", "deep"]
    with (
        passing_on(type("Never", (FirstListingsRefused,), {"left": 99}), monkeypatch),
        pytest.raises(InputError, match=r"/in/: .*\(3 attempts\)") as caught,
    ):
        StoreTree(tree, waits_s=NO_WAITS).entries(Path())
    assert SECRET not in str(caught.value)


def test_verify_of_a_tree_finds_what_is_wrong(s3, bucket):
    """Exit code 8; the file is named by its URL, and the others are looked at all the same."""
    put(s3, f"{bucket}/in", a="one", sub__b="two")
    score(f"{bucket}/in/", f"{bucket}/out")
    for name, data, said in (
        ("in/new.csv", b"text\nx\n", "new.csv has no output"),
        ("out/batchsent.summary.json", b"{}", "/out/batchsent.summary.json is damaged"),
        ("out/a.csv.summary.json", b"{", "/out/a.csv.summary.json is not JSON"),
        ("out/sub/b.csv", b"text,label,score\nowt,POSITIVE,0.5\n", "/out/sub/b.csv is not what it"),
    ):
        before = in_store(s3, bucket).get(name)
        put_bytes(s3, f"{bucket}/{name}", data)
        with pytest.raises(GateFailed, match=f"{bucket}.*{said}") as caught:
            verify(f"{bucket}/in/", f"{bucket}/out/")
        assert len(caught.value.document["files"]) == 3 - (name != "in/new.csv")
        if before is None:
            delete(s3, f"{bucket}/{name}")
        else:
            put_bytes(s3, f"{bucket}/{name}", before)


def test_a_store_that_does_not_answer_fails_what_is_read(bucket, monkeypatch):
    """To `verify` an output is an input: exit code 4 and not 5."""
    with (
        passing_on(type("Never", (Passing,), {"refuses": lambda self: True}), monkeypatch),
        pytest.raises(InputError, match=r"/out\.csv\.summary\.json: .*\(3 attempts"),
    ):
        fetch_output(f"{bucket}/out.csv", Path(), waits_s=NO_WAITS)


def test_several_files_into_a_store_are_not_for_a_cluster(bucket, tree):
    """The nodes could not share the kept work: refused before anything runs."""
    pytest.importorskip("ray", reason="ray is not installed")
    models = HashModels()
    with pytest.raises(UsageError, match="into a folder that all nodes share"):
        score(tree, f"{bucket}/out/", engine="ray", models=models)
    assert models.opened == 0


def test_an_output_that_may_not_be_written_says_so_of_the_output(bucket, tree, monkeypatch):
    """The keys that are missing are named; nothing is said of public buckets, which are read."""
    from s3fs import S3FileSystem

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    Path("in.csv").write_text("text\nx\n")
    S3FileSystem.clear_instance_cache()
    with pytest.raises(OutputError, match="no access") as caught:
        score("in.csv", f"{bucket}/out/")
    S3FileSystem.clear_instance_cache()
    assert caught.value.hint.startswith("set AWS_PROFILE")
    assert "public" not in caught.value.hint


def test_a_full_disk_names_the_option_for_another_one(bucket, monkeypatch):
    """What goes into a store is written on this machine first."""
    Path("in.csv").write_text("text\nx\n")
    code, stderr = run_child(
        ["in.csv", "-o", f"{bucket}/out.csv", "--work-folder", "work"],
        Path(),
        env={name: os.environ[name] for name in os.environ if name.startswith("AWS_")}
        | {"BATCHSENT_FAULT": "write:1:enospc"},
    )
    assert code == 5
    assert "--work-folder" in stderr
    assert "another disk with -o" not in stderr


def test_a_name_may_be_of_an_object_and_of_a_folder(s3, bucket):
    """Programs write such marks of folders: what is in the folder is scored, not lost."""
    put(s3, f"{bucket}/in", a="one", data__b="two")
    put_bytes(s3, f"{bucket}/in/data", b"")
    document = score(f"{bucket}/in/", "out/")
    assert [file["input"] for file in document["files"]] == [
        f"{bucket}/in/a.csv",
        f"{bucket}/in/data/b.csv",
    ]
    assert document["left_out"]["other_formats"] == 1
    put_bytes(s3, f"{bucket}/in/a.csv/d.csv", b"text\nthree\n")
    with pytest.raises(UsageError, match=r"a\.csv"):
        score(f"{bucket}/in/", "other/")
    assert not Path("other").exists()
