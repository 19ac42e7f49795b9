"""A model folder stored in 8 bits: smaller on the disk, the same as any other in use."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

import batchsent
from batchsent.cli import cli
from batchsent.errors import ModelError, UsageError
from batchsent.model import int8_storage
from batchsent.model.loading import identify, load_model
from tests.models import make_model

TEXTS = ["great", "the plot was awful and the acting boring", "a lovely film " * 40]


@pytest.fixture(scope="module", params=["distilbert", "bert", "roberta"])
def folders(request, tmp_path_factory):
    """A model folder, and the same model stored in 8 bits."""
    place = tmp_path_factory.mktemp(request.param)
    plain = make_model(place / "plain", request.param)
    return plain, stored_in_8_bits(plain, place / "small")


def stored_in_8_bits(plain: Path, folder: Path) -> Path:
    """Return a copy of a model folder with its weights in 8 bits."""
    shutil.copytree(plain, folder)
    int8_storage.write(load_file(folder / "model.safetensors"), folder)
    (folder / "model.safetensors").unlink()
    return folder


def changed(folder: Path, change) -> Path:
    """Apply a change to the tensors of a folder stored in 8 bits."""
    path = folder / int8_storage.FILE
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    return folder


def test_each_weight_is_within_half_a_step_of_its_row():
    """A step is the largest number of the row through 127; zeros and the other tensors stay."""
    weights = torch.randn(100, 30) * torch.logspace(-3, 3, 100)[:, None]
    weights[7] = 0
    stored = int8_storage.pack({"layer.weight": weights, "layer.bias": torch.randn(100)})
    assert {name: str(tensor.dtype) for name, tensor in stored.items()} == {
        "layer.weight": "torch.int8",
        "layer.weight.scale": "torch.float32",
        "layer.bias": "torch.float16",
    }
    step = weights.abs().amax(dim=1) / 127
    widened = stored["layer.weight"].float() * stored["layer.weight.scale"][:, None]
    assert ((widened - weights).abs().amax(dim=1) <= step * 0.5001).all()
    assert (widened[7] == 0).all()


def test_it_scores_as_the_widened_weights_do(folders, tmp_path):
    """Every way to load it runs with int8 times scale in float32: the packed forward pass, the
    one that was checked here before, and transformers' own.
    """
    _, small = folders
    with_transformers = batchsent.load(str(small)).predict(TEXTS)
    recorded = batchsent.load(str(small)).predict(TEXTS)
    batchsent.export(str(small), tmp_path / "plain", to="transformers")
    elsewhere = batchsent.load(str(tmp_path / "plain")).predict(TEXTS)
    assert with_transformers == recorded == elsewhere


def test_its_file_is_smaller_and_its_answers_are_close(folders):
    """Less than half of the bytes, headers and all; probabilities within a hundredth."""
    plain, small = folders
    sizes = [sum(path.stat().st_size for path in each.glob("*.safetensors")) for each in folders]
    assert sizes[1] < sizes[0] / 2
    own, other = (batchsent.load(str(each)).predict(TEXTS) for each in (plain, small))
    for one, two in zip(own, other, strict=True):
        assert one.score == pytest.approx(two.score, abs=0.01)


def test_the_exported_folder_is_one_of_transformers(folders, tmp_path):
    """from_pretrained loads it with the very weights; the 8-bit folder itself it refuses."""
    _, small = folders
    exported = tmp_path / "plain"
    done = CliRunner().invoke(
        cli, ["export", str(small), "-o", str(exported), "--to", "transformers"]
    )
    assert done.exit_code == 0, done.output
    module = transformers.AutoModelForSequenceClassification.from_pretrained(exported)
    stored = load_model(identify(str(small)), device="cpu", precision="float32").module
    for name, weight in stored.state_dict().items():
        assert torch.equal(weight, module.state_dict()[name]), name
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        transformers.AutoModelForSequenceClassification.from_pretrained(small)


def test_an_export_for_transformers_replaces_no_model_it_reads(folders):
    """With --overwrite too."""
    plain, _ = folders
    with pytest.raises(UsageError, match="is the model itself"):
        batchsent.export(str(plain), plain, to="transformers", overwrite=True)


def test_a_training_starts_from_it(tmp_path):
    """Its classifier is the base that the tuned model is compared with, and the next folder holds
    floats again.
    """
    small = stored_in_8_bits(make_model(tmp_path / "plain"), tmp_path / "small")
    rows = tmp_path / "rows.csv"
    rows.write_text(
        "text,label\n"
        + "".join(f"great film {n},POSITIVE\nawful plot {n},NEGATIVE\n" for n in range(20))
    )
    document = batchsent.finetune(
        tmp_path / "tuned",
        train=str(rows),
        base_model=str(small),
        batch_size=8,
        epochs=1,
        device="cpu",
        max_length=16,
    )
    assert document["comparison"]["base"]["accuracy"] is not None
    assert (tmp_path / "tuned" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: drop(tensors, ".scale"), "found none"),
        (lambda tensors: set_scale(tensors, float("nan")), "not a positive number"),
        (lambda tensors: set_scale(tensors, 0.0), "not a positive number"),
        (lambda tensors: shorten(tensors), "scales in float32 are due"),
    ],
    ids=["no scale", "not a number", "zero", "too few"],
)
def test_damaged_scales_are_an_error_of_the_model(tmp_path, change, said):
    """Not a traceback, and no scores."""
    folder = stored_in_8_bits(make_model(tmp_path / "plain"), tmp_path / "small")
    with pytest.raises(ModelError, match=said):
        batchsent.load(str(changed(folder, change)))


def scale_name(tensors):
    """Return the name of the first scale."""
    return min(name for name in tensors if name.endswith(int8_storage.SCALE))


def drop(tensors, _):
    """Leave a scale out."""
    del tensors[scale_name(tensors)]


def set_scale(tensors, value):
    """Set one number of a scale."""
    tensors[scale_name(tensors)][0] = value


def shorten(tensors):
    """Take a row's scale away."""
    name = scale_name(tensors)
    tensors[name] = tensors[name][1:].clone()


def test_random_rows_round_trip_as_numpy_computes_them():
    """The widened weights are numpy's product of what is stored."""
    weights = torch.randn(64, 64)
    stored = int8_storage.pack({"w": weights})
    scale = np.abs(weights.numpy()).max(axis=1) / np.float32(127)
    rounded = np.rint(weights.numpy() / scale[:, None]).astype(np.int8)
    assert np.array_equal(stored["w"].numpy(), rounded)
