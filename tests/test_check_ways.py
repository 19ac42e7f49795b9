"""`batchsent info --check`: every way to run the model is measured in a process of its own, and none
of them can end the check.
"""

import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from batchsent.cli import failure_of_check
from batchsent.commands.info import info
from batchsent.errors import DeviceError, Interrupted, ModelError, UsageError
from batchsent.files.signals import Signals
from batchsent.model.batch_runner import BatchRunner
from batchsent.model.check_ways import Checker, check_ways, why_not_trusted
from batchsent.model.device import Device
from batchsent.model.encoder import packed_encoder
from batchsent.model.int8 import require_int8
from batchsent.model.loading import identify, load_model
from batchsent.model.machine import machine_facts
from batchsent.model.measuring import (
    Subject,
    agreement,
    lengths_up_to,
    make_texts,
    measure,
    run,
    speeds,
)
from batchsent.model.options import ModelOptions
from batchsent.model.ways import find_ways
from batchsent.reporting import Reporter
from batchsent.terminal.ways import show_check
from tests.children import wait_for

# A child that answers at once: two ways on the CPU and one on a GPU. What `act` does with the way
# it is asked about is the test's.
CHILD = """
import json, os, signal, sys, time
job = json.load(sys.stdin)
FIGURES = {
    "path": "packed", "reason": "made up", "texts": 9, "tokens": 90, "longest": 64,
    "batch_tokens": 100, "canaries": None, "load_s": 1.0, "finite": 9, "tolerance": 0.001,
    "largest_difference": 1e-6, "largest_logit_difference": 1e-6, "label_flips": 0,
    "same_bits_again": True, "same_bits_beside_others": True, "difference_beside_others": 0.0,
    "same_bits_alone": True, "difference_alone": 0.0,
    "tokens_per_s": {"768": 1000, "1536": 10**6, "3072": 845, "6144": 12345, "12288": 9, "49152": None},
    "oom_backoffs": 0, "peak_memory_bytes": 10**9, "seconds": 2.0,
}
def answer(**said):
    print(json.dumps(said))
    sys.exit()
def way(device, precision, path):
    return {"device": device, "precision": precision, "path": path}
if job["action"] == "ways":
    answer(found={
        "default": {"device": "cuda:0", "precision": "float16"}, "reason": "auto", "warning": None,
        "devices": [
            {"name": "cuda:0", "description": "NVIDIA H200", "capability": "9.0", "memory_bytes": 150 * 10**9}
        ],
        "ways": [
            way("cuda:0", "float16", "packed"), way("cuda:0", "float16", "transformers"),
            way("cpu", "float32", "packed"), way("cpu", "float32", "transformers"),
        ],
        "refused": [{"device": "cpu", "precision": "float16", "why": "it is slow"}],
    })
path, device = job["path"], job["options"]["device"]
here = f"{device} {job['options']['precision']} {path or 'default'}"
if here == "cpu float32 transformers":
    FIGURES = FIGURES | {"path": "transformers, equal lengths", "logits": [[1.0, 2.0]]}
else:
    assert job["wanted"] in ([[1.0, 2.0]], None)
"""


def checker_of(model, tmp_path, act="", limit_s=20.0):
    """Return a Checker whose children are scripts."""
    script = tmp_path / "child.py"
    script.write_text(CHILD + textwrap.dedent(act) + "\nanswer(found=FIGURES)\n")
    command = (sys.executable, "-I", "-S", str(script))
    return Checker(identify(str(model)), ModelOptions(), command, limit_s)


def rows_of(model, tmp_path, act="", **settings):
    """Return the check, and its rows by name."""
    found = check_ways(checker_of(model, tmp_path, act, **settings), Reporter())["check"]
    names = [f"{row['device']} {row['precision']} {row['path']}" for row in found["ways"]]
    return found, dict(zip(names, found["ways"], strict=True))


def test_the_way_of_a_run_is_measured_once_and_marked(tiny_model, tmp_path):
    """The reference first, then what a run chooses, then the rest."""
    found, rows = rows_of(tiny_model, tmp_path)
    assert list(rows) == [
        "cpu float32 transformers",
        "cuda:0 float16 packed",
        "cuda:0 float16 transformers",
        "cpu float32 packed",
    ]
    assert [row["default"] for row in rows.values()] == [False, True, False, False]
    assert {row["status"] for row in rows.values()} == {"ok"}
    assert found["default"] == {"device": "cuda:0", "precision": "float16", "path": "packed"}
    assert found["failure"] is None


