"""Nothing that happens to a run loses or corrupts data: faults, kills, signals, other runs."""

import json
import os
import random
import resource
import shutil
import signal
import time

import pytest

from tests.children import Child, run, wait_for
from tests.dump import make_dump, make_input

FORMATS = ["csv", "parquet"]


@pytest.fixture(params=FORMATS)
def dump(request, tmp_path):
    """An input, the command that scores it in three chunks, and what the output must be."""
    return make_dump(tmp_path, request.param)


@pytest.mark.parametrize("action", ["kill", "raise", "enospc"])
def test_e02_a_fault_at_any_file_operation_loses_nothing(dump, action):
    """Whichever write, fsync, close, rename or removal fails or is the last: the same command again
    gives the same.
    """
    faults = 0
    for n in range(1, 500):
        dump.clear()
        code, stderr = run(dump.command, dump.folder, env={"BATCHSENT_FAULT": f"*:{n}:{action}"})
        dump.check_invariant()
        if code == 0 and not (dump.folder / f"out.{dump.form}.batchsent").exists():
            # A run that ends well in spite of a fault in its tidying up is a success, too.
            if dump.summary.exists() and n > faults + 3:
                break
        else:
            faults = n
            assert code == (-signal.SIGKILL if action == "kill" else 5), stderr
            if action == "enospc":
                assert "no space left" in stderr
        dump.finish()
    assert 30 < faults < 490


@pytest.mark.parametrize("form", FORMATS)
def test_e01_sigkill_at_random_moments(tmp_path, form):
    """Killed fifty times over twenty chunks, the run still ends with the bytes of an undisturbed
    one.
    """
    kill_at_random(tmp_path, form, kills=50)


@pytest.mark.soak
@pytest.mark.parametrize("form", FORMATS)
def test_e01_sigkill_at_very_many_random_moments(tmp_path, form):
    """The same, five hundred times."""
    kill_at_random(tmp_path, form, kills=500)


def kill_at_random(tmp_path, form, kills):
    dump = make_dump(tmp_path, form, rows=200, chunk_rows=10)
    dice = random.Random(20)
    done = 0
    while done < kills:
        child = Child(dump.command, dump.folder, batch_s=0.004)
        time.sleep(dice.uniform(0, 0.25))
        child.process.kill()
        killed = child.wait() == -signal.SIGKILL
        done += killed
        dump.check_invariant()
        if not killed or dice.random() < 0.1:
            dump.finish()
            dump.clear()
    dump.finish()


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_e07_signals_end_a_run_with_its_parts_kept(dump, number, code):
    """It exits with 128 + the signal's number and leaves the rest of the rows.

    The same command again goes on and gives the same.
    """
    child = Child(dump.command, dump.folder, batch_s=0.5)
    wait_for(lambda: list(dump.folder.glob("*.batchsent/part-*")))
    os.kill(child.pid, getattr(signal, number))
    assert child.wait() == code
    assert f"stopped by {number}" in child.stderr
    assert "run the same command again" in child.stderr
    dump.check_invariant()
    assert not dump.output.exists()
    code, _ = run([*dump.command[:-1]], dump.folder)
    assert code == 0
    assert 20 <= json.loads(dump.summary.read_bytes())["run"]["resumed_rows"] < 60
    dump.check_finished()


def ignore_hangup():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def test_e07_nohup_is_respected(tmp_path):
    """A run started under nohup does not end with the terminal."""
    dump = make_dump(tmp_path, "csv")
    child = Child(dump.command, dump.folder, batch_s=0.1, setup=ignore_hangup)
    wait_for(lambda: list(dump.folder.glob("*.batchsent/part-*")))
    os.kill(child.pid, signal.SIGHUP)
    assert child.wait() == 0
    dump.check_finished()


def test_e08_a_second_interrupt_ends_it_at_once(tmp_path):
    """Ctrl-C twice does not wait for the batch in progress."""
    dump = make_dump(tmp_path, "csv")
    child = Child(dump.command, dump.folder, batch_s=120)
    wait_for(lambda: (dump.folder / "out.csv.batchsent" / "manifest.json").exists())
    time.sleep(1)
    os.kill(child.pid, signal.SIGINT)
    time.sleep(0.5)
    assert child.process.exitcode is None
    os.kill(child.pid, signal.SIGINT)
    assert child.wait() == 130
    dump.finish()


def test_f01_a_second_run_on_the_same_output_ends_at_once(tmp_path):
    """It exits 11 and says so; the first one is not disturbed."""
    dump = make_dump(tmp_path, "csv")
    first = Child(dump.command, dump.folder, batch_s=0.3)
    wait_for(lambda: (dump.folder / ".out.csv.batchsent.lock").exists())
    other = tmp_path / "other"
    other.mkdir()
    code, stderr = run([dump.command[0], "-o", dump.output, "--chunk-rows", 20], other)
    assert (code, "another run is writing" in stderr) == (11, True)
    assert first.wait() == 0
    dump.check_finished()


