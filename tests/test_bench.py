"""The benchmark script runs: every alternative gives the model's labels, and the table has a row
for each.
"""

import importlib.util
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from batchsent.commands.predict import load
from batchsent.model.int8 import has_int8

BENCH = Path(__file__).parents[1] / "examples" / "bench.py"
BENCH_ROWS = BENCH.with_name("bench_rows.py")
TEXTS = [f"{'great ' * n}film" for n in range(1, 15)] + [
    f"{'bad ' * n}plot, {n}" for n in range(1, 80, 9)
]


@pytest.fixture(scope="module")
def bench():
    """Load the script as a module, with those beside it."""
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.syspath_prepend(str(BENCH.parent))
    spec = importlib.util.spec_from_file_location("bench", BENCH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    monkeypatch.undo()


@pytest.mark.parametrize(
    "name", ["batchsent", "pipeline", "plain_torch", "onnxruntime", "openvino"]
)
def test_each_alternative_gives_the_labels_of_the_model(bench, tiny_model, name):
    """What is timed is the right work: the same labels from each of them."""
    if name in {"onnxruntime", "openvino"}:
        pytest.importorskip(name, reason=f"needs {name} (pip install batchsent[bench])")
        pytest.importorskip("onnx", reason="needs onnx (pip install batchsent[bench])")
    model = str(tiny_model)
    rest = {"pipeline": ("cpu", 8), "batchsent": ("cpu",), "plain_torch": ("cpu",)}.get(name, ())
    with warnings.catch_warnings():
        # The exporters warn about themselves.
        warnings.simplefilter("ignore")
        labels, _ = getattr(bench, name)(model, *rest)(TEXTS)
    own = load(model, device="cpu")
    assert labels == [own.labels.index(prediction.label) for prediction in own.predict(TEXTS)]


def test_openvino_int8_is_int8_and_close_to_the_model(bench, tiny_model):
    """Its weights are int8 with a scale for each output, and it scores all but near ties as the
    model does.
    """
    openvino = pytest.importorskip(
        "openvino", reason="needs openvino (pip install batchsent[bench])"
    )
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = torch.ones(2, 16, dtype=torch.long)
        exact, packed = (
            openvino.convert_model(bench.logits_of_ids(str(tiny_model)), example_input=example)
            for _ in "12"
        )
        bench.compress_weights(packed)
        kinds = [
            str(n.get_element_type())
            for n in packed.get_ordered_ops()
            if n.get_type_name() == "Constant"
        ]
        # six products a layer, two in the head
        assert sum("int8_t" in kind for kind in kinds) == 2 * 6 + 2
        # The weights alone: without int8 products.
        settings = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
        ids = np.arange(5, 37, dtype=np.int64).reshape(4, 8)
        one, other = (
            openvino.compile_model(each, "CPU", settings)([ids])[0] for each in (exact, packed)
        )
        assert 0 < np.abs(one - other).max() < 0.05 * np.abs(one).max()
        labels, _ = bench.openvino(str(tiny_model), int8=True)(TEXTS)
    own = load(str(tiny_model), device="cpu").predict(TEXTS)
    differ = [
        p
        for p, label in zip(own, labels, strict=True)
        if p.label != ("NEGATIVE", "POSITIVE")[label]
    ]
    assert all(prediction.score < 0.52 for prediction in differ)


def test_made_up_reviews_are_as_long_as_imdbs(bench):
    """Without a file the texts have IMDB's average length in words."""
    words = [len(text.split()) for text in bench.made_up_reviews(300)]
    assert 150 < sum(words) / len(words) < 320
    assert max(words) > 3 * min(words)


def int8_is_refused(name):
    """Tell whether this CPU does not run the command."""
    return name.endswith("int8") and not has_int8()


def test_the_table_has_a_row_for_each_alternative_and_the_limit(fork_server, tiny_model, tmp_path):
    """Rates, ratio and accuracy stand in one line each; what cannot run says so.

    The limit is the last line; whole commands follow.
    """
    reviews = tmp_path / "reviews.csv"
    reviews.write_text("text,label\n" + "a great film,1\nboring and bad,0\n" * 10)
    command = [
        fork_server.python,
        str(BENCH),
        f"--model={tiny_model}",
        f"--texts={reviews}",
        "--gold=label",
    ]
    command += [f"--train={reviews}", "--compare=batchsent,nothing", "--command-rows", "5"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=BENCH.parents[1], check=False
    )
    assert done.returncode == 0, done.stderr
    lines = {line[:18].strip(): line for line in done.stdout.splitlines()}
    assert "20 reviews" in done.stdout
    assert "1.00 x" in lines["batchsent"]
    assert lines["TF-IDF"].split()[-1] == "1.0000"
    assert "not run" in lines["nothing"]
    assert "GFLOP/s" in lines["limit"]
    # Of the whole commands there is a line each, with seconds, memory and the ratio.
    for name in ("batchsent", "batchsent int8", "pipeline"):
        line = next(
            line for line in done.stdout.splitlines() if line.startswith(f"{'5  ':>10}{name} ")
        )
        assert "not run" in line if int8_is_refused(name) else line.endswith(" x")


def run_rows(python, *arguments):
    """Run the other script; return its lines by their first two words."""
    done = subprocess.run(
        [python, str(BENCH_ROWS), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_short_rows_tell_where_the_seconds_went(fork_server):
    """The stages add up to all of it, and everything but the model is a number."""
    lines = run_rows(fork_server.python, "--short-rows", "3000")
    seconds = {line[:26].strip(): float(line[26:].split()[0]) for line in lines[2:-1]}
    parts = ["check every row", "read", "tokenize", "model", "write and count", "the rest"]
    assert sum(seconds[name] for name in parts) == pytest.approx(seconds["all"], abs=0.04)
    assert seconds["all but the model"] == pytest.approx(
        seconds["all"] - seconds["model"], abs=0.02
    )
    assert "rows/s a core" in lines[-2]


@pytest.mark.parametrize("more", [[], ["--parquet"]], ids=["csv_pipe", "parquet"])
def test_memory_is_measured_for_every_size(more):
    """Each size has a line with its output and its peak, and the last says how far the peaks
    differ.
    """
    header, small, large, verdict = run_rows(sys.executable, "--memory", "100KB", "2MB", *more)
    assert header.split()[-2:] == ["peak", "MB"]
    assert 50 < float(small.split()[-1]) < 2_000
    assert float(large.split()[1]) >= 2
    assert "x the smallest" in verdict


@pytest.mark.soak
def test_memory_is_flat_from_ten_megabytes_to_two_gigabytes():
    """The peak of a pipe of 2 GB is that of a pipe of 100 MB."""
    lines = run_rows(sys.executable, "--memory", "100MB", "2GB")
    assert float(lines[-1].split()[4]) < 1.2


def test_the_processors_limit_is_told_beside_a_device_that_only_takes_time(fork_server):
    """Reviews a second, how long the device waits, microseconds of each stage, and who holds the
    lock.
    """
    lines = run_rows(fork_server.python, "--device-rate", "2e6", "--rows", "300", "--csv")
    assert lines[0].startswith("300 reviews of ")
    assert "the device waits" in lines[1]
    assert lines[2].startswith("bound by: ")
    figures = {line.split()[0]: line.split()[1:] for line in lines[4:-1]}
    assert {"read", "tokenize", "score", "write", "all"} <= set(figures)
    assert float(figures["tokenize"][1]) > float(figures["read"][1]) / 1_000
    assert lines[-1].startswith("Python's lock was ")


def test_what_a_user_gets_is_measured_as_a_whole_command(fork_server, tiny_model):
    """Seconds of the command and of its stages, the device's share, the limit and pipeline; other
    precisions, and packs with and without filler.
    """
    script = BENCH.with_name("bench_gpu.py")
    words = [
        "--device=cpu",
        f"--model={tiny_model}",
        "--rows=60",
        "--pipeline-rows=10",
        "--pipeline-batches=8",
    ]
    done = subprocess.run(
        [fork_server.python, str(script), *words, "--times=1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    assert told[0].startswith("60 reviews of ")
    beginnings = ("whole command: ", "scoring alone: ", "seconds of ", "device busy: ", "limit: ")
    for line, beginning in zip(told[1:], beginnings, strict=False):
        assert line.startswith(beginning)
    assert "tokenize" in told[3]
    assert "the whole command is" in told[6]
    assert told[7].startswith(("--precision int8: ", "--precision int8 did not run: "))
    packs = [line.partition(":")[0] for line in told[8:]]
    assert len(packs) == 3
    assert packs[0].endswith("without filler")
    assert packs[1].startswith("packs of 1,024 tokens, ")
    assert packs[1].endswith("% of it filler")
