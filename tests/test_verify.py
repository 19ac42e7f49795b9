"""Proof of the row contract: what was written verifies, and no damage does."""

import csv
import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchsent.commands.batch import batch
from batchsent.errors import BatchsentError, GateFailed, InputError, UsageError
from batchsent.verification.verify import verify
from tests.column_types import everything
from tests.csv_cases import UGLY
from tests.hash_model import HashModels

REVIEWS = b'id,text,note\n007,good film,a\n008,,b\n9,"say ""hi"",\nthen",NA\n010,  ,\n11,no,\n'


def scored(folder, data=REVIEWS, *, name="in.csv", out="out.csv", **options):
    """Score some data; return the paths of input and output."""
    source, target = folder / name, folder / out
    source.write_bytes(data)
    batch(source, target, models=HashModels(), overwrite=True, restart=True, **options)
    return source, target


def summary_of(target):
    return target.with_name(target.name + ".summary.json")


def refused(source, target, **options):
    """Return the error of a verification that must not succeed."""
    with pytest.raises(GateFailed) as caught:
        verify(source, target, **options)
    assert caught.value.exit_code == 8
    assert caught.value.document["status"] == "different"
    assert str(caught.value.document["difference"]["what"]) in caught.value.message
    return caught.value


@pytest.mark.parametrize("name", ["in.csv", "in.tsv", "in.parquet", "in.arrow", "in.jsonl"])
@pytest.mark.parametrize(
    "out", ["out.csv", "out.tsv.gz", "out.parquet", "out.arrow.zst", "out.ndjson"]
)
def test_what_was_written_verifies(tmp_path, name, out):
    """The output of a run is proven to be its input with columns more, whatever the formats."""
    first = scored(tmp_path, name="given.csv", out=f"first_{name}", prefix="old_")[1]
    source = tmp_path / name
    batch(first, source, models=HashModels(), text_column="text", prefix="older_")
    batch(
        source,
        tmp_path / out,
        models=HashModels(),
        text_column="text",
        probabilities=True,
        details=True,
    )
    verdict = verify(source, tmp_path / out)
    assert verdict["status"] == "same"
    assert verdict["rows"] == {
        "read": 5,
        "scored": 3,
        "blank": 2,
        "rejected": 0,
        "nonfinite": 0,
        "written": 5,
    }
    tabs = [path.split(".")[1] == "tsv" for path in (name, out)]
    copied = "sv" in name and "sv" in out and tabs[0] == tabs[1]
    copied |= "json" in name and "json" in out
    assert verdict["compared"] == ("bytes" if copied else "values")
    assert verdict["columns"]["added"][:3] == ["label", "score", "prob_NEGATIVE"]
    assert verdict["unchecked"] == []


@pytest.mark.parametrize("data", [d for _, d in UGLY], ids=[n for n, _ in UGLY])
def test_ugly_files_verify(tmp_path, data):
    """Blank lines, quotes, line ends, marks and bytes of all kinds do not confuse the proof."""
    source, target = scored(tmp_path, data)
    assert verify(source, target)["compared"] == "bytes"
    assert verify(source, target, chunk_rows=1)["status"] == "same"


@pytest.mark.parametrize("out", ["out.parquet", "out.arrow", "out.csv", "out.jsonl"])
@pytest.mark.parametrize("name", ["in.parquet", "in.arrow"])
def test_every_type_verifies(tmp_path, name, out):
    """Nested, decimal, dictionary, time and extension types, NaN and null are compared as what they
    are.
    """
    table = everything()
    if name == "in.parquet":
        pq.write_table(table, tmp_path / name, row_group_size=3)
    else:
        with (
            pa.OSFile(str(tmp_path / name), "wb") as file,
            pa.ipc.new_stream(file, table.schema) as writer,
        ):
            writer.write_table(table)
    batch(tmp_path / name, tmp_path / out, models=HashModels(), chunk_rows=2)
    assert verify(tmp_path / name, tmp_path / out)["status"] == "same"


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (b"id;text\r\n1;a\r\n2;b", {"delimiter": ";", "prefix": "p_"}),
        (b"1,a\n2,b\n\n", {"no_header": True, "text_column_index": 2, "probabilities": True}),
        (b'# made by hand "\n\nid,text\n1,a\n', {"skip_lines": 1}),
        (b"id,text\n" + b"".join(b"%d,row\n" % n for n in range(9)), {"limit": 3}),
        (b"id,text\n1,caf\xe9\n", {"encoding": "latin-1"}),
        ("id,text\r\n1,é😀\r\n".encode("utf-16"), {"encoding": "utf-16"}),
        (b'id,text\n1,a\\"b\n2,"c\\"d"\n', {"escapechar": "\\"}),
        (b"id,review,text\n1,a,b\n", {"text_column": "review"}),
        (b"id,text\n", {"details": True}),
        (b"1,a\n", {"no_header": True, "text_column_index": 2, "limit": 0}),
    ],
)
def test_the_run_s_own_options_are_taken_from_its_summary(tmp_path, data, options):
    """Nobody has to repeat delimiter, encoding, prefix or limit: the summary has them."""
    source, target = scored(tmp_path, data, **options)
    assert verify(source, target)["status"] == "same"


