"""Several objects of a store into one output, with the path of each row's object."""

import os
import signal
from pathlib import Path

import pytest

from batchsent.commands.batch import batch
from batchsent.errors import GateFailed, InputError, UsageError
from batchsent.verification.verify import verify
from tests.children import Child, wait_for
from tests.children import run as run_child
from tests.dump import make_input
from tests.hash_model import HashModels, Meanwhile


@pytest.fixture
def bucket(s3, tmp_path, monkeypatch):
    """The URL of a folder of the store that is this test's own; the test runs in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return f"s3://dumps/{tmp_path.name}"


def put(s3, url, data):
    s3.put_object(Bucket="dumps", Key=url.removeprefix("s3://dumps/"), Body=data)


def score(source, output, **options):
    models = options.pop("models", None) or HashModels()
    options = {"source_column": "source", "no_receipt": True, **options}
    return batch(source, output, models=models, **options)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_tree_of_a_store_becomes_the_file_that_a_tree_here_becomes(s3, bucket, form):
    """Byte for byte; the second run has nothing to do; `verify` proves it, from both."""
    for folder in ("", "day=1"):
        Path("in", folder).mkdir()
        path = make_input(Path("in", folder), form)
        put(s3, f"{bucket}/{path}", path.read_bytes())
    score("in", f"here.{form}")
    output = f"{bucket}/all.{form}"
    document = score(f"{bucket}/in/", output)
    assert [file["path"] for file in document["input"]["files"]] == [
        f"day=1/in.{form}",
        f"in.{form}",
    ]
    assert score(f"{bucket}/in/", output)["status"] == "up_to_date"
    for source in (f"{bucket}/in/", "in"):
        assert verify(source, output)["rows"]["written"] == 120
        assert verify(source, f"here.{form}")["rows"]["written"] == 120
    put(s3, f"{bucket}/in/in.{form}", path.read_bytes()[:-1])
    with pytest.raises((GateFailed, InputError)):
        verify(f"{bucket}/in/", output)


def test_objects_that_are_not_alike_are_refused_before_the_model_loads(s3, bucket):
    put(s3, f"{bucket}/in/a.csv", b"id,text\n1,x\n")
    put(s3, f"{bucket}/in/b.csv", b"no,text\n1,x\n")
    models = HashModels()
    with pytest.raises(UsageError, match=r"b\.csv and .*a\.csv do not fit into one output"):
        score(f"{bucket}/in/", "all.csv", models=models)
    with pytest.raises(UsageError, match="and not for both"):
        score([f"{bucket}/in/", "here.csv"], "all.csv", models=models)
    assert models.opened == 0


def test_an_object_that_changes_meanwhile_is_an_error(s3, bucket):
    """Be it read before or after: no output is written, and the work is kept."""
    for name in "ab":
        put(s3, f"{bucket}/in/{name}.csv", b"id,text\n1,x\n")
    for name in "ab":
        models = Meanwhile(lambda name=name: put(s3, f"{bucket}/in/{name}.csv", b"id,text\n1,y\n"))
        with pytest.raises(InputError, match=rf"/in/{name}\.csv was changed while it was read"):
            score(f"{bucket}/in/", f"{name}.csv", models=models)
        assert not Path(f"{name}.csv").exists()
        put(s3, f"{bucket}/in/{name}.csv", b"id,text\n1,x\n")


def test_a_run_that_was_killed_is_resumed_to_the_same_bytes(s3, bucket):
    """SIGKILL in the second object; where one has changed since, the kept work is not thrown away."""
    for name in "ab":
        rows = "".join(f"{n},{name}{n}\n" for n in range(30))
        put(s3, f"{bucket}/in/{name}.csv", f"id,text\n{rows}".encode())
    score(f"{bucket}/in/", "whole.csv", chunk_rows=4)
    command = [f"{bucket}/in/", "-o", "all.csv", "--source-column", "source", "--chunk-rows", "4"]
    command.append("--no-receipt")
    environment = {name: os.environ[name] for name in os.environ if name.startswith("AWS_")}
    child = Child(command, Path(), batch_s=0.05, env=environment)
    wait_for(lambda: len(list(Path().glob("all.csv.batchsent/part-*"))) > 9)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -9
    put(s3, f"{bucket}/in/c.csv", b"id,text\n1,x\n")
    with pytest.raises(UsageError, match="holds unfinished work, and the input was changed since"):
        score(f"{bucket}/in/", "all.csv", chunk_rows=4)
    s3.delete_object(Bucket="dumps", Key=f"{bucket}/in/c.csv".removeprefix("s3://dumps/"))
    code, stderr = run_child(command, Path(), env=environment)
    assert code == 0, stderr
    assert "resuming an earlier run" in stderr
    assert Path("all.csv").read_bytes() == Path("whole.csv").read_bytes()
