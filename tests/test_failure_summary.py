"""OUTPUT.summary.failed.json: small and valid, however much was read and whatever went wrong."""

import json
from importlib import resources

import jsonschema
import pytest

from batchsent.commands.batch import batch
from batchsent.errors import BatchsentError, DeviceError, ModelError
from batchsent.evaluation import summary
from batchsent.pages.report import render
from tests.hash_model import HashModels, HashScorer

LARGEST_BYTES = 40_000
GOLD = ("neg", "pos", "neither", "")


class Failing(HashModels):
    """A model that cannot be loaded, or that fails once it has scored so many rows."""

    def __init__(self, error, after_rows=None):
        super().__init__()
        self.error, self.after_rows = error, after_rows

    def open(self):
        if self.after_rows is None:
            raise self.error
        return FailingScorer(self.error, self.after_rows)


class FailingScorer(HashScorer):
    """Scores so many rows, and no more."""

    def __init__(self, error, after_rows):
        super().__init__(batch_rows=4096)
        self.error, self.left = error, after_rows

    def score(self, prepared, *, done=None, stop=None, on_batch=None):
        self.left -= prepared.rows
        if self.left < 0:
            raise self.error
        return super().score(prepared, done=done, stop=stop)


def fail(folder, error, rows=10, after_rows=None):
    """Let a run fail; return its summary as bytes and as a document that agrees with the schema."""
    source = folder / "in.csv"
    source.write_text(
        "text,gold\n"
        + "".join(f"review {n},{GOLD[n % 4]}{n if n % 4 == 2 else ''}\n" for n in range(rows))
    )
    with pytest.raises(BatchsentError) as caught:
        batch(
            source,
            folder / "out.csv",
            models=Failing(error, after_rows),
            gold="gold",
            chunk_rows=1_000,
        )
    assert caught.value is error
    content = (folder / "out.csv.summary.failed.json").read_bytes()
    document = json.loads(content)
    schema = json.loads(
        resources.files("batchsent.evaluation").joinpath("summary.schema.json").read_bytes()
    )
    jsonschema.Draft202012Validator(schema).validate(document)
    assert not (folder / "out.csv").exists()
    return content, document


def test_a_failed_run_says_how_far_it_came(tmp_path):
    """Status, exit code, error and hint, and the counts of the rows that were scored until then."""
    _, document = fail(
        tmp_path, DeviceError("the device fell off", hint="try again"), rows=5_000, after_rows=3_000
    )
    assert (document["status"], document["exit_code"]) == ("failed", 7)
    assert document["error"] == {"message": "the device fell off", "hint": "try again"}
    assert document["rows"]["scored"] == 3_000
    assert document["evaluation"]["rows"] == 1_500
    assert document["evaluation"]["gold"]["unmatched"] == 750


def test_its_size_does_not_grow_with_the_rows(tmp_path):
    """After 100,000 rows it is as large as after 2,000, but for the digits of its counts."""
    sizes = []
    for rows in (2_000, 100_000):
        folder = tmp_path / str(rows)
        folder.mkdir()
        content, document = fail(folder, DeviceError("gone"), rows=rows + 1_000, after_rows=rows)
        assert document["rows"]["scored"] == rows
        sizes.append(len(content))
    assert sizes[1] < sizes[0] + 1_500
    assert sizes[1] < LARGEST_BYTES


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x" * 10_000_000,
        "\U0001f600" * 100_000,
        "\x1b[31m\u202e\r\n\udc80\0" * 50_000,
        "<script>" * 10_000,
    ],
    ids=["none", "10_mb", "emoji", "control", "markup"],
)
def test_its_size_does_not_grow_with_the_error(tmp_path, text):
    """An error that quotes ten megabytes is cut, says how long it was, and has a page that is as
    small.
    """
    content, document = fail(
        tmp_path, ModelError(f"bad: {text}", hint=f"mend: {text}"), after_rows=0
    )
    assert len(content) < LARGEST_BYTES
    assert content.isascii()
    assert document["error"]["message"].startswith(f"bad: {text[:500]}")
    assert document["error"]["hint"].startswith("mend: ")
    if text:
        assert f"({len(text) + 5:,} characters)" in document["error"]["message"]
    assert len(render(summary.read(tmp_path / "out.csv.summary.failed.json"))) < LARGEST_BYTES


def test_a_command_of_ten_thousand_files_is_cut(tmp_path):
    """A shell that names every file of a folder does not make every summary as long as its command
    line.
    """
    sections = batch_sections(tmp_path)
    run = {
        "command": ["batchsent", "batch", *(f"folder/{n}-{'x' * 2_000}.csv" for n in range(10_000))]
    }
    given = {
        "run": run,
        "package": {},
        "input": {},
        "outputs": [],
        "model": {},
        "device": {},
        "performance": {},
    }
    document = summary.build(status="complete", exit_code=0, tally_sections=sections, **given)
    command = document["run"]["command"]
    assert (len(command), command[:2], command[-1]) == (
        101,
        ["batchsent", "batch"],
        "... (10,002 words)",
    )
    assert max(map(len, command)) < 600
    assert len(run["command"]) == 10_002


def batch_sections(folder):
    (folder / "one.csv").write_text("text\nfine\n")
    return {
        name: section
        for name, section in batch(
            folder / "one.csv", folder / "one-out.csv", models=HashModels()
        ).items()
        if name in {"rows", "text", "predictions", "sentences", "evaluation"}
    }
