"""The command line where people and cron use it: groups D, F and H, and E as far as it needs no
special tools.
"""

import gzip
import json
import os
import pty
import re
import stat
import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path

import pytest

from tests.children import Child, run
from tests.hash_model import LABELS

ROOT = Path(__file__).parents[1]
ESCAPES = "\x1b]52;c;cHduZWQ=\x07\r\x1b[2J\u202e"


@pytest.fixture
def dump(tmp_path):
    """A small CSV."""
    (tmp_path / "in.csv").write_bytes("id,text\n1,good\n2,é 漢\n3,\n".encode())
    return tmp_path


def test_d02_a_terminal_as_stdin_is_refused_not_waited_for(dump):
    """`batchsent batch - -o x.csv` typed at a terminal says what to pipe, and exits 2."""
    master, slave = pty.openpty()
    code, stderr = run(["-", "-o", "x.csv"], dump, stdin=os.ttyname(slave))
    os.close(master)
    os.close(slave)
    assert (code, "cat reviews.csv |" in stderr) == (2, True)


def test_d06_a_log_has_no_colour_and_no_bar(dump):
    """Without a terminal stderr is plain lines."""
    code, stderr = run(["in.csv", "-o", "out.csv"], dump)
    assert code == 0
    assert stderr
    assert "\x1b" not in stderr
    assert "\r" not in stderr


def test_d06_a_terminal_gets_the_summary_and_a_clean_end(dump):
    """On a terminal the run draws a bar and a summary, and shows the cursor again."""
    (dump / "in.csv").write_text("text\n" + "some words\n" * 300)
    master, slave = pty.openpty()
    seen = []

    def watch():
        try:
            while data := os.read(master, 1 << 16):
                seen.append(data)
        except OSError:
            pass

    reader = threading.Thread(target=watch)
    reader.start()
    child = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.hash_model",
            "batch_s=0.02",
            dump / "in.csv",
            "-o",
            dump / "out.csv",
        ],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stderr=slave,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(slave)
    code = child.wait(60)
    reader.join(5)
    os.close(master)
    text = b"".join(seen).decode(errors="replace")
    assert code == 0, text
    assert text.rfind("\x1b[?25h") >= text.rfind("\x1b[?25l")
    assert "300" in text


def test_d07_quiet_prints_nothing(dump):
    """--quiet is silent on stdout and stderr on success."""
    assert run(["in.csv", "-o", "out.csv", "-q"], dump, stdout=str(dump / "stdout")) == (0, "")
    assert (dump / "stdout").read_bytes() == b""


def test_d07_quiet_still_tells_errors(dump):
    """Cron mails what goes wrong."""
    code, stderr = run(["missing.csv", "-o", "out.csv", "-q"], dump)
    assert (code, "missing.csv" in stderr) == (4, True)


def test_d08_a_json_log_ends_with_the_summary(dump):
    """Every line of stderr is a JSON object; the last is of type summary and says the exit code."""
    code, stderr = run(["in.csv", "-o", "out.csv", "--log-format", "json"], dump)
    lines = [json.loads(line) for line in stderr.splitlines()]
    assert (code, lines[-1]["type"], lines[-1]["exit_code"]) == (0, "summary", 0)
    assert lines[-1]["summary"]["rows"]["written"] == 3


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["missing.csv", "-o", "out.csv"], 4),
        (["in.csv", "-o", "no/such/out.csv"], 2),
        (["in.csv", "-o", "out.csv", "--no-such-option"], 2),
        (["in.csv", "-o", "out.csv", "--text-column", ESCAPES], 2),
    ],
)
def test_d08_a_json_log_of_a_failure_ends_with_exit_error(dump, arguments, code):
    """The last line is of type exit_error with code, message and hint, in ASCII."""
    found, stderr = run([*arguments, "--log-format", "json"], dump)
    lines = [json.loads(line) for line in stderr.splitlines()]
    assert (found, lines[-1]["type"], lines[-1]["exit_code"]) == (code, "exit_error", code)
    assert stderr.isascii()
    assert "\x1b" not in stderr


