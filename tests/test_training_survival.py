"""A training that is killed, again and again: no half model, and in the end the model of a training
left alone.
"""

import contextlib
import os
import random
import signal
import time

import pytest

from tests.models import weights
from tests.reviews import write_reviews


@pytest.fixture
def command(tmp_path, tiny_model):
    """A training of 24 steps with a checkpoint every 3."""
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
            "8",
            "--epochs",
            "4",
            "--learning-rate",
            "1e-3",
            "--precision",
            "float32",
        ),
        *("--save-strategy", "steps", "--save-steps", "3"),
    ]


PAPERS = {
    *(
        "README.md",
        "metrics.json",
        "training_curve.csv",
        "calibration.json",
        "held_out.json",
        "canaries.json",
        "report.html",
        "seen_texts.hashes",
    ),
    *("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
}


@pytest.mark.parametrize(
    ("kills", "choosing"),
    [
        (10, False),
        (5, True),
        pytest.param(100, False, marks=pytest.mark.soak),
        pytest.param(50, True, marks=pytest.mark.soak),
    ],
    ids=["10", "5-early-stopping", "100", "50-early-stopping"],
)
def test_kills_at_random_moments_leave_no_half_model(
    tmp_path, fork_server, command, kills, choosing
):
    """SIGKILL at any moment: the final name is absent or whole, and the run that is left alone
    gives the same bytes.
    """
    command = [*command, *(["--early-stopping", "2"] if choosing else [])]
    chance = random.Random(kills)
    (tmp_path / "alone").mkdir()
    started = time.monotonic()
    assert fork_server.run(command, tmp_path / "alone") == 0
    whole_s = time.monotonic() - started
    undisturbed = weights(tmp_path / "alone" / "out")
    killed = finished = gone_on = 0
    while killed < kills:
        child = fork_server.start(command, tmp_path)
        time.sleep(chance.uniform(0, whole_s))
        with contextlib.suppress(ProcessLookupError):  # it may have ended before
            os.kill(child, signal.SIGKILL)
        killed += fork_server.wait(child) == -signal.SIGKILL
        gone_on += "resuming from" in (tmp_path / "run.err").read_text()
        out = tmp_path / "out"
        if out.exists():
            finished += 1
            assert {path.name for path in out.iterdir()} == PAPERS
            assert weights(out) == undisturbed
            for path in sorted(out.iterdir()):
                path.unlink()
            out.rmdir()
    assert fork_server.run(command, tmp_path) == 0, (tmp_path / "run.err").read_text()
    assert weights(tmp_path / "out") == undisturbed
    assert (tmp_path / "out" / "training_curve.csv").read_text() == (
        tmp_path / "alone" / "out" / "training_curve.csv"
    ).read_text()
    assert not (tmp_path / "out.training").exists()
    print(
        f"{killed} kills, {gone_on} runs went on from a checkpoint, {finished} finished in time, "
        "losses 0"
    )


def test_a_corrupted_newest_checkpoint_is_passed_over(tmp_path, fork_server, command):
    """--resume takes the newest checkpoint that is whole, not the one with the highest number."""
    assert fork_server.run([*command, "--keep-checkpoints"], tmp_path) == 0
    before = weights(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "first")
    names = sorted(
        (path.name for path in (tmp_path / "out.training").glob("checkpoint-*")),
        key=lambda n: (len(n), n),
    )
    newest = tmp_path / "out.training" / names[-1]
    optimizer = (newest / "optimizer.pt").read_bytes()
    (newest / "optimizer.pt").write_bytes(optimizer[: len(optimizer) // 2])
    assert fork_server.run([*command, "--resume"], tmp_path) == 0
    said = (tmp_path / "run.err").read_text()
    assert f"resuming from {tmp_path}/out.training/{names[-2]}" in said
    assert f"skipped: {names[-1]} is damaged: optimizer.pt is not whole" in said
    assert weights(tmp_path / "out") == before


def test_resume_without_a_training_is_refused(tmp_path, fork_server, command):
    """--resume with nothing to go on from exits with 2, says what to type, and leaves nothing
    behind.
    """
    assert fork_server.run([*command, "--resume"], tmp_path) == 2
    said = (tmp_path / "run.err").read_text()
    assert "--resume: there is no training of" in said
    assert "leave --resume out" in said
    assert {path.name for path in tmp_path.iterdir()} == {"reviews.csv", "run.err", "run.out"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_saves_and_ends_with_its_code(tmp_path, fork_server, command, number):
    """SIGTERM, SIGINT and SIGHUP write a checkpoint and end with 128 + N.

    --resume goes on from it.
    """
    child = fork_server.start(command, tmp_path)
    deadline = time.monotonic() + 120
    while not (tmp_path / "out.training").is_dir() or not list(
        (tmp_path / "out.training").glob("checkpoint-*")
    ):
        assert time.monotonic() < deadline, (tmp_path / "run.err").read_text()
        time.sleep(0.01)
    os.kill(child, number)
    assert fork_server.wait(child) == 128 + number
    assert not (tmp_path / "out").exists()
    assert "run the same command again to resume" in (tmp_path / "run.err").read_text()
    assert fork_server.run([*command, "--resume"], tmp_path) == 0