def test_without_a_summary_the_rows_are_proven_and_the_rest_is_named(tmp_path):
    """Hashes and counts cannot be checked then, and the verdict says so; options must be given."""
    source, target = scored(tmp_path, REVIEWS.replace(b",", b";"), delimiter=";")
    summary_of(target).unlink()
    verdict = verify(source, target, delimiter=";")
    assert verdict["summary"] is None
    assert "no summary" in verdict["unchecked"][0]


@given(data=st.data())
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_flipped_bit_is_found(tmp_path, data):
    """Whichever bit of output, input or summary's hashes is flipped, the files no longer verify."""
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    if not target.exists():
        scored(tmp_path)
    spoilt = data.draw(st.sampled_from([source, target]))
    before = spoilt.read_bytes()
    at, bit = data.draw(st.integers(0, len(before) - 1)), data.draw(st.integers(0, 7))
    spoilt.write_bytes(before[:at] + bytes([before[at] ^ 1 << bit]) + before[at + 1 :])
    try:
        with pytest.raises(BatchsentError) as caught:
            verify(source, target)
        assert (
            caught.value.exit_code == 8 if spoilt == target else caught.value.exit_code in {2, 4, 8}
        )
    finally:
        spoilt.write_bytes(before)


@given(data=st.data())
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_user_s_bytes_need_no_hash(tmp_path, data):
    """A changed byte of the user's columns or between the rows is found without a summary too."""
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    if not target.exists():
        scored(tmp_path)
        summary_of(target).unlink()
    before = target.read_bytes()
    ours = [n for n, line in enumerate(before.split(b"\n")) if line]
    line = data.draw(st.sampled_from(ours))
    start = sum(len(each) + 1 for each in before.split(b"\n")[:line])
    text = before.split(b"\n")[line]
    # the first line of a quoted field
    length = len(text) if line == 3 else len(text.rsplit(b",", 2)[0])
    at, byte = start + data.draw(st.integers(0, length - 1)), data.draw(st.integers(0, 255))
    if before[at] == byte:
        return
    target.write_bytes(before[:at] + bytes([byte]) + before[at + 1 :])
    try:
        refused(source, target)
    finally:
        target.write_bytes(before)


def lines(target):
    return target.read_bytes().splitlines(keepends=True)


DAMAGES = [
    (
        "a lost zero",
        lambda d: d.replace(b"007,", b"7,"),
        "row 1, line 2, column id: '007' in the input, '7' in",
    ),
    (
        "a dropped row",
        lambda d: d.replace(d.splitlines(keepends=True)[2], b""),
        "row 2, line 3, column id: '008' in the input",
    ),
    (
        "a row twice",
        lambda d: d.replace(d.splitlines(keepends=True)[1], d.splitlines(keepends=True)[1] * 2),
        "row 2, line 3, column id",
    ),
    (
        "the last row gone",
        lambda d: b"".join(d.splitlines(keepends=True)[:-1]),
        "row 5, line 7: the output ends before this",
    ),
    (
        "a row more",
        lambda d: d + d.splitlines(keepends=True)[1],
        "row 6: a row that the input does not have",
    ),
    ("cut short", lambda d: d[:-9], "row 5, column score: not a float32"),
    ("a byte order mark", lambda d: b"\xef\xbb\xbf" + d, "column id: 'id' in the input"),
    (
        "a line end",
        lambda d: d.replace(b"\n008", b"\r\n008"),
        "row 1, line 2: '\\n' in the input, '\\r\\n' in the",
    ),
    (
        "a blank line",
        lambda d: d.replace(b"\n008", b"\n\n008"),
        "blank lines or line ends differ in rows 1 to 5",
    ),
    (
        "blank lines behind",
        lambda d: d + b"\n",
        "blank lines or line ends differ after the last row",
    ),
    (
        "another header",
        lambda d: d.replace(b"note", b"NOTE", 1),
        "line 1, column note: 'note' in the input, 'NOTE'",
    ),
    (
        "no new columns",
        lambda d: REVIEWS,
        "line 1: 3 field(s) in the output where more than 3 are expected",
    ),
    ("an open quote", lambda d: d.replace(b"\n010,", b'\n"010,'), "row 4, line 6, column id"),
    ("a quote less", lambda d: d.replace(b'\nthen",', b"\nthen,"), "row 3, line 4, column text"),
    (
        "other names",
        lambda d: d.replace(b",label,", b",lable,"),
        "are not label, score and so on but: lable, score",
    ),
    (
        "a field less",
        lambda d: d.replace(b",,\n", b",\n", 1),
        "row 2, line 3: 4 field(s) in the output where 5",
    ),
    ("empty", lambda d: b"", "the output is empty"),
]