def test_a_model_that_runs_as_the_reference_has_one_row_for_both(tiny_model, tmp_path):
    """An architecture that is not packed, on the CPU: what a run chooses is transformers' way."""
    child = CHILD.replace('{"device": "cuda:0", "precision": "float16"}, "r', 'way0, "r')
    child = child.replace(
        "FIGURES = {", 'way0 = {"device": "cpu", "precision": "float32"}\nFIGURES = {', 1
    )
    script = tmp_path / "child.py"
    stock = "if path is None: FIGURES = FIGURES | {'path': 'transformers, equal lengths'}"
    script.write_text(f"{child}\n{stock}\nanswer(found=FIGURES)\n")
    checker = Checker(identify(str(tiny_model)), ModelOptions(), (sys.executable, str(script)), 20)
    found = check_ways(checker, Reporter())["check"]
    ways = [(row["device"], row["path"], row["default"]) for row in found["ways"]]
    assert ways[0] == ("cpu", "transformers", True)
    assert len(set(ways)) == len(ways) == 4
    assert found["failure"] is None


FAULTS = {
    "os.kill(os.getpid(), signal.SIGSEGV)": "was ended by SIGSEGV",
    "os.kill(os.getpid(), signal.SIGKILL)": "was ended by SIGKILL, as where memory is full",
    "sys.exit('CUDA driver: cannot load /home/alice/lib/libcuda.so')": "ended with exit code 1: "
    "CUDA driver: cannot load libcuda.so",
    "print('half an ans'); os._exit(0)": "ended with exit code 0",
    "print('[]'); os._exit(0)": "ended with exit code 0",
    "os.close(0); os.close(1); os._exit(9)": "ended with exit code 9",
    "answer(error='', message='RuntimeError: CUDA error: CUBLAS_STATUS_EXECUTION_FAILED')": "Runtim"
    "eError: CUDA error: CUBLAS_STATUS_EXECUTION_FAILED",
    "answer(error='DeviceError', message='NVIDIA H200 has no memory for one text', hint=None)": "NV"
    "IDIA H200 has no memory for one text",
    "answer(found=FIGURES | {'largest_difference': 0.7})": "logits differ from the reference by 0.7"
    " of their spread, 0.001 is allowed",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_way_that_fails_is_a_row_and_the_check_goes_on(tiny_model, tmp_path, fault):
    """Killed, crashed, silent, out of memory, wrong: what a run would not choose fails by itself."""
    found, rows = rows_of(
        tiny_model, tmp_path, f"if path == 'transformers' and device != 'cpu': {fault}"
    )
    row = rows["cuda:0 float16 transformers"]
    assert (row["status"], row["why"]) == ("failed", FAULTS[fault])
    assert found["failure"] is None
    assert rows["cpu float32 packed"]["status"] == "ok"


@pytest.mark.parametrize("fault", [*FAULTS][:1] + [*FAULTS][-2:])
def test_the_check_fails_where_the_way_of_a_run_fails(tiny_model, tmp_path, fault):
    """The reason is the check's; its ways are then measured by name too."""
    found, rows = rows_of(tiny_model, tmp_path, f"if path is None: {fault}")
    assert found["failure"] == FAULTS[fault]
    assert rows["cpu float32 packed"]["status"] == "ok"


def test_a_way_that_hangs_is_ended(tiny_model, tmp_path):
    """After the time limit it is killed, and is a row like the others."""
    act = (
        "if path is None: open(sys.argv[0] + '.pid', 'w').write(str(os.getpid())); time.sleep(600)"
    )
    found, rows = rows_of(tiny_model, tmp_path, act, limit_s=1.5)
    assert found["failure"] == "did not end within 1.5 s"
    assert rows["cuda:0 float16 None"]["default"]
    assert rows["cuda:0 float16 packed"]["status"] == "ok"
    assert not Path(f"/proc/{(tmp_path / 'child.py.pid').read_text()}").exists()


def test_a_search_for_devices_that_crashes_fails_the_check(tiny_model, tmp_path):
    """A driver that kills the process: the reference is still measured, and the reason is said."""
    script = tmp_path / "child.py"
    act = CHILD.replace(
        'if job["action"] == "ways":', 'if job["action"] == "ways": os.abort()\nif 0:'
    )
    script.write_text(act + "\nanswer(found=FIGURES)\n")
    checker = Checker(identify(str(tiny_model)), ModelOptions(), (sys.executable, str(script)), 20)
    found = check_ways(checker, Reporter())["check"]
    assert found["failure"] == "the search for devices was ended by SIGABRT"
    assert [row["status"] for row in found["ways"]] == ["ok"]


def test_without_the_reference_nothing_is_trusted(tiny_model, tmp_path):
    """Where float32 on the CPU crashes, the other ways run and are not called right."""
    found, rows = rows_of(tiny_model, tmp_path, "if 'logits' in FIGURES: os.abort()")
    assert rows["cpu float32 transformers"]["why"] == "was ended by SIGABRT"
    assert found["failure"] == "there is nothing to compare it with"
    assert rows["cuda:0 float16 packed"]["figures"]["largest_difference"] is None


def test_a_way_that_the_model_does_not_have_is_no_failure(tiny_model, tmp_path):
    """A GPU in float32 has no packed way: the row says why."""
    act = "if path == 'packed': answer(error='UsageError', message='not packed: x', hint=None)"
    found, rows = rows_of(tiny_model, tmp_path, act)
    row = rows["cpu float32 packed"]
    assert (row["status"], row["why"]) == ("not possible", "not packed: x")
    assert found["failure"] is None


def test_a_model_that_does_not_load_ends_the_check(tiny_model, tmp_path):
    """It is the model's fault, and no way's: exit 6."""
    act = "answer(error='ModelError', message='it is damaged', hint='copy it')"
    with pytest.raises(ModelError, match="it is damaged"):
        rows_of(tiny_model, tmp_path, act)


def test_a_signal_ends_the_child_and_the_check(tiny_model, tmp_path):
    """SIGTERM: no process is left."""
    checker = checker_of(
        tiny_model,
        tmp_path,
        "open(sys.argv[0] + '.pid', 'w').write(str(os.getpid())); time.sleep(60)",
    )
    pid = tmp_path / "child.py.pid"

    def stop():
        wait_for(lambda: pid.exists() and pid.read_text())
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(Interrupted), Signals():
        check_ways(checker, Reporter())
    thread.join()
    assert not Path(f"/proc/{pid.read_text()}").exists()


def test_a_child_ends_with_its_parent(tmp_path):
    """Kill -9 the check: what measures ends too, however busy it is."""
    child = (
        "import os, time; from batchsent.model import measuring\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "measuring.main({'measure': lambda job: time.sleep(60)})"
    )
    parent = (
        "import subprocess, sys, json\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], stdin=subprocess.PIPE)\n"
        "child.communicate(json.dumps({'action': 'measure', 'limit_s': 60}).encode())"
    )
    process = subprocess.Popen([sys.executable, "-c", parent])
    pid = tmp_path / "pid"
    wait_for(lambda: pid.exists() and pid.read_text(), timeout=60)
    time.sleep(0.3)
    process.kill()
    process.wait()
    wait_for(lambda: not Path(f"/proc/{pid.read_text()}").exists())


# --- what is measured


@pytest.fixture(scope="module")
def subject(tiny_model):
    """The tiny model in its packed way, on the CPU."""
    model = load_model(identify(str(tiny_model)), device="cpu")
    runner = BatchRunner(model.device)
    return Subject(model.identity, packed_encoder(model), model.tokenizer, 64, 300, runner)


def job_of(model, precision="float32", path="packed", wanted=None):
    """Return what a child is asked."""
    options = {"device": "cpu", "precision": precision}
    return {"model": str(model), "path": path, "options": options, "wanted": wanted}


def test_the_ways_of_this_machine_agree(tiny_model):
    """The real thing in this process: the reference, and what a run chooses, and int8."""
    reference = measure(job_of(tiny_model, path="transformers"))
    wanted = reference.pop("logits")
    packed = measure(job_of(tiny_model, path=None, wanted=wanted))
    assert packed["path"] == "packed"
    for found in (reference, packed):
        assert not why_not_trusted(found)
        assert found["label_flips"] == 0
        assert found["longest"] == 64
        assert min(found["tokens_per_s"].values()) > 0
        assert found["peak_memory_bytes"] > 10**6
    try:
        require_int8()
    except UsageError:
        return
    assert not why_not_trusted(measure(job_of(tiny_model, "int8", wanted=wanted)))


def test_a_model_that_reads_three_tokens_is_measured_too(tiny_model):
    """The least that --max-length allows: one token of a text."""
    job = job_of(tiny_model, path="transformers")
    job["options"]["max_length"] = 3
    found = measure(job)
    assert (found["texts"], found["longest"]) == (2, 3)
    assert not why_not_trusted(found)


def test_texts_have_every_length_up_to_the_limit(subject):
    """Around the powers of two and at both ends; short ones in pairs of different texts."""
    texts = make_texts(subject, 0)
    assert list(texts.lengths) == list(lengths_up_to(64, 3))
    assert {3, 4, 5, 31, 32, 33, 48, 63, 64} <= set(texts.lengths)
    assert list(texts.lengths).count(64) == 2
    assert set(lengths_up_to(512, 3)) >= {255, 256, 257, 511, 512}
    assert max(lengths_up_to(8_192, 3)) == 8_192
    assert list(lengths_up_to(3, 3)) == [3, 3]
    assert not np.array_equal(texts.ids, make_texts(subject, 1).ids)


class Changed:
    """An encoder that is right, but for what `change` does to its logits (texts, labels)."""

    shape, path, reason, warning = "packed", "packed", "made for tests", None
    pack_tokens = None

    def __init__(self, encoder, change):
        self.encoder, self.change, self.calls = encoder, change, 0

    def logits(self, ids, lengths):
        self.calls += 1
        return self.change(self.encoder.logits(ids, lengths), ids, lengths, self.calls)


def figures(subject, change):
    """Return what is said of the agreement of an encoder with a fault."""
    texts = make_texts(subject, 0)
    wanted = run(subject, texts, 1)
    changed = replace(subject, encoder=Changed(subject.encoder, change))
    found = agreement(changed, texts, run(changed, texts, 1), wanted)
    return {"texts": len(texts.lengths), **found}


def nothing(logits, ids, lengths, calls):
    return logits


def other_bits_each_time(logits, ids, lengths, calls):
    return logits * (1 + 1e-6 * calls)


def other_bits_by_size(logits, ids, lengths, calls):
    return logits * (1 + 1e-7 * len(ids))


def sees_its_neighbours(logits, ids, lengths, calls):
    return logits + torch.tensor([[0.5, -0.5]]) * float(ids.sum() % 7) * logits.std()


def two_of_many(logits, ids, lengths, calls):
    return logits.masked_fill(torch.tensor(lengths == 33)[:, None], float("nan"))


def swapped(logits, ids, lengths, calls):
    return logits.flip(1)


def all_nan(logits, ids, lengths, calls):
    return logits * float("nan")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (nothing, ""),
        (other_bits_each_time, "gives other bits for the same batches"),
        (other_bits_by_size, ""),
        (sees_its_neighbours, "of their spread, 0.001 is allowed"),
        (two_of_many, "gives no finite number for"),
        (swapped, "logits differ from the reference by"),
        (all_nan, "gives no finite number"),
    ],
)
def test_what_is_wrong_with_a_way_is_found(subject, change, said):
    """Other bits for the same batch and numbers that are wrong fail a way; last bits that depend on
    a pack's size do not, and are said.
    """
    found = figures(subject, change)
    why = why_not_trusted(found)
    assert said in why
    assert bool(said) == bool(why)
    assert json.dumps(found, allow_nan=False)
    if change is other_bits_by_size:
        assert not found["same_bits_alone"]
        assert 0 < found["difference_alone"] < 1e-3
        assert found["same_bits_beside_others"]
    if change is sees_its_neighbours:
        assert not found["same_bits_beside_others"]
    if change is swapped:
        assert found["label_flips"] == found["finite"]


