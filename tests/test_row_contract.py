"""Rows in, the same rows out, with a label and a score each: what makes people trust it."""

import csv
import gzip
import io
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchsent.commands.batch import batch
from batchsent.errors import InputError, UsageError
from tests.column_types import everything
from tests.csv_cases import UGLY, as_csv_reads, score_cells, without_new_fields
from tests.hash_model import HashModels, expected
from tests.property_settings import QUIET

CELL = st.text(alphabet=st.sampled_from('ab é,"\r\n ;0\u200b'), max_size=12)


def run(source, target, **options):
    """Score with the hash model and return the summary."""
    return batch(source, target, models=HashModels(), **options)


@given(
    rows=st.lists(st.tuples(CELL, CELL, CELL), max_size=12),
    ending=st.sampled_from(["\n", "\r\n", "\r"]),
    quote_all=st.booleans(),
    bom=st.booleans(),
    final=st.booleans(),
    chunk_rows=st.integers(1, 5),
)
@QUIET
def test_csv_comes_out_as_it_went_in_with_two_fields_more(
    tmp_path, rows, ending, quote_all, bom, final, chunk_rows
):
    """Every byte of a CSV is in the output, in place.

    Label and score stand at the end of each record.
    """

    def field(cell):  # csv.writer of Python 3.11 leaves a lone CR unquoted
        quoted = quote_all or any(c in '",\r\n' for c in cell)
        return '"' + cell.replace('"', '""') + '"' if quoted else cell

    data = "".join(",".join(map(field, row)) + ending for row in [("id", "text", "more"), *rows])
    if not final and data.endswith(ending):
        data = data[: -len(ending)]
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_bytes((b"\xef\xbb\xbf" if bom else b"") + data.encode())
    summary = run(source, target, chunk_rows=chunk_rows, overwrite=True, restart=True)
    read = list(csv.reader(io.StringIO(target.read_bytes().decode("utf-8-sig"), newline="")))
    assert read[0] == ["id", "text", "more", "label", "score"]
    assert [row[:3] for row in read[1:]] == [list(row) for row in rows]
    assert [row[3:] for row in read[1:]] == [score_cells(text) for _, text, _ in rows]
    assert (
        summary["rows"]["read"] == len(rows) == summary["rows"]["scored"] + summary["rows"]["blank"]
    )
    assert without_new_fields(target.read_bytes()) == source.read_bytes()


@pytest.mark.parametrize("data", [d for _, d in UGLY], ids=[n for n, _ in UGLY])
def test_ugly_csv_is_kept_to_the_byte(tmp_path, data):
    """Removing the two new fields from every record of the output gives the input."""
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_bytes(data)
    summary = run(source, target)
    assert without_new_fields(target.read_bytes()) == data
    assert summary["rows"]["written"] == len(as_csv_reads(data)) - 1


def test_texts_are_what_the_csv_means(tmp_path):
    """The model reads unquoted text, NA as text, U+FFFD for bytes that are no UTF-8."""
    (tmp_path / "in.csv").write_bytes(b'text\nNA\n"a ""b"""\ncaf\xe9\n')
    summary = run(tmp_path / "in.csv", tmp_path / "out.csv")
    labels = pd.read_csv(tmp_path / "out.csv", encoding="latin-1", keep_default_na=False)[
        "label"
    ].tolist()
    assert labels == [expected(text)[0] for text in ("NA", 'a "b"', "caf\ufffd")]
    assert [w["code"] for w in summary["warnings"] if w["code"] == "invalid_encoding"]


def test_scores_in_csv_read_back_to_the_same_float32(tmp_path):
    """The decimals written are the shortest that give the same number."""
    texts = [f"text {n}" for n in range(500)]
    (tmp_path / "in.csv").write_text("text\n" + "\n".join(texts) + "\n")
    run(tmp_path / "in.csv", tmp_path / "out.csv")
    found = pd.read_csv(tmp_path / "out.csv", dtype={"score": str})["score"]
    for text, written in zip(texts, found, strict=True):
        score = expected(text)[1]
        assert np.float32(written) == score
        assert len(written) <= len(repr(float(score)))


