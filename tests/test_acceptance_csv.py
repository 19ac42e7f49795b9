"""CSV as people really have it: the groups A and B of tests/ACCEPTANCE.md that test_row_contract.py
has not.
"""

import re

import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batchsent.commands.batch import batch
from batchsent.errors import BatchsentError, InputError, UsageError
from batchsent.formats.records import Dialect
from batchsent.formats.splitting import split
from tests.csv_cases import score_cells, without_new_fields
from tests.hash_model import HashModels, expected
from tests.property_settings import QUIET


def run(folder, data, *, name="in.csv", out="out.csv", **options):
    """Score bytes as a file; return the summary and the output's bytes."""
    (folder / name).write_bytes(data)
    summary = batch(folder / name, folder / out, models=HashModels(), **options)
    return summary, (folder / out).read_bytes()


REFUSED = [
    ("a10_empty_file", b"", {}, 4, "empty input", "header"),
    ("a11_blank_lines_only", b"\n\n\r\n", {}, 4, "only blank lines", "header"),
    (
        "a14_short_row",
        b"id,text\n1,a\n2\n",
        {},
        4,
        r"line 3: 1 field\(s\) where 2",
        "--bad-rows reject",
    ),
    (
        "a15_long_row",
        b"id,text\n1,a,b\n",
        {},
        4,
        r"line 2: 3 field\(s\) where 2",
        "--bad-rows reject",
    ),
    (
        "a17_last_quote_open",
        b'id,text\n1,a\n2,"b\n',
        {},
        4,
        "line 3: a quote opened on this line",
        "reject",
    ),
    (
        "a19_backslashes",
        b'id,text\n1,"he \\"x\\", y"\n',
        {},
        4,
        "line 2: 3 field",
        "--escapechar '\\'",
    ),
    (
        "a20_spaced_quotes",
        b'id,text\n1, "a, b"\n',
        {},
        4,
        "line 2: 3 field",
        "--skip-initial-space",
    ),
    ("a21_semicolons", b"id;text\n1;a\n", {}, 2, "no column called text", "--delimiter ';'"),
    ("a21_tabs", b"id\ttext\n1\ta\n", {}, 2, "no column called text", "--delimiter '\\t'"),
    (
        "a21_named",
        b"id;text\n1;a\n",
        {"text_column": "text"},
        2,
        "no column called text",
        "--delimiter ';'",
    ),
    (
        "a23_two_text_columns",
        b"text,text\na,b\n",
        {},
        2,
        "more than one column",
        "--text-column-index",
    ),
    (
        "a23_asked_by_name",
        b"text,text\na,b\n",
        {"text_column": "text"},
        2,
        "2 columns",
        "--text-column-index",
    ),
    (
        "a26_no_header",
        b"1,a\n",
        {"no_header": True},
        2,
        "goes by its position",
        "--text-column-index",
    ),
    (
        "a26_beyond",
        b"1,a\n",
        {"no_header": True, "text_column_index": 3},
        2,
        "no column 3",
        "from 1",
    ),
    (
        "a33_comment",
        b"# made by hand\nid,text\n1,a\n",
        {},
        2,
        "no column called text",
        "--skip-lines",
    ),
    (
        "a33_commas",
        b"# made, by hand\nid,text\n1,a\n",
        {},
        2,
        "no column called text",
        "--skip-lines",
    ),
    (
        "a33_prose",
        b"Reviews of May\nid,text\n1,a\n",
        {},
        2,
        "no column called text",
        "--skip-lines",
    ),
    ("a33_beyond", b"x\n", {"skip_lines": 3}, 2, "1 whole line", "--skip-lines"),
    (
        "b03_strict",
        b"id,text\n1,a\n2,caf\xe9\n",
        {"encoding_errors": "strict"},
        4,
        "line 3: bytes",
        "--encoding",
    ),
    (
        "b05_bare_utf_16",
        "id,text\n1,a\n".encode("utf-16-le"),
        {},
        4,
        "looks like UTF-16",
        "--encoding utf-16-le",
    ),
    (
        "b05_big_end",
        "id,text\n1,a\n".encode("utf-16-be"),
        {},
        4,
        "looks like UTF-16",
        "--encoding utf-16-be",
    ),
    (
        "b05_half",
        "id,text\n1,é\n".encode("utf-16")[:-1],
        {"encoding": "utf-16"},
        4,
        "not valid utf-16",
        None,
    ),
    ("encoding_unknown", b"text\na\n", {"encoding": "klingon"}, 2, "no such encoding", "utf-8"),
    ("encoding_stateful", b"text\na\n", {"encoding": "utf-7"}, 2, "copied unchanged", "iconv"),
    ("dialect_alike", b"text\na\n", {"delimiter": '"'}, 2, "must differ", None),
    ("dialect_long", b"text\na\n", {"delimiter": "||"}, 2, "one ASCII character", None),
    (
        "dialect_half",
        b"text\na\n",
        {"delimiter": "|", "encoding": "shift_jis"},
        2,
        "half of a character",
        "utf-8",
    ),
    ("limit_negative", b"text\na\n", {"limit": -1}, 2, "--limit -1", "0"),
    ("field_cap", b"text\na\n", {"max_field_bytes": 0}, 2, "--max-field-bytes 0", None),
    ("skip_negative", b"text\na\n", {"skip_lines": -1}, 2, "--skip-lines -1", None),
    ("chunks_of_none", b"text\na\n", {"chunk_rows": 0}, 2, "--chunk-rows 0", None),
    ("prefix_control", b"text\na\n", {"prefix": "\x1b[31m"}, 2, r"--prefix \\x1b", "letters"),
    ("prefix_surrogate", b"text\na\n", {"prefix": "\udcff"}, 2, r"--prefix \\udcff", "letters"),
]


