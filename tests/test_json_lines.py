"""JSON lines: the bytes of each line are copied, and the new members stand before its last brace."""

import csv
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batchsent.commands.batch import batch
from batchsent.commands.evaluate import evaluate
from batchsent.errors import GateFailed, InputError, UsageError
from batchsent.formats import open_source
from batchsent.formats.json_members import BadLine, Number, member_texts, read_object
from batchsent.formats.lines import split_lines
from batchsent.formats.splitting import scan_records
from batchsent.verification.verify import verify
from tests.children import run as run_child
from tests.dribble import Dribble
from tests.dump import make_dump
from tests.hash_model import HashModels, expected
from tests.property_settings import QUIET

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(alphabet=st.characters(codec=None), max_size=6),
    st.sampled_from(["\ud83d", '"', "\\", "\u2028", "}", "é", "\x00"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)
NAMES = st.one_of(st.sampled_from(["id", "text", "n", ""]), st.text(max_size=4))
TEXTS = st.one_of(st.none(), st.text(alphabet='ab "\\é\ud83d\n', max_size=8))


@st.composite
def lines(draw, *, with_text=False):
    """A line with an object, as one of many programs may write it."""
    members = draw(st.lists(st.tuples(NAMES, VALUES), max_size=4))
    if with_text:
        members = [(name, value) for name, value in members if name not in {"text", "label"}]
        members.insert(draw(st.integers(0, len(members))), ("text", draw(TEXTS)))
    ascii_only = draw(st.booleans())
    space = st.sampled_from(["", " ", "\t", "\r", "  "])

    def written(value):
        text = json.dumps(value, ensure_ascii=ascii_only)
        return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")

    parts = [
        f"{draw(space)}{written(name)}{draw(space)}:{draw(space)}{written(value)}{draw(space)}"
        for name, value in members
    ]
    return draw(space) + "{" + (",".join(parts) or draw(space)) + "}" + draw(space)


def run(source, target, **options):
    """Score with the hash model and return the summary."""
    return batch(source, target, models=HashModels(), **options)


def score(folder, data, *, name="in.jsonl", out="out.jsonl", **options):
    """Score bytes; return the output's."""
    (folder / name).write_bytes(data)
    run(folder / name, folder / out, overwrite=True, restart=True, **options)
    return (folder / out).read_bytes()


def added(text):
    """What is added to the object with a text."""
    label, found = expected(text)
    if label is None:
        return '"label": null, "score": null'
    return f'"label": "{label}", "score": {pa.array([found]).cast(pa.string())[0]}'


@given(st.one_of(lines(), st.text(alphabet='{}[]:,"\\ab1.eE+-NaInfity \t\ud83d', max_size=16)))
@example('{"a": 1e400, "a": 12345678901234567890, "b": -Infinity, "c": NaN}')
@example("{}x")
@example('{"a":1,}')
@example('{"a":1}{"b":2}')
@example("[" * 100_000)
@settings(max_examples=150, deadline=None)
def test_l01_an_object_is_what_python_s_json_reads(line):
    """The same lines are objects, their members have the same values, and the text of each member
    reads back to it.
    """
    try:
        theirs = json.loads(line)
    except (ValueError, RecursionError):
        theirs = None
    if not isinstance(theirs, dict):
        with pytest.raises(BadLine):
            read_object(line)
        return
    ours = read_object(line)
    assert list(ours) == list(theirs)
    texts = member_texts(line)
    assert list(texts) == list(theirs)
    for name, value in theirs.items():
        assert repr(json.loads(texts[name])) == repr(value)
        assert texts[name] in line
        if isinstance(ours[name], Number):
            assert str(ours[name]) == texts[name]
        elif not isinstance(value, list | dict):
            assert ours[name] == value


@given(
    st.lists(lines(), max_size=8),
    st.sampled_from(["\n", "\r\n", "\n\n", "\n \r\n"]),
    st.integers(1, 9),
    st.integers(1, 30),
)
@settings(max_examples=60, deadline=None)
def test_l01_lines_are_found_however_the_file_is_cut(rows, ending, step, block):
    """The runs cover every byte once; each line is a record, lines of white space are none."""
    data = ending.join(rows).encode("utf-8", "surrogatepass")
    runs = list(
        scan_records(Dribble(data, step), split_lines, max_record_bytes=1 << 20, block_bytes=block)
    )
    assert b"".join(run.data[run.begin : run.stop] for run in runs) == data
    wanted = [line.removesuffix(b"\r") for line in data.split(b"\n") if line.strip()]
    assert [raw for run in runs for raw in run.fields(0)] == wanted
    numbers = [n for n, line in enumerate(data.split(b"\n"), start=1) if line.strip()]
    assert [run.line(int(start)) for run in runs for start in run.starts] == numbers


@given(
    rows=st.lists(lines(with_text=True), min_size=1, max_size=8),
    ending=st.sampled_from(["\n", "\r\n", "\n\n"]),
    bom=st.booleans(),
    final=st.booleans(),
    chunk_rows=st.integers(1, 4),
)
@settings(QUIET, max_examples=25)
def test_l01_json_lines_come_out_as_they_went_in_with_members_more(
    tmp_path, rows, ending, bom, final, chunk_rows
):
    """Every byte is in the output, in place, and Python's json reads the old members and the new."""
    data = ("\ufeff" * bom + ending.join(rows) + ending * final).encode("utf-8", "surrogatepass")
    found = score(tmp_path, data, chunk_rows=chunk_rows)
    texts = [json.loads(row).get("text") for row in rows]
    without = found
    for row, text in zip(rows, texts, strict=True):
        clean = None if text is None else without_halves(text)
        comma = ", " if json.loads(row) else ""
        end = f"{comma}{added(clean)}}}".encode()
        before, at, after = without.partition(end)
        assert at
        without = before + b"}\x00" + after
    assert without.replace(b"}\x00", b"}") == data
    for line, row in zip(
        [line for line in found.decode("utf-8-sig", "replace").split("\n") if line.strip()],
        rows,
        strict=True,
    ):
        read = json.loads(line)
        assert list(read)[-2:] == ["label", "score"]
        assert repr({k: v for k, v in read.items() if k not in {"label", "score"}}) == repr(
            json.loads(row.encode("utf-8", "replace"))
        )
    assert verify(tmp_path / "in.jsonl", tmp_path / "out.jsonl")["compared"] == "bytes"


def without_halves(text):
    """A text with U+FFFD in the place of half surrogate pairs."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


UGLY = [
    ("empty object", b'{"text":"a"}\n{}\n{ }\n'),
    ("repeated names", b'{"text":"a","text":"b"}\n'),
    ("big numbers", b'{"text":"a","n":1e400,"m":123456789012345678901234567890,"z":-0.0}\n'),
    ("constants", b'{"text":"a","n":NaN,"m":-Infinity}\n'),
    ("escapes", b'{"te\\u0078t":"\\ud83d\\ude00 \\n \\/"}\n'),
    ("half pairs", b'{"text":"a \\ud83d","b":"\\ude00"}\n'),
    ("bytes that are no UTF-8", b'{"text":"caf\xe9","n\xff":1}\n'),
    ("byte order mark", b'\xef\xbb\xbf{"text":"a"}\n'),
    ("CRLF and blank lines", b'\r\n{"text":"a"}\r\n\r\n  \n{"text":"b"} \t\r\n\n'),
    ("no line end", b'{"text":"a"}\n{"text":"b"}'),
    ("line ends inside", b'{"text":\r"a"\r}\n{"text":"\xe2\x80\xa8b\xc2\x85"}\n'),
    ("nested", b'{"text":"a","o":{"text":[1,{}]},"e":[]}\n'),
    ("braces in texts", b'{"text":"}","a":"{"}\n{"text":"{}}"}\n'),
    ("null and missing", b'{"text":null}\n{"id":1}\n{"text":""}\n{"text":" "}\n'),
]


@pytest.mark.parametrize("data", [d for _, d in UGLY], ids=[n for n, _ in UGLY])
@pytest.mark.parametrize("out", ["out.jsonl", "out.csv", "out.parquet", "out.arrow", "out.tsv.gz"])
def test_l02_ugly_lines_verify(tmp_path, data, out):
    """Whatever the output's format, the run is proven to have lost nothing."""
    score(tmp_path, data, out=out, chunk_rows=2)
    verdict = verify(tmp_path / "in.jsonl", tmp_path / out)
    assert verdict["status"] == "same"
    assert verdict["unchecked"] == []


def test_columns_are_strings_and_nested_values_their_json(tmp_path):
    """Strings are unescaped, other values stand as they do in the line, null and missing are null."""
    score(
        tmp_path,
        b'{"text":"\\u00e9","n":1.50,"ok":true,"o":{"a": [1]},"s":"\\ud83d"}\n{"text":"b","n":null}\n',
        out="out.parquet",
    )
    table = pq.read_table(tmp_path / "out.parquet").drop_columns(["label", "score"])
    assert set(table.schema.types) == {pa.string()}
    assert table.to_pylist() == [
        {"text": "é", "n": "1.50", "ok": "true", "o": '{"a": [1]}', "s": "\ufffd"},
        {"text": "b", "n": None, "ok": None, "o": None, "s": None},
    ]


def test_typed_columns_become_json_values(tmp_path):
    """Numbers, truth values and nested values of Parquet are JSON, not strings of it."""
    rows = {
        "text": ["a"],
        "n": [7],
        "x": pa.array([0.1], pa.float32()),
        "ok": [True],
        "tags": [["x", "é"]],
        "none": pa.array([None], pa.int8()),
        "nan": [float("nan")],
    }
    pq.write_table(pa.table(rows), tmp_path / "in.parquet")
    run(tmp_path / "in.parquet", tmp_path / "out.jsonl")
    (line,) = (tmp_path / "out.jsonl").read_text().splitlines()
    assert line.startswith(
        '{"text": "a", "n": 7, "x": 0.1, "ok": true, "tags": ["x", "é"], "none": null, "nan": NaN, '
    )
    assert json.loads(line)["label"] == expected("a")[0]
    assert verify(tmp_path / "in.parquet", tmp_path / "out.jsonl")["status"] == "same"


def test_l05_members_that_appear_late_cost_nothing(tmp_path):
    """A member that only line 3,000 has is copied as the others are."""
    filler = "x" * 600
    rows = [{"text": f"row {n}", "more": filler} for n in range(3000)]
    rows[2999]["late"] = [1]
    data = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    last = score(tmp_path, data).splitlines()[-1]
    assert json.loads(last)["late"] == [1]
    with pytest.raises(InputError, match="line 3000: a member called late") as caught:
        score(tmp_path, data, out="out.csv")
    assert "write JSON lines" in caught.value.hint
    score(tmp_path, data, out="rest.csv", bad_rows="reject")
    assert len((tmp_path / "rest.csv").read_bytes().splitlines()) == 3000
    assert verify(tmp_path / "in.jsonl", tmp_path / "rest.csv")["rows"]["rejected"] == 1


def test_l05_a_late_member_called_like_a_new_column_is_a_bad_row(tmp_path):
    """Readers of an object see one of two members of a name, so none of the user's is hidden."""
    rows = [{"text": f"row {n}", "more": "x" * 600} for n in range(3000)]
    rows[2999]["label"] = "mine"
    data = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    with pytest.raises(InputError, match="line 3000: a member called label") as caught:
        score(tmp_path, data)
    assert "--prefix" in caught.value.hint
    found = score(tmp_path, data, prefix="p_").splitlines()[-1]
    assert json.loads(found)["label"] == "mine"


BAD = [
    (b'{"text":"a"', "not a JSON object"),
    (b'["text"]', "it is an array"),
    (b'"text"', "it is a string"),
    (b"7", "it is a number"),
    (b"null", "it is null"),
    (b"text", "Expecting value"),
    (b'{"text":"a"}{"text":"b"}', "Extra data"),
    (b'{"text":"a\tb"}', "Invalid control character"),
    (b'{"text":5}', "the member text is a number"),
    (b'{"text":["a"]}', "the member text is an array"),
    (b'{"text":' + b"[" * 100_000, "nested too deeply"),
    (b"\xff\xfe", "not a JSON object"),
]


@pytest.mark.parametrize(("line", "reason"), BAD, ids=[str(n) for n in range(len(BAD))])
def test_l03_a_line_that_is_no_object_with_a_text_is_a_bad_row(tmp_path, line, reason):
    """It ends the run with its line, or is left out and written down to the byte."""
    data = b'{"text":"good"}\n\n' + line + b'\n{"text":"fine"}\n'
    with pytest.raises(InputError, match=r"in\.jsonl, line 3: ") as caught:
        score(tmp_path, data)
    assert reason in caught.value.message
    assert not (tmp_path / "out.jsonl").exists()
    found = score(tmp_path, data, bad_rows="reject")
    assert [json.loads(row)["text"] for row in found.splitlines() if row] == ["good", "fine"]
    text = (tmp_path / "out.jsonl.rejects.csv").read_bytes().decode("latin-1")
    csv.field_size_limit(1 << 20)
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert (row["line"], row["byte_offset"]) == ("3", "17")
    assert row["raw"].encode("latin-1") == line
    assert verify(tmp_path / "in.jsonl", tmp_path / "out.jsonl")["rows"]["rejected"] == 1


@pytest.mark.parametrize("depth", [480, 499, 500, 700, 900, 950, 985])
def test_l03_what_is_read_once_is_read_again(tmp_path, depth):
    """A nested value is a bad row by its depth alone, however deep the calls are where it is read."""
    nested = b"[" * depth + b"]" * depth
    data = b'{"text":"good"}\n{"text":"a","x":' + nested + b"}\n"
    for out in ("out.jsonl", "out.csv"):
        found = score(tmp_path, data, bad_rows="reject", out=out)
        assert (nested in found) == (depth < 500)
        assert verify(tmp_path / "in.jsonl", tmp_path / out)["rows"]["rejected"] == (depth >= 500)


def test_invalid_bytes_are_bad_rows_where_that_is_asked(tmp_path):
    """Without --encoding-errors strict the model reads U+FFFD, and a warning says so."""
    (tmp_path / "in.jsonl").write_bytes(b'{"text":"caf\xe9"}\n{"text":"half \\ud83d"}\n')
    summary = run(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    (warning,) = [w for w in summary["warnings"] if w["code"] == "invalid_encoding"]
    assert warning["message"].startswith("2 text(s)")
    with pytest.raises(InputError, match="line 1: bytes that are not valid utf-8"):
        run(tmp_path / "in.jsonl", tmp_path / "strict.jsonl", encoding_errors="strict")


def test_a_value_beyond_the_cap_is_a_bad_row(tmp_path):
    """--max-field-bytes holds for JSON lines too; a line without end is refused."""
    data = b'{"text":"good"}\n{"text":"' + b"x" * 90 + b'"}\n'
    with pytest.raises(InputError, match="line 2: a value of 92 bytes, more than 50"):
        score(tmp_path, data, max_field_bytes=50)
    with pytest.raises(InputError, match="line 1: a record longer than 65,536 bytes"):
        score(tmp_path, b'{"text":"' + b"x" * (4 << 20), max_field_bytes=50)


@pytest.mark.parametrize(
    ("data", "message", "hint"),
    [
        (b'[{"text":"a"},\n{"text":"b"}]\n', "a JSON array, not JSON lines", "jq -c '.[]' "),
        (b'[\n  {\n    "text": "a"\n  }\n]\n', "a JSON array, not JSON lines", "jq -c '.[]' "),
        (b'{\n  "text": "a"\n}\n', "line 1: not a JSON object", "jq -c . "),
        (b"", "empty input", "at least one object is needed"),
        (b"{}\n{ }\n", "have no members", "a member text"),
        (b"\n \r\n", "only blank lines", "at least one object is needed"),
        ('{"text":"a"}\n'.encode("utf-16"), "looks like UTF-16", "iconv"),
        ('{"text":"a"}\n'.encode("utf-16-le"), "looks like UTF-16", "iconv"),
        (b"id,text\n1,a\n", "line 1: not a JSON object", "correct the line"),
        (b"PAR1\0\0\0\0", "this is a parquet file", "--input-format parquet"),
        (b"\x1f\x8b\x08\0", "these are gzip bytes", ".gz"),
    ],
)
def test_l04_a_file_that_is_something_else_is_refused_with_what_to_do(
    tmp_path, data, message, hint
):
    """Arrays, indented objects, other encodings and formats are told, before the model loads."""
    with pytest.raises(InputError, match=message) as caught:
        score(tmp_path, data)
    assert hint in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_jq_is_told_the_file_and_its_compression(tmp_path):
    """The command of the hint can be pasted."""
    import gzip

    (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress(b'[{"text":"a"}]'))
    with pytest.raises(InputError) as caught:
        run(tmp_path / "in.jsonl.gz", tmp_path / "out.jsonl")
    assert f"zcat {tmp_path}/in.jsonl.gz | jq -c '.[]' > {tmp_path}/in" in caught.value.hint


def test_a_text_inside_an_object_goes_by_its_path(tmp_path):
    """As in Parquet, review.text is the member text of the object review."""
    data = b'{"review":{"text":"a","n":1}}\n{"review":null}\n{"review":{"n":2}}\n{"review":"x"}\n'
    found = score(tmp_path, data, text_column="review.text")
    labels = [json.loads(line)["label"] for line in found.splitlines()]
    assert labels == [expected("a")[0], None, None, None]
    with pytest.raises(UsageError, match=r"no member called review\.body"):
        score(tmp_path, data, text_column="review.body")


def test_a_missing_text_column_is_told_with_the_members(tmp_path):
    """The error lists what the first lines have."""
    with pytest.raises(UsageError, match="its columns are id, body"):
        score(tmp_path, b'{"id":1}\n{"body":"x"}\n')


def test_a_json_file_is_asked_whether_it_has_lines(tmp_path):
    """Dumps of JSON lines are often called .json, as is much else."""
    (tmp_path / "in.json").write_bytes(b'{"text":"a"}\n')
    with pytest.raises(UsageError, match="does not show in its name") as caught:
        run(tmp_path / "in.json", tmp_path / "out.jsonl")
    assert "--input-format jsonl" in caught.value.hint
    run(tmp_path / "in.json", tmp_path / "out.jsonl", input_format="jsonl")
    assert (tmp_path / "out.jsonl").read_text() == f'{{"text":"a", {added("a")}}}\n'


def test_two_columns_of_a_name_do_not_become_one(tmp_path):
    """A CSV may have them; an object would hide one."""
    with pytest.raises(UsageError, match="two columns called a"):
        score(tmp_path, b"text,a,a\nx,1,2\n", name="in.csv")


def test_a_limit_takes_the_first_lines(tmp_path):
    """--limit 0 gives a file without rows, which verifies too."""
    data = b"".join(b'{"text":"row %d"}\n' % n for n in range(9))
    assert score(tmp_path, data, limit=3, chunk_rows=2).count(b"row") == 3
    assert score(tmp_path, data, limit=0) == b""
    assert verify(tmp_path / "in.jsonl", tmp_path / "out.jsonl")["status"] == "same"


def test_stdin_to_stdout(tmp_path):
    """JSON lines are recognized in a pipe, and come out as JSON lines."""
    (tmp_path / "in").write_bytes(b'{"text":"a"}\r\n{"text":"b"}')
    code, stderr = run_child(
        ["-", "-o", "-"], tmp_path, stdin=str(tmp_path / "in"), stdout=str(tmp_path / "out")
    )
    assert code == 0, stderr
    a, b = added("a"), added("b")
    assert (tmp_path / "out").read_bytes().decode() == (
        f'{{"text":"a", {a}}}\r\n{{"text":"b", {b}}}'
    )
    command = ["-", "-o", "-", "--input-format", "jsonl", "--output-format", "csv"]
    code, stderr = run_child(
        command, tmp_path, stdin=str(tmp_path / "in"), stdout=str(tmp_path / "out.csv")
    )
    assert code == 0, stderr
    assert (tmp_path / "out.csv").read_text().splitlines()[0] == "text,label,score"


def test_l06_a_killed_run_goes_on_to_the_same_bytes(tmp_path):
    """Whichever file operation is the last: the same command again gives the same output."""
    dump = make_dump(tmp_path, "jsonl")
    kills = 0
    for n in range(1, 90, 16):
        dump.clear()
        code, _ = run_child(dump.command, dump.folder, env={"BATCHSENT_FAULT": f"*:{n}:kill"})
        kills += code == -9
        dump.check_invariant()
        dump.finish()
    assert kills > 2
    assert verify(tmp_path / "in.jsonl", dump.output)["rows"]["written"] == 60


def test_tables_gold_labels_and_evaluate(tmp_path):
    """Members are columns for --gold, --group-by and --keep, and the output is judged like a CSV."""
    rows = [
        {"id": n, "text": f"row {n}", "gold": ["NEGATIVE", "POSITIVE"][n % 2], "kind": {"k": n % 3}}
        for n in range(30)
    ]
    data = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    score(
        tmp_path,
        data,
        gold="gold",
        group_by="kind",
        disagreements=str(tmp_path / "far.csv"),
        keep="id",
        details=True,
        probabilities=True,
    )
    groups = [json.loads(x) for x in (tmp_path / "out.groups.jsonl").read_text().splitlines()]
    assert {group["kind"] for group in groups} == {'{"k": 0}', '{"k": 1}', '{"k": 2}'}
    assert sum(group["n"] for group in groups) == 30
    assert verify(tmp_path / "in.jsonl", tmp_path / "out.jsonl")["status"] == "same"
    summary = json.loads((tmp_path / "out.jsonl.summary.json").read_bytes())
    found = evaluate(tmp_path / "out.jsonl", gold="gold")["evaluation"]
    assert found["accuracy"] == summary["evaluation"]["accuracy"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"id":1', b'"id":2'),
        (b'"score": 0.', b'"score": 0.0'),
        (b'"score": 0.', b'"score":0.'),
        (b', "label"', b',"label"'),
        (b'"NEGATIVE"', b'"OTHER\\u0020"'),
        (b'"NEGATIVE"', b"null"),
        (b'"label": ', b'"label": "X", "label": '),
        (b"}\n\n{", b"}\n{"),
        (b"}\n\n{", b"}\n \n{"),
        (b'"b"', b'"\\u0062"'),
        (b'{"id":1', b'{"new":0,"id":1'),
        (b'{"id":1,"text":"a', b'{"text":"a'),
    ],
)
@pytest.mark.parametrize("with_summary", [True, False])
def test_a_changed_output_does_not_verify(tmp_path, before, after, with_summary):
    """A changed value, member, blank line or notation is found, with and without the hash."""
    data = b'{"id":1,"text":"a"}\n\n{"id":3,"text":"b"}\n'
    found = score(tmp_path, data)
    assert before in found
    if not with_summary:
        (tmp_path / "out.jsonl.summary.json").unlink()
    (tmp_path / "out.jsonl").write_bytes(found.replace(before, after, 1))
    with pytest.raises(GateFailed):
        verify(tmp_path / "in.jsonl", tmp_path / "out.jsonl")


def test_rows_missing_added_or_exchanged_do_not_verify(tmp_path):
    """Rows are compared with each other one by one, in order."""
    found = score(tmp_path, b'{"text":"a"}\n{"text":"b"}\n{"text":"c"}\n').splitlines(keepends=True)
    (tmp_path / "out.jsonl.summary.json").unlink()
    for lines_now in (found[:2], [*found, found[2]], found[::-1], []):
        (tmp_path / "out.jsonl").write_bytes(b"".join(lines_now))
        with pytest.raises(GateFailed):
            verify(tmp_path / "in.jsonl", tmp_path / "out.jsonl")


def test_a_file_of_bad_rows_only_is_refused_where_nothing_tells_the_text(tmp_path):
    """Without one object no column is known, so there is nothing to leave rows out of."""
    with pytest.raises(InputError, match="line 1"):
        score(tmp_path, b"x\ny\n", bad_rows="reject")


def test_a_source_names_its_columns_in_the_order_of_the_lines(tmp_path):
    """The columns are the members of the first lines, each once, first seen first."""
    (tmp_path / "in.jsonl").write_text('{"b":1,"text":"x"}\n{"a":1,"b":2}\n')
    source = open_source(str(tmp_path / "in.jsonl"))
    assert source.columns == ["b", "text", "a"]
    source.close()