def test_in_half_precision_a_text_without_a_finite_number_is_allowed(subject):
    """A run computes it again in float32; the figures are those of the others."""
    half = replace(subject, runner=BatchRunner(Device("cpu", "CPU", "bfloat16", "test")))
    found = figures(half, two_of_many)
    assert 0 < found["finite"] < found["texts"]
    assert not why_not_trusted(found)


def full_beyond(tokens):
    """A device without room for more tokens in one pass."""

    def change(logits, ids, lengths, calls):
        if len(ids) > tokens:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return logits

    return change


def test_a_pack_without_room_has_no_speed(subject):
    """It is split, as in a run; the smaller ones have their figure."""
    texts = make_texts(subject, 0)
    small = replace(subject, budget=1_024, encoder=Changed(subject.encoder, full_beyond(300)))
    small = replace(small, runner=BatchRunner(subject.runner.device))
    found = dict(speeds(small, texts))
    assert found["64"] > 0
    assert found["128"] > 0
    assert found["1024"] is None


def test_a_text_without_room_fails_the_way(subject):
    """One text of 64 tokens does not fit: what a run would say too."""
    with pytest.raises(DeviceError, match="no memory for one text of 64 tokens"):
        figures(subject, full_beyond(63))


def test_options_leave_the_ways_that_they_name():
    """--device and --precision narrow the check; a format that is slow here is refused by name."""
    found = find_ways(ModelOptions(device="cpu"))
    names = {(way["device"], way["precision"], way["path"]) for way in found["ways"]}
    assert {("cpu", "float32", "packed"), ("cpu", "float32", "transformers")} <= names
    assert ("cpu", "int8", "transformers") not in names
    assert "float16" in [refused["precision"] for refused in found["refused"]]
    assert found["default"] == {"device": "cpu", "precision": "float32"}
    only = find_ways(ModelOptions(device="cpu", precision="float32"))
    assert {way["precision"] for way in only["ways"]} == {"float32"}
    assert only["refused"] == []
    with pytest.raises(UsageError, match="float16 is slow"):
        find_ways(ModelOptions(device="cpu", precision="float16"))