def test_json_prints_the_summary_on_stdout(dump):
    """--json gives a program the same document that stands beside the output."""
    code, _ = run(["in.csv", "-o", "out.csv", "--json", "-q"], dump, stdout=str(dump / "stdout"))
    assert code == 0
    assert json.loads((dump / "stdout").read_bytes()) == json.loads(
        (dump / "out.csv.summary.json").read_bytes()
    )


def test_d09_typing_errors_get_a_suggestion(dump):
    """A misspelt option and a misspelt column name the nearest one; nothing runs."""
    code, stderr = run(["in.csv", "-o", "out.csv", "--text-colum", "text"], dump)
    assert (code, "--text-column" in stderr) == (2, True)
    code, stderr = run(["in.csv", "-o", "out.csv", "--text-column", "texts"], dump)
    assert (code, "did you mean --text-column text?" in stderr) == (2, True)
    assert not (dump / "out.csv").exists()


@pytest.mark.parametrize("output", ["in.csv", "./in.csv", "link.csv", "hard.csv"])
def test_d11_an_input_is_never_its_own_output(dump, output):
    """Whatever the name it goes by, even with --overwrite."""
    (dump / "link.csv").symlink_to("in.csv")
    (dump / "hard.csv").hardlink_to(dump / "in.csv")
    before = (dump / "in.csv").read_bytes()
    code, stderr = run(["in.csv", "-o", output, "--overwrite"], dump)
    assert (code, "same file" in stderr) == (2, True)
    assert (dump / "in.csv").read_bytes() == before


@pytest.mark.parametrize("which", ["--summary", "--rejects"])
def test_d11_nor_do_summary_and_rejects_take_the_inputs_or_the_outputs_name(dump, which):
    """--summary in.csv would destroy the dump: refused."""
    before = (dump / "in.csv").read_bytes()
    for name in ("in.csv", "out.csv"):
        code, stderr = run(["in.csv", "-o", "out.csv", which, name, "--bad-rows", "reject"], dump)
        assert (code, "same file" in stderr) == (2, True)
    assert (dump / "in.csv").read_bytes() == before


def test_d12_a_summary_does_not_replace_a_file_that_is_none(dump):
    """--summary notes.txt, where that is somebody's file, is refused.

    A summary of an earlier run is replaced.
    """
    (dump / "notes.txt").write_text("precious")
    code, stderr = run(["in.csv", "-o", "out.csv", "--summary", "notes.txt"], dump)
    said = "notes.txt exists already and is not a file of this output" in stderr
    assert (code, said, (dump / "notes.txt").read_text()) == (2, True, "precious")
    assert run(["in.csv", "-o", "out.csv", "--summary", "s.json"], dump)[0] == 0
    (dump / "out.csv").unlink()
    assert run(["in.csv", "-o", "out.csv", "--summary", "s.json"], dump)[0] == 0


@pytest.mark.parametrize("option", ["-o", "--summary"])
def test_a_device_is_not_replaced_by_a_file(dump, option):
    """`--summary /dev/null --overwrite` as root must not put a file in its place."""
    os.mkfifo(dump / "pipe.csv")
    command = ["in.csv", option, "pipe.csv", "--overwrite"] + (
        ["-o", "out.csv"] if option != "-o" else []
    )
    code, stderr = run(command, dump)
    assert (code, "is a device or pipe" in stderr) == (2, True)
    assert stat.S_ISFIFO((dump / "pipe.csv").stat().st_mode)


def test_a_summary_that_has_no_place_is_told_before_the_work(dump):
    """Not after hours of scoring."""
    code, stderr = run(["in.csv", "-o", "out.csv", "--summary", "no/such/s.json"], dump)
    assert (code, "does not exist" in stderr) == (2, True)
    assert not (dump / "out.csv").exists()


