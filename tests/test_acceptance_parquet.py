"""Parquet and Arrow streams as people really have them: the rest of group C of tests/ACCEPTANCE.md."""

import datetime
import io
import struct
from dataclasses import replace
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchsent.commands.batch import batch
from batchsent.errors import BatchsentError, InputError, UsageError
from batchsent.formats import FORMATS, parquet_sinks
from batchsent.verification.verify import verify
from tests.hash_model import HashModels, expected

ROWS = pa.table({"id": [1, 2, 3], "text": ["a", None, "c"]})


def parquet(table, **options):
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def stream(table, *, as_file=False):
    sink = io.BytesIO()
    with (pa.ipc.new_file if as_file else pa.ipc.new_stream)(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def run(folder, data, name="in.parquet", out="out.parquet", **options):
    (folder / name).write_bytes(data)
    return batch(folder / name, folder / out, models=HashModels(), **options)


def scores(path):
    table = pq.read_table(path)
    return list(zip(table["label"].to_pylist(), table["score"].to_pylist(), strict=True))


def nested(value):
    return pa.table({"review": pa.array(value)})


def flipped(**options):
    """Many rows with one byte of a text changed."""
    table = pa.table({"text": [f"some text {n} " + "x" * 50 for n in range(2000)]})
    data = bytearray(parquet(table, compression="none", use_dictionary=False, **options))
    data[data.index(b"some text 700 ") + 20] ^= 1
    return bytes(data)


def bad_offset():
    """An Arrow stream in which a text ends two gigabytes behind its buffer."""
    data = bytearray(stream(pa.table({"text": ["a", "b"]})))
    at = data.index(struct.pack("<iii", 0, 1, 2))
    data[at + 8 : at + 12] = struct.pack("<i", 2**31 - 10)
    return bytes(data)


def evil_extension():
    """A stream whose schema names the pickled extension type of CVE-2023-47248, with a payload."""
    metadata = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": b"cos\nsystem\n(S'touch pwned'\ntR.",
    }
    field = pa.field("x", pa.int32(), metadata=metadata)
    return pa.table(
        [["a"], pa.array([1], pa.int32())], schema=pa.schema([("text", pa.string()), field])
    )


GOOD = parquet(ROWS)
REFUSED = [
    ("c10_cut", GOOD[:-20], {}, 4, "not a readable Parquet file", "copy it again"),
    ("c10_no_footer", GOOD[:100], {}, 4, "not a readable Parquet file", "copy it again"),
    ("c10_empty", b"", {}, 4, "empty input", "Parquet"),
    ("c10_csv", b"id,text\n1,a\n", {}, 4, "not a readable Parquet file", "--input-format csv"),
    ("c10_mark_only", b"PAR1PAR1", {}, 4, "not a readable Parquet file", "copy"),
    ("c11_flipped_byte", flipped(write_page_checksum=True), {}, 4, "CRC checksum", "copy it again"),
    ("c16_encrypted", b"PAR1" + b"x" * 99 + b"\x10\0\0\0PARE", {}, 4, "encrypted", "decrypt"),
    ("c07_numbers", parquet(pa.table({"text": [1, 2]})), {}, 2, "int64, not text", "--text-column"),
    (
        "c07_fixed_bytes",
        parquet(pa.table({"text": pa.array([b"ab"], pa.binary(2))})),
        {},
        2,
        "not text",
        "--text",
    ),
    ("c13_struct", parquet(nested([{"text": "a"}])), {}, 2, "not text", "review.text"),
    (
        "c13_typo",
        parquet(nested([{"text": "a"}])),
        {"text_column": "review.txt"},
        2,
        "no column called",
        "struct",
    ),
    ("c13_list", parquet(nested([["a"]])), {}, 2, "not text", "--text-column"),
]


@pytest.mark.parametrize(
    ("data", "options", "code", "message", "hint"),
    [r[1:] for r in REFUSED],
    ids=[r[0] for r in REFUSED],
)
def test_what_cannot_be_read_is_told_with_its_mending(tmp_path, data, options, code, message, hint):
    """One message, one hint, the right exit code, and nothing under the output's name."""
    with pytest.raises(BatchsentError) as caught:
        run(tmp_path, data, **options)
    assert caught.value.exit_code == code
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert hint in caught.value.hint
    assert not (tmp_path / "out.parquet").exists()


def test_c11_a_flipped_byte_without_checksums_cannot_be_known(tmp_path):
    """Parquet writers put checksums in only where asked to: without them the changed text is the
    text.
    """
    assert run(tmp_path, flipped())["rows"]["written"] == 2000


TEXTS = [
    ("large_string", pa.array(["a", None, "é"], pa.large_string())),
    ("string_view", pa.array(["a", None, "é"], pa.string_view())),
    ("dictionary", pa.array(["a", None, "é"]).dictionary_encode()),
    ("binary", pa.array([b"a", None, "é".encode()])),
    ("large_binary", pa.array([b"a", None, "é".encode()], pa.large_binary())),
    ("null", pa.nulls(3)),
]


@pytest.mark.parametrize("column", [t[1] for t in TEXTS], ids=[t[0] for t in TEXTS])
def test_c07_c08_text_of_every_type_is_read_and_kept(tmp_path, column):
    """Texts are scored, nulls get null, and the column keeps its type."""
    data = parquet(pa.table({"text": column}))
    run(tmp_path, data)
    assert scores(tmp_path / "out.parquet") == [
        expected(t) for t in (["a", None, "é"] if len(set(column)) > 1 else [None] * 3)
    ]
    before = pq.ParquetFile(io.BytesIO(data)).read()
    assert pq.ParquetFile(tmp_path / "out.parquet").read().select(["text"]).equals(before)


def test_c07_bytes_that_are_no_utf_8_are_counted(tmp_path):
    """Binary text is decoded with U+FFFD.

    The file keeps the bytes and the summary says how many.
    """
    summary = run(tmp_path, parquet(pa.table({"text": [b"caf\xe9", b"ok"]})))
    assert scores(tmp_path / "out.parquet")[0] == expected("caf\ufffd")
    assert pq.read_table(tmp_path / "out.parquet")["text"].to_pylist() == [b"caf\xe9", b"ok"]
    assert [w["message"][:9] for w in summary["warnings"] if w["code"] == "invalid_encoding"] == [
        "1 text(s)"
    ]


def not_utf_8(rows=3):
    """A text column that says utf-8 and holds latin-1 in its last row."""
    raw = pa.array([b"fine"] * (rows - 1) + ["caf\u00e9 bar".encode("latin-1")], pa.binary())
    return pa.Array.from_buffers(pa.string(), rows, raw.buffers())


def inside(kind, rows=3):
    """The same as it is, inside a struct or inside lists."""
    if kind == "struct":
        return pa.StructArray.from_arrays([not_utf_8(rows)], ["name"])
    return (
        not_utf_8(rows)
        if kind == "plain"
        else pa.ListArray.from_arrays(list(range(rows + 1)), not_utf_8(rows))
    )


@pytest.mark.parametrize("kind", ["plain", "struct", "list"])
@pytest.mark.parametrize("out", ["out.parquet", "out.csv", "out.arrow"])
def test_c07_bytes_that_are_no_utf_8_are_copied_or_refused_with_their_row(tmp_path, kind, out):
    """Parquet and plain CSV fields keep the bytes; where they cannot stand, the row is named before
    a model loads.
    """
    rows, models = 100, HashModels()
    table = pa.table({"text": [f"review {n}" for n in range(rows)], "other": inside(kind, rows)})
    pq.write_table(table, tmp_path / "in.parquet")
    if out == "out.parquet" or (out == "out.csv" and kind == "plain"):
        batch(tmp_path / "in.parquet", tmp_path / out, models=models)
        assert verify(tmp_path / "in.parquet", tmp_path / out)["status"] == "same"
        return
    with pytest.raises(
        InputError, match=r"in.parquet, row 100: column other holds bytes that are not UTF-8"
    ) as caught:
        batch(tmp_path / "in.parquet", tmp_path / out, models=models)
    assert "Parquet" in caught.value.hint
    assert not models.opened
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]
    # The rows ahead of it can be had.
    batch(tmp_path / "in.parquet", tmp_path / out, models=models, limit=99)
    assert verify(tmp_path / "in.parquet", tmp_path / out)["status"] == "same"


