"""Inputs by URL: the rows of a file, over connections that break, and no credentials anywhere."""

import gzip
import hashlib
import json
import os
import signal
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchsent.commands.batch import batch
from batchsent.errors import InputError, UsageError
from batchsent.formats import ReadOptions, open_source
from batchsent.formats.http_objects import HttpObject
from batchsent.formats.objects import ObjectBytes, RangedFile, find_object
from batchsent.urls import file_name, redacted
from batchsent.verification.verify import verify
from tests.children import Child, run, wait_for
from tests.dump import make_input
from tests.hash_model import HashModels
from tests.web_server import WebServer

NO_WAITS = (0.0, 0.0)
DATA = bytes(range(256)) * 1000
SECRET = "s3cr3t-p4ssw0rd"


@pytest.fixture(scope="module")
def server():
    """A web server on loopback."""
    with WebServer() as made, pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield made


def read_all(url):
    """Every byte of an object, without waiting between attempts."""
    with ObjectBytes(HttpObject(url), NO_WAITS) as stored:
        pieces = list(iter(lambda: stored.read(100_000), b""))
        assert stored.hash.hexdigest() == hashlib.sha256(b"".join(pieces)).hexdigest()
        return b"".join(pieces)


@pytest.mark.parametrize("faults", [{}, {"etag": False}, {"ranges": False}, {"chunked": True}])
@pytest.mark.parametrize("drops", [[], [100_000, 70_000], [0, 0]])
def test_every_byte_comes_once_whatever_the_server_can_do(server, faults, drops):
    """Broken off twice, the rest is asked for from where it was, or again from the start."""
    if faults.get("chunked"):
        drops = []  # its end would be the end of the file
    assert read_all(server.serve("/data", DATA, drops=drops, **faults)) == DATA


def test_the_rest_is_asked_for_by_a_range(server):
    """What was read is not sent again."""
    url = server.serve("/once", DATA, drops=[131_072])
    server.requests.clear()
    assert read_all(url) == DATA
    assert server.requests == [("/once", None), ("/once", "bytes=131072-")]


def test_a_busy_server_is_asked_again(server):
    assert read_all(server.serve("/busy", DATA, statuses=[503, 429])) == DATA


def test_three_attempts_are_all(server):
    """Then the error says what the server answered."""
    url = server.serve("/down", DATA, statuses=[503] * 3)
    with pytest.raises(InputError, match="answered 503 Service Unavailable \\(3 attempts\\)"):
        read_all(url)


@pytest.mark.parametrize("etag", [True, False])
def test_fewer_bytes_than_announced_are_an_error(server, etag):
    url = server.serve("/short", DATA, missing=50, etag=etag)
    with pytest.raises(InputError, match=r"ends too early.*256,000 of 256,050 bytes"):
        read_all(url)


@pytest.mark.parametrize(
    ("etag", "later"), [(True, DATA[::-1]), (True, DATA[:100]), (False, DATA[::-1])]
)
def test_an_object_that_changes_between_two_connections_is_an_error(server, etag, later):
    """By its ETag, by its length, or by the bytes that are read again."""
    url = server.serve("/moving", DATA, drops=[150_000], later=later, etag=etag)
    with pytest.raises(InputError, match="was changed while it was read"):
        read_all(url)


def test_redirects_are_followed_but_not_without_end(server):
    target = server.serve("/target", DATA)
    server.serve("/old", b"", redirect=target)
    server.serve("/round", b"", redirect="/round")
    assert read_all(server.url + "/old") == DATA
    with pytest.raises(InputError, match="redirects without end"):
        read_all(server.url + "/round")


def test_ranges_are_read_over_connections_that_break(server):
    """For Parquet, which is read here and there."""
    with RangedFile(
        HttpObject(server.serve("/ranges", DATA, drops=[4, 10_000, 500])), NO_WAITS
    ) as file:
        file.seek(-50_000, os.SEEK_END)
        assert file.read(30_000) == DATA[-50_000:-20_000]
        file.seek(17)
        assert file.read(5) == DATA[17:22]
        assert file.size == len(DATA)