LOCALES = [
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LANG": "tr_TR.UTF-8", "LC_ALL": "tr_TR.UTF-8"},
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONWARNINGS": "error", "PYTHONDEVMODE": "1"},
]


@pytest.mark.parametrize("env", LOCALES, ids=["C", "Turkish", "ascii", "dev"])
def test_d14_the_locale_does_not_matter(dump, env):
    """Names, texts and bytes come out the same."""
    (dump / "ı漢.csv").write_bytes((dump / "in.csv").read_bytes().replace(b"text", b"TEXT"))
    assert run(["ı漢.csv", "-o", "calm.csv"], dump)[0] == 0
    done = subprocess.run(
        [sys.executable, "-m", "tests.hash_model", dump / "ı漢.csv", "-o", dump / "öut.csv"],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert (dump / "öut.csv").read_bytes() == (dump / "calm.csv").read_bytes()


def test_d16_home_and_tmpdir_are_not_needed(dump):
    """A HOME that does not exist and a TMPDIR that does not either are no trouble for a run."""
    env = {"HOME": "/nonexistent", "TMPDIR": "/nonexistent", "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.hash_model",
            dump / "in.csv",
            "-o",
            dump / "out.parquet",
            "-q",
        ],
        cwd=ROOT,
        env=env,
        capture_output=True,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_d18_a_dry_run_checks_and_writes_nothing(dump):
    """It prints the plan; a bad row is found as in a real run."""
    code, stderr = run(["in.csv", "-o", "out.csv", "--dry-run"], dump)
    plan = json.loads(stderr[stderr.index("{") :])
    assert (code, plan["rows"], plan["output"]) == (0, 3, "out.csv")
    assert plan["model"]["labels"] == list(LABELS)
    assert sorted(path.name for path in dump.iterdir()) == ["in.csv", "stderr.log"]
    with (dump / "in.csv").open("a") as file:
        file.write("ragged\n")
    code, stderr = run(["in.csv", "-o", "out.csv", "--dry-run"], dump)
    assert (code, "line 5" in stderr) == (4, True)


WHOLE = gzip.compress(b"id,text\n" + b"1,some text\n" * 1000)
GZIPPED = [
    ("truncated", "in.csv.gz", WHOLE[:-10], "ended before"),
    ("trailing_garbage", "in.csv.gz", WHOLE + b"garbage!", "damaged gzip data"),
    ("misnamed_as_gz", "in.csv.gz", b"id,text\n1,a\n", "damaged gzip data"),
    ("misnamed_as_csv", "in.csv", WHOLE, "these are gzip bytes"),
    ("misnamed_as_zst", "in.csv.zst", WHOLE, "damaged zstd data"),
    (
        "flipped",
        "in.csv.gz",
        WHOLE[:20] + bytes([WHOLE[20] ^ 255]) + WHOLE[21:],
        "damaged gzip data",
    ),
]


@pytest.mark.parametrize(
    ("name", "data", "message"), [g[1:] for g in GZIPPED], ids=[g[0] for g in GZIPPED]
)
def test_e17_damaged_compression_is_an_input_error(tmp_path, name, data, message):
    """Exit 4 with one line, and nothing under the output's name."""
    (tmp_path / name).write_bytes(data)
    code, stderr = run([name, "-o", "out.csv"], tmp_path)
    assert (code, message in stderr, "Traceback" in stderr) == (4, True, False)
    assert not (tmp_path / "out.csv").exists()


def test_e15_short_reads_of_a_slow_pipe_give_the_same(dump):
    """A producer that writes single bytes is no different from a file."""
    run(["in.csv", "-o", "calm.csv"], dump)
    os.mkfifo(dump / "pipe")
    child = Child(["-", "-o", "out.csv", "--limit", "9"], dump, stdin=str(dump / "pipe"))
    with (dump / "pipe").open("wb", buffering=0) as pipe:
        for byte in (dump / "in.csv").read_bytes():
            pipe.write(bytes([byte]))
            time.sleep(0.001)
    assert child.wait() == 0
    assert (dump / "out.csv").read_bytes() == (dump / "calm.csv").read_bytes()


def test_e15_a_fifo_can_be_named_as_the_input(dump):
    """<(process substitution) is read once, like stdin."""
    run(["in.csv", "-o", "calm.csv"], dump)
    os.mkfifo(dump / "pipe.csv")
    child = Child(["pipe.csv", "-o", "out.csv"], dump)
    with (dump / "pipe.csv").open("wb") as pipe:
        pipe.write((dump / "in.csv").read_bytes())
    assert child.wait() == 0, child.stderr
    assert (dump / "out.csv").read_bytes() == (dump / "calm.csv").read_bytes()


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="/proc/self/mem is what gives EIO")
def test_e15_a_read_error_is_an_input_error(tmp_path):
    """A disk that answers EIO ends the run with 4."""
    code, stderr = run(["/proc/self/mem", "--input-format", "csv", "-o", "out.csv"], tmp_path)
    assert (code, "input/output error" in stderr) == (4, True)