# --- what is printed


def test_the_report_is_narrow_and_names_no_folder(tiny_model, tmp_path):
    """For an issue: versions, CPU flags in one line, tables of 80 columns, and no path."""
    document = {"versions": {"torch": "2.13.0"}}
    act = "if path == 'transformers' and device != 'cpu': answer(error='', message=f'no {os.getcwd()}/x.so')"
    document |= check_ways(checker_of(tiny_model, tmp_path, act), Reporter())
    out = io.StringIO()
    show_check(document, out)
    shown = out.getvalue()
    lines = shown.splitlines()
    assert "torch             2.13.0" in lines
    flags = [line for line in lines if line.startswith("cpu flags")]
    assert len(flags) == bool(machine_facts()["cpu_flags"])
    assert "cuda:0 NVIDIA H200, 150.0 GB, compute capability 9.0" in shown
    assert any(
        line.split() == ["cuda:0", "float16", "packed", "*", "1e-06", "0", "same", "same", "same"]
        for line in lines
    )
    (header,) = [line for line in lines if line.startswith("tokens/s")]
    assert header.split()[4:10] == ["768", "1.5k", "3.1k", "6.1k", "12k", "49k"]
    speeds = ["1.0k", "1.0M", "845", "12k", "9", "full", "1000", "2"]
    assert [line for line in lines if line.split()[-8:] == speeds]
    assert "…" not in shown
    assert "cuda:0 float16 transformers: failed: no " in shown
    assert "cpu float16: not used: it is slow" in shown
    tables = [
        line for line in lines if line.startswith(("cuda:0 f", "cpu float")) and ": " not in line
    ]
    assert len(tables) == 7
    assert max(len(line.rstrip()) for line in tables) <= 80
    for text in (shown, json.dumps(document)):
        for folder in (tiny_model.parent, Path.home(), Path.cwd(), tmp_path):
            assert f"{folder}{os.sep}" not in text


