"""The benchmark script runs: every alternative gives the model's labels, and the table has a row for each."""

import importlib.util
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from batchsent.api import load

BENCH = Path(__file__).parents[1] / "examples" / "bench.py"
TEXTS = [f"{'great ' * n}film" for n in range(1, 15)] + [f"{'bad ' * n}plot, {n}" for n in range(1, 80, 9)]


@pytest.fixture(scope="module")
def bench():
    """Load the script as a module."""
    spec = importlib.util.spec_from_file_location("bench", BENCH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["batchsent", "pipeline", "plain_torch", "onnxruntime", "openvino"])
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


def test_made_up_reviews_are_as_long_as_imdbs(bench):
    """Without a file the texts have IMDB's average length in words."""
    words = [len(text.split()) for text in bench.made_up_reviews(300)]
    assert 150 < sum(words) / len(words) < 320
    assert max(words) > 3 * min(words)


def test_the_table_has_a_row_for_each_alternative_and_the_limit(tiny_model, tmp_path):
    """Rates, ratio and accuracy stand in one line each; what cannot run says so; the limit is the last line."""
    reviews = tmp_path / "reviews.csv"
    reviews.write_text("text,label\n" + "a great film,1\nboring and bad,0\n" * 10)
    command = [sys.executable, str(BENCH), f"--model={tiny_model}", f"--texts={reviews}", "--gold=label"]
    command += [f"--train={reviews}", "--compare=batchsent,nothing"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=BENCH.parents[1], check=False)
    assert done.returncode == 0, done.stderr
    lines = {line[:18].strip(): line for line in done.stdout.splitlines()}
    assert "20 reviews" in done.stdout
    assert "1.00 x" in lines["batchsent"]
    assert lines["TF-IDF"].split()[-1] == "1.0000"
    assert "not run" in lines["nothing"]
    assert "GFLOP/s" in done.stdout.splitlines()[-1]
