"""stream(path): the rows of a file reach a program with their scores, and nothing is written."""

import os
import threading
import time
from contextlib import suppress

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import batchsent
from batchsent.errors import InputError, UsageError
from tests.column_types import everything
from tests.hash_model import HashModels, expected


def stream(path, **options):
    """Stream with the hash model."""
    return batchsent.stream(path, models=HashModels(), **options)


@pytest.fixture
def dump(tmp_path):
    """A CSV of fifty rows."""
    path = tmp_path / "reviews.csv"
    path.write_text("id,text\n" + "".join(f'{n:03},"text, {n}"\n' for n in range(50)))
    return path


def test_the_rows_of_a_csv_arrive_in_chunks(dump):
    """All columns are text, as they stand there; a chunk is a batch."""
    reader = stream(dump, chunk_rows=20)
    assert reader.schema.names == ["id", "text", "label", "score"]
    batches = list(reader)
    assert [batch.num_rows for batch in batches] == [20, 20, 10]
    table = pa.Table.from_batches(batches)
    assert table["id"].to_pylist() == [f"{n:03}" for n in range(50)]
    rows = zip(table["label"].to_pylist(), table["score"].to_pylist(), strict=True)
    assert list(rows) == [expected(f"text, {n}") for n in range(50)]


@pytest.mark.parametrize("name", ["in.arrow", "in.parquet"])
def test_types_and_values_are_those_that_batch_writes(tmp_path, name):
    """The Arrow output of batch has the same rows, with the same options."""
    table = everything().drop_columns(["half", "view", "double"])  # Parquet, and NaN
    if name.endswith("arrow"):
        with pa.ipc.new_stream(tmp_path / name, table.schema) as writer:
            writer.write_table(table)
    else:
        pq.write_table(table, tmp_path / name)
    options = {"details": True, "probabilities": True, "prefix": "p_", "limit": 5}
    batchsent.batch(tmp_path / name, tmp_path / "out.arrow", models=HashModels(), **options)
    written = pa.ipc.open_stream(tmp_path / "out.arrow").read_all()
    streamed = stream(tmp_path / name, **options).read_all()
    assert streamed.schema.equals(written.schema)
    assert streamed.combine_chunks().equals(written.combine_chunks())


def test_a_parquet_file_comes_in_batches_of_a_chunk(tmp_path):
    """Not of the few rows that are decoded at once."""
    pq.write_table(pa.table({"text": ["good"] * 100}), tmp_path / "in.parquet")
    assert [rows.num_rows for rows in stream(tmp_path / "in.parquet", chunk_rows=80)] == [80, 20]


def test_nothing_is_written(dump):
    """Neither beside the input nor in the working folder."""
    stream(dump).read_all()
    assert [path.name for path in dump.parent.iterdir()] == ["reviews.csv"]


def test_leaving_it_ends_its_threads(dump):
    """After a break, and for a reader that nobody read."""
    before = threading.active_count()
    for _ in stream(dump, chunk_rows=5):
        assert threading.active_count() > before
        break
    stream(dump)
    assert threading.active_count() == before


def test_what_is_read_in_advance_is_bounded(tmp_path):
    """The first rows of a pipe without an end arrive, and little more is taken from it."""
    pipe = tmp_path / "endless.csv"
    os.mkfifo(pipe)
    written = []

    def write():
        with suppress(BrokenPipeError), pipe.open("w") as file:
            file.write("text\n")
            while True:
                file.write(f"text {len(written)} {'and so on ' * 100}\n")
                written.append(1)

    writer = threading.Thread(target=write)
    writer.start()
    reader = stream(pipe, chunk_rows=100)
    for _ in range(3):
        assert reader.read_next_batch().num_rows == 100
    time.sleep(0.3)
    assert 300 < len(written) < 8_000  # 1 kB each: three blocks of 1 MB and ten chunks
    del reader
    writer.join(timeout=20)
    assert not writer.is_alive()