@pytest.mark.parametrize("codec", ["snappy", "zstd", "none", "gzip"])
def test_c01_parquet_keeps_schema_values_codec_and_row_groups(tmp_path, codec):
    """Everything but the two new columns is as it was: types, metadata, values, compression, row
    groups.
    """
    table = everything()
    pq.write_table(table, tmp_path / "in.parquet", compression=codec, row_group_size=3)
    run(tmp_path / "in.parquet", tmp_path / "out.parquet", chunk_rows=2)
    before, after = (
        pq.ParquetFile(tmp_path / "in.parquet"),
        pq.ParquetFile(tmp_path / "out.parquet"),
    )
    names = before.schema_arrow.names
    assert after.schema_arrow.names == [*names, "label", "score"]
    for field in before.schema_arrow:
        assert after.schema_arrow.field(field.name).equals(field, check_metadata=True)
    assert after.schema_arrow.metadata[b"made"] == b"by hand"
    assert (
        after.read()
        .select(names)
        .drop_columns("double")
        .equals(before.read().drop_columns("double"))
    )
    doubles = [f.read()["double"].to_numpy() for f in (before, after)]
    assert doubles[0].tobytes() == doubles[1].tobytes()
    groups = [
        [f.metadata.row_group(n).num_rows for n in range(f.num_row_groups)] for f in (before, after)
    ]
    assert groups == [[3, 3, 1]] * 2
    codecs = [
        {f.metadata.row_group(0).column(n).compression for n in range(f.metadata.num_columns)}
        for f in (before, after)
    ]
    assert codecs[0] == codecs[1]
    written = after.read(["text", "label", "score"]).to_pylist()
    assert [(row["label"], row["score"]) for row in written] == [
        expected(row["text"]) for row in written
    ]


def test_c02_pandas_gets_its_index_and_types_back(tmp_path):
    """A frame written by pandas comes back with the same index, categories and nullable integers."""
    frame = pd.DataFrame(
        {
            "text": ["a", "b", None],
            "kind": pd.Categorical(["x", "y", "x"], categories=["y", "x", "z"], ordered=True),
            "count": pd.array([1, None, 3], dtype="Int64"),
        },
        index=pd.Index([10, 20, 30], name="key"),
    )
    frame.to_parquet(tmp_path / "in.parquet")
    run(tmp_path / "in.parquet", tmp_path / "out.parquet")
    back = pd.read_parquet(tmp_path / "out.parquet")
    pd.testing.assert_frame_equal(
        back.drop(columns=["label", "score"]), pd.read_parquet(tmp_path / "in.parquet")
    )
    assert back["score"].dtype == np.float32


@given(
    texts=st.lists(st.one_of(st.none(), st.text(max_size=10)), max_size=20),
    group=st.integers(1, 7),
    chunk_rows=st.integers(1, 6),
)
@QUIET
def test_parquet_rows_stay_in_order_and_number(tmp_path, texts, group, chunk_rows):
    """However row groups and chunks fall, row n of the output is row n of the input."""
    table = pa.table(
        {"n": pa.array(range(len(texts)), pa.int32()), "text": pa.array(texts, pa.string())}
    )
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=group)
    run(
        tmp_path / "in.parquet",
        tmp_path / "out.parquet",
        chunk_rows=chunk_rows,
        overwrite=True,
        restart=True,
    )
    out = pq.read_table(tmp_path / "out.parquet")
    assert out.select(["n", "text"]).equals(table)
    assert list(zip(out["label"].to_pylist(), out["score"].to_pylist(), strict=True)) == [
        expected(t) for t in texts
    ]


@pytest.mark.parametrize(
    "source",
    ["csv", "tsv", "parquet", "arrow", "jsonl", "csv.gz", "tsv.zst", "arrow.gz", "ndjson.gz"],
)
@pytest.mark.parametrize(
    "target", ["csv", "tsv", "parquet", "arrow", "jsonl", "csv.zst", "tsv.gz", "ndjson.zst"]
)
def test_every_format_goes_into_every_other(tmp_path, source, target):
    """Texts with delimiters, quotes and line ends survive each way, and the scores are the same."""
    texts = ["plain", 'say "hi", now', "two\nlines", "tab\there", "", "NA", "é"]
    rows = [(f"00{n}", text) for n, text in enumerate(texts)]
    first = tmp_path / "first.csv"
    with first.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "text"), *rows])
    given_path = tmp_path / f"in.{source}"
    run(first, given_path, prefix="old_")
    run(given_path, tmp_path / f"out.{target}", text_column="text")
    # Back to CSV, whatever it was.
    run(tmp_path / f"out.{target}", tmp_path / "back.csv", prefix="again_")
    with (tmp_path / "back.csv").open(newline="") as file:
        back = list(csv.DictReader(file))
    assert [(row["id"], row["text"]) for row in back] == rows
    assert [[row["label"], row["score"]] for row in back] == [score_cells(text) for text in texts]


