"""What a run says while it works: at a terminal, in a plain log, as JSON lines."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time

import pytest

import batchsent
from batchsent.errors import Interrupted
from batchsent.reporting import Pace, Progress, Reporter
from batchsent.terminal.reporters import JsonReporter, TerminalReporter, in_words
from tests.hash_model import HashModels, HashScorer
from tests.slow_model import SlowModels


class Listener(Reporter):
    """Remembers stages and rows."""

    def __init__(self):
        self.stages, self.rows, self.said = [], [], []

    def stage(self, text):
        self.stages.append(text)

    def notice(self, text, **facts):
        if not text.startswith(("model", "device")):
            self.said.append(text)

    def progress(self, rows, total_rows, *, reused_rows=0):
        self.rows.append((rows, total_rows, reused_rows))


@pytest.fixture
def dump(tmp_path):
    """A CSV of 400 reviews, four chunks when read in hundreds."""
    path = tmp_path / "reviews.csv"
    path.write_text("text\n" + "".join(f"review number {n}\n" for n in range(400)))
    return path


def test_rows_move_after_every_batch_and_not_only_after_every_chunk(dump, tmp_path):
    """Half a chunk counts as half of its rows; the last figure is all rows."""
    listener = Listener()
    batchsent.batch(
        dump, tmp_path / "out.csv", reporter=listener, models=SlowModels(), chunk_rows=100
    )
    rows = [done for done, _, _ in listener.rows]
    assert rows == sorted(rows)
    assert {50, 100, 150, 400} <= set(rows)
    assert {total for _, total, _ in listener.rows} == {400}


def test_the_stages_of_a_run_are_named_before_they_begin(dump, tmp_path):
    """Checking, loading and scoring each have a name, from the first moment on."""
    listener = Listener()
    batchsent.batch(dump, tmp_path / "out.csv", reporter=listener, models=HashModels())
    assert listener.stages == [f"checking {dump}", "loading the model", f"scoring {dump}"]


def test_a_plain_log_gets_a_line_now_and_then(dump, tmp_path, capsys):
    """Off a terminal there is a line with rows, speed and time left, and no control character."""
    with TerminalReporter(plain_every_s=0.25) as reporter:
        batchsent.batch(
            dump, tmp_path / "out.csv", reporter=reporter, models=SlowModels(), chunk_rows=100
        )
    said = capsys.readouterr().err
    moving = [line for line in said.splitlines() if line.startswith(f"scoring {dump}: ")]
    assert len(moving) >= 3
    assert re.search(r": \d+ of 400 rows, \d+ rows/s, \d+\.\d s left$", moving[-1])
    assert "\x1b" not in said


def test_a_quiet_run_says_nothing_of_its_progress(dump, tmp_path, capsys):
    """Cron mails what is printed."""
    with TerminalReporter(quiet=True, plain_every_s=0.1) as reporter:
        batchsent.batch(
            dump, tmp_path / "out.csv", reporter=reporter, models=SlowModels(), chunk_rows=100
        )
    assert capsys.readouterr().err == ""


def test_json_lines_carry_time_level_run_and_speed(dump, tmp_path, capsys):
    """Every line has type, time and level; a run's lines have its id, which the summary has too."""
    with JsonReporter(every_s=0.25) as reporter:
        summary = batchsent.batch(
            dump, tmp_path / "out.csv", reporter=reporter, models=SlowModels(), chunk_rows=100
        )
        reporter.finished(summary)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {line["run"] for line in lines} == {summary["run"]["id"]}
    assert all(line["time"].endswith("+00:00") and line["level"] == "info" for line in lines)
    assert [line["type"] for line in lines if line["type"] != "progress"] == [
        "run",
        "stage",
        "stage",
        "notice",
        "notice",
        "stage",
        "summary",
    ]
    last = [line for line in lines if line["type"] == "progress"][-1]
    assert 0 < last["rows"] <= last["total_rows"] == 400
    assert last["rows_per_s"] > 0
    assert last["eta_s"] >= 0


