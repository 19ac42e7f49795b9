"""Export: a program for another runtime with its tokenizer and labels, whole, private, and equal to
the model.
"""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from batchsent.cli import cli
from batchsent.commands.export import FILES, TOLERANCE, export
from batchsent.errors import Locked, ModelError, OutputError, UsageError
from batchsent.files.lock import held_lock
from batchsent.model import calibration
from batchsent.model.loading import identify, load_model
from tests.models import make_model

pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
pytest.importorskip("onnxscript", reason="the extra `export` is not installed")

TEXTS = [
    "great",
    "the plot was awful and the acting boring",
    "a lovely film " * 40,
    "it is not bad, it is terrible!",
]

# What somebody who serves the folder elsewhere would write: no batchsent in it, and with torch no
# transformers model.
SERVE_ONNX = """
import json, sys, onnxruntime, tokenizers
folder, texts = sys.argv[1], json.loads(sys.argv[2])
tokenizer = tokenizers.Tokenizer.from_file(folder + "/tokenizer.json")
limit = json.load(open(folder + "/tokenizer_config.json"))["model_max_length"]
tokenizer.enable_truncation(limit)
session = onnxruntime.InferenceSession(folder + "/model.onnx")
import numpy
for text in texts:
    found = tokenizer.encode(text)
    feeds = {"input_ids": numpy.array([found.ids]), "attention_mask": numpy.array([found.attention_mask])}
    print(json.dumps(session.run(["logits"], feeds)[0][0].tolist()))
assert not {"torch", "transformers", "batchsent"} & set(sys.modules)
"""
SERVE_TORCH = """
import json, sys, tokenizers, torch
folder, texts = sys.argv[1], json.loads(sys.argv[2])
tokenizer = tokenizers.Tokenizer.from_file(folder + "/tokenizer.json")
limit = json.load(open(folder + "/tokenizer_config.json"))["model_max_length"]
tokenizer.enable_truncation(limit)
model = torch.export.load(folder + "/model.pt2").module()
for text in texts:
    found = tokenizer.encode(text)
    print(json.dumps(model(torch.tensor([found.ids]), torch.tensor([found.attention_mask]))[0].tolist()))
assert not {"transformers", "batchsent"} & set(sys.modules)
"""