@pytest.mark.parametrize(
    ("data", "options", "code", "message", "hint"),
    [r[1:] for r in REFUSED],
    ids=[r[0] for r in REFUSED],
)
def test_what_cannot_be_read_is_told_with_its_mending(tmp_path, data, options, code, message, hint):
    """The message says what and where, the hint what to type.

    The model is not loaded and nothing is left behind.
    """
    (tmp_path / "in.csv").write_bytes(data)
    models = HashModels()
    with pytest.raises(BatchsentError) as caught:
        batch(tmp_path / "in.csv", tmp_path / "out.csv", models=models, **options)
    assert caught.value.exit_code == code
    assert re.search(message, caught.value.message)
    assert hint is None or hint in caught.value.hint
    assert not models.opened
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


TAKEN = [
    ("a26_no_header", b"1,a\n2,b\n", {"no_header": True, "text_column_index": 2}, ["a", "b"]),
    ("a26_one_column", b"a\nb\n", {"no_header": True}, ["a", "b"]),
    ("a19_escapechar", b'id,text\n1,"he \\"x\\", y"\n', {"escapechar": "\\"}, ['he "x", y']),
    ("a20_skip_space", b'id,text\n1, "a, b"\n', {"skip_initial_space": True}, ["a, b"]),
    ("a21_delimiter", b"id;text\n1;a,b\n", {"delimiter": ";"}, ["a,b"]),
    ("a21_auto", b"id|text|x\n1|a,b;c|\n", {"delimiter": "auto"}, ["a,b;c"]),
    ("a28_200_kb", b"text\n" + b"x" * 200_000 + b"\n", {}, ["x" * 200_000]),
    ("a28_3_mb", b"id,text\n1," + b"y " * 1_500_000 + b"\n2,z\n", {}, ["y " * 1_500_000, "z"]),
    ("a28_15_mb_quoted", b'id,text\n1,"' + b"a\n" * 7_500_000 + b'"\n', {}, ["a\n" * 7_500_000]),
    ("a33_skip_lines", b"# made\r\n# by hand\nid,text\n1,a\n", {"skip_lines": 2}, ["a"]),
    ("b01_quoted_name", b'\xef\xbb\xbf"text",id\na,1\n', {}, ["a"]),
    ("b06_lone_surrogate", b"text\n\xed\xa0\x80x\n", {}, ["\ufffd\ufffd\ufffdx"]),
    ("b12_mixed_scripts", "text\nhello мир 世界 שלום\n".encode(), {}, ["hello мир 世界 שלום"]),
    ("b13_nfd", "text\ncafe\u0301\ncafé\n".encode(), {}, ["cafe\u0301", "café"]),
    ("quotechar", b"id,text\n1,'a, b'\n", {"quotechar": "'"}, ["a, b"]),
    ("text_column_index", b"review,x\na,b\n", {"text_column_index": 2}, ["b"]),
    ("upper_case_name", b"Id,TEXT\n1,a\n", {}, ["a"]),
    ("limit_none", b"text\na\nb\n", {"limit": 0}, []),
]