def test_c07_a_gold_column_that_is_no_utf_8_is_a_gold_value_like_any_other(tmp_path):
    """Its undecodable cell meets no label and is counted so."""
    table = pa.table({"text": ["a", "b", "c"], "gold": not_utf_8()})
    summary = run(tmp_path, parquet(table), gold="gold", gold_map="fine=POSITIVE")
    assert summary["evaluation"]["rows"] == 2
    with pytest.raises(InputError, match="column gold holds bytes that are not UTF-8"):
        run(
            tmp_path,
            parquet(table.set_column(1, "gold", inside("list"))),
            gold="gold",
            overwrite=True,
        )


@pytest.mark.parametrize(("index", "copied"), [(pa.int32(), True), (pa.int8(), False)])
def test_c07_a_dictionary_that_is_no_utf_8_is_told_from_damage(tmp_path, index, copied):
    """Arrow itself refuses to read some of them, so there is nothing to copy.

    The message says what to mend.
    """
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2], index), not_utf_8())
    data = parquet(pa.table({"text": ["a", "b", "c"], "other": column}))
    if copied:
        run(tmp_path, data)
        assert verify(tmp_path / "in.parquet", tmp_path / "out.parquet")["status"] == "same"
    else:
        with pytest.raises(InputError, match="a dictionary column holds bytes that are not UTF-8"):
            run(tmp_path, data)