def test_a_file_is_not_checked(tmp_path):
    """--check is about a model."""
    file = tmp_path / "scored.parquet"
    file.write_bytes(b"PAR1")
    with pytest.raises(UsageError, match="--check requires a model"):
        info(file, check=True)


def test_a_real_child_answers(tiny_model):
    """A process of this Python finds the ways of this machine, whatever its libraries print."""
    answer = Checker(identify(str(tiny_model)), ModelOptions(device="cpu")).find_ways()
    assert answer.found == find_ways(ModelOptions(device="cpu"))


def test_a_way_of_a_run_that_fails_is_exit_code_7():
    """What the command raises after it has printed the table."""
    assert failure_of_check({"check": {"failure": None}}) is None
    assert failure_of_check({"versions": {}}) is None
    failure = failure_of_check({"check": {"failure": "was ended by SIGSEGV"}})
    assert failure.exit_code == 7
    assert "was ended by SIGSEGV" in failure.message


@pytest.mark.soak
def test_the_whole_command(fork_server, tiny_model):
    """`batchsent info MODEL --check --json` with its real children: exit 0, a document, and on
    stderr what is being done and how long it takes.
    """
    words = [
        "info",
        str(tiny_model),
        "--check",
        "--json",
        "--device",
        "cpu",
        "--precision",
        "float32",
    ]
    done = subprocess.run(
        [fork_server.python, "-m", "batchsent", *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [row["status"] for row in found["check"]["ways"]] == ["ok", "ok"]
    assert found["check"]["default"] == {"device": "cpu", "precision": "float32", "path": "packed"}
    assert found["versions"]["torch"]
    assert "checking way 1 of 2, cpu float32 transformers; about " in done.stderr
    assert str(tiny_model) not in done.stdout