@pytest.mark.parametrize(
    ("data", "options", "texts"), [t[1:] for t in TAKEN], ids=[t[0] for t in TAKEN]
)
def test_the_model_reads_what_the_csv_means(tmp_path, data, options, texts):
    """Each text is scored as what it is once unquoted: every score is that of the right text."""
    (tmp_path / "in.csv").write_bytes(data)
    batch(tmp_path / "in.csv", tmp_path / "out.parquet", models=HashModels(), **options)
    out = pq.read_table(tmp_path / "out.parquet")
    scores = zip(out["label"].to_pylist(), out["score"].to_pylist(), strict=True)
    assert list(scores) == [expected(text) for text in texts]


@pytest.mark.parametrize(
    "data",
    [
        b"id;text\r\n1;a\r\n",
        b"# made\r\n# by hand\nid;text\n1;a\n",
        b"1;'a;b'\n2;c",
    ],
    ids=["a21_delimiter", "a33_preamble", "a26_no_header"],
)
def test_other_dialects_come_out_as_they_went_in(tmp_path, data):
    """The new fields are written in the file's own dialect.

    No header line is made up, preamble lines are kept.
    """
    options = {"delimiter": ";", "skip_lines": 2 if data.startswith(b"#") else 0}
    if data.startswith(b"1"):
        options |= {"no_header": True, "text_column_index": 2, "quotechar": "'"}
    summary, out = run(tmp_path, data, **options)
    head = b"".join(data.splitlines(keepends=True)[: options["skip_lines"]])
    assert out.startswith(head)
    kept = [line.rsplit(b";", 2)[0] for line in out[len(head) :].splitlines()]
    assert kept == data[len(head) :].splitlines()
    assert summary["rows"]["written"] == len(kept) - ("no_header" not in options)


def test_a04_line_ends_inside_quotes_across_many_blocks(tmp_path):
    """Quoted CR LF on every row, over all the block edges of 12 MB: no byte lost, no row more or
    less.
    """
    data = b"id,text\r\n" + b"".join(
        b'%06d,"a\r\nb %d, ""c"""\r\n' % (n, n) for n in range(100_000)
    )
    data += b"x" * 3 + b',"' + b"long text\r\n" * 800_000 + b'"\r\n'
    summary, out = run(tmp_path, data)
    assert summary["rows"]["written"] == 100_001
    found = split(out, Dialect(), at_end=True)
    # By columns: label and score are the last two of the four fields of every record.
    ends = found.field_ends.reshape(-1, 4)
    pieces = zip([0, *ends[:-1, 3].tolist()], ends[:, 1].tolist(), strict=True)
    assert b"".join(out[a:b] for a, b in pieces) + out[int(ends[-1, 3]) :] == data


def test_a16_a_bad_row_far_down_is_found_before_the_model_loads(tmp_path):
    """A ragged row at line 500,002 is told in seconds: the file is checked ahead."""
    (tmp_path / "in.csv").write_bytes(b"id,text\n" + b"1,a\n" * 500_000 + b"ragged\n")
    models = HashModels()
    with pytest.raises(InputError, match="line 500002: 1 field"):
        batch(tmp_path / "in.csv", tmp_path / "out.csv", models=models)
    assert not models.opened


def test_a17_a_quote_that_is_not_closed_names_the_line_that_opened_it(tmp_path):
    """In a large file, too, and without reading all of it into memory as one field."""
    rows = b'1,"some text"\n' * 300_000
    (tmp_path / "in.csv").write_bytes(b"id,text\n" + rows[: 14 * 10] + b'2,"opened\n' + rows)
    with pytest.raises(InputError, match="line 12: a quoted field begins on this line"):
        batch(tmp_path / "in.csv", tmp_path / "out.csv", models=HashModels())


def test_a18_text_behind_a_closing_quote_is_counted_in_a_warning(tmp_path):
    """It is taken as spreadsheets take it, but the summary says how often."""
    summary, _ = run(tmp_path, b'id,text\n1,"ab"cd\n2,"ok"\n3,"x"y\n4,"say ""hi"""\n')
    (warning,) = [w for w in summary["warnings"] if w["code"] == "text_after_quote"]
    assert warning["message"].startswith("2 ")


def test_a22_an_id_twice_is_kept_twice(tmp_path):
    """Names that are no concern of ours may repeat."""
    _, out = run(tmp_path, b"id,text,id\n1,a,2\n")
    assert out.decode() == "id,text,id,label,score\n1,a,2," + ",".join(score_cells("a")) + "\n"


def test_a23_one_of_two_text_columns_can_be_chosen_by_its_position(tmp_path):
    """--text-column-index 2 scores the second of two columns called text."""
    _, out = run(tmp_path, b"text,text\na,b\n", text_column_index=2)
    assert out.splitlines()[1].decode().split(",") == ["a", "b", *score_cells("b")]


