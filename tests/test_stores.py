"""Inputs and outputs in stores: an S3 and a Hub on loopback, by the libraries that users have."""

import asyncio
import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from batchsent.commands.batch import batch
from batchsent.errors import GateFailed, InputError, OutputError, UsageError
from batchsent.formats.objects import ObjectBytes, RangedFile, find_object
from batchsent.formats.store_objects import BLOCK_BYTES
from batchsent.formats.store_outputs import OutputObject
from batchsent.verification.verify import verify
from tests.children import run as run_child
from tests.dump import make_input
from tests.hash_model import HashModels
from tests.hub import Hub
from tests.s3 import SECRET, Passing, objects, passing_on

NO_WAITS = (0.0, 0.0)


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_the_output_of_an_object_is_that_of_the_file(s3, tmp_path, form):
    """Byte for byte; the second run has nothing to do, and `verify` proves the output."""
    local = make_input(tmp_path, form)
    s3.put_object(Bucket="dumps", Key=f"a folder/in.{form}", Body=local.read_bytes())
    url = f"s3://dumps/a folder/in.{form}"
    outputs = [tmp_path / f"local.{form}", tmp_path / f"remote.{form}"]
    for source, output in zip([local, url], outputs, strict=True):
        batch(str(source), str(output), models=HashModels(), no_receipt=True)
    assert outputs[1].read_bytes() == outputs[0].read_bytes()
    again = batch(url, str(outputs[1]), models=HashModels(), no_receipt=True)
    assert again["status"] == "up_to_date"
    assert verify(url, str(outputs[1]))["status"] == "same"


def test_a_large_object_is_read_in_several_requests(s3):
    """Its bytes are those that were put there."""
    data = os.urandom(BLOCK_BYTES * 2 + 12_345)
    s3.put_object(Bucket="dumps", Key="large", Body=data)
    with ObjectBytes(find_object("s3://dumps/large"), NO_WAITS) as stored:
        assert b"".join(iter(lambda: stored.read(1 << 20), b"")) == data
    with RangedFile(find_object("s3://dumps/large"), NO_WAITS) as file:
        file.seek(-20_000, os.SEEK_END)
        assert file.read() == data[-20_000:]


def test_an_object_that_is_replaced_while_it_is_read_is_an_error(s3):
    s3.put_object(Bucket="dumps", Key="moving", Body=b"a" * 1_000_000)
    with ObjectBytes(find_object("s3://dumps/moving"), NO_WAITS) as stored:
        stored.read(1000)
        s3.put_object(Bucket="dumps", Key="moving", Body=b"b" * 1_000_000)
        with pytest.raises(InputError, match="s3://dumps/moving was changed while it was read"):
            list(iter(lambda: stored.read(1 << 20), b""))


@pytest.mark.parametrize("url", ["s3://dumps/missing.csv", "s3://no-such-bucket/a.csv"])
def test_what_is_not_there_is_said(s3, url):
    with pytest.raises(InputError, match=f"{url}: it is not there") as caught:
        find_object(url).connect()
    assert caught.value.hint.startswith("check the spelling; if it is private, set AWS_PROFILE")


def test_a_public_bucket_is_read_without_keys_as_the_hint_says(s3, monkeypatch):
    """Without keys and without FSSPEC_S3_ANON it is said what to set."""
    from s3fs import S3FileSystem

    s3.put_object(Bucket="dumps", Key="public.csv", Body=b"text\nfine\n", ACL="public-read")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    code = (
        "from batchsent.formats.objects import ObjectBytes, find_object; "
        "print(ObjectBytes(find_object('s3://dumps/public.csv'), (0, 0)).read())"
    )
    S3FileSystem.clear_instance_cache()
    with pytest.raises(InputError, match="no access") as caught:
        find_object("s3://dumps/public.csv").connect()
    S3FileSystem.clear_instance_cache()
    assert "FSSPEC_S3_ANON=true" in caught.value.hint
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"FSSPEC_S3_ANON": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "b'text\\nfine\\n'\n", done.stderr