@pytest.mark.parametrize(("spoil", "said"), [d[1:] for d in DAMAGES], ids=[d[0] for d in DAMAGES])
def test_the_first_difference_is_named(tmp_path, spoil, said):
    """The message says in which row, line and column the files differ and what each has there."""
    source, target = scored(tmp_path)
    data = target.read_bytes()
    assert spoil(data) != data
    target.write_bytes(spoil(data))
    summary_of(target).unlink()
    error = refused(source, target)
    assert said in error.message
    assert error.document["difference"]["row"] is None or error.document["difference"]["row"] >= 1


def test_two_rows_swapped_are_found(tmp_path):
    """The same rows in another order are not the same file."""
    source, target = scored(tmp_path, b"id,text\n1,a\n2,b\n3,c\n")
    head, first, second, third = lines(target)
    target.write_bytes(head + first + third + second)
    assert (
        "row 2, line 3, column id: '2' in the input, '3' in the output"
        in refused(source, target).message
    )


SCORES = [
    (
        "a label without text",
        "blank",
        ("POSITIVE", "0.75"),
        "a label where there is no text: 'POSITIVE'",
    ),
    ("a label without score", "good", ("POSITIVE", ""), "label and score must come together"),
    ("a score without label", "good", ("", "0.75"), "label and score must come together"),
    ("no number", "good", ("POSITIVE", "high"), "not a float32 in its shortest form: 'high'"),
    ("not a number", "good", ("POSITIVE", "nan"), "not a probability"),
    ("above one", "good", ("POSITIVE", "1.5"), "not a probability: '1.5'"),
    ("below zero", "good", ("POSITIVE", "-0.5"), "not a probability"),
    (
        "more digits than a float32 has",
        "good",
        ("POSITIVE", "0.7500000001"),
        "not a float32 in its shortest form",
    ),
    ("another notation", "good", ("POSITIVE", "7.5e-1"), "not a float32 in its shortest form"),
]


@pytest.mark.parametrize(
    ("row", "cells", "said"), [s[1:] for s in SCORES], ids=[s[0] for s in SCORES]
)
def test_scores_that_no_model_gives_are_found(tmp_path, row, cells, said):
    """Labels and scores must come together, for texts only, as float32 numbers from 0 to 1."""
    source, target = scored(tmp_path, b"text,kind\nfine,good\n  ,blank\n")
    summary_of(target).unlink()
    rows = [line.split(",") for line in target.read_text().splitlines()]
    for cell in rows[1:]:
        if cell[1] == row:
            cell[2:] = cells
    target.write_text("".join(",".join(cell) + "\n" for cell in rows))
    assert said in refused(source, target).message


def test_the_label_must_be_one_of_the_model_s(tmp_path):
    """With a summary the labels are known, and how low a winning score can be."""
    source, target = scored(tmp_path, b"text\na\nb\n")
    data = target.read_bytes()
    target.write_bytes(data.replace(b"TIVE", b"TIVO"))
    assert "not one of the labels NEGATIVE, POSITIVE" in refused(source, target).message
    head, first, rest = data.splitlines(keepends=True)
    target.write_bytes(head + first.split(b",")[0] + b",POSITIVE,0.25\n" + rest)
    assert "too low for the highest of 2 probabilities: '0.25'" in refused(source, target).message


def test_probabilities_must_agree_with_the_score(tmp_path):
    """The score is the highest probability, and that of its label."""
    source, target = scored(tmp_path, b"text\nab\n", probabilities=True)
    summary_of(target).unlink()
    for cells, said in (
        ("NEGATIVE,0.75,0.25,0.75", "column prob_NEGATIVE: not the score of its label"),
        ("NEGATIVE,0.75,0.75,0.875", "column prob_POSITIVE: higher than the score"),
        ("NEGATIVE,0.75,0.75,", "column prob_POSITIVE: label and probability must come together"),
    ):
        target.write_text(f"text,label,score,prob_NEGATIVE,prob_POSITIVE\nab,{cells}\n")
        assert said in refused(source, target).message
    target.write_text("text,label,score,prob_NEGATIVE,prob_POSITIVE\nab,NEGATIVE,0.75,0.75,0.25\n")
    assert verify(source, target)["status"] == "same"