def test_a25_a_prefix_lets_an_output_be_scored_again(tmp_path):
    """The columns of the first run are kept, those of the second have their own names."""
    _, first = run(tmp_path, b"text\na\n")
    _, second = run(tmp_path, first, name="again.csv", out="twice.csv", prefix="pred_")
    assert second.splitlines()[0] == b"text,label,score,pred_label,pred_score"


def test_a32_tsv_has_quotes_too(tmp_path):
    """A .tsv is the tab dialect of CSV: a quoted field may hold tabs, and comes out as it went in."""
    data = b'id\ttext\n1\t"a\tb"\n2\tc,d\n'
    _, out = run(tmp_path, data, name="in.tsv", out="out.tsv")
    label, score = score_cells("a\tb")
    assert out.splitlines()[1].decode() == f'1\t"a\tb"\t{label}\t{score}'


def test_b03_invalid_bytes_are_counted_and_kept(tmp_path):
    """The model reads U+FFFD, the file keeps its bytes, the summary says how many texts."""
    summary, out = run(tmp_path, b"id,text\n1,caf\xe9\n2,b\n")
    (warning,) = [w for w in summary["warnings"] if w["code"] == "invalid_encoding"]
    assert warning["message"].startswith("1 text")
    assert b"1,caf\xe9," in out


def test_b04_encoding_auto_finds_utf_8_cp1252_and_utf_16(tmp_path):
    """--encoding auto goes by the byte order mark, else utf-8, else cp1252."""
    for n, encoding in enumerate(("utf-8", "cp1252", "utf-16", "utf-16-le")):
        summary, _ = run(
            tmp_path, "text\ncafé “x”\n".encode(encoding), out=f"{n}.csv", encoding="auto"
        )
        assert summary["input"]["dialect"]["encoding"] == (
            "utf-16-le" if encoding == "utf-16" else encoding
        )
        line = (tmp_path / f"{n}.csv").read_bytes().decode(encoding).splitlines()[1]
        assert line.split(",")[1:] == score_cells("café “x”")


def fuzz(folder, data, **options):
    """Either it is refused in words, or every byte of the input is in the output, in place."""
    (folder / "in.csv").write_bytes(data)
    try:
        batch(
            folder / "in.csv",
            folder / "out.csv",
            models=HashModels(),
            overwrite=True,
            restart=True,
            **options,
        )
    except (InputError, UsageError) as error:
        words = str(error).replace("\n", "")
        assert words.isprintable()
        return
    assert without_new_fields((folder / "out.csv").read_bytes()) == data


BYTES = st.one_of(
    st.binary(max_size=60),
    st.lists(
        st.sampled_from([b"text", b"a", b",", b'"', b"\r", b"\n", b"\x00", b"\xff", b"\\", b" "]),
        max_size=30,
    ).map(b"".join),
)


@given(
    data=BYTES,
    header=st.sampled_from([b"", b"text\n", b"id,text\r\n", b"\xef\xbb\xbftext,x\n"]),
    chunk_rows=st.integers(1, 3),
)
@example(data="\u00a0 is no name for a column".encode(), header=b"", chunk_rows=1)
# blank lines behind a lone header were written twice
@example(data=b"\n\r\n", header=b"text\n", chunk_rows=1)
@QUIET
def test_any_bytes_are_refused_in_words_or_kept(tmp_path, data, header, chunk_rows):
    """No bytes at all make a traceback, lose a byte or add one."""
    fuzz(tmp_path, header + data, chunk_rows=chunk_rows)


@pytest.mark.soak
@given(
    data=BYTES,
    header=st.sampled_from([b"", b"text\n", b"id,text\r\n"]),
    chunk_rows=st.integers(1, 3),
)
@settings(QUIET, max_examples=20_000)
def test_very_many_bytes_are_refused_in_words_or_kept(tmp_path, data, header, chunk_rows):
    """The same, twenty thousand times."""
    fuzz(tmp_path, header + data, chunk_rows=chunk_rows)


def test_a_label_that_the_files_encoding_lacks_is_refused_before_a_row_is_scored(tmp_path):
    """A prefix in Greek cannot stand in a latin-1 file."""
    with pytest.raises(UsageError, match="cannot be written in iso8859-1"):
        run(tmp_path, b"text\na\n", encoding="latin-1", prefix="Δ_")
    assert not (tmp_path / "out.csv").exists()
