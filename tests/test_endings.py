"""No run that went wrong looks like one that went well: exit codes, warnings and what is left on
the disk.
"""

import json
import os
import pty
import signal
import subprocess
import sys

import numpy as np
import pytest

from batchsent.chunk import NONFINITE
from batchsent.cli import cli
from batchsent.commands.batch import batch
from batchsent.errors import BatchsentError, DeviceError, InputError, ModelError, UsageError
from batchsent.reporting import Reporter
from batchsent.run.folder import batch_all
from tests.children import run as run_child
from tests.hash_model import HashModels, HashScorer, Models

ROWS = "id,text\n" + "".join(f"{n},review {n}\n" for n in range(60))


@pytest.fixture
def folder(tmp_path):
    """A folder with an input of sixty rows."""
    (tmp_path / "in.csv").write_text(ROWS)
    return tmp_path


class NanScorer(HashScorer):
    """Gives no number for the rows whose number `broken` names."""

    def __init__(self, broken):
        super().__init__()
        self.broken = broken

    def score(self, prepared, *, done=None, stop=None, on_batch=None):
        scores = super().score(prepared, done=done, stop=stop)
        for row, text in enumerate(prepared.content):
            if self.broken(int(text.split()[-1])):
                scores.status[row] = NONFINITE
                scores.probabilities[row] = np.nan
        return scores


def test_k04_some_rows_without_a_number_are_exit_3_and_a_warning(folder):
    """They stand in the output without label and score, and are counted."""
    summary = batch(
        folder / "in.csv", folder / "out.csv", models=Models(NanScorer(lambda row: row == 7))
    )
    assert (summary["exit_code"], summary["rows"]["nonfinite"]) == (3, 1)
    assert "gave no number for 1 rows" in summary["warnings"][0]["message"]
    again = batch(folder / "in.csv", folder / "out.csv", models=HashModels())
    assert (again["status"], again["exit_code"]) == ("up_to_date", 3)


def test_k04_no_row_with_a_number_is_exit_6_and_nothing_is_committed(folder):
    """A model that overflows does not leave an output full of gaps."""
    with pytest.raises(ModelError, match="no finite number for any of its 60 texts"):
        batch(folder / "in.csv", folder / "out.csv", models=Models(NanScorer(lambda row: True)))
    assert not (folder / "out.csv").exists()
    assert not (folder / "out.csv.summary.json").exists()


@pytest.mark.parametrize(
    "error", [ModelError("damaged", hint="copy it"), DeviceError("the GPU is busy")]
)
def test_k07_what_is_wrong_for_every_file_ends_the_command_once(folder, error):
    """A model that cannot be loaded: its own exit code, before any file is scored, and nothing on
    the disk.
    """

    class Broken(HashModels):
        def open(self):
            self.opened += 1
            raise error

    (folder / "dumps").mkdir()
    for name in ("a.csv", "b.csv", "c.csv"):
        (folder / "dumps" / name).write_text(ROWS)
    models = Broken()
    with pytest.raises(type(error)):
        batch_all([str(folder / "dumps")], str(folder / "scored"), models=models)
    assert models.opened == 1
    assert not (folder / "scored").exists()


def test_k07_a_misspelt_gate_ends_a_folder_before_its_first_file(folder):
    """It is no reason to fail every file one by one."""
    (folder / "dumps").mkdir()
    (folder / "dumps" / "a.csv").write_text(ROWS)
    with pytest.raises(UsageError, match="accurracy"):
        batch_all(
            [str(folder / "dumps")],
            str(folder / "out"),
            models=HashModels(),
            gold="id",
            fail_under=["accurracy=1"],
        )
    assert not (folder / "out").exists()


def test_a_folder_in_which_every_file_failed_is_not_exit_3(folder):
    """3 says that something was scored."""
    (folder / "dumps").mkdir()
    for name in ("a.csv", "b.csv"):
        (folder / "dumps" / name).write_text("id,text\n1\n")
    code, stderr = run_child(["dumps", "-o", "scored"], folder)
    assert (code, stderr.count("warning:")) == (4, 2)