def test_c13_text_inside_a_struct_is_named_with_a_dot(tmp_path):
    """review.text of a null struct is null."""
    run(tmp_path, parquet(nested([{"text": "a"}, None, {"text": None}])), text_column="review.text")
    assert scores(tmp_path / "out.parquet") == [expected("a"), (None, None), (None, None)]


def test_c14_old_timestamps_without_an_arrow_schema_keep_their_values(tmp_path):
    """INT96 is read as nanoseconds and written as such."""
    stamps = pa.array([1_577_844_184_000_000_001], pa.timestamp("ns"))
    table = pa.table({"text": ["a"], "t": stamps})
    run(tmp_path, parquet(table, use_deprecated_int96_timestamps=True, store_schema=False))
    out = pq.read_table(tmp_path / "out.parquet")["t"]
    assert out.cast(pa.int64()).to_pylist() == stamps.cast(pa.int64()).to_pylist()


@pytest.mark.parametrize(
    "sizes", [[1] * 5, [1000, 1000, 500], [2500]], ids=["one", "thousand", "all"]
)
def test_c04_row_groups_keep_their_sizes(tmp_path, sizes):
    """Whatever the chunks, the output's row groups are the input's."""
    table = pa.table({"text": [f"t{n}" for n in range(sum(sizes))]})
    run(tmp_path, parquet(table, row_group_size=sizes[0]), chunk_rows=700)
    metadata = pq.ParquetFile(tmp_path / "out.parquet").metadata
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == sizes


def test_columns_of_one_name_are_kept(tmp_path):
    """A Parquet file may have two columns x; they are no concern of ours."""
    table = pa.table([["a"], [1], [2]], names=["text", "x", "x"])
    run(tmp_path, parquet(table))
    out = pq.ParquetFile(tmp_path / "out.parquet").read()
    assert out.column_names == ["text", "x", "x", "label", "score"]
    assert [out.column(n).to_pylist() for n in (1, 2)] == [[1], [2]]


def test_every_type_can_be_written_as_csv(tmp_path):
    """What CSV has no type for becomes text."""
    columns = {
        "text": ["a"],
        "view": pa.array([b"\xff"], pa.binary_view()),
        "interval": pa.array([(1, 2, 3)], pa.month_day_nano_interval()),
        "ends": pa.RunEndEncodedArray.from_arrays([1], [5]),
        "list": [[1, None]],
        "duration": pa.array([datetime.timedelta(1)], pa.duration("s")),
        'na\n"me': [1],
    }
    run(tmp_path, stream(pa.table(columns)), "in.arrow", "out.csv")
    assert (
        (tmp_path / "out.csv")
        .read_text()
        .startswith('text,view,interval,ends,list,duration,"na\n""me",label')
    )


def test_a_type_that_parquet_lacks_is_refused_before_the_model_loads(tmp_path):
    """A union column cannot go into Parquet: usage error, and nothing is left behind."""
    union = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])
    (tmp_path / "in.arrow").write_bytes(stream(pa.table({"text": ["a"], "u": union})))
    models = HashModels()
    with pytest.raises(UsageError, match="cannot be written as Parquet") as caught:
        batch(tmp_path / "in.arrow", tmp_path / "out.parquet", models=models)
    assert ".arrow" in caught.value.hint
    assert not models.opened
    assert [path.name for path in tmp_path.iterdir()] == ["in.arrow"]