def test_e07_a_signal_while_a_pipe_is_silent_ends_the_run(tmp_path):
    """SIGTERM ends a run while its producer holds the pipe open and writes nothing."""
    os.mkfifo(tmp_path / "pipe")
    child = Child(["-", "-o", "out.csv"], tmp_path, stdin=str(tmp_path / "pipe"))
    with (tmp_path / "pipe").open("wb", buffering=0) as pipe:
        pipe.write(b"id,text\n1,a\n")
        time.sleep(0.7)
        os.kill(child.pid, 15)
        assert child.wait() == 143


def set_umask():
    os.umask(0o077)


def test_h13_permissions_follow_the_umask_and_the_file_replaced(dump):
    """With umask 077 nobody else reads the output; a file that is replaced keeps its mode."""
    assert run(["in.csv", "-o", "out.csv"], dump, setup=set_umask)[0] == 0
    for name in ("out.csv", "out.csv.summary.json"):
        assert stat.S_IMODE((dump / name).stat().st_mode) == 0o600
    (dump / "out.csv").chmod(0o640)
    assert run(["in.csv", "-o", "out.csv", "--overwrite", "--restart"], dump)[0] == 0
    assert stat.S_IMODE((dump / "out.csv").stat().st_mode) == 0o640


HOSTILE = [
    ("file_name", ["a" + ESCAPES.replace("/", "") + ".csv", "-o", "out.csv"], None),
    ("output_name", ["in.csv", "-o", f"no{ESCAPES}/out.csv"], None),
    ("column_name", ["in.csv", "-o", "out.csv"], f"id{ESCAPES},b\n1,2\n"),
    ("taken_column", ["in.csv", "-o", "out.csv", "--prefix", "x"], f"text,{ESCAPES}\nragged\n"),
    ("option", ["in.csv", "-o", "out.csv", "--delimiter", ESCAPES], None),
    ("option_name", ["in.csv", "-o", "out.csv", f"--{ESCAPES}"], None),
    ("choice", ["in.csv", "-o", "out.csv", "--bad-rows", ESCAPES], None),
    ("integer", ["in.csv", "-o", "out.csv", "--chunk-rows", ESCAPES], None),
    ("gold_column", ["in.csv", "-o", "out.csv", "--gold", ESCAPES], None),
    ("encoding", ["in.csv", "-o", "out.csv", "--encoding", ESCAPES.replace("\x07", "")], None),
    (
        "budget",
        ["in.csv", "-o", "out.csv", "--bad-rows", "reject", "--max-bad-rows", ESCAPES],
        None,
    ),
]