def test_the_error_of_a_json_log_names_its_run(fork_server, tmp_path, capsys):
    """exit_error has the level error and the id that the lines before it have."""
    (tmp_path / "empty.csv").write_text("")
    json_log = ["--log-format", "json"]
    found = subprocess.run(
        [fork_server.python, "-m", "batchsent", "batch", "empty.csv", "-o", "o.csv", *json_log],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    lines = [json.loads(line) for line in found.stderr.splitlines()]
    assert lines[-1]["type"] == "exit_error"
    assert lines[-1]["level"] == "error"
    assert lines[-1]["run"] == next(line["run"] for line in lines if line["type"] == "run")


def test_every_file_of_several_is_numbered(tmp_path, capsys):
    """`file 2 of 3` stands before what is done."""
    for name in ("a.csv", "b.csv", "c.csv"):
        (tmp_path / name).write_text("text\nfine\n")
    from batchsent.run.folder import batch_all

    with JsonReporter() as reporter:
        inputs = [str(tmp_path / name) for name in ("a.csv", "b.csv", "c.csv")]
        batch_all(inputs, f"{tmp_path}/out/", reporter=reporter, models=HashModels())
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    runs = [(line["file"], line["files"]) for line in lines if line["type"] == "run"]
    assert runs == [(1, 3), (2, 3), (3, 3)]


def test_a_terminal_shows_what_is_done_from_the_start(dump, tmp_path):
    """At a terminal the stages show themselves while they last, and the bar has rows and speed."""
    program = f"""
import batchsent
from batchsent.terminal.reporters import TerminalReporter
from tests.slow_model import SlowModels
with TerminalReporter() as reporter:
    batchsent.batch({str(dump)!r}, {str(tmp_path / "out.csv")!r}, reporter=reporter,
                    models=SlowModels(), chunk_rows=100)
"""
    parent, child = pty.openpty()
    os.set_blocking(parent, False)
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stderr=child,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(child)
    shown = b""
    while process.poll() is None:
        time.sleep(0.05)
        shown += read_some(parent)
    shown += read_some(parent)
    text = shown.decode()
    assert process.returncode == 0
    assert "checking" in text
    assert re.search(r"scoring .*of 400 rows", text)
    assert "rows/s" in text


def read_some(descriptor):
    """Return what a terminal has shown since."""
    try:
        return os.read(descriptor, 1_000_000)
    except OSError:  # nothing there, or the program has ended
        return b""


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (Progress(2048, 25000, 110.4, 209), "2,048 of 25,000 rows, 110 rows/s, 3 min 29 s left"),
        (Progress(2048, None, 8.53, None), "2,048 rows, 8.5 rows/s"),
        (Progress(0, 10, None, None), "0 of 10 rows"),
    ],
)
def test_progress_is_said_as_people_say_it(progress, words):
    """Rows of how many, speed, time left: as far as they are known."""
    assert in_words(progress) == words


def test_rows_that_an_earlier_run_kept_do_not_count_as_speed():
    """A resumed run that has computed nothing yet knows no speed."""
    pace = Pace(started=time.monotonic() - 1e8)
    assert pace.progress(1000, 2000, 1000) == Progress(1000, 2000, None, None)
    # Begun three years ago, so that a slow machine does not change the speed.
    assert pace.progress(10**9 + 1000, 2 * 10**9, 1000).rows_per_s == pytest.approx(10, rel=0.01)


def test_long_texts_that_an_earlier_run_kept_do_not_count_as_speed():
    """312 kept rows may be 600 rows by their share of tokens: none of these was computed now."""
    pace = Pace(started=time.monotonic() - 10)
    assert pace.progress(600, 2500, 312).rows_per_s is None
    assert pace.progress(700, 2500, 312).rows_per_s == pytest.approx(10, rel=0.01)


class InterruptedScorer(HashScorer):
    """Presses Ctrl-C while the third chunk is scored."""

    chunks = 0

    def score(self, prepared, *, done=None, stop=None, on_batch=None):
        self.chunks += 1
        if self.chunks == 3:
            os.kill(os.getpid(), signal.SIGINT)
            while not stop():  # Python runs the handler in the main thread, when that comes to it
                time.sleep(0.001)
        return super().score(prepared, done=done, stop=stop)


class InterruptedModels(HashModels):
    """Gives that model to a run."""

    def open(self):
        return InterruptedScorer()


def test_ctrl_c_says_how_many_rows_are_kept_and_the_next_run_where_it_continues(dump, tmp_path):
    """Both name the rows, so that nobody fears for a night's work."""
    output = tmp_path / "out.csv"
    with pytest.raises(Interrupted) as caught:
        batchsent.batch(dump, output, models=InterruptedModels(), chunk_rows=100)
    kept = int(
        re.match(
            r"(\d+) rows are scored and kept, long texts first: run the same", caught.value.hint
        )[1]
    )
    assert 200 <= kept <= 300
    listener = Listener()
    batchsent.batch(dump, output, models=HashModels(), reporter=listener, chunk_rows=100)
    assert listener.said == [f"resuming an earlier run: {kept} of 400 rows are scored already"]
    assert listener.rows[-1] == (400, 400, kept)