DAMAGED = [
    ("c17_bad_offset", bad_offset(), "damaged Arrow stream"),
    ("c17_cut_in_a_batch", stream(ROWS)[:-40], "damaged Arrow stream"),
    ("c17_cut_in_the_schema", stream(ROWS)[:100], "not an Arrow stream"),
    ("c17_noise", b"\xff\xff\xff\xff" + b"\x7f" * 500, "not an Arrow stream"),
    ("c17_huge_length", b"\xff\xff\xff\xff\xf8\xff\xff\x7f" + b"\0" * 50, "not an Arrow stream"),
]


@pytest.mark.parametrize(("data", "message"), [d[1:] for d in DAMAGED], ids=[d[0] for d in DAMAGED])
def test_c17_a_damaged_arrow_stream_is_an_input_error(tmp_path, data, message):
    """Offsets that point elsewhere and streams that stop are told; the process does not crash."""
    with pytest.raises(BatchsentError, match=message) as caught:
        run(tmp_path, data, "in.arrow", "out.arrow")
    assert caught.value.exit_code == 4
    assert not (tmp_path / "out.arrow").exists()


def test_an_arrow_stream_without_its_end_mark_is_taken_with_a_warning(tmp_path):
    """It is legal, and it is what a producer leaves that died between two batches."""
    data = stream(ROWS)
    assert not [
        w
        for w in run(tmp_path, data, "in.arrow", "a.arrow")["warnings"]
        if w["code"] == "no_end_of_stream"
    ]
    cut = run(tmp_path, data[:-8], "cut.arrow", "b.arrow")
    assert [w for w in cut["warnings"] if w["code"] == "no_end_of_stream"]


def test_an_arrow_file_is_read_like_a_stream(tmp_path):
    """.arrow files of the other kind, with a table of contents, are read too."""
    run(tmp_path, stream(ROWS, as_file=True), "in.arrow")
    assert scores(tmp_path / "out.parquet") == [expected(t) for t in ("a", None, "c")]


def test_dictionaries_that_change_between_batches_are_read(tmp_path):
    """A stream may replace a dictionary half-way; texts are those of their own batch's."""
    sink = io.BytesIO()
    schema = pa.schema([("text", pa.dictionary(pa.int32(), pa.string()))])
    with pa.ipc.new_stream(sink, schema) as writer:
        for words in (["a", "b"], ["c", "d", "e"]):
            column = pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int32()), words)
            writer.write_batch(pa.record_batch([column], schema=schema))
    run(tmp_path, sink.getvalue(), "in.arrow")
    assert pq.read_table(tmp_path / "out.parquet")["text"].to_pylist() == ["a", "b", "c", "d"]
    assert scores(tmp_path / "out.parquet") == [expected(t) for t in "abcd"]


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_h19_a_pickled_extension_type_is_not_run(tmp_path, monkeypatch, form):
    """The payload of CVE-2023-47248 stays what it is, metadata."""
    monkeypatch.chdir(tmp_path)
    data = parquet(evil_extension()) if form == "parquet" else stream(evil_extension())
    assert run(tmp_path, data, f"in.{form}", f"out.{form}")["rows"]["written"] == 1
    assert not (tmp_path / "pwned").exists()


def test_c04_rows_of_an_input_without_row_groups_are_grouped_by_their_bytes(tmp_path, monkeypatch):
    """A group ends after 128 MB too, be it in memory or on disk: here after 40 kB, of 16 kB."""
    monkeypatch.setattr(parquet_sinks, "HELD_BYTES", 16_000)
    (tmp_path / "in.csv").write_text("text\n" + "".join(f"{n:01000}\n" for n in range(100)))
    sink_of = partial(parquet_sinks.ParquetSink, group_bytes=40_000)
    monkeypatch.setitem(FORMATS, "parquet", replace(FORMATS["parquet"], open_sink=sink_of))
    batch(tmp_path / "in.csv", tmp_path / "out.parquet", models=HashModels(), chunk_rows=10)
    out = pq.ParquetFile(tmp_path / "out.parquet")
    sizes = [out.metadata.row_group(n).num_rows for n in range(out.num_row_groups)]
    assert sizes == [40, 40, 20]
    assert out.read(["text"])["text"].to_pylist() == [f"{n:01000}" for n in range(100)]