def test_f02_a_second_run_can_wait(tmp_path):
    """With --lock-wait it waits for the first and finds the output up to date."""
    dump = make_dump(tmp_path, "csv")
    first = Child(dump.command, dump.folder, batch_s=0.2)
    wait_for(lambda: (dump.folder / ".out.csv.batchsent.lock").exists())
    other = tmp_path / "other"
    other.mkdir()
    command = [dump.command[0], "-o", dump.output, "--chunk-rows", 20, "--lock-wait", 30]
    code, stderr = run(command, other)
    assert first.wait() == 0
    assert (code, "up to date" in stderr) == (0, True)
    dump.check_finished()


def test_f03_a_lock_left_by_a_killed_run_holds_nobody_up(tmp_path):
    """The kernel lets go of a dead process's lock."""
    dump = make_dump(tmp_path, "csv")
    child = Child(dump.command, dump.folder, batch_s=0.5)
    wait_for(lambda: (dump.folder / ".out.csv.batchsent.lock").exists())
    child.process.kill()
    child.wait()
    dump.finish()


def test_e05_a_damaged_part_is_scored_again(tmp_path):
    """Cut a part short at any place: it is not believed, and the result is the same."""
    dump = make_dump(tmp_path, "csv")
    run(dump.command, dump.folder, env={"BATCHSENT_FAULT": "rename:5:kill"})
    parts = sorted(dump.folder.glob("*.batchsent/part-*"))
    assert len(parts) == 3
    saved = dump.folder.with_name("saved")
    shutil.copytree(dump.folder, saved)
    size = parts[1].stat().st_size
    for length in [0, 1, size // 3, size - 10, size - 1]:
        shutil.rmtree(dump.folder)
        shutil.copytree(saved, dump.folder)
        os.truncate(parts[1], length)
        dump.finish()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (["--chunk-rows", 7], "--chunk-rows"),
        (["--max-length", 9], "--max-length"),
        (["--delimiter", "auto"], "--delimiter"),
    ],
)
def test_e22_work_of_another_command_is_refused(tmp_path, change, named):
    """Resuming with an option that changes scores names what differs.

    --restart throws the old work away.
    """
    dump = make_dump(tmp_path, "csv")
    run(dump.command, dump.folder, env={"BATCHSENT_FAULT": "rename:3:kill"})
    code, stderr = run([*dump.command, *change], dump.folder)
    assert (code, named in stderr, "--restart" in stderr) == (2, True, True)
    code, stderr = run([*dump.command, *change, "--restart"], dump.folder)
    assert code == 0, stderr


def test_e22_a_changed_input_is_refused(tmp_path):
    """Resuming over another file of the same name names the input."""
    dump = make_dump(tmp_path, "csv")
    run(dump.command, dump.folder, env={"BATCHSENT_FAULT": "rename:3:kill"})
    source = dump.command[0]
    source.write_bytes(source.read_bytes() + b"9999,more\n")
    code, stderr = run(dump.command, dump.folder)
    assert (code, "input was" in stderr) == (2, True)
    # The scores of unchanged chunks are proven by their texts, and may be kept.
    code, stderr = run([*dump.command, "--overwrite"], dump.folder)
    assert code == 0, stderr
    assert dump.output.read_bytes().startswith(dump.expected)
    assert b"9999,more" in dump.output.read_bytes()
    assert json.loads(dump.summary.read_bytes())["run"]["resumed_rows"] == 20


def test_f08_a_finished_output_is_up_to_date(dump):
    """The same command again exits 0 without loading the model, and changes nothing."""
    assert run(dump.command, dump.folder)[0] == 0
    before = dump.output.stat().st_mtime_ns, dump.summary.read_bytes()
    code, stderr = run(dump.command[:-1], dump.folder)
    assert (code, "up to date" in stderr, "model" in stderr) == (0, True, False)
    assert (dump.output.stat().st_mtime_ns, dump.summary.read_bytes()) == before


def test_d12_an_output_that_is_somebody_elses_is_never_replaced(dump):
    """A file under the output's name is refused; --overwrite replaces it whole."""
    dump.output.write_text("precious")
    code, stderr = run(dump.command, dump.folder)
    assert (code, "--overwrite" in stderr, dump.output.read_text()) == (2, True, "precious")
    assert run([*dump.command, "--overwrite"], dump.folder)[0] == 0
    dump.check_finished()