@pytest.mark.parametrize(
    ("cells", "said"), [("x,true", "not a count"), ("-1,true", "not a c"), ("3,yes", "not true or")]
)
def test_details_must_be_what_they_are(tmp_path, cells, said):
    """n_tokens is a count and truncated is true or false."""
    source, target = scored(tmp_path, b"text\nab\n", details=True)
    summary_of(target).unlink()
    target.write_text(f"text,label,score,n_tokens,truncated\nab,NEGATIVE,0.75,{cells}\n")
    assert said in refused(source, target).message


CLAIMS = [
    (("status",), "running"),
    *(
        (("rows", name), 99)
        for name in ("read", "scored", "blank", "rejected", "nonfinite", "written")
    ),
    (("rows", "read"), "5"),
    (("predictions", "labels", 0, "count"), 77),
    (("outputs", 0, "sha256"), "0" * 64),
    (("outputs", 0, "bytes"), 1),
    (("outputs", 0, "rows"), 4),
    (("input", "sha256"), "0" * 64),
    (("input", "bytes"), 1),
    (("model", "labels"), ["POSITIVE", "OTHER"]),
    (("model", "labels"), None),
    (("predictions", "labels"), []),
    (("outputs",), []),
    (("run", "options", "delimiter"), 5),
    (("run", "options", "prefix"), "p_"),
    (("run", "options", "limit"), 2),
    (("schema",), "batchsent.summary/2"),
    (("predictions", "mean_score"), 0.99),
    (("predictions", "labels", 1, "mean_score"), 0.99),
    (("predictions", "labels", 1, "score_counts", 20), 77),
    (("predictions", "score_histogram", "counts", 39), 77),
    (("predictions", "labels"), None),
    (("text", "characters", "max"), 5),
    (("text", "characters"), 5),
    (("run", "options", "details"), True),
    (("run", "options", "probabilities"), "yes"),
    (("run", "options", "unsure_below"), 0.7),
    (("run", "options", "unsure_below"), 70),
    (("run", "options", "group_by"), "note"),
]


@pytest.mark.parametrize(
    ("path", "value"), CLAIMS, ids=[".".join(map(str, p)) + f"={v}"[:20] for p, v in CLAIMS]
)
def test_a_summary_that_claims_something_else_is_found(tmp_path, path, value):
    """Every count, hash and label of the summary is compared with the files."""
    source, target = scored(tmp_path)
    document = json.loads(summary_of(target).read_bytes())
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    summary_of(target).write_text(json.dumps(document))
    with pytest.raises(BatchsentError) as caught:
        verify(source, target)
    assert caught.value.exit_code in {4, 8}


def test_a_changed_score_needs_the_hash(tmp_path):
    """A score that could be the model's own is told from the hash of the output."""
    source, target = scored(tmp_path)
    data = target.read_bytes()
    target.write_bytes(data.replace(b",0.", b",0.9", 1))
    with pytest.raises(GateFailed, match=r"sha256 of the output|bytes of the output|shortest form"):
        verify(source, target)


TABLES = {
    "group_by": "note",
    "gold_stars": "note",
    "stars": "1-2:NEGATIVE,4-5:POSITIVE",
    "disagreements": None,
}
STARRED = b"text,note\n" + b"".join(b"film %d,%d\n" % (n, n % 6) for n in range(60))


def with_tables(folder, out="out.csv", **options):
    """Score with every table beside the output; return input, output, groups and disagreements."""
    worst = folder / "worst.csv"
    source, target = scored(
        folder, STARRED, out=out, **{**TABLES, "disagreements": str(worst), **options}
    )
    return source, target, folder / out.replace("out.", "out.groups.", 1), worst


@pytest.mark.parametrize(
    "out", ["out.csv", "out.tsv.gz", "out.parquet", "out.arrow.zst", "out.ndjson"]
)
def test_tables_beside_the_output_are_proven(tmp_path, out):
    """The roll-up and the disagreements are compared with the summary, in every format, and named."""
    source, target, groups, worst = with_tables(tmp_path, out)
    checked = " ".join(verify(source, target)["checked"])
    assert f"the table {groups}: size, SHA-256 and 6 rows" in checked
    assert f"the table {worst}: size, SHA-256 and " in checked


@pytest.mark.parametrize("which", [2, 3], ids=["groups", "disagreements"])
def test_a_table_that_was_changed_emptied_or_lost_is_found(tmp_path, which):
    """A table is part of what a run wrote: any other byte in it, and its absence, is a difference."""
    source, target, *_ = made = with_tables(tmp_path)
    table = made[which]
    whole = table.read_bytes()
    for spoilt in (b"", whole[:-1], whole.replace(b"1", b"2"), whole + b"\n"):
        table.write_bytes(spoilt)
        assert f"the table {table}" in refused(source, target).message
    table.unlink()
    assert f"the table {table} is not there" in refused(source, target).message
    table.write_bytes(whole)
    document = json.loads(summary_of(target).read_bytes())
    for change, said in (
        ({"rows": 3}, "rows of the table"),
        ({"role": "other"}, "by its options the run wrote"),
    ):
        spoilt = [
            entry | change if entry["path"] == str(table) else entry
            for entry in document["outputs"]
        ]
        summary_of(target).write_text(json.dumps({**document, "outputs": spoilt}))
        assert said in refused(source, target).message


