"""Several processes train one model: as torchrun starts them, on CPUs over gloo."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from batchsent.files.lock import held_lock
from tests.models import make_model, weights
from tests.reviews import BAD, GOOD, write_reviews


@pytest.fixture
def command(tmp_path, tiny_model):
    """A training of 12 steps in two processes, with a checkpoint every 3."""
    reviews = write_reviews(tmp_path / "reviews.csv", rows=54)
    return [
        *(
            "finetune",
            "-o",
            "out",
            "--train",
            reviews,
            "--base-model",
            tiny_model,
            "--device",
            "cpu",
        ),
        *(
            "--batch-size",
            "4",
            "--epochs",
            "2",
            "--learning-rate",
            "1e-3",
            "--precision",
            "float32",
        ),
        *("--save-strategy", "steps", "--save-steps", "3"),
    ]


def finish(fork_server, pids):
    """The exit codes of both processes."""
    return [fork_server.wait(pid) for pid in pids]


def said(folder):
    """What each of both printed: stdout and stderr of the first, and of the second."""
    return [(folder / f"rank{rank}.{end}").read_text() for rank in (0, 1) for end in ("out", "err")]


def test_torchrun_makes_one_model_and_says_it_once(tmp_path, tiny_model):
    """`torchrun --nproc-per-node 2 -m batchsent finetune` writes one folder.

    Only the first process prints.
    """
    reviews = write_reviews(tmp_path / "reviews.csv", rows=54)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "batchsent",
    ]
    command += [
        "finetune",
        "-o",
        "out",
        "--train",
        reviews,
        "--base-model",
        str(tiny_model),
        "--device",
        "cpu",
    ]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [*command, "--epochs", "1"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"reviews.csv", "out"}
    assert done.stderr.count("model: out") == 1
    assert done.stdout.count("accuracy  ") == 2  # accuracy and balanced accuracy, of one table
    assert (
        json.loads((tmp_path / "out" / "metrics.json").read_text())["hyperparameters"]["processes"]
        == 2
    )


def test_two_processes_train_as_one_with_larger_batches(tmp_path, fork_server):
    """Two processes with a batch of 4 have the losses and gradients of one with a batch of 8."""
    base = make_model(
        tmp_path / "base", dropout=0.0, attention_dropout=0.0, seq_classif_dropout=0.0
    )
    lines = [
        f"{a} {b} {c},{'pos' if a in GOOD else 'neg'}"
        for a in GOOD + BAD
        for b in GOOD[:2]
        for c in BAD[:2]
    ]
    (tmp_path / "r.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    command = [
        "finetune",
        "--train",
        "r.csv",
        "--eval",
        "e.csv",
        "--base-model",
        base,
        "--device",
        "cpu",
    ]
    command += ["--epochs", "1", "--learning-rate", "1e-4", "--precision", "float32"]
    (tmp_path / "e.csv").write_text("text,label\ngreat film,pos\nawful film,neg\nlovely,pos\n")
    assert fork_server.run([*command, "-o", "one", "--batch-size", "8"], tmp_path) == 0
    pair = fork_server.start_pair([*command, "-o", "two", "--batch-size", "4"], tmp_path)
    assert finish(fork_server, pair) == [0, 0], said(tmp_path)
    with (
        (tmp_path / "one" / "training_curve.csv").open() as one,
        (tmp_path / "two" / "training_curve.csv").open() as two,
    ):
        rows = list(zip(csv.DictReader(one), csv.DictReader(two), strict=True))
    assert len(rows) == 6
    for row, same in rows:
        for name in ("loss", "grad_norm", "eval_loss"):
            assert not row[name] or float(same[name]) == pytest.approx(float(row[name]), rel=1e-3)


@pytest.mark.parametrize("told", [(0, 1), (0,), (1,)], ids=["both", "first", "second"])
def test_a_signal_to_one_process_stops_all(tmp_path, fork_server, command, told):
    """Whichever process gets SIGTERM: all save together and end with 143.

    --resume gives the undisturbed model.
    """
    assert finish(
        fork_server, fork_server.start_pair([*command[:2], "alone", *command[3:]], tmp_path)
    ) == [0, 0]
    pair = fork_server.start_pair(command, tmp_path)
    wait_for_checkpoint(tmp_path)
    for rank in told:
        os.kill(pair[rank], signal.SIGTERM)
    assert finish(fork_server, pair) == [143, 143], said(tmp_path)
    assert not (tmp_path / "out").exists()
    assert finish(fork_server, fork_server.start_pair([*command, "--resume"], tmp_path)) == [
        0,
        0,
    ], said(tmp_path)
    assert weights(tmp_path / "out") == weights(tmp_path / "alone")


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_others_without_a_model(tmp_path, fork_server, command, killed):
    """When a process is killed the other ends with 7 and what to do.

    The next run goes on and finishes.
    """
    pair = fork_server.start_pair(command, tmp_path)
    wait_for_checkpoint(tmp_path)
    os.kill(pair[killed], signal.SIGKILL)
    codes = finish(fork_server, pair)
    assert codes[killed] == -signal.SIGKILL
    assert codes[1 - killed] == 7, said(tmp_path)
    other = (tmp_path / f"rank{1 - killed}.err").read_text()
    assert "another process of this training ended before its time" in other
    assert "Traceback" not in other
    assert not (tmp_path / "out").exists()
    assert finish(fork_server, fork_server.start_pair([*command, "--resume"], tmp_path)) == [
        0,
        0,
    ], said(tmp_path)
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"out"}


def wait_for_checkpoint(folder):
    """Return when there is a checkpoint to go on from."""
    deadline = time.monotonic() + 120
    while not list((folder / "out.training").glob("checkpoint-*/trainer_state.json")):
        assert time.monotonic() < deadline, said(folder)
        time.sleep(0.005)


def test_half_a_launcher_is_told(tmp_path, fork_server, command):
    """RANK and WORLD_SIZE that some other program left behind are an error that names them, not a
    bug.
    """
    assert fork_server.run(command, tmp_path, RANK=0, WORLD_SIZE=2) == 2
    assert "RANK and WORLD_SIZE in the environment" in (tmp_path / "run.err").read_text()


def test_all_processes_end_with_the_same_error_and_one_tells_it(tmp_path, fork_server, command):
    """A refusal, and a lock that only the first process sees, end both with one code and one
    message.
    """
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("{}")
    assert finish(fork_server, fork_server.start_pair(command, tmp_path)) == [2, 2]
    assert [text.count("exists already") for text in said(tmp_path)] == [0, 1, 0, 0]
    with held_lock(tmp_path / "other", 0):
        pair = fork_server.start_pair([*command[:2], "other", *command[3:]], tmp_path)
        assert finish(fork_server, pair) == [11, 11]
    assert [text.count("another run is writing") for text in said(tmp_path)] == [0, 1, 0, 0]
    assert finish(
        fork_server, fork_server.start_pair([*command, "--overwrite", "--trials", "2"], tmp_path)
    ) == [2, 2]
    assert "--trials" in said(tmp_path)[1]
