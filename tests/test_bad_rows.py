"""Rows that cannot be taken: left out, written down with where and why, and compared with a budget."""

import csv
import io
import json

import pytest

from batchsent.commands.batch import batch
from batchsent.errors import InputError, UsageError
from tests.children import run as run_child
from tests.csv_cases import score_cells
from tests.hash_model import HashModels, expected

BAD = b'id,text\n1,good\n2\n3,"two\nlines"\n4,a,b\n5,"bad\rworse",x\n6,fine\n'


def run(folder, data=BAD, **options):
    (folder / "in.csv").write_bytes(data)
    return batch(
        folder / "in.csv",
        folder / "out.csv",
        models=HashModels(),
        **{"bad_rows": "reject"} | options,
    )


def rejects(folder):
    text = (folder / "out.csv.rejects.csv").read_bytes().decode("latin-1")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_rejected_rows_are_written_down_with_line_offset_reason_and_bytes(tmp_path):
    """OUTPUT.rejects.csv says where each bad row begins, what was wrong, and holds the record as it
    stood.
    """
    summary = run(tmp_path)
    found = rejects(tmp_path)
    assert [(row["line"], row["byte_offset"]) for row in found] == [
        ("3", "15"),
        ("6", "31"),
        ("7", "37"),
    ]
    assert [row["raw"] for row in found] == ["2", "4,a,b", '5,"bad\rworse",x']
    assert [BAD[int(row["byte_offset"]) :].startswith(row["raw"].encode()) for row in found] == [
        True
    ] * 3
    assert found[0]["reason"] == "1 field(s) where 2 are expected"
    assert (summary["exit_code"], summary["status"]) == (3, "complete")
    rows = summary["rows"]
    assert (rows["read"], rows["rejected"], rows["written"], rows["scored"]) == (6, 3, 3, 3)
    roles = {output["role"]: output for output in summary["outputs"]}
    assert roles["rejects"]["rows"] == 3
    assert roles["rejects"]["bytes"] == (tmp_path / "out.csv.rejects.csv").stat().st_size


def test_the_good_rows_are_as_ever(tmp_path):
    """The output is the input without the bad records, byte for byte, and every score is its row's."""
    run(tmp_path, chunk_rows=2)
    lines = [("1,good", "good"), ('3,"two\nlines"', "two\nlines"), ("6,fine", "fine")]
    wanted = "id,text,label,score\n" + "".join(
        ",".join([raw, *score_cells(text)]) + "\n" for raw, text in lines
    )
    assert (tmp_path / "out.csv").read_bytes().decode() == wanted


@pytest.mark.parametrize("chunk_rows", [1, 2, 3, 100])
def test_chunks_do_not_matter(tmp_path, chunk_rows):
    """Whatever the chunks, output and rejects are the same."""
    data = b"id,text\n" + b"".join(
        b"%d,row %d\n" % (n, n) if n % 3 else b"%d\n" % n for n in range(50)
    )
    run(tmp_path, data, chunk_rows=chunk_rows)
    assert [int(row["raw"]) for row in rejects(tmp_path)] == list(range(0, 50, 3))
    good = [line.split(",") for line in (tmp_path / "out.csv").read_text().splitlines()[1:]]
    assert [row[1] for row in good] == [f"row {n}" for n in range(50) if n % 3]
    assert [row[2] for row in good] == [expected(row[1])[0] for row in good]


@pytest.mark.parametrize(
    ("data", "options", "reason", "raw"),
    [
        (
            b"id,text\n1,caf\xe9\n2,b\n",
            {"encoding_errors": "strict"},
            "not valid utf-8",
            "1,caf\xe9",
        ),
        (
            b"id,text\n1," + b"x" * 30 + b"\n2,b\n",
            {"max_field_bytes": 20},
            "30 bytes, more than 20",
            "1," + "x" * 30,
        ),
        (b'id,text\n2,b\n1,"open\n', {}, "never closed", '1,"open\n'),
        (b'id,text\n1,"a\n9,"b"\n2,b\n', {}, "missing quote", '1,"a\n9,"b"'),
    ],
    ids=["b03_invalid_bytes", "a29_long_field", "a17_open_quote", "a17_swallowed_line"],
)
def test_every_kind_of_bad_row_can_be_rejected(tmp_path, data, options, reason, raw):
    """Invalid bytes, fields beyond the cap and quotes that do not close are reasons, too."""
    summary = run(tmp_path, data, **options)
    (row,) = rejects(tmp_path)
    assert reason in row["reason"]
    assert row["raw"] == raw
    assert summary["rows"]["written"] == 1