def test_parquet_that_changes_between_two_ranges_is_an_error(server):
    file = RangedFile(HttpObject(server.serve("/p", DATA, later=DATA[:-1] + b"x")), NO_WAITS)
    with pytest.raises(InputError, match="was changed while it was read"):
        file.read(100)


def test_a_parquet_file_of_four_bytes_is_said_to_be_too_short(server):
    with pytest.raises(InputError, match="it has too few bytes"):
        open_source(server.serve("/four.parquet", b"PAR1"), ReadOptions())


def test_parquet_requires_a_server_that_sends_ranges(server, tmp_path):
    url = server.serve("/n.parquet", make_input(tmp_path, "parquet").read_bytes(), ranges=False)
    with pytest.raises(InputError, match=r"does not send ranges.*\n*download it first"):
        open_source(url, ReadOptions())


@pytest.mark.parametrize(
    ("status", "hint"), [(404, "check the spelling"), (403, "may have expired"), (410, "spelling")]
)
def test_what_is_not_there_or_not_allowed_is_said_at_once(server, status, hint):
    url = server.serve("/no.csv", b"", statuses=[status])
    with pytest.raises(InputError, match=f"no.csv: the server answered {status} ") as caught:
        open_source(url)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://example.com/a.csv", "http:// is read from this machine only"),
        ("ftp://example.com/a.csv", "ftp:// is not read"),
        ("file:///tmp/a.csv", "leave file:// out"),
        ("https://host:port/a.csv", "check the URL"),
        ("https:///a.csv", "check the URL"),
        ("https://[host/a.csv", "check the URL"),
    ],
)
def test_urls_that_cannot_be_meant_are_refused(url, said):
    with pytest.raises(UsageError) as caught:
        open_source(url)
    assert said in str(caught.value)


def test_a_redirect_to_http_elsewhere_is_refused(server):
    """Before anything is sent there."""
    url = server.serve("/out.csv", b"", redirect="http://example.com/a.csv?sig=1")
    with pytest.raises(UsageError, match=r"http://example\.com/a\.csv.* is read from this machine"):
        read_all(url)


def test_a_store_without_its_package_says_what_to_install(monkeypatch):
    """The packages of stores are an extra."""
    monkeypatch.setitem(__import__("sys").modules, "gcsfs", None)
    with pytest.raises(UsageError, match="gs:// requires gcsfs") as caught:
        find_object("gs://bucket/a.csv")
    assert caught.value.hint == 'install it: pip install "batchsent[stores]"'


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:pw@host/a.csv?sig=1: not found", "https://***@host/a.csv?***: not found"),
        ("https://token@host:8/a/b@c.csv#access_token=1", "https://***@host:8/a/b@c.csv#***"),
        ("s3://AK:se/cret@bucket/k.csv", "s3://***@bucket/k.csv"),
        ("s3://bucket/a@b#1.csv", "s3://bucket/a@b#1.csv"),
        ("http://localhost:8080/a@b.csv", "http://localhost:8080/a@b.csv"),
        ("abfs://box@account.dfs.core.windows.net/x", "abfs://box@account.dfs.core.windows.net/x"),
        ("abfs://box:key@account/x", "abfs://***@account/x"),
        ("hf://datasets/o/n@main/x.csv", "hf://datasets/o/n@main/x.csv"),
        ("GET /p?X-Amz-Signature=abc&v=1", "GET /p?X-Amz-Signature=***&v=1"),
        ("a path/with=equals?", "a path/with=equals?"),
    ],
)
def test_credentials_are_taken_out_of_what_is_shown(text, shown):
    """Once is enough: what is shown stays as it is."""
    assert redacted(text) == shown
    assert redacted(shown) == shown