def test_probabilities_and_details_are_columns_of_their_own(tmp_path):
    """--probabilities adds one column a label, --details the tokens read and whether the text was
    cut.
    """
    (tmp_path / "in.csv").write_text("text\nsome words here\n\n  x\n")
    run(
        tmp_path / "in.csv", tmp_path / "out.parquet", probabilities=True, details=True, prefix="p_"
    )
    out = pq.read_table(tmp_path / "out.parquet")
    names = [
        "text",
        "p_label",
        "p_score",
        "p_prob_NEGATIVE",
        "p_prob_POSITIVE",
        "p_n_tokens",
        "p_truncated",
    ]
    assert out.column_names == names
    first = out.to_pylist()[0]
    assert first["p_score"] == max(first["p_prob_NEGATIVE"], first["p_prob_POSITIVE"])
    assert (first["p_n_tokens"], first["p_truncated"]) == (3, False)
    run(tmp_path / "in.csv", tmp_path / "details.csv", details=True)
    assert (tmp_path / "details.csv").read_text().splitlines()[1].endswith(",3,false")


def test_a_limit_takes_the_first_rows(tmp_path):
    """--limit 3 writes the first three rows and no more."""
    (tmp_path / "in.csv").write_text("text\n" + "".join(f"row {n}\n" for n in range(9)))
    summary = run(tmp_path / "in.csv", tmp_path / "out.csv", limit=3, chunk_rows=2)
    assert (tmp_path / "out.csv").read_text().count("row") == summary["rows"]["read"] == 3


def test_gzip_in_several_members_is_one_stream(tmp_path):
    """E17: files made with cat a.gz b.gz are read to their end."""
    whole = gzip.compress(b"id,text\n1,a\n") + gzip.compress(b"2,b\n")
    (tmp_path / "in.csv.gz").write_bytes(whole)
    run(tmp_path / "in.csv.gz", tmp_path / "out.csv")
    assert len((tmp_path / "out.csv").read_bytes().splitlines()) == 3


ENCODINGS = [
    ("latin-1", "café"),
    ("cp1252", "“quoted”"),
    ("shift_jis", "日本語、ソ"),
    ("big5", "中文功"),
    ("gb18030", "中文㐀"),
]


@pytest.mark.parametrize(("encoding", "text"), ENCODINGS)
def test_b04_other_encodings_keep_their_bytes(tmp_path, encoding, text):
    """The model reads the right text and the file keeps its bytes."""
    data = f"id,text\n1,{text}\n2,b\n".encode(encoding)
    (tmp_path / "in.csv").write_bytes(data)
    run(tmp_path / "in.csv", tmp_path / "out.csv", encoding=encoding)
    lines = (tmp_path / "out.csv").read_bytes().splitlines()
    assert lines[1].startswith(data.splitlines()[1] + b",")
    assert lines[1].decode(encoding).split(",")[2:] == score_cells(text)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_b05_utf_16_comes_out_as_utf_16(tmp_path, encoding):
    """Wide encodings are transcoded and back, byte order mark and all."""
    data = "id,text\r\n1,é😀\r\n".encode(encoding)
    (tmp_path / "in.csv").write_bytes(data)
    run(tmp_path / "in.csv", tmp_path / "out.csv", encoding=encoding)
    out = (tmp_path / "out.csv").read_bytes().decode(encoding)
    assert out == "id,text,label,score\r\n1,é😀," + ",".join(score_cells("é😀")) + "\r\n"
    assert (tmp_path / "out.csv").read_bytes()[:4] == data[:4]


def test_b05_undeclared_utf_16_is_told(tmp_path):
    """A UTF-16 file without --encoding is an error that names the option."""
    (tmp_path / "in.csv").write_bytes("id,text\n1,a\n".encode("utf-16"))
    with pytest.raises(InputError, match="looks like UTF-16") as caught:
        run(tmp_path / "in.csv", tmp_path / "out.csv")
    assert "--encoding utf-16" in caught.value.hint


def test_a_column_that_exists_is_refused_before_the_model_loads(tmp_path):
    """A25: scoring one's own output again names --prefix, and does not wait for the model first."""
    (tmp_path / "in.csv").write_text("text,label\na,b\n")
    models = HashModels()
    with pytest.raises(UsageError, match="a column called label already") as caught:
        batch(tmp_path / "in.csv", tmp_path / "out.csv", models=models)
    assert "--prefix" in caught.value.hint
    assert not models.opened
    assert not (tmp_path / "out.csv").exists()


def test_the_summary_vouches_for_the_output(tmp_path):
    """The summary holds size and hash of the data, and its counts add up."""
    import hashlib

    (tmp_path / "in.csv").write_text('text\na\n""\nb\n')
    run(tmp_path / "in.csv", tmp_path / "out.csv")
    summary = json.loads((tmp_path / "out.csv.summary.json").read_bytes())
    data = (tmp_path / "out.csv").read_bytes()
    (output,) = summary["outputs"]
    assert (output["bytes"], output["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    rows = summary["rows"]
    assert (
        rows["read"] == 3 == rows["scored"] + rows["blank"] + rows["rejected"] + rows["nonfinite"]
    )
    assert rows["blank"] == 1
