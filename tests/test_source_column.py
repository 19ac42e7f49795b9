"""Several inputs into one output: the rows of all in order, with the path of each row's file."""

import json
import os
import signal
from importlib import resources
from pathlib import Path

import jsonschema
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchsent.errors import GateFailed, InputError, UsageError
from batchsent.run.folder import batch_all
from batchsent.verification.verify import verify
from tests.children import Child, wait_for
from tests.children import run as run_child
from tests.hash_model import HashModels, Meanwhile, expected


@pytest.fixture
def dumps(tmp_path, monkeypatch):
    """The folder `dumps`; the tests run beside it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dumps" / "day=1").mkdir(parents=True)
    return Path("dumps")


def put(path, *rows, end="\n"):
    """Write a CSV with an id and a text in each row."""
    lines = ["id,text", *(f"{n},{text}" for n, text in enumerate(rows))]
    path.write_text(end.join(lines) + end, newline="")


def score(inputs, output, **options):
    models = options.pop("models", None) or HashModels()
    options = {"source_column": "source", "no_receipt": True, **options}
    return batch_all([str(one) for one in inputs], output, models=models, **options)


def judged(text):
    label, value = expected(text)
    return f"{label},{pa.scalar(value, pa.float32()).cast(pa.string())}"


def test_records_of_csv_are_copied_and_get_their_path(dumps):
    """Quotes, line ends, blank lines stay; header and byte order mark are those of the first file.

    A last line without its end gets one, so that no row runs into the next file's.
    """
    (dumps / "b.csv").write_bytes(b'id,text\r\n07,"good, film"\r\n\r\n8,bad\r\n')
    (dumps / "a.csv").write_bytes(b'\xef\xbb\xbfid,text\n1," fine"')
    (dumps / "day=1" / "x, y.csv").write_bytes(b'"id","text"\n9,so-so\n')
    document = score([dumps], "all.csv")
    assert Path("all.csv").read_bytes().decode() == (
        "\ufeffid,text,source,label,score\n"
        f'1," fine",a.csv,{judged(" fine")}\n'
        f'07,"good, film",b.csv,{judged("good, film")}\r\n\r\n'
        f"8,bad,b.csv,{judged('bad')}\r\n"
        f'9,so-so,"day=1/x, y.csv",{judged("so-so")}\n'
    )
    files = document["input"]["files"]
    assert [(file["path"], file["rows"]) for file in files] == [
        ("a.csv", 1),
        ("b.csv", 2),
        ("day=1/x, y.csv", 1),
    ]
    assert document["input"]["bytes"] == sum(file["bytes"] for file in files)
    schema = json.loads(
        (resources.files("batchsent.evaluation") / "summary.schema.json").read_text()
    )
    jsonschema.Draft202012Validator(schema).validate(json.loads(json.dumps(document)))
    assert verify(dumps, "all.csv")["compared"] == "bytes"


def write(path, texts, form):
    """Write texts in a format, with numbers beside them."""
    table = pa.table({"text": texts, "n": range(len(texts))})
    if form == "parquet":
        pq.write_table(table, path, compression="zstd", row_group_size=2)
    elif form == "arrow":
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table)
    else:
        lines = [json.dumps(row, ensure_ascii=False) for row in table.to_pylist()]
        path.write_text("\n".join(lines))  # the last line has no end


@pytest.mark.parametrize(
    ("form", "output"),
    [("parquet", "parquet"), ("arrow", "csv"), ("jsonl", "jsonl"), ("jsonl", "arrow")],
)
def test_each_format_has_the_rows_of_all_files_in_order(dumps, form, output):
    """The user's columns keep their types, the path stands after them, `verify` proves it."""
    texts = {"a": ["good", "bad", "fine"], "day=1/b": ["so-so", "great"], "z": ["x"]}
    for name, some in texts.items():
        write(dumps / f"{name}.{form}", some, form)
    score([f"dumps/**/*.{form}"], f"all.{output}", chunk_rows=2)
    paths = [f"{name}.{form}" for name, some in texts.items() for _ in some]
    if output == "parquet":
        file = pq.ParquetFile("all.parquet")
        assert file.read()["source"].to_pylist() == paths
        assert str(file.schema_arrow.field("n").type) == "int64"
        assert file.metadata.row_group(0).num_rows == 6  # not those of the small files
        assert file.metadata.row_group(0).column(2).compression == "ZSTD"
    elif output == "jsonl":
        first = Path("all.jsonl").read_text().splitlines()[0]
        assert first.startswith('{"text": "good", "n": 0, "source": "a.jsonl", "label": ')
    assert verify(f"dumps/**/*.{form}", f"all.{output}")["rows"]["written"] == len(paths)


