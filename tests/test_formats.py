"""The table of formats: each entry is whole, and each source keeps what its protocol promises."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from batchsent.commands.evaluate import evaluate
from batchsent.errors import UsageError
from batchsent.formats import FORMATS, ReadOptions, open_source
from batchsent.formats.catalog import SUFFIXES
from batchsent.formats.opening import format_of
from batchsent.formats.streams import Compressed, InputStream
from batchsent.formats.tables import write_table
from batchsent.run.options import BatchOptions
from batchsent.verification.comparing import COMPARISONS

ROWS = pa.table(
    {
        "id": ["007", "8", "9"],
        "text": ["a good film", None, "so bad,\nso long"],
        "stars": pa.array(["5", "3", "1"]),
    }
)


def written(path, rows=ROWS):
    """The rows as a file in the format that its name says."""
    with path.open("wb") as file:
        write_table(file, str(path), rows)
    return str(path)


@pytest.fixture(params=[f"rows{known.suffixes[0]}" for known in FORMATS.values()])
def path(request, tmp_path):
    """The same rows in each format."""
    return written(tmp_path / request.param)


def test_every_format_has_a_comparison_for_verify():
    """What can be written can be verified."""
    assert set(COMPARISONS) == set(FORMATS)


def test_every_format_is_a_choice_of_the_options():
    """The help names the formats that the table has."""
    for name in ("input_format", "output_format"):
        choices = BatchOptions.__dataclass_fields__[name].metadata["choices"]
        assert choices == tuple(FORMATS)


def test_a_suffix_means_one_format():
    """No two formats claim the same ending."""
    assert len(SUFFIXES) == sum(len(known.suffixes) for known in FORMATS.values())


def test_what_is_written_as_a_table_is_read_as_a_source(path):
    """Each format reads the table that it writes: same names, same cells."""
    source = open_source(path)
    assert source.columns == ROWS.column_names
    assert source.format == SUFFIXES["." + path.rpartition(".")[2]]
    (chunk,) = source.chunks(["stars", "id"])
    assert chunk.columns == {"stars": ["5", "3", "1"], "id": ["007", "8", "9"]}
    assert [text or None for text in chunk.texts] == ROWS["text"].to_pylist()
    source.close()


def test_what_a_chunk_carries_gives_each_column_back(path):
    """Cells, column and table of a chunk are the same values."""
    source = open_source(path)
    (chunk,) = source.chunks()
    for position in range(len(source.columns)):
        cells = chunk.carried.cells(position)
        assert cells == chunk.carried.column(position).to_pylist()
        assert cells == chunk.carried.table(source.schema).column(position).to_pylist()
    source.close()


def test_a_source_that_was_checked_is_read_from_its_first_row(path):
    """The check before a run and the run itself read one opened file."""
    source = open_source(path, gold_column="stars")
    fresh = open_source(path, gold_column="stars")
    structure = source.check([])
    assert structure.rows in {3, None}
    assert structure.bad_rows == 0
    ours, theirs = list(source.chunks()), list(fresh.chunks())
    assert [(c.start_row, c.texts, c.gold) for c in ours] == [
        (c.start_row, c.texts, c.gold) for c in theirs
    ]
    assert source.facts() == fresh.facts()
    source.close()
    fresh.close()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_a_checked_csv_starts_over_whatever_its_encoding(tmp_path, encoding, suffix):
    """Preamble, header and byte order mark are read again, and the hash is of one reading."""
    text = "# exported\n\nid,text\n1,good\n2,bäd\n\n3,\n"
    path = tmp_path / f"in.csv{suffix}"
    with path.open("wb") as file:
        stream = Compressed(file, str(path))
        stream.write(text.encode(encoding))
        stream.finish()
    options = ReadOptions(
        skip_lines=1, encoding="utf-8" if encoding == "utf-8-sig" else encoding, chunk_rows=2
    )
    source = open_source(str(path), options)
    structure = source.check([])
    assert structure.rows == 3
    texts = [text for chunk in source.chunks() for text in chunk.texts]
    assert texts == ["good", "bäd", ""]
    assert source.facts()["sha256"] == structure.sha256
    source.close()


def test_a_source_reads_the_file_that_was_opened(tmp_path):
    """A file that takes the name of another one after the check does not get into the run."""
    path = tmp_path / "in.csv"
    path.write_text("text\nold\n")
    source = open_source(str(path))
    source.check([])
    other = tmp_path / "other.csv"
    other.write_text("text\nnew\n")
    other.replace(path)
    (chunk,) = source.chunks()
    assert chunk.texts == ["old"]
    source.close()


def test_a_file_without_a_text_column_is_opened_where_none_is_needed(tmp_path, path):
    """Its texts are None; where one is needed the file is refused."""
    name = path.rpartition("/")[2]
    bare = written(tmp_path / f"bare-{name}", ROWS.drop_columns(["text"]))
    source = open_source(bare, needs_text=False)
    assert source.check([]).rows in {3, None}
    (chunk,) = source.chunks(["id"])
    assert chunk.texts == [None, None, None]
    assert chunk.columns == {"id": ["007", "8", "9"]}
    assert source.facts()["columns"]["text"] is None
    source.close()
    with pytest.raises(UsageError, match="no column called text or review"):
        open_source(bare)


def test_peeked_bytes_are_read_again(tmp_path):
    """Looking at the start of a stream takes nothing from its reader, whatever the sizes."""
    path = tmp_path / "bytes"
    path.write_bytes(bytes(range(100)))
    stream = InputStream(str(path))
    assert stream.peek(10) == bytes(range(10))
    assert stream.peek(5) == bytes(range(5))
    assert stream.peek(20) == bytes(range(20))
    assert stream.read(3) == bytes(range(3))
    assert stream.read(50) == bytes(range(3, 53))
    assert stream.peek(4) == bytes(range(53, 57))
    assert stream.read() == bytes(range(53, 100))
    assert stream.peek(1) == b""
    stream.rewind()
    assert stream.size == 0
    assert stream.read() == bytes(range(100))
    assert stream.size == 100
    stream.close()


def test_help_reads_no_format(tmp_path):
    """The names of the formats are known without the modules that read them."""
    code = (
        "import sys, batchsent.run.options\n"
        "names = {f'batchsent.formats.{n}' for n in ('csv', 'csv_sinks', 'arrow', 'parquet')}\n"
        "print(sorted(names & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_scored_file_from_a_pipe_is_judged_where_its_labels_are_named(tmp_path):
    """Only the search for the labels reads a file a second time."""
    scored = pa.table(
        {
            "text": ["a", "b"],
            "label": ["NEGATIVE", "POSITIVE"],
            "score": pa.array([0.75, 0.5], pa.float32()),
            "gold": ["NEGATIVE", "NEGATIVE"],
        }
    )
    path = written(tmp_path / "scored.csv", scored)
    expected = evaluate(path, gold="gold", labels="NEGATIVE,POSITIVE")
    code = (
        "import json, batchsent\n"
        "found = batchsent.evaluate('-', gold='gold', labels='NEGATIVE,POSITIVE')\n"
        "print(json.dumps(found['evaluation']))"
    )
    with Path(path).open("rb") as file:
        done = subprocess.run([sys.executable, "-c", code], stdin=file, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(json.dumps(expected["evaluation"]))
    with pytest.raises(UsageError, match="stdin") as caught:
        evaluate("-", gold="gold")
    assert "--labels" in caught.value.hint


def test_a_count_column_is_read_as_numbers_from_typed_formats(tmp_path):
    """Cells are Python values: text in CSV, numbers where the format has numbers."""
    rows = pa.table({"text": ["a"], "n": pa.array([3], pa.int32())})
    for name, cell in (("n.csv", "3"), ("n.parquet", 3), ("n.arrow", 3)):
        source = open_source(written(tmp_path / name, rows))
        (chunk,) = source.chunks(["n"])
        assert chunk.columns == {"n": [cell]}
        source.close()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("sheet.xlsx", "save the sheet as CSV (UTF-8) and name that; else use one of .csv"),
        ("rows.json", "where each line is an object: --input-format jsonl; use one of .csv"),
        ("rows.parquet.gz", "decompress it, or, where the suffix alone is wrong, rename it"),
    ],
)
def test_an_input_of_another_format_is_refused_with_what_to_do(name, hint):
    with pytest.raises(UsageError) as caught:
        format_of(name, what="input")
    assert caught.value.hint.startswith(hint)
