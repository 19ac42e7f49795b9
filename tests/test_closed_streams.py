"""K05: a process that is started without some of its standard streams does what it always does."""

import json
import os
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.children import close_streams, run

ROOT = Path(__file__).parents[1]
HASH_MODEL = [sys.executable, "-m", "tests.hash_model"]
COMMAND = [sys.executable, "-m", "batchsent"]
CLOSED = ["<&-", ">&-", "2>&-", "<&- >&-", "<&- 2>&-", ">&- 2>&-", "<&- >&- 2>&-"]
EXPECTED = b"id,text,label,score\n1,good,NEGATIVE,0.5349369\n2,bad,NEGATIVE,0.8163173\n"


@pytest.fixture
def dump(tmp_path):
    """Two reviews and what the hash model makes of them."""
    (tmp_path / "in.csv").write_bytes(b"id,text\n1,good\n2,bad\n")
    return tmp_path


def shell(folder, command, redirections):
    """Run a command in bash with some streams closed; return its exit code and what came out.

    Streams that stay open are a file each, not a pipe: what is printed has to go to its own file.
    """
    line = f"{shlex.join(map(str, command))} {redirections}"
    with (folder / "stdout").open("wb") as stdout, (folder / "stderr").open("wb") as stderr:
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            timeout=120,
        )
    printed, said = ((folder / name).read_bytes() for name in ("stdout", "stderr"))
    return done.returncode, printed, said


@pytest.mark.parametrize("closed", CLOSED)
def test_k05_a_run_ends_as_with_open_streams_and_its_data_holds_nothing_else(dump, closed):
    """K05: complete, up to date and refused have their own exit codes.

    No message is in the output. The first command is a new process of a shell's; the others are
    forked.
    """
    words = ["in.csv", "-o", "out.csv"]
    code, _, said = shell(dump, [*HASH_MODEL, *words], closed)
    assert (code, (dump / "out.csv").read_bytes()) == (0, EXPECTED), said
    assert json.loads((dump / "out.csv.summary.json").read_bytes())["status"] == "complete"

    streams = {"<&-": 0, ">&-": 1, "2>&-": 2}
    without = partial(close_streams, [streams[each] for each in closed.split()])
    code, said = run(words, dump, setup=without)
    assert (code, (dump / "out.csv").read_bytes()) == (0, EXPECTED), said

    code, said = run([*words, "--probabilities"], dump, setup=without)
    assert (code, (dump / "out.csv").read_bytes()) == (2, EXPECTED), said
    assert ("2>&-" in closed) != ("--overwrite" in said)

    code, said = run(["missing.csv", "-o", "other.csv"], dump, setup=without)
    assert code == 4, said
    assert not (dump / "other.csv").exists()


@pytest.mark.parametrize("closed", CLOSED)
@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--help"], 0), (["--version"], 0), (["batch", "--help"], 0), (["no-such-command"], 2)],
)
def test_k05_help_and_refusals_have_the_same_exit_code(dump, closed, arguments, code):
    """K05: --help, --version and a wrong command end as they do with open streams."""
    found, printed, said = shell(dump, [*COMMAND, *arguments], closed)
    assert found == code, said
    assert b"Traceback" not in printed + said


@pytest.mark.parametrize("closed", CLOSED[:3] + CLOSED[-1:])
@pytest.mark.parametrize("arguments", [["predict", "a good film"], ["info", "--json"]])
def test_k05_predict_and_info_have_the_same_exit_code(dump, closed, arguments):
    """K05: what is printed goes to stdout where there is one, and nowhere else."""
    code, printed, said = shell(dump, [*COMMAND, *arguments], closed)
    assert code == 0, said
    assert (b"POSITIVE" in printed or b"versions" in printed) == (">&-" not in closed.split())


@pytest.mark.parametrize("closed", [c for c in CLOSED if ">&-" in c.split()])
def test_k05_an_output_that_has_no_stdout_is_no_success(dump, closed):
    """K05: `-o - >&-` ends with 5 before the model is loaded, and says so where stderr is open."""
    code, printed, said = shell(dump, [*HASH_MODEL, "in.csv", "-o", "-"], closed)
    assert (code, printed) == (5, b"")
    assert ("2>&-" in closed) != (b"stdout is closed" in said)


@pytest.mark.parametrize("closed", [c for c in CLOSED if "<&-" in c])
@pytest.mark.parametrize(
    "command",
    [[*HASH_MODEL, "-", "-o", "out.csv"], [*COMMAND, "predict"]],
    ids=["batch", "predict"],
)
def test_k05_an_input_that_has_no_stdin_is_no_success(dump, closed, command):
    """K05: reading from a closed stdin ends with 4; no output appears."""
    code, printed, said = shell(dump, command, closed)
    assert (code, printed) == (4, b""), said
    assert ("2>&-" in closed) != (b"stdin is closed" in said)
    assert not (dump / "out.csv").exists()


def test_k05_data_in_stdout_stays_data_where_stderr_is_closed(dump):
    """K05: `-o - 2>&-` gives the bytes of a run with open streams."""
    code, printed, _ = shell(dump, [*HASH_MODEL, "in.csv", "-o", "-"], "2>&-")
    assert (code, printed) == (0, EXPECTED)


def test_k05_no_import_takes_a_descriptor_before_it_is_replaced(dump):
    """K05: importing the command line opens nothing that stays open, so the free numbers are still
    free.
    """
    code = "import batchsent.cli, fcntl\nfor fd in (0, 1, 2):\n    fcntl.fcntl(fd, fcntl.F_GETFD)"
    for fd in range(3):
        script = code.replace("(0, 1, 2)", f"({fd},)")
        assert shell(dump, [sys.executable, "-c", script], "<&- >&- 2>&-")[0] == 1