def test_no_bad_row_no_rejects_file(tmp_path):
    """Without a bad row the exit code is 0, and a rejects file of an earlier run does not stay."""
    run(tmp_path)
    assert run(tmp_path, b"id,text\n1,a\n", overwrite=True)["exit_code"] == 0
    assert not (tmp_path / "out.csv.rejects.csv").exists()


def test_a_file_of_bad_rows_only(tmp_path):
    """It gives a header and all of the rows in the rejects file."""
    summary = run(tmp_path, b"id,text\nx\ny\n")
    assert (tmp_path / "out.csv").read_bytes() == b"id,text,label,score\n"
    assert (summary["rows"]["rejected"], summary["rows"]["written"]) == (2, 0)


@pytest.mark.parametrize(
    ("budget", "stays"), [("2", False), ("3", True), ("49%", False), ("50%", True), ("0", False)]
)
def test_max_bad_rows_is_a_number_or_a_share(tmp_path, budget, stays):
    """Three bad rows of six are within 3 and 50%, not within 2 or 49%: then nothing is scored or
    left behind.
    """
    if stays:
        assert run(tmp_path, max_bad_rows=budget)["exit_code"] == 3
        return
    with pytest.raises(InputError, match=f"3 bad row.*--max-bad-rows {budget}"):
        run(tmp_path, max_bad_rows=budget)
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


@pytest.mark.parametrize("budget", ["-1", "x", "101%", "nan%", "%", "1.5"])
def test_a_budget_that_is_none_is_refused(tmp_path, budget):
    """It names what is expected."""
    with pytest.raises(UsageError, match="a number such as 100 or a share such as 1%"):
        run(tmp_path, max_bad_rows=budget)


def test_a_budget_without_reject_is_refused(tmp_path):
    """An option that would do nothing is told."""
    with pytest.raises(UsageError, match="require --bad-rows reject"):
        run(tmp_path, bad_rows="error", max_bad_rows="5")


def test_a_pipe_has_a_budget_too(tmp_path):
    """Stdin cannot be checked ahead: the budget ends the run while it streams, with nothing under
    the final name.
    """
    (tmp_path / "in.csv").write_bytes(b"id,text\n" + b"1,a\nbad\n" * 3000)
    command = [
        "-",
        "-o",
        "out.csv",
        "--bad-rows",
        "reject",
        "--max-bad-rows",
        "1%",
        "--chunk-rows",
        "500",
    ]
    code, stderr = run_child(command, tmp_path, stdin=str(tmp_path / "in.csv"))
    assert (code, "more than --max-bad-rows 1%" in stderr) == (4, True)
    assert not (tmp_path / "out.csv").exists()
    assert not list(tmp_path.glob("*.rejects.csv"))


def test_rejects_can_go_elsewhere_and_are_needed_for_stdout(tmp_path):
    """--rejects FILE names the place; with -o - there is no other."""
    (tmp_path / "in.csv").write_bytes(BAD)
    command = ["in.csv", "-o", "-", "--bad-rows", "reject"]
    code, stderr = run_child(command, tmp_path)
    assert (code, "--rejects FILE" in stderr) == (2, True)
    code, _ = run_child([*command, "--rejects", "bad.csv"], tmp_path, stdout=str(tmp_path / "out"))
    assert code == 3
    assert len((tmp_path / "bad.csv").read_bytes().splitlines()) >= 4
    assert len((tmp_path / "out").read_bytes().splitlines()) == 5


def test_a_killed_run_with_rejects_goes_on_to_the_same_files(tmp_path):
    """E02 with rejects: whichever file operation is the last, the same command again gives the same
    two files.
    """
    data = b"id,text\n" + b"".join(
        b"%d,row %d\n" % (n, n) if n % 4 else b"%d\n" % n for n in range(30)
    )
    (tmp_path / "in.csv").write_bytes(data)
    calm = tmp_path / "calm"
    calm.mkdir()
    command = [
        tmp_path / "in.csv",
        "-o",
        "out.csv",
        "--bad-rows",
        "reject",
        "--chunk-rows",
        "10",
        "-q",
    ]
    assert run_child(command, calm)[0] == 3
    wanted = {name: (calm / name).read_bytes() for name in ("out.csv", "out.csv.rejects.csv")}
    kills = 0
    for n in range(1, 90, 5):
        folder = tmp_path / str(n)
        folder.mkdir()
        kills += run_child(command, folder, env={"BATCHSENT_FAULT": f"*:{n}:kill"})[0] == -9
        assert run_child(command, folder)[0] in {0, 3}
        assert {name: (folder / name).read_bytes() for name in wanted} == wanted
        summary = json.loads((folder / "out.csv.summary.json").read_bytes())
        assert summary["rows"]["rejected"] == 8
        left = {"out.csv", "out.csv.rejects.csv", "out.csv.summary.json", "stderr.log"}
        assert {path.name for path in folder.iterdir()} == left
    assert kills > 6