def test_a_truncated_output_is_not_up_to_date(dump):
    """An output that lost bytes since is not believed because of its summary."""
    run(dump.command, dump.folder)
    os.truncate(dump.output, dump.output.stat().st_size - 1)
    code, _ = run(dump.command, dump.folder)
    assert code == 2
    assert run([*dump.command, "--overwrite"], dump.folder)[0] == 0
    dump.check_finished()


def limit_file_size():
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))


def test_e11_a_limit_on_file_size_is_an_output_error(tmp_path):
    """`ulimit -f` ends the run with 5, the bytes needed, and nothing under the final name."""
    dump = make_dump(tmp_path, "csv")
    code, stderr = run(dump.command, dump.folder, setup=limit_file_size)
    assert (code, "bytes are needed" in stderr, dump.output.exists()) == (5, True, False)
    dump.finish()


def test_e13_a_folder_that_vanishes_is_an_output_error(tmp_path):
    """Deleting the output's folder in mid-run ends it with 5, not with a traceback."""
    dump = make_dump(tmp_path, "csv")
    target = dump.folder / "deep"
    target.mkdir()
    command = [dump.command[0], "-o", target / "out.csv", "--chunk-rows", 20]
    child = Child(command, dump.folder, batch_s=0.2)
    wait_for(lambda: list(target.glob("*.batchsent/part-*")))
    shutil.rmtree(target)
    assert child.wait() == 5
    assert "Traceback" not in child.stderr


def test_an_input_that_changes_while_it_is_read_is_an_input_error(tmp_path):
    """Somebody appending to the dump does not get an output that mixes two versions."""
    dump = make_dump(tmp_path, "csv")
    source = dump.command[0]
    child = Child(dump.command, dump.folder, batch_s=0.2)
    wait_for(lambda: list(dump.folder.glob("*.batchsent/part-*")))
    with source.open("a") as file:
        file.write("9999,more\n")
    assert child.wait() == 4
    assert "changed while it was read" in child.stderr
    assert not dump.output.exists()


def test_d04_a_full_stdout_is_an_output_error(tmp_path):
    """`> /dev/full` exits 5, not 0."""
    source = make_input(tmp_path, "csv")
    code, stderr = run([source, "-o", "-"], tmp_path, stdout="/dev/full")
    assert (code, "no space left" in stderr) == (5, True)


def test_d01_stdin_to_stdout_is_the_same_as_files(tmp_path):
    """`cat x.csv | batchsent batch - -o -` gives the bytes of the file run."""
    dump = make_dump(tmp_path, "csv")
    code, stderr = run(
        ["-", "-o", "-", "-q"], tmp_path, stdin=str(dump.command[0]), stdout=str(tmp_path / "piped")
    )
    assert (code, stderr) == (0, "")
    assert (tmp_path / "piped").read_bytes() == dump.expected


def test_a_reader_that_goes_away_ends_the_run_quietly(tmp_path):
    """`| head -1` gets its line; the run exits 141 and says nothing."""
    source = make_input(tmp_path, "csv", rows=20_000)
    reading, writing = os.pipe()
    child = Child(
        [source, "-o", "-", "-q", "--chunk-rows", 100],
        tmp_path,
        stdout=f"/proc/{os.getpid()}/fd/{writing}",
    )
    os.read(reading, 10)
    os.close(writing)
    os.close(reading)
    assert (child.wait(), child.stderr) == (141, "")


def test_a_stream_goes_on_where_it_is_the_same(tmp_path):
    """Stdin into a file resumes: the parts of the same rows are used again, those of others are
    not.
    """
    dump = make_dump(tmp_path, "csv")
    command = ["-", "-o", dump.output, "--chunk-rows", 20]
    source = dump.command[0]
    run(command, dump.folder, stdin=str(source), env={"BATCHSENT_FAULT": "rename:4:kill"})
    assert len(list(dump.folder.glob("*.batchsent/part-*"))) == 2
    other = tmp_path / "other.csv"
    lines = source.read_bytes().splitlines(keepends=True)
    other.write_bytes(b"".join([*lines[:-1], b"9999,another last row\n"]))
    code, stderr = run(command, dump.folder, stdin=str(other))
    assert code == 0, stderr
    summary = json.loads(dump.summary.read_bytes())
    assert summary["run"]["resumed_rows"] == 40
    assert b"another last row" in dump.output.read_bytes()


def test_cron_works_in_an_empty_environment(tmp_path):
    """F05, D07: env -i with --quiet exits 0 and prints nothing at all."""
    import subprocess
    import sys
    from pathlib import Path

    source = make_input(tmp_path, "csv")
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [
            "env",
            "-i",
            sys.executable,
            "-m",
            "tests.hash_model",
            source,
            "-o",
            tmp_path / "out.csv",
            "-q",
        ],
        capture_output=True,
        cwd=root,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