def test_files_may_be_moved_together(tmp_path):
    """Tables are found where they stand as seen from the output, in another folder too."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    with_tables(here)
    here.rename(there)
    assert verify(there / "in.csv", there / "out.csv")["status"] == "same"
    (there / "worst.csv").write_bytes(b"")
    assert "the table" in refused(there / "in.csv", there / "out.csv").message


def test_tables_pages_and_evaluations_that_nobody_checked_are_named(tmp_path):
    """What the proof leaves out stands in the verdict: the page, the evaluation, and tables without
    a summary.
    """
    source, target, groups, _ = with_tables(tmp_path, report=True)
    unchecked = " ".join(verify(source, target)["unchecked"])
    assert "out.csv.report.html" in unchecked
    assert "the evaluation" in unchecked
    summary_of(target).unlink()
    assert f"the table {groups}" in " ".join(verify(source, target)["unchecked"])


MANY = b"text\n" + b"".join(b"film %d\n" % n for n in range(40)) + b"  \n"


def flipped(target):
    """Write the output again with true for false and false for true."""
    swap = {b"true": b"false", b"false": b"true"}
    rows = [line.rsplit(b",", 1) for line in target.read_bytes().splitlines()]
    target.write_bytes(
        b"".join(b",".join([front, swap.get(last, last)]) + b"\n" for front, last in rows)
    )


@pytest.mark.parametrize("out", ["out.csv", "out.parquet"])
def test_unsure_must_follow_from_the_score(tmp_path, out):
    """With a summary the threshold is known; without one some threshold must explain the column."""
    source, target = scored(tmp_path, MANY, out=out, unsure_below=0.7)
    assert verify(source, target)["status"] == "same"
    if out == "out.csv":
        flipped(target)
    else:
        table = pq.read_table(target)
        other = pc.invert(table["unsure"])
        pq.write_table(
            table.set_column(table.num_columns - 1, "unsure", other), target, compression="snappy"
        )
    assert (
        "column unsure: it must say whether the score is under 0.7"
        in refused(source, target).message
    )
    summary_of(target).unlink()
    assert "column unsure: no threshold calls" in refused(source, target).message
    assert "no threshold calls" in refused(source, target, chunk_rows=1).message
    scored(tmp_path, MANY, out=out, unsure_below=0.7)
    summary_of(target).unlink()
    assert verify(source, target, chunk_rows=1)["status"] == "same"


@pytest.mark.parametrize("threshold", [0, 1, 1.0])
def test_thresholds_at_the_ends_verify(tmp_path, threshold):
    """A threshold that calls no row unsure, or all of them, given as an integer too."""
    source, target = scored(
        tmp_path, MANY, unsure_below=threshold, probabilities=True, details=True
    )
    assert verify(source, target)["status"] == "same"
    summary_of(target).unlink()
    assert verify(source, target)["status"] == "same"


def test_unsure_comes_with_a_score_only(tmp_path):
    """A row without text is neither sure nor unsure."""
    source, target = scored(tmp_path, MANY, unsure_below=0.7)
    target.write_bytes(target.read_bytes().replace(b"  ,,,\n", b"  ,,,true\n"))
    assert (
        "row 41, column unsure: label and unsure must come together"
        in refused(source, target).message
    )


BREAKS = [
    (
        "a column that no run adds",
        "text,label,score,foo\nab,NEGATIVE,0.75,1\n",
        "score and so on but: label, score, foo",
    ),
    (
        "columns in another order",
        "text,label,score,unsure,prob_A,prob_B\nab,A,1,true,1,0\n",
        "score and so on but",
    ),
    (
        "one probability of two",
        "text,label,score,prob_A\nab,A,0.75,0.75\n",
        "the probability of one label only",
    ),
    (
        "a label without its column",
        "text,label,score,prob_A,prob_B\nab,C,0.75,0.5,0.5\n",
        "not one of the labels A, B",
    ),
    (
        "a sum that is not 1",
        "text,label,score,prob_A,prob_B\nab,A,0.75,0.75,0.125\n",
        "do not add up to 1: '0.875'",
    ),
    ("a winner of nothing", "text,label,score\nab,A,0\n", "too low for the highest"),
    (
        "a count too large",
        "text,label,score,n_tokens,truncated\nab,A,1,99999999999,true\n",
        "not a count",
    ),
    (
        "a count with a zero ahead",
        "text,label,score,n_tokens,truncated\nab,A,1,02,true\n",
        "not a count",
    ),
    (
        "neither true nor false",
        "text,label,score,n_tokens,truncated\nab,A,1,2,\n",
        "not true or false: null",
    ),
]


@pytest.mark.parametrize(("output", "said"), [b[1:] for b in BREAKS], ids=[b[0] for b in BREAKS])
def test_columns_that_no_run_writes_are_found_without_a_summary(tmp_path, output, said):
    """The columns after the user's are those of a run, in its order, and agree with each other."""
    (tmp_path / "in.csv").write_text("text\nab\n")
    (tmp_path / "out.csv").write_text(output)
    assert said in refused(tmp_path / "in.csv", tmp_path / "out.csv").message