@pytest.mark.parametrize(
    ("arguments", "data"), [h[1:] for h in HOSTILE], ids=[h[0] for h in HOSTILE]
)
def test_h10_nothing_that_a_terminal_obeys_reaches_it(dump, arguments, data):
    """Escapes in names, columns, cells and options come out as text."""
    if data is not None:
        (dump / "in.csv").write_text(data)
    code, stderr = run(arguments, dump)
    assert code not in {0, 1}, stderr
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", stderr)
    assert "Traceback" not in stderr


def test_h10_a_hostile_gold_column_and_hostile_texts_stay_off_the_terminal(dump):
    """A run that succeeds over them prints none of it."""
    rows = f'text,{ESCAPES}\n"{ESCAPES}",{ESCAPES}\nfine,POSITIVE\n'
    (dump / "in.csv").write_text(rows.replace("\r", ""), newline="")
    column = ESCAPES.replace("\r", "")
    code, stderr = run(["in.csv", "-o", "out.csv", "--gold", column], dump)
    assert code == 0, stderr
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", stderr)
    summary = (dump / "out.csv.summary.json").read_text()
    assert summary.isascii()


def test_names_that_are_no_utf_8_are_names(dump):
    """A file whose name begins with the byte FF is scored, and its summary can be written."""
    name = os.fsdecode(b"\xff\xfe.csv")
    (dump / name).write_bytes((dump / "in.csv").read_bytes())
    code, stderr = run([name, "-o", "out" + name], dump)
    assert code == 0, stderr
    assert (dump / f"out{name}.summary.json").exists()


def test_a_name_with_a_nul_is_a_usage_or_input_error(dump):
    """From Python any string can come as a path: never a bug, never a traceback."""
    from batchsent.commands.batch import batch
    from batchsent.errors import BatchsentError
    from tests.hash_model import HashModels

    for given, written in (("a\0.csv", "out.csv"), (dump / "in.csv", f"{dump}/o\0.csv")):
        with pytest.raises(BatchsentError):
            batch(given, written, models=HashModels())


def test_h18_a_module_in_the_current_folder_is_not_imported(tmp_path):
    """A torch.py or json.py beside the dump is data, not code."""
    script = Path(sysconfig.get_path("scripts")) / "batchsent"
    if not script.exists():
        pytest.skip("the console script is not installed")
    for name in ("torch", "json", "click", "numpy", "pyarrow"):
        (tmp_path / f"{name}.py").write_text("open('pwned', 'w')")
    done = subprocess.run(
        [script, "batch", "missing.csv", "-o", "out.csv", "-m", "x"],
        cwd=tmp_path,
        capture_output=True,
    )
    assert done.returncode == 4, done.stderr
    assert not (tmp_path / "pwned").exists()


def test_h16_a_run_with_a_local_model_opens_no_socket(dump):
    """Under a Python that refuses every socket the run ends well."""
    code = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise AssertionError('a socket was opened')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from tests import hash_model\n"
        f"sys.argv = ['batchsent', {str(dump / 'in.csv')!r}, '-o', {str(dump / 'out.csv')!r}]\n"
        "hash_model.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_f04_two_runs_on_two_outputs_do_not_disturb_each_other(dump):
    """Side by side they give what they give alone."""
    (dump / "in.csv").write_text("text\n" + "".join(f"row {n}\n" for n in range(200)))
    children = [
        Child(["in.csv", "-o", f"{n}.csv", "--chunk-rows", "20"], dump, batch_s=0.01)
        for n in range(2)
    ]
    assert [child.wait() for child in children] == [0, 0]
    assert (dump / "0.csv").read_bytes() == (dump / "1.csv").read_bytes()


def test_e19_a_clock_that_jumps_leaves_no_negative_time(dump):
    """Elapsed time is from the monotonic clock; the summary has no negative figure for it."""
    run(["in.csv", "-o", "out.csv"], dump)
    summary = json.loads((dump / "out.csv.summary.json").read_bytes())
    assert summary["run"]["elapsed_s"] >= 0
    assert min(summary["performance"]["seconds"].values()) >= 0