def test_k08_rejected_rows_are_told_under_quiet_and_the_second_time_too(folder):
    """One line on stderr and exit 3; `up to date` returns the same."""
    (folder / "in.csv").write_text("id,text\n1,a\n2\n")
    command = ["in.csv", "-o", "out.csv", "--bad-rows", "reject", "-q"]
    said = "warning: 1 rows could not be read and are not in the output (see out.csv.rejects.csv)\n"
    assert run_child(command, folder) == (3, said)
    assert run_child(command, folder) == (3, said)


def test_k09_every_warning_is_printed_off_a_terminal(folder):
    """Not how many there are: what they say, in text and in JSON logs."""
    rows = "".join(f"{n},review {n},{'pos' if n % 3 else 'huh'}\n" for n in range(300))
    (folder / "in.csv").write_text("id,text,gold\n" + rows)
    code, stderr = run_child(["in.csv", "-o", "out.csv", "--gold", "gold"], folder)
    warnings = [
        warning["message"]
        for warning in json.loads((folder / "out.csv.summary.json").read_bytes())["warnings"]
    ]
    assert code == 0
    assert len(warnings) >= 2
    assert all(f"warning: {message}" in stderr for message in warnings)
    code, stderr = run_child(
        ["in.csv", "-o", "two.csv", "--gold", "gold", "--log-format", "json"], folder
    )
    logged = [
        line["message"]
        for line in map(json.loads, stderr.splitlines())
        if line["type"] == "warning"
    ]
    assert [any(message in line for line in logged) for message in warnings] == [True] * len(
        warnings
    )


def test_k09_an_evaluation_without_a_row_is_an_error_that_names_the_values(folder):
    """`--gold` that matches nothing: exit 4 and no output.

    The right mapping goes on with the kept scores.
    """
    (folder / "in.csv").write_text("id,text,gold\n1,a,gut\n2,b,schlecht\n")
    with pytest.raises(InputError, match="its values are: 'gut', 'schlecht'"):
        batch(folder / "in.csv", folder / "out.csv", models=HashModels(), gold="gold")
    assert not (folder / "out.csv").exists()
    mapping = "gut=POSITIVE,schlecht=NEGATIVE"
    summary = batch(
        folder / "in.csv", folder / "out.csv", models=HashModels(), gold="gold", gold_map=mapping
    )
    assert (summary["run"]["resumed_rows"], summary["evaluation"]["rows"]) == (2, 2)


WRONG = [
    (["--max-length", "99999"], 2),
    (["--precision", "fp16"], 2),
    (["--device", "cuda"], 7),
    (["--device", "gpu"], 2),
    (["--batch-tokens", "0"], 2),
]


@pytest.mark.parametrize(
    ("options", "code"), WRONG, ids=[" ".join(options) for options, _ in WRONG]
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["run", "dry_run"])
def test_k06_a_mistaken_model_option_leaves_nothing_and_the_mended_command_runs(
    folder, tiny_model, options, code, dry
):
    """It is found before the input is read: a broken input is not what the error is about."""
    source = folder / "in.csv"
    command = ["batch", str(source), "-o", str(folder / "out.csv"), "-m", str(tiny_model)]
    source.write_text("id,text\n1\n")
    with pytest.raises(BatchsentError) as caught:
        cli.main([*command, *options, *dry], standalone_mode=False)
    assert caught.value.exit_code == code
    assert [path.name for path in folder.iterdir()] == ["in.csv"]
    source.write_text(ROWS)
    assert cli.main([*command, "-q"], standalone_mode=False) == 0


def test_an_unfinished_run_without_scored_rows_gives_way(folder):
    """Only scored work is worth a refusal."""
    from batchsent.run.parts import Parts

    Parts(folder / "out.csv.batchsent").begin({"input": "another"}, restart=False)
    assert batch(folder / "in.csv", folder / "out.csv", models=HashModels())["rows"]["scored"] == 60


class OnGpu(HashScorer):
    """The hash model, said to run on a GPU; stops after `chunks` chunks."""

    def __init__(self, chunks=1, name="NVIDIA H100"):
        super().__init__()
        self.chunks, self.name = chunks, name

    def score(self, prepared, *, done=None, stop=None, on_batch=None):
        self.chunks -= 1
        if self.chunks < 0:
            raise DeviceError("the GPU fell off the bus")
        return super().score(prepared, done=done, stop=stop)

    def facts(self):
        facts = super().facts()
        facts["device"] |= {
            "name": "cuda:0",
            "description": self.name,
            "capability": "9.0",
            "cuda": "13.0",
        }
        return facts