def test_tokens_of_no_text_are_found(tmp_path):
    """A row without text has no tokens; and with a summary the tokens of all rows are those it
    counted.
    """
    source, target = scored(tmp_path, b"text,n\na b,1\n,2\n", details=True)
    data = target.read_bytes()
    target.write_bytes(data.replace(b",2,,,0,false", b",2,,,7,false"))
    assert (
        "row 2, column n_tokens: tokens where there is no text: '7'"
        in refused(source, target).message
    )
    target.write_bytes(data.replace(b",2,false", b",3,false"))
    assert "tokens read: '2' in the summary, '3' in the files" in refused(source, target).message


def test_labels_that_are_all_gone_are_named(tmp_path):
    """Without a summary nobody knows whether the model gave no number: the verdict counts such
    rows.
    """
    source, target = scored(tmp_path, b"text\na\nb\n")
    target.write_bytes(b"text,label,score\na,,\nb,,\n")
    assert "rows scored: '2' in the summary, '0' in the files" in refused(source, target).message
    summary_of(target).unlink()
    assert any(
        "2 rows with text and without label" in said for said in verify(source, target)["unchecked"]
    )


def test_a_file_without_header_needs_label_and_score(tmp_path):
    """One field behind the user's is a difference.

    What stands behind two of them is checked by the summary's names.
    """
    data, how = b"1,a b\n2,b\n", {"no_header": True, "text_column_index": 2}
    source, target = scored(
        tmp_path, data, **how, probabilities=True, details=True, unsure_below=0.9
    )
    assert verify(source, target)["unchecked"] == []
    flipped(target)
    assert "column unsure: it must say" in refused(source, target).message
    scored(tmp_path, data, **how)
    target.write_bytes(
        b"".join(line.rsplit(b",", 1)[0] + b"\n" for line in target.read_bytes().splitlines())
    )
    assert "1 field(s) after the input's where 2 are due" in refused(source, target).message
    summary_of(target).unlink()
    assert "1 field(s) after the input's where 2 are due" in refused(source, target, **how).message
    scored(tmp_path, data, **how, details=True)
    summary_of(target).unlink()
    assert "fields after label and score" in " ".join(verify(source, target, **how)["unchecked"])


def test_a_rejects_file_of_nothing_is_found(tmp_path):
    """A rejects file that names rows that are all there belongs to another run."""
    source, target = scored(tmp_path)
    (tmp_path / "out.csv.rejects.csv").write_bytes(
        b'"line","byte_offset","reason","raw"\n3,9,"short","2"\n'
    )
    assert "names rows that can be read" in refused(source, target).message


def test_rejected_rows_must_be_named(tmp_path):
    """Rows may be missing if the rejects file has each of them as it stands in the input, and no
    other.
    """
    data = b'id,text\n1,a\n2\n\n3,b,"x\ry"\n4,c\n5,caf\xe9,6\n'
    source, target = scored(tmp_path, data, bad_rows="reject")
    rejects = tmp_path / "out.csv.rejects.csv"
    verdict = verify(source, target)
    assert verdict["rows"]["rejected"] == 3
    assert verdict["rows"]["written"] == 2
    whole = rejects.read_bytes()
    for spoilt in (
        b"".join(whole.splitlines(keepends=True)[:-1]),
        whole + whole.splitlines(keepends=True)[1],
        whole.replace(b'"2"', b'"3"'),
        whole.replace(b"\n3,", b"\n4,"),
        whole[:-1],
        b"",
    ):
        rejects.write_bytes(spoilt)
        refused(source, target)
    rejects.unlink()
    assert "line 3: this row was left out, and there is no" in refused(source, target).message
    summary_of(target).unlink()
    with pytest.raises(InputError, match="line 3"):  # nothing says that rows may be missing
        verify(source, target)
    rejects.write_bytes(whole)
    assert verify(source, target)["rows"]["rejected"] == 3