@pytest.mark.parametrize("url", ["hf://a.csv", "s3://"])
def test_a_url_that_names_no_object_is_refused_at_once(s3, url):
    with pytest.raises(UsageError):
        find_object(url).connect()


def test_a_folder_of_a_store_is_refused(s3):
    s3.put_object(Bucket="dumps", Key="tree/a.csv", Body=b"text\nfine\n")
    with pytest.raises(UsageError, match="s3://dumps/tree is a folder"):
        find_object("s3://dumps/tree").connect()


def test_no_message_of_a_store_holds_a_key(s3, monkeypatch):
    """Nor does it when the store cannot be reached."""
    from s3fs import S3FileSystem

    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:9/{SECRET}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    S3FileSystem.clear_instance_cache()
    with pytest.raises(InputError, match="3 attempts") as caught:
        ObjectBytes(find_object("s3://dumps/a.csv"), NO_WAITS)
    S3FileSystem.clear_instance_cache()
    assert SECRET not in str(caught.value)


def test_files_and_folders_of_the_hub_are_read_by_their_hf_urls(tmp_path):
    """In a process of its own: the library reads the address of the Hub when it is imported."""
    folder = tmp_path / "reviews"
    folder.mkdir()
    forms = ("csv", "parquet")
    for form in forms:
        make_input(folder, form)
    code = (
        "from batchsent.commands.batch import batch; from tests.hash_model import HashModels; "
        "import sys; options = dict(models=HashModels(), no_receipt=True); "
        "batch(sys.argv[1:], 'scored/', **options); "
        "batch('hf://datasets/owner/reviews', 'tree/', **options)"
    )
    with Hub({"datasets/owner/reviews": folder}) as hub:
        done = subprocess.run(
            [sys.executable, "-c", code, *(f"hf://datasets/owner/reviews/in.{f}" for f in forms)],
            env=os.environ | hub.environment(tmp_path / "cache"),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    batch(str(folder), f"{tmp_path}/local/", models=HashModels(), no_receipt=True)
    for name in (f"in.{form}" for form in forms):
        for remote in ("scored", "tree"):
            assert (tmp_path / remote / name).read_bytes() == (
                tmp_path / "local" / name
            ).read_bytes()


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder with a dump in it; the work folder is `work` in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return make_input(tmp_path, "csv")


def score(output, **options):
    return batch("in.csv", output, models=HashModels(), no_receipt=True, **options)


@pytest.mark.parametrize("form", ["csv.gz", "parquet"])
def test_an_output_in_a_store_is_that_on_the_disk(s3, here, form):
    """With the files beside it, the summary last; nothing is left here; `verify` proves it."""
    options = {"group_by": "text", "report": True}
    score(f"out.{form}", **options)
    url = f"s3://dumps/as file {form}/out.{form}"
    document = score(url, **options)
    assert document["outputs"][0]["path"] == url
    assert document["outputs"][0]["version"].startswith("ETag ")
    found = objects(s3, f"as file {form}/")
    assert set(found) == {path.name for path in here.parent.glob("out*")}
    for name in (f"out.{form}", f"out.groups.{form}"):
        assert found[name] == (here.parent / name).read_bytes()
    written = {
        entry["Key"]: entry["LastModified"]
        for entry in s3.list_objects_v2(Bucket="dumps", Prefix=f"as file {form}/")["Contents"]
    }
    assert max(written.values()) == written[f"as file {form}/out.{form}.summary.json"]
    assert not [path for path in (here.parent / "cache").rglob("*") if path.is_file()]
    assert score(url, **options)["status"] == "up_to_date"
    verdict = verify("in.csv", url)
    assert (verdict["status"], verdict["output"]) == ("same", url)
    s3.put_object(Bucket="dumps", Key=f"as file {form}/out.{form}", Body=b"other bytes")
    with pytest.raises(GateFailed, match=f"{url} is not what it should be"):
        verify("in.csv", url)
    with pytest.raises(UsageError, match="was changed after batchsent wrote it"):
        score(url, **options)


def test_an_object_that_is_not_ours_is_kept(s3, here):
    """It is refused before the model loads; --overwrite replaces it; so with files beside it."""
    s3.put_object(Bucket="dumps", Key="mine/a.csv", Body=b"mine")
    s3.put_object(Bucket="dumps", Key="mine/b.csv.summary.json", Body=b"mine")
    models = HashModels()
    with pytest.raises(UsageError, match=r"s3://dumps/mine/a\.csv exists already"):
        batch("in.csv", "s3://dumps/mine/a.csv", models=models)
    with pytest.raises(UsageError, match=r"summary s3://dumps/mine/b\.csv\.summary\.json exists"):
        batch("in.csv", "s3://dumps/mine/b.csv", models=models)
    assert models.opened == 0
    assert objects(s3, "mine/") == {"a.csv": b"mine", "b.csv.summary.json": b"mine"}
    score("s3://dumps/mine/a.csv", overwrite=True)
    assert objects(s3, "mine/")["a.csv"].startswith(b"id,text,label,score")


NOWHERE = [
    ("https://host/a.csv", "a web server is read, and takes no files"),
    ("hf://datasets/owner/name/a.csv", "a file of the Hub is a commit"),
    ("ftp://host/a.csv", "ftp:// is not written to"),
    ("s3://dumps/", "would be both the output of s3://dumps/in.csv and the input"),
    ("s3://no-such-bucket/a.csv", "there is no such bucket"),
    ("s3://dumps/in.csv", "input and output are the same file"),
]


@pytest.mark.parametrize(("output", "message"), NOWHERE)
def test_an_output_that_cannot_be_written_is_refused_at_once(s3, here, output, message):
    s3.put_object(Bucket="dumps", Key="in.csv", Body=b"text\nfine\n")
    models = HashModels()
    with pytest.raises(UsageError) as caught:
        batch("s3://dumps/in.csv", output, models=models)
    assert message in caught.value.message
    assert models.opened == 0


def test_several_inputs_go_into_one_object(s3, here):
    (here.parent / "dumps").mkdir()
    here.rename("dumps/in.csv")
    url = "s3://dumps/all in one.csv"
    batch("dumps", url, models=HashModels(), source_column="source")
    assert verify("dumps", url)["status"] == "same"
    with pytest.raises(UsageError, match="--work-folder is for outputs in stores"):
        batch("dumps/in.csv", "here.csv", models=HashModels(), work_folder="work")


@pytest.mark.parametrize("moment", ["rename:1", "upload:1", "uploaded:1", "upload:2"])
def test_a_run_that_is_killed_leaves_a_whole_object_or_none(s3, here, moment):
    """SIGKILL before the commit, before the upload, after it, before the summary.

    The same command then writes the same bytes, and takes its own object for its own.
    """
    key = f"killed/{moment}/out.csv"
    command = ["in.csv", "-o", f"s3://dumps/{key}", "--chunk-rows", "20", "--work-folder", "work"]
    environment = {name: os.environ[name] for name in os.environ if name.startswith("AWS_")}
    code, stderr = run_child(
        command, here.parent, env=environment | {"BATCHSENT_FAULT": f"{moment}:kill"}
    )
    assert code == -9, stderr
    score("whole.csv", chunk_rows=20)
    found = objects(s3, f"killed/{moment}/")
    assert set(found.values()) <= {Path("whole.csv").read_bytes()}
    assert set(found) == ({"out.csv"} if moment in {"uploaded:1", "upload:2"} else set())
    assert not s3.list_multipart_uploads(Bucket="dumps").get("Uploads")
    code, stderr = run_child(command, here.parent, env=environment)
    assert (code, "resuming an earlier run: 60 of 60" in stderr) == (0, moment != "rename:1"), (
        stderr
    )
    assert objects(s3, f"killed/{moment}/")["out.csv"] == Path("whole.csv").read_bytes()
    assert list(Path("work").iterdir()) == []


@pytest.mark.parametrize(
    ("output", "moment"),
    [("s3://dumps/late/out.csv", "upload:1"), ("s3://dumps/late/two.csv", "upload:2")],
)
def test_a_signal_during_the_upload_comes_too_late(s3, here, output, moment):
    """Output and summary become whole: exit code 0, and no summary of a failure."""
    environment = {name: os.environ[name] for name in os.environ if name.startswith("AWS_")}
    environment["BATCHSENT_FAULT"] = f"{moment}:terminate"
    code, stderr = run_child(["in.csv", "-o", output], here.parent, env=environment)
    assert code == 0, stderr
    name = output.rpartition("/")[2]
    assert {found for found in objects(s3, "late/") if found.startswith(name)} == {
        name,
        f"{name}.summary.json",
    }
    assert verify("in.csv", output)["status"] == "same"


def test_a_lost_connection_prints_no_traceback_of_the_library(s3, caplog):
    """What aiohttp leaves in a task that nobody asks: the request itself tells of the connection.

    Any other error there is printed as ever.
    """
    find_object("s3://dumps/a.csv")
    from fsspec.asyn import get_loop

    loop = get_loop()

    async def leave(error):
        async def fail():
            raise error

        task = asyncio.get_running_loop().create_task(fail())
        await asyncio.wait([task])

    for error in (ConnectionResetError("Cannot write to closing transport"), KeyError("another")):
        asyncio.run_coroutine_threadsafe(leave(error), loop).result()
        gc.collect()
    said = [record.exc_info[1] for record in caplog.records if record.name == "asyncio"]
    assert [type(error) for error in said] == [KeyError]


def test_an_upload_that_fails_in_the_middle_is_aborted(s3, tmp_path, monkeypatch):
    """Three attempts; then there is no object, no unfinished upload, and no key in the message."""

    class SecondPartRefused(Passing):
        def refuses(self):
            return "partNumber=2" in self.path

    (tmp_path / "large").write_bytes(bytes(2 * BLOCK_BYTES + 1))
    with (
        passing_on(SecondPartRefused, monkeypatch),
        pytest.raises(OutputError, match=r"s3://dumps/torn/x: .*\(3 attempts\)") as caught,
    ):
        OutputObject("s3://dumps/torn/x", NO_WAITS).put(tmp_path / "large")
    assert SECRET not in str(caught.value)
    assert objects(s3, "torn/") == {}
    assert not s3.list_multipart_uploads(Bucket="dumps").get("Uploads")


@pytest.mark.parametrize(("size", "moment"), [(1, "PUT"), (2 * BLOCK_BYTES + 1, "POST")])
def test_an_object_that_appears_during_the_upload_is_kept(s3, tmp_path, monkeypatch, size, moment):
    """The store itself refuses, be it one request or several; nothing of the upload is left."""
    (tmp_path / "mine").write_bytes(bytes(size))
    key = f"appears/{moment}"

    class AppearsBefore(Passing):
        def refuses(self):
            last = self.command == moment and "uploads" not in self.path
            if last and "If-None-Match" in self.headers:
                s3.put_object(Bucket="dumps", Key=key, Body=b"another program's")
            return False

    with (
        passing_on(AppearsBefore, monkeypatch),
        pytest.raises(UsageError, match=rf"s3://dumps/{key} appeared while the run worked"),
    ):
        OutputObject(f"s3://dumps/{key}", NO_WAITS).put(tmp_path / "mine", new=True)
    assert objects(s3, key) == {"": b"another program's"}
    assert not s3.list_multipart_uploads(Bucket="dumps").get("Uploads")


def test_an_upload_whose_answer_is_lost_is_tried_again_and_finds_itself(s3, tmp_path, monkeypatch):
    (tmp_path / "ours").write_bytes(b"ours")
    asked = []

    class AnswerLost(Passing):
        def answer(self, status, body, headers=()):
            if self.command == "PUT" and not asked:
                asked.append(self.path)
                self.close_connection = True
                return
            super().answer(status, body, headers)

    with passing_on(AnswerLost, monkeypatch):
        OutputObject("s3://dumps/lost/a", (0.0, 0.0)).put(tmp_path / "ours", new=True)
    assert asked
    assert objects(s3, "lost/") == {"a": b"ours"}