# --- bad input


def test_a_bad_row_is_said_when_it_is_reached(tmp_path):
    """With its line, and a hint in Python."""
    path = tmp_path / "bad.csv"
    path.write_text("id,text\n1,a\n2,b\n3,c,d\n4,e\n")
    reader = stream(path)
    with pytest.raises(InputError, match=r"bad.csv, line 4: 3 field") as caught:
        reader.read_all()
    assert "bad_rows='reject'" in caught.value.hint


def test_bad_rows_are_left_out_where_that_is_asked_for(tmp_path):
    """One warning counts them and names the first."""
    path = tmp_path / "bad.csv"
    path.write_text("id,text\n1,a\n" + "2,b,c\n" * 5 + "3,d\n")
    with pytest.warns(UserWarning, match=r"5 row\(s\) .* left out \(line 3: 3 field.*, \.\.\.\)"):
        table = stream(path, bad_rows="reject").read_all()
    assert table["id"].to_pylist() == ["1", "3"]


def test_parquet_text_that_is_not_utf8_is_refused_with_its_row(tmp_path):
    """Readers of Arrow refuse such a stream, or worse."""
    column = pa.array([b"good", b"caf\xe9"])
    text = pa.Array.from_buffers(pa.string(), 2, column.buffers())
    pq.write_table(pa.table({"text": ["a", "b"], "other": text}), tmp_path / "in.parquet")
    with pytest.raises(InputError, match="row 2: column other holds bytes that are not UTF-8"):
        stream(tmp_path / "in.parquet").read_all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"text_column": "review"}, "no column called review"),
        ({"prefix": "\x07"}, "not printable"),
        ({"unsure_below": 7.0}, "unsure_below=7 is not a score"),
        ({"overwrite": True}, "no option 'overwrite'"),
        ({"gold": "id"}, "no option 'gold'"),
        ({"polarity_labels": "negative=a,positive=b", "polarity": True}, "no label"),
    ],
)
def test_what_is_wrong_with_the_options_is_said_at_once(dump, options, said):
    """Before the model loads; options about outputs are not options here."""
    models = HashModels()
    with pytest.raises(UsageError, match=said):
        batchsent.stream(dump, models=models, **options)
    assert models.opened == 0


@pytest.mark.parametrize("given", [None, 3, ["a.csv"], pa.table({"text": ["a"]})], ids=str)
def test_only_a_path_is_streamed(given):
    """Anything else is said, with what takes it."""
    with pytest.raises(UsageError, match="stream takes a path, not"):
        stream(given)


def test_a_file_without_rows_gives_the_columns(tmp_path):
    """And no batch."""
    (tmp_path / "in.csv").write_text("text\n")
    assert stream(tmp_path / "in.csv").read_all().column_names == ["text", "label", "score"]


def test_json_lines_have_the_columns_of_their_first_rows(tmp_path):
    """A later row with another member is a bad row, because an Arrow stream has one schema."""
    path = tmp_path / "in.jsonl"
    filler = '{"n": "' + "long " * 20_000 + '"}\n'
    path.write_text('{"text": "good", "n": 1}\n{"text": null}\n' + filler * 12)
    assert stream(path, limit=2).read_all()["label"].to_pylist() == [expected("good")[0], None]
    with path.open("a") as file:
        file.write('{"text": "bad", "label": 3}\n' * 3)
    with pytest.warns(UserWarning, match=r"3 row\(s\) cannot be taken"):
        assert stream(path, bad_rows="reject").read_all().num_rows == 14


def test_an_arrow_stream_that_was_cut_short_is_told(tmp_path):
    """Its rows arrive, as in batch, and a warning says that some may be missing."""
    path, table = tmp_path / "in.arrow", pa.table({"text": ["good"]})
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.warns(UserWarning, match="stopped without its end mark"):
        assert stream(path).read_all().num_rows == 1