def changed(table, column, row, value):
    """A table with one value changed."""
    values = table.column(column).to_pylist()
    values[row] = value
    field = table.schema.field(column)
    at = table.schema.get_field_index(column)
    return table.set_column(at, field, pa.array(values, field.type))


VALUES = [
    (
        "a number",
        lambda t: changed(t, "n", 3, 5),
        "row 4, column n: '4' in the input, '5' in the output",
    ),
    (
        "zero's sign",
        lambda t: changed(t, "x", 0, -0.0),
        "row 1, column x: '0.0' in the input, '-0.0' in the output",
    ),
    (
        "NaN to null",
        lambda t: changed(t, "x", 1, None),
        "row 2, column x: 'nan' in the input, null in the output",
    ),
    (
        "null to empty",
        lambda t: changed(t, "text", 2, ""),
        "row 3, column text: null in the input, '' in the output",
    ),
    ("inside a list", lambda t: changed(t, "list", 4, [1.0, 2.5]), "row 5, column list"),
    (
        "a row gone",
        lambda t: pa.concat_tables([t.slice(0, 2), t.slice(3)]),
        "row 3, column n: '3' in the input, '4'",
    ),
    (
        "the last row gone",
        lambda t: t.slice(0, 4),
        "row 5: the output ends before this row: it has 4 rows",
    ),
    (
        "a row more",
        lambda t: pa.concat_tables([t, t.slice(4)]),
        "row 6: a row that the input does not have",
    ),
    (
        "another order",
        lambda t: t.take([0, 2, 1, 3, 4]),
        "row 2, column n: '2' in the input, '3' in the output",
    ),
    (
        "a type",
        lambda t: t.set_column(0, "n", t["n"].cast(pa.int64())),
        "column n: 'pyarrow.Field<n: int32>' in the",
    ),
    (
        "a name",
        lambda t: t.rename_columns(["m", *t.column_names[1:]]),
        "column n: 'n' in the input, 'm' in the output",
    ),
    (
        "metadata",
        lambda t: t.replace_schema_metadata({"made": "later"}),
        "the metadata of the schema",
    ),
    (
        "a column gone",
        lambda t: t.drop_columns("list"),
        "column list: 'list' in the input, 'label' in the output",
    ),
    ("no label", lambda t: t.drop_columns("label"), "has no column called label"),
    (
        "a score of doubles",
        lambda t: t.set_column(5, "score", t["score"].cast(pa.float64())),
        "its type is double",
    ),
]


@pytest.mark.parametrize(("spoil", "said"), [v[1:] for v in VALUES], ids=[v[0] for v in VALUES])
@pytest.mark.parametrize("out", ["out.parquet", "out.arrow"])
def test_every_changed_value_is_found(tmp_path, spoil, said, out):
    """In typed formats a difference is one of value, type, name, order or number, to the last bit."""
    table = pa.table(
        {
            "n": pa.array([1, 2, 3, 4, 5], pa.int32()),
            "text": ["a", "b", None, "", "c"],
            "x": [0.0, float("nan"), None, 1.5, 2.5],
            "list": [[1.0], None, [], [float("nan")], [1.0, 2.0]],
        }
    )
    source, target = tmp_path / f"in{out[3:]}", tmp_path / out
    write(source, table)
    batch(source, target, models=HashModels())
    summary_of(target).unlink()
    assert verify(source, target)["status"] == "same"
    whole = (
        pq.read_table(target)
        if out.endswith("parquet")
        else pa.ipc.open_stream(target.read_bytes()).read_all()
    )
    write(target, spoil(whole))
    assert said in refused(source, target).message


def write(path, table):
    """Write a table as Parquet or as an Arrow stream."""
    if path.suffix == ".parquet":
        pq.write_table(table, path)
        return
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)


def test_parquet_keeps_its_layout(tmp_path):
    """Other row groups or another codec are a difference, though the values are the same."""
    table = pa.table({"text": [f"text {n}" for n in range(9)]})
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pq.write_table(table, source, row_group_size=4, compression="zstd")
    batch(source, target, models=HashModels())
    summary_of(target).unlink()
    assert verify(source, target)["status"] == "same"
    out = pq.read_table(target)
    pq.write_table(out, target, row_group_size=5, compression="zstd")
    assert "row groups" in refused(source, target).message
    pq.write_table(out, target, row_group_size=4, compression="snappy")
    assert (
        "column text: 'ZSTD' in the input, 'SNAPPY' in the output"
        in refused(source, target).message
    )