def test_the_values_of_a_stores_variables_are_taken_out_too(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert redacted(f"signature of {SECRET} refused") == "signature of *** refused"


def test_the_name_of_a_file_is_read_without_the_query():
    assert file_name("https://host/a/b%20c.csv.gz?signature=x.parquet") == "b c.csv.gz"
    assert file_name("https://host/a/..%2f..%2fetc%2fpasswd") == "passwd"
    assert file_name("s3://bucket/folder/100%25.csv") == "100%25.csv"
    assert file_name("folder/100%25?.csv") == "100%25?.csv"
    assert file_name("https://[host/a.csv") == "a.csv"
    assert file_name("s3://bucket") == file_name("https://host?a=/b.csv") == ""


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "csv.gz", "arrow"])
def test_the_output_of_a_url_is_that_of_the_file(server, tmp_path, form):
    """Byte for byte; the second run has nothing to do, and `verify` proves the output."""
    local = make_local(tmp_path, form)
    url = server.serve(f"/in.{form}", local.read_bytes())
    for source, output in ((local, f"local.{form}"), (url, f"remote.{form}")):
        score(source, tmp_path / output, no_receipt=True)
    assert (tmp_path / f"remote.{form}").read_bytes() == (tmp_path / f"local.{form}").read_bytes()
    summaries = [
        json.loads((tmp_path / f"{where}.{form}.summary.json").read_bytes())
        for where in ("local", "remote")
    ]
    assert summaries[0]["rows"] == summaries[1]["rows"]
    assert summaries[1]["input"]["bytes"] == local.stat().st_size
    if form != "parquet":
        assert summaries[0]["input"]["sha256"] == summaries[1]["input"]["sha256"]
    assert score(url, tmp_path / f"remote.{form}", no_receipt=True)["status"] == "up_to_date"
    for source in (local, url):
        assert verify(str(source), str(tmp_path / f"remote.{form}"))["status"] == "same"
    assert verify(url, str(tmp_path / f"local.{form}"))["status"] == "same"


def score(source, output, **options):
    """The summary of a run in this process."""
    return batch(str(source), str(output), models=HashModels(), **options)


def make_local(folder, form):
    if form == "arrow":
        path = folder / "in.arrow"
        table = pq.read_table(make_input(folder, "parquet"))
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table)
        return path
    path = make_input(folder, form.removesuffix(".gz"))
    if form.endswith(".gz"):
        packed = path.with_name(path.name + ".gz")
        packed.write_bytes(gzip.compress(path.read_bytes()))
        return packed
    return path


def test_a_changed_object_is_not_up_to_date(server, tmp_path):
    url = server.serve("/day.csv", b"text\nfine\n")
    score(url, tmp_path / "out.csv")
    server.serve("/day.csv", b"text\nbad!\n")
    with pytest.raises(UsageError, match=r"was made from an earlier http://127\.0\.0\.1") as caught:
        score(url, tmp_path / "out.csv")
    assert caught.value.hint == "add --overwrite to score it again"


def test_an_object_without_a_version_is_never_taken_for_the_same(server, tmp_path):
    url = server.serve("/nameless.csv", b"text\nfine\n", etag=False)
    score(url, tmp_path / "out.csv")
    with pytest.raises(UsageError, match="exists already"):
        score(url, tmp_path / "out.csv")
    assert score(url, tmp_path / "out.csv", overwrite=True)["status"] == "complete"


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_run_killed_midway_resumes_to_the_same_bytes(server, tmp_path, form):
    local = make_input(tmp_path, form, rows=400)
    url = server.serve(f"/killed.{form}", local.read_bytes())
    command = ["-o", f"out.{form}", "--chunk-rows", 40, "--no-receipt"]
    calm = tmp_path / "calm"
    calm.mkdir()
    assert run([local, *command], calm)[0] == 0
    child = Child([url, *command], tmp_path, batch_s=0.05)
    wait_for(lambda: len(list(tmp_path.glob("*.batchsent/part-*"))) > 2)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not (tmp_path / f"out.{form}").exists()
    code, stderr = run([url, *command], tmp_path)
    assert code == 0, stderr
    assert "resuming an earlier run" in stderr
    assert (tmp_path / f"out.{form}").read_bytes() == (calm / f"out.{form}").read_bytes()