def serve(program, folder):
    """Run a serving program in a process of its own; return the logits of TEXTS."""
    command = [sys.executable, "-W", "ignore", "-c", program, str(folder), json.dumps(TEXTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def stock_logits(folder):
    """What transformers' own model says of TEXTS."""
    import torch

    loaded = load_model(identify(str(folder)), device="cpu", precision="float32")
    with torch.inference_mode():
        return [
            loaded.module(**loaded.tokenizer([text], truncation=True, return_tensors="pt"))
            .logits[0]
            .tolist()
            for text in TEXTS
        ]


@pytest.fixture(scope="module", params=["distilbert", "bert", "roberta"])
def model(request, tmp_path_factory):
    """A tiny model of three classes, of each architecture."""
    return make_model(
        tmp_path_factory.mktemp(request.param), request.param, labels=("bad", "so-so", "good")
    )


@pytest.mark.parametrize(("kind", "program"), [("onnx", SERVE_ONNX), ("torch", SERVE_TORCH)])
def test_an_export_serves_elsewhere_with_the_same_numbers(tmp_path, model, kind, program):
    """Without batchsent and transformers the exported program gives the model's logits for short
    and long texts.
    """
    found = export(str(model), tmp_path / "out", to=kind)
    wanted = stock_logits(model)
    largest = max(abs(value) for row in wanted for value in row)
    for served, stock in zip(serve(program, tmp_path / "out"), wanted, strict=True):
        assert served == pytest.approx(stock, abs=TOLERANCE * largest)
    assert found["check"]["largest_difference"] <= TOLERANCE
    assert found["labels"] == ["bad", "so-so", "good"]
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["id2label"] == {"0": "bad", "1": "so-so", "2": "good"}


@pytest.fixture(scope="module", params=list(FILES))
def exported(request, tmp_path_factory):
    """A folder with `model`, which has a card and a temperature, and `out`, its export; the kind of
    export, and what was said of it.
    """
    folder = tmp_path_factory.mktemp("exported")
    model = make_model(folder / "model")
    (model / "README.md").write_text("# A card\n")
    (model / "calibration.json").write_bytes(
        calibration.dumps(calibration.calibrate([[1.0, 0.0]], [0]))
    )
    return folder, request.param, export(str(model), folder / "out", to=request.param)


@pytest.mark.parametrize("exported", ["onnx"], indirect=True)
def test_onnx_takes_any_number_of_rows_and_tokens(exported):
    """The axes of rows and tokens are free and named, the inputs and the output are called as
    everybody calls them.
    """
    import onnxruntime

    folder, _, _ = exported
    session = onnxruntime.InferenceSession(folder / "out" / "model.onnx")
    assert [(i.name, i.shape, i.type) for i in session.get_inputs()] == [
        ("input_ids", ["batch", "sequence"], "tensor(int64)"),
        ("attention_mask", ["batch", "sequence"], "tensor(int64)"),
    ]
    assert [(o.name, o.shape) for o in session.get_outputs()] == [("logits", ["batch", 2])]


def test_an_export_holds_its_papers_and_tells_nothing_of_this_machine(exported):
    """Program, labels, tokenizer, card and temperature travel together.

    No file holds a path of who made it.
    """
    folder, kind, found = exported
    names = {
        "README.md",
        "calibration.json",
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        FILES[kind],
    }
    assert {path.name for path in (folder / "out").iterdir()} == names == set(found["files"])
    assert {path.name for path in folder.iterdir()} == {"model", "out"}
    for path in (folder / "out").iterdir():
        data = path.read_bytes()
        for place in (str(folder), sys.prefix, str(batchsent_home())):
            assert place.encode() not in data, f"{path.name} holds {place}"


def batchsent_home():
    """Where the package lies."""
    import batchsent

    return batchsent.__path__[0]


def test_the_command_prints_the_path_and_what_was_checked(tmp_path, tiny_model):
    """Stdout is the path alone; how close the numbers are goes to stderr."""
    done = CliRunner().invoke(
        cli, ["export", str(tiny_model), "--to", "torch", "-o", str(tmp_path / "out")]
    )
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{tmp_path / 'out'}\n"
    assert "6 texts of 1 to 64 tokens, logits within" in done.stderr


def test_an_existing_output_is_kept(tmp_path, tiny_model):
    """What exists is refused before the model loads.

    --overwrite replaces an export, never the model it reads.
    """
    export(str(tiny_model), tmp_path / "out", to="torch")
    with pytest.raises(UsageError, match="exists already") as caught:
        export(str(tiny_model), tmp_path / "out", to="torch")
    assert "--overwrite" in caught.value.hint
    export(str(tiny_model), tmp_path / "out", to="onnx", overwrite=True)
    assert {path.name for path in (tmp_path / "out").iterdir()} & set(FILES.values()) == {
        "model.onnx"
    }
    model = make_model(tmp_path / "model")
    with pytest.raises(UsageError, match="is not an export"):
        export(str(model), model, overwrite=True)
    assert (model / "model.safetensors").exists()


def test_what_cannot_be_exported_is_an_error_and_leaves_nothing(tmp_path, tiny_model):
    """A missing model, a format nobody has, a folder that cannot be written: an error each, and no
    folder.
    """
    with pytest.raises(ModelError, match="there is no folder"):
        export(str(tmp_path / "absent"), tmp_path / "out")
    with pytest.raises(UsageError, match="to='tensorrt' is not one of onnx, torch"):
        export(str(tiny_model), tmp_path / "out", to="tensorrt")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        export(str(tiny_model), tmp_path / "file" / "out", to="torch")
    with held_lock(tmp_path / "out", 0), pytest.raises(Locked):
        export(str(tiny_model), tmp_path / "out", to="torch")
    assert {path.name for path in tmp_path.iterdir()} == {"file"}


def test_other_numbers_are_not_published(tmp_path):
    """A model whose logits are no numbers cannot be checked: the export is refused and nothing is
    written.
    """
    import torch
    from safetensors.torch import load_file, save_file

    model = make_model(tmp_path / "model")
    tensors = load_file(model / "model.safetensors")
    tensors["classifier.bias"] = torch.full_like(tensors["classifier.bias"], float("nan"))
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="gives other numbers"):
        export(str(model), tmp_path / "out", to="torch")
    assert {path.name for path in tmp_path.iterdir()} == {"model"}


def test_a_missing_package_is_named_with_the_command_that_brings_it(
    tmp_path, monkeypatch, tiny_model
):
    """Without ONNX Runtime --to onnx says what to install, before the model loads."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match="--to onnx requires onnxruntime") as caught:
        export(str(tiny_model), tmp_path / "out")
    assert 'pip install "batchsent[export]"' in caught.value.hint