def test_lines_of_json_may_have_other_members(dumps):
    """In JSON lines all are kept; a table has the columns of the first file, and gaps.

    A line that has a member of the column's name is a bad row, as with the other new columns.
    """
    (dumps / "a.jsonl").write_text('{"text": "good", "stars": 5}\n')
    late = '{"text": "fine"}\n' + " " * (1 << 20) + '\n{"text": "x", "source": "me"}'
    (dumps / "b.jsonl").write_text(late)
    with pytest.raises(InputError, match="a member called source, like a new column"):
        score([dumps], "all.jsonl")
    document = score([dumps], "all.tsv", bad_rows="reject")
    assert document["rows"]["rejected"] == 1
    assert Path("all.tsv").read_text().splitlines()[2].startswith('"fine"\t\t"b.jsonl"\t')
    assert verify(dumps, "all.tsv")["status"] == "same"


def test_the_column_can_be_counted_by(dumps):
    """--group-by takes it as a column of the input, and evaluate the file as any other."""
    put(dumps / "a.csv", "good", "bad")
    put(dumps / "day=1" / "b.csv", "fine")
    document = score([dumps], "all.csv", group_by="source")
    (groups,) = (entry for entry in document["outputs"] if entry["role"] == "groups")
    assert [(one["value"], one["rows"]) for one in groups["largest"]] == [
        ("a.csv", 2),
        ("day=1/b.csv", 1),
    ]
    verify(dumps, "all.csv")


UNLIKE = {
    "columns": (
        "b.csv",
        b"id,review\n1,x\n",
        "the text is in review in the first and text in the other",
    ),
    "another column": (
        "b.csv",
        b"no,text\n1,x\n",
        r"b\.csv and dumps/a\.csv do not fit into one output: column 1 is no in the first and id",
    ),
    "one more": ("b.csv", b"id,text,stars\n1,x,2\n", r"column 3 is stars in .* missing in the oth"),
    "delimiter": ("b.csv", b"id;text\n1;x\n", r"delimiter is ';' in the first and ',' in"),
    "format": ("b.tsv", b"id\ttext\n1\tx\n", "the format is TSV in the first and CSV in the other"),
}


@pytest.mark.parametrize("case", list(UNLIKE))
def test_files_that_are_not_alike_are_refused(dumps, case):
    """Before the model loads, with both names and the first difference."""
    name, content, message = UNLIKE[case]
    put(dumps / "a.csv", "good")
    (dumps / name).write_bytes(content)
    models = HashModels()
    with pytest.raises(UsageError, match=message):
        score([dumps], "all.csv", models=models, delimiter="auto" if case == "delimiter" else None)
    assert models.opened == 0
    assert not Path("all.csv").exists()


def test_types_that_are_not_alike_are_refused(dumps):
    """Of Parquet files: numbers and text of one name; of JSON lines for a table: a new member."""
    pq.write_table(pa.table({"text": ["a"], "n": [1]}), dumps / "a.parquet")
    pq.write_table(pa.table({"text": ["b"], "n": ["1"]}), dumps / "b.parquet")
    with pytest.raises(UsageError, match="column 2 has the type string in the first and int64 in"):
        score([dumps], "all.parquet")
    (dumps / "c.jsonl").write_text('{"text": "good"}\n')
    (dumps / "d.jsonl").write_text('{"text": "good", "new": 1}\n')
    with pytest.raises(UsageError, match="the member new is there in the first and missing in the"):
        score(["dumps/*.jsonl"], "all.csv")


REFUSED = [
    (["dumps"], "scored/", {}, "scored/ is a folder"),
    (["dumps", "-"], "all.csv", {}, "- is none"),
    (["dumps", "https://host/a.csv"], "all.csv", {}, "or for URLs, and not for both"),
    (["dumps/day=1"], "all.csv", {}, "no file to score in dumps/day=1"),
    (["dumps/a.csv", "dumps/a.csv"], "all.csv", {}, "would both be called a.csv"),
    (["dumps"], "all.csv", {"source_column": "id"}, "a.csv has a column called id already"),
    (["dumps"], "dumps/a.csv", {}, "input dumps/a.csv and output are the same file"),
    (["dumps"], "all.csv", {"source_column": None}, "add --source-column source to write one file"),
]


@pytest.mark.parametrize(("inputs", "output", "options", "message"), REFUSED)
def test_what_makes_no_sense_is_refused(dumps, inputs, output, options, message):
    put(dumps / "a.csv", "good")
    with pytest.raises(UsageError) as caught:
        score(inputs, output, **options)
    assert message in f"{caught.value.message} {caught.value.hint}"