def test_a_lost_connection_in_a_run_is_mended(server, tmp_path):
    """A second later, from where it was lost."""
    data = make_input(tmp_path, "csv", rows=20_000).read_bytes()
    url = server.serve("/mended.csv", data, drops=[len(data) // 2])
    score(url, tmp_path / "out.csv")
    score(tmp_path / "in.csv", tmp_path / "local.csv")
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "local.csv").read_bytes()


def test_an_object_that_changes_in_a_run_leaves_no_output(server, tmp_path):
    """Nothing is written under the output's name, whatever was scored by then."""
    data = b"text\n" + b"fine\n" * 100_000
    url = server.serve("/swapped.csv", data, drops=[300_000], later=data.upper())
    with pytest.raises(InputError, match="was changed while it was read"):
        score(url, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("status", [200, 403])
def test_no_file_and_no_message_holds_a_credential(server, tmp_path, status):
    """Of a run that ends well, and of one that does not; on the page and in the log too."""
    secret = server.serve(
        "/private.csv", b"text\nfine\nbad\n", user="Basic bWU6czNjcjN0LXA0c3N3MHJk"
    )
    if status != 200:
        server.files["/private.csv"].user = "another"
    url = secret.replace("http://", f"http://me:{SECRET}@") + f"?X-Amz-Signature={SECRET}"
    out = tmp_path / "out"
    out.mkdir()
    command = [url, "-o", "out.csv", "--report", "--log-format", "json", "--json"]
    code, stderr = run(command, out, stdout=tmp_path / "stdout")
    assert code == (0 if status == 200 else 4), stderr
    if status == 200:
        assert (out / "out.csv.summary.json").is_file()
    for path in (tmp_path / "stdout", *out.iterdir()):
        content = path.read_bytes()
        assert SECRET.encode() not in content
        assert b"bWU6czNj" not in content
    assert "127.0.0.1" in stderr


def test_the_command_that_goes_on_is_not_printed_with_a_credential_in_it(server, tmp_path):
    """Nor with asterisks in its place, with which it would not work."""
    url = server.serve("/stopped.csv", b"text\n" + b"fine %d\n" * 400) + f"?sig={SECRET}"
    command = [url, "-o", "out.csv", "--chunk-rows", 20, "--stop-after", "1s"]
    code, stderr = run(command, tmp_path, batch_s=0.2)
    assert code == 12, stderr
    assert "run the same command again to go on" in stderr
    assert SECRET not in stderr


def test_several_urls_go_into_a_folder_by_their_names(server, tmp_path):
    urls = [server.serve(f"/d/{n}.csv", b"text\nfine\n") + "?v=1" for n in ("mon", "tue")]
    batch(urls, f"{tmp_path}/scored/", models=HashModels())
    assert (tmp_path / "scored/mon.csv").is_file()
    assert (tmp_path / "scored/tue.csv").is_file()


def test_an_output_by_url_is_refused_before_anything_is_read(server, tmp_path):
    server.requests.clear()
    with pytest.raises(UsageError, match="a web server is read, and takes no files"):
        score(server.url + "/x.csv", server.url + "/out.csv")
    assert server.requests == []


def test_a_server_that_is_not_there_is_named_after_three_attempts(tmp_path):
    began = time.monotonic()
    with pytest.raises(InputError, match="connection refused \\(3 attempts"):
        read_all("http://127.0.0.1:9/a.csv")
    assert time.monotonic() - began < 5
