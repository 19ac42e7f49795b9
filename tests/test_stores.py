"""Inputs in stores: an S3 and a Hub on loopback, read through the libraries that users have."""

import os
import subprocess
import sys

import pytest

from batchsent.commands.batch import batch
from batchsent.errors import InputError, UsageError
from batchsent.formats.objects import ObjectBytes, RangedFile, find_object
from batchsent.formats.store_objects import BLOCK_BYTES
from batchsent.verification.verify import verify
from tests.dump import make_input
from tests.hash_model import HashModels
from tests.hub import Hub

NO_WAITS = (0.0, 0.0)
SECRET = "loopback-secret-key"


@pytest.fixture(scope="module")
def s3():
    """A client of an S3 on loopback with the bucket `dumps`; the environment is that of a user."""
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    moto = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    import boto3

    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "loopback-key-id")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        client = boto3.client("s3")
        client.create_bucket(Bucket="dumps")
        yield client
    server.stop()


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


def test_a_file_of_the_hub_is_read_by_its_hf_url(tmp_path):
    """In a process of its own: the library reads the address of the Hub when it is imported."""
    folder = tmp_path / "reviews"
    folder.mkdir()
    forms = ("csv", "parquet")
    for form in forms:
        make_input(folder, form)
    code = (
        "from batchsent.commands.batch import batch; from tests.hash_model import HashModels; "
        "import sys; batch(sys.argv[1:], 'scored/', models=HashModels(), no_receipt=True)"
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
        remote, local = tmp_path / "scored" / name, tmp_path / "local" / name
        assert remote.read_bytes() == local.read_bytes()
