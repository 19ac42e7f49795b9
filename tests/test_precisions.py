"""Every precision of the table can be chosen where it runs, is refused elsewhere, and is documented."""

import importlib.util
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner

from batchsent.cli import cli
from batchsent.errors import UsageError
from batchsent.model.cpu import has_fast_bfloat16
from batchsent.model.dense import dense_of, why_not
from batchsent.model.device import Device, _cuda, _mps, choose_device, parse_device
from batchsent.model.encoder import packed_on_cpu, share_of_spread
from batchsent.model.int8 import has_int8
from batchsent.model.loading import identify, load_model
from batchsent.model.tokens import make_text_encoder
from batchsent.model.weights import extract_weights
from batchsent.precisions import PRECISIONS
from tests.encoders import texts_of_many_lengths
from tests.models import make_model
from tests.stand_in_torch import torch_with

ROOT = Path(__file__).parents[1]
# What a CPU must have instructions for.
INSTRUCTIONS = {"bfloat16": has_fast_bfloat16, "int8": has_int8}
every_precision = pytest.mark.parametrize("name", PRECISIONS)


def choose(kind: str, name: str, capability: tuple[int, int] = (9, 0)) -> Device:
    """Choose a precision on a machine with every kind of device."""
    major, minor = capability
    gpu = SimpleNamespace(name="NVIDIA H200", major=major, minor=minor, total_memory=10**11)
    stand_in = torch_with(gpu)
    if kind == "cpu":
        return choose_device(kind, name)
    parse_device(kind, name)
    return _cuda(stand_in, 0, name) if kind == "cuda" else _mps(stand_in, name)


@every_precision
@pytest.mark.parametrize("kind", ["cpu", "cuda", "mps"])
def test_it_runs_where_the_table_says(name, kind):
    """Another kind of device, or an older GPU, is refused with a reason that names the precision."""
    precision = PRECISIONS[name]
    if kind not in precision.devices:
        with pytest.raises(UsageError, match=f"^{name} (is|requires)"):
            choose(kind, name)
        return
    if kind == "cpu" and not INSTRUCTIONS.get(name, lambda: True)():
        pytest.skip("this CPU lacks the instructions")
    found = choose(kind, name)
    assert (found.kind, found.precision, found.weights) == (kind, name, precision.weights)
    if kind == "cuda" and precision.opt_in:
        with pytest.raises(UsageError, match=f"{name} requires a GPU of compute capability"):
            choose(kind, name, (precision.least_capability[0] - 1, 9))


@every_precision
def test_its_products_are_as_near_as_the_table_says(name, tmp_path):
    """Computed on this CPU, with its dense layers on a model that every precision can run."""
    if name == "int8" and not has_int8():
        pytest.skip("this CPU has no VNNI")
    folder = make_model(tmp_path / "model", "bert", hidden_size=64, intermediate_size=128)
    model = load_model(identify(str(folder)), device="cpu")
    precision = PRECISIONS[name]
    assert why_not(precision, extract_weights(model.module)) is None
    assert (dense_of(precision) is not None) == precision.opt_in
    tokens = make_text_encoder(model.tokenizer, 64).encode(texts_of_many_lengths(20))
    wanted = packed_on_cpu(model).logits(tokens.ids, tokens.lengths).numpy()
    if precision.weights != "float16":  # inexact on a CPU: of that the dense layers alone
        model.module.to(getattr(torch, precision.weights))
    encoder = packed_on_cpu(model, dense_of(precision))
    found = encoder.logits(tokens.ids, tokens.lengths).float().numpy()
    assert share_of_spread(found, wanted) <= precision.tolerance


@every_precision
def test_the_user_is_told_of_it(name):
    """By the help, by the refusal of another word, and by the README's table of options."""
    told = CliRunner().invoke(cli, ["predict", "--help"]).output
    help_text = re.search(r"--precision FORMAT(.*?)\n  -", told, re.S)[1]
    words = re.compile(rf"(?<![\w-]){name}(?![\w-])")
    assert words.search(" ".join(help_text.replace("float16-\n", "float16-").split()))
    with pytest.raises(UsageError) as caught:
        choose_device("cpu", "half")
    assert words.search(caught.value.hint)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = [line for line in readme.splitlines() if line.startswith("| `--precision ")]
    assert any(words.search(row.split("|")[1]) for row in rows)


def example(name):
    """Load an example as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not has_fast_bfloat16(), reason="the example loads the model in bfloat16")
def test_the_table_of_agreement_has_each(tmp_path, tiny_model, monkeypatch, capsys):
    """A row for each whose products this CPU computes, in the order of the table."""
    reviews = pa.table({"text": ["a great film", "a bad film"], "label": [1, 0]})
    pq.write_table(reviews, tmp_path / "r.parquet")
    monkeypatch.setattr(
        sys, "argv", ["precisions.py", str(tmp_path / "r.parquet"), f"--model={tiny_model}"]
    )
    example("precisions").main()
    rows = [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines()[2:]]
    wanted = ["float32", "bfloat16", "int8", "fp8", "float32 with tanh GELU"]
    assert rows == [row for row in wanted if row != "int8" or has_int8()]


def test_the_bench_for_gpus_runs_each_that_is_taken_by_name(monkeypatch):
    """Beside the usual precision of the device."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    bench = example("bench_gpu")
    for kind, usual in {"cpu": "float32", "cuda": "float16"}.items():
        first, *others = bench.precisions_of(kind)
        assert first == usual
        assert others == [
            name for name, one in PRECISIONS.items() if one.opt_in and kind in one.devices
        ]