def test_a_run_that_was_killed_is_resumed_to_the_same_bytes(dumps):
    """SIGKILL in the second file; once finished, the same command has nothing to do."""
    put(dumps / "a.csv", *("good " * n for n in range(1, 9)))
    put(dumps / "day=1" / "b.csv", *(f"review {n}" for n in range(40)))
    score([dumps], "whole.csv", chunk_rows=4)
    command = ["dumps", "-o", "all.csv", "--source-column", "source", "--chunk-rows", "4"]
    child = Child(command, Path.cwd(), batch_s=0.1)
    wait_for(lambda: Path("all.csv.batchsent/part-000000000012").exists())
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -9
    assert not Path("all.csv").exists()
    code, stderr = run_child(command, Path.cwd())
    assert (code, "resuming an earlier run" in stderr) == (0, True)
    assert Path("all.csv").read_bytes() == Path("whole.csv").read_bytes()
    code, stderr = run_child(command, Path.cwd())
    assert "all.csv is up to date" in stderr
    put(dumps / "c.csv", "new")
    code, stderr = run_child(command, Path.cwd())
    assert (code, "all.csv was made from an earlier dumps of 48 rows" in stderr) == (2, True)


@pytest.mark.parametrize("change", ["grew", "vanished", "a pipe", "a folder"])
def test_a_file_that_changes_while_all_are_scored_is_an_input_error(dumps, change):
    """There is no output, and the file is named."""
    put(dumps / "a.csv", "good")
    put(dumps / "b.csv", "bad")
    happens = {
        "grew": lambda: put(dumps / "b.csv", "bad", "new"),
        "vanished": (dumps / "b.csv").unlink,
        "a pipe": lambda: (dumps / "b.csv").unlink() or os.mkfifo(dumps / "b.csv"),
        "a folder": lambda: (dumps / "b.csv").unlink() or (dumps / "b.csv").mkdir(),
    }
    with pytest.raises(InputError, match=r"dumps/b\.csv"):
        score([dumps], "all.csv", models=Meanwhile(happens[change]))
    assert not Path("all.csv").exists()


def test_a_pipe_among_the_files_is_refused_and_not_waited_for(dumps):
    """Also one that is named, as <(command) of a shell is: it could not be read twice."""
    put(dumps / "a.csv", "good")
    os.mkfifo("b.csv")
    with pytest.raises(InputError, match=r"b\.csv is a pipe"):
        score([dumps / "a.csv", "b.csv"], "all.csv")


def test_rejected_rows_name_their_file_and_a_limit_counts_all(dumps):
    """The rows of the rejects file say which input they are of."""
    put(dumps / "a.csv", "good", "bad,too many")
    put(dumps / "b.csv", "fine", "so-so", "x")
    document = score([dumps], "all.csv", bad_rows="reject", limit=2)
    assert (document["rows"]["written"], document["rows"]["rejected"]) == (2, 1)
    assert ',"a.csv: 3 field' in Path("all.csv.rejects.csv").read_text()
    assert Path("all.csv").read_text().splitlines()[-1].startswith("0,fine,b.csv,")
    assert verify(dumps, "all.csv")["status"] == "same"


DAMAGE = {
    "a path": (
        lambda: Path("all.csv").write_text(Path("all.csv").read_text().replace("b.csv", "c.csv")),
        r"row 2, line 2, column source: 'b\.csv' in the input, 'c\.csv' in the output",
    ),
    "a file gone": (
        lambda: Path("dumps/b.csv").unlink(),
        r"the input b\.csv of the run is not there",
    ),
    "a new file": (lambda: put(Path("dumps/n.csv"), "x"), r"the input n\.csv is not in the output"),
    "a header": (
        lambda: Path("dumps/b.csv").write_text('"id",text\n0,bad\n'),
        r"bytes of the input dumps/b\.csv",
    ),
}


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_verify_finds_what_is_wrong(dumps, damage):
    put(dumps / "a.csv", "good")
    put(dumps / "b.csv", "bad")
    score([dumps / "b.csv", dumps / "a.csv"], "all.csv")  # in the order of their paths
    assert verify([dumps / "b.csv", dumps / "a.csv"], "all.csv")["status"] == "same"
    happens, message = DAMAGE[damage]
    happens()
    with pytest.raises(GateFailed, match=message):
        verify(dumps, "all.csv")


def test_rows_can_be_proven_without_a_summary(dumps):
    """Where --source-column says which column has the paths; without it that is the hint."""
    put(dumps / "a.csv", "good")
    score([dumps], "all.csv")
    Path("all.csv.summary.json").unlink()
    with pytest.raises(UsageError, match="several files") as caught:
        verify(dumps, "all.csv")
    assert "--source-column" in caught.value.hint
    assert verify(dumps, "all.csv", source_column="source")["rows"]["written"] == 1


def test_a_link_to_a_missing_file_is_refused_before_anything_is_kept(dumps):
    """Without it the same command then runs, and has nothing to complain of."""
    put(dumps / "a.csv", "one")
    (dumps / "lost.csv").symlink_to("nowhere.csv")
    models = HashModels()
    with pytest.raises(
        InputError, match=r"lost\.csv: it is a link to .*nowhere\.csv, which is not"
    ):
        score([dumps], "all.csv", models=models)
    assert models.opened == 0
    assert list(Path().iterdir()) == [Path("dumps")]
    (dumps / "lost.csv").unlink()
    assert score([dumps], "all.csv")["status"] == "complete"