class Told(Reporter):
    """A reporter that keeps what it is told."""

    def __init__(self):
        self.warnings = []

    def warning(self, text, **facts):
        self.warnings.append(text)


def test_k11_scores_of_another_device_are_not_mixed_in(folder):
    """Another GPU scores the rows of the first one again, and says so once."""
    source, output = folder / "in.csv", folder / "out.csv"
    with pytest.raises(DeviceError):
        batch(source, output, models=Models(OnGpu(2)), chunk_rows=20)
    told = Told()
    summary = batch(
        source, output, models=Models(OnGpu(9, "NVIDIA A100")), chunk_rows=20, reporter=told
    )
    assert summary["run"]["resumed_rows"] == 0
    assert [
        text for text in told.warnings if "NVIDIA H100" in text and "NVIDIA A100" in text
    ] == told.warnings[:1]


def test_k11_a_gpu_that_is_gone_is_exit_7(folder):
    """`auto` does not finish on the processor what a GPU began; --restart starts over there."""
    source, output = folder / "in.csv", folder / "out.csv"
    with pytest.raises(DeviceError):
        batch(source, output, models=Models(OnGpu(2)), chunk_rows=20)
    with pytest.raises(DeviceError, match=r"NVIDIA H100 .*there is no GPU now"):
        batch(source, output, models=HashModels(), chunk_rows=20)
    assert (
        batch(source, output, models=HashModels(), chunk_rows=20, restart=True)["run"][
            "resumed_rows"
        ]
        == 0
    )


def test_k11_the_same_device_resumes(folder):
    """The stamp of the kept rows is the same: they are used."""
    source, output = folder / "in.csv", folder / "out.csv"
    with pytest.raises(DeviceError):
        batch(source, output, models=Models(OnGpu(2)), chunk_rows=20)
    assert (
        batch(source, output, models=Models(OnGpu(9)), chunk_rows=20)["run"]["resumed_rows"] == 40
    )


def test_an_evaluation_by_stars_without_a_row_points_to_the_ranges(folder):
    """The hint is about --stars, and an empty gold column is told as such."""
    (folder / "in.csv").write_text("id,text,stars,gold\n1,a,9,\n2,b,8,\n")
    source, output = folder / "in.csv", folder / "out.csv"
    with pytest.raises(InputError, match="in a range of --stars") as caught:
        batch(source, output, models=HashModels(), gold_stars="stars", stars="1-2:NEGATIVE")
    assert "2 ratings are outside of them" in caught.value.message
    assert caught.value.hint.startswith("give ranges that hold them")
    with pytest.raises(InputError, match=r"is a rating such as .*; its values are: 'a', 'b'"):
        batch(source, folder / "x.csv", models=HashModels(), gold_stars="text", stars="1:NEGATIVE")
    with pytest.raises(InputError, match="no scored row has a gold value to compare with"):
        batch(source, folder / "two.csv", models=HashModels(), gold="gold")


# A run that is busy with one batch for ever, and prints when a signal was noticed.
HANGING = """
import time
from batchsent.files.signals import Signals
with Signals() as signals, signals.deferred():
    print("busy", flush=True)
    while not signals.stop():
        time.sleep(0.01)
    print("noticed", flush=True)
    while True:
        time.sleep(0.01)
"""


def test_ctrl_c_during_a_batch_says_that_the_next_one_ends_at_once():
    """SIGTERM is as patient the second time as the first: `timeout` sends it twice."""
    terminal, stderr = pty.openpty()
    command = [sys.executable, "-c", HANGING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr) as child:
        assert child.stdout.readline() == b"busy\n"
        child.send_signal(signal.SIGTERM)
        assert child.stdout.readline() == b"noticed\n"
        child.send_signal(signal.SIGTERM)
        os.close(stderr)
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=30) == 130
        os.close(terminal)
    terminal, stderr = pty.openpty()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr) as child:
        assert child.stdout.readline() == b"busy\n"
        child.send_signal(signal.SIGINT)
        assert b"Ctrl-C again ends at once" in os.read(terminal, 1000)
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=30) == 130
    os.close(stderr)
    os.close(terminal)