def test_csv_made_of_parquet_tells_null_from_empty(tmp_path):
    """Values written as CSV are read back one by one.

    An empty text that was null is a difference.
    """
    source, target = tmp_path / "in.parquet", tmp_path / "out.csv"
    pq.write_table(pa.table({"text": ["a", None, ""], "price": [1.5, 0.1, None]}), source)
    batch(source, target, models=HashModels())
    summary_of(target).unlink()
    data = target.read_bytes()
    for before, after, said in (
        (b"\n,0.1", b'\n"",0.1', "row 2, column text: null in the input, '' in the output"),
        (b'\n"",', b"\n,", "row 3, column text: '' in the input, null in the output"),
        (b"0.1", b"0.10", "row 2, column price: '0.1' in the input, '0.10' in the output"),
        (b"text,price", b"price,text", "column text: 'text' in the input, 'price' in the output"),
        (
            data.splitlines(keepends=True)[1],
            b"",
            "row 1, column text: 'a' in the input, null in the output",
        ),
        (data.splitlines(keepends=True)[3], b"", "row 3: the output ends before this row"),
        (b"price,label", b'price,"label', "so on but: label,score\\na"),
        (b"\n,0.1", b"\n,0.1,,", "6 field(s) in the output where 4 are expected"),
    ):
        assert before in data
        target.write_bytes(data.replace(before, after, 1))
        assert said in refused(source, target).message
    target.write_bytes(data + data.splitlines(keepends=True)[1])
    assert "row 4: a row that the input does not have" in refused(source, target).message


@pytest.mark.parametrize("out", ["out.csv.gz", "out.csv.zst", "out.parquet", "out.arrow"])
def test_damaged_outputs_are_a_difference_and_not_a_crash(tmp_path, out):
    """A cut or flipped compressed file, a Parquet file without its end: the output is damaged, exit
    8.
    """
    source, target = scored(tmp_path, b"text\n" + b"some text or other\n" * 500, out=out)
    data = target.read_bytes()
    for spoilt in (data[: len(data) // 2], data[:-3], b"", data[:60] + b"\xff" * 8 + data[68:]):
        target.write_bytes(spoilt)
        refused(source, target)


def test_what_cannot_be_read_is_an_input_error(tmp_path):
    """A missing output, a missing or damaged input and a damaged summary are exit 4.

    Options that do not fit exit 2.
    """
    source, target = scored(tmp_path)
    data, summary = source.read_bytes(), summary_of(target).read_bytes()
    with pytest.raises(InputError, match="no such file"):
        verify(source, tmp_path / "other.csv")
    with pytest.raises(InputError):
        verify(tmp_path / "other.csv", target)
    with pytest.raises(InputError):
        verify(source, target, summary=str(tmp_path / "other.json"))
    source.write_bytes(data.replace(b'"say', b"say"))
    with pytest.raises(InputError, match="line 5"):
        verify(source, target)
    source.write_bytes(data)
    summary_of(target).write_bytes(summary[:100])
    with pytest.raises(InputError, match="not JSON"):
        verify(source, target)
    summary_of(target).write_bytes(summary)
    with pytest.raises(UsageError, match="is verified once"):
        verify(source, "-")
    with pytest.raises(UsageError, match="no column called txt"):
        verify(source, target, text_column="txt")
    assert verify(source, target)["status"] == "same"


def test_a_file_scored_in_two_members_of_gzip_verifies(tmp_path):
    """Input compressed in pieces is read to its end."""
    data = gzip.compress(REVIEWS) + gzip.compress(b"12,more,x\n")
    source, target = scored(tmp_path, data, name="in.csv.gz")
    assert verify(source, target)["rows"]["read"] == 6


def test_hostile_cells_are_inert_in_messages(tmp_path):
    """Escapes and overrides in the cells that differ do not reach a terminal."""
    source, target = scored(tmp_path, "id,text\n\x1b]52;c;\x07\u202e,a\n".encode())
    target.write_bytes(target.read_bytes().replace(b"\x07", b"\x08"))
    message = refused(source, target).message
    assert message.isprintable()
    assert "\\x1b]52" in message


def test_many_rows_over_many_chunks(tmp_path):
    """Blocks, chunks and parts that end in different places on both sides do not matter."""
    random = np.random.default_rng(0)
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    with source.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["id", "text"])
        out.writerows([n, 'x\n,"é' * int(random.integers(0, 9))] for n in range(40_000))
    batch(source, target, models=HashModels(), chunk_rows=999)
    assert verify(source, target)["rows"]["written"] == 40_000
    batch(source, tmp_path / "out.parquet", models=HashModels())
    assert verify(source, tmp_path / "out.parquet", chunk_rows=700)["status"] == "same"
    table = pq.read_table(tmp_path / "out.parquet")
    ids = pc.if_else(pc.equal(table["id"], "31234"), "x", table["id"])
    pq.write_table(table.set_column(0, "id", ids), tmp_path / "out.parquet", compression="snappy")
    assert (
        "row 31,235, column id: '31234' in the input, 'x' in"
        in refused(source, tmp_path / "out.parquet").message
    )
