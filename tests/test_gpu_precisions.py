"""Formats for GPUs that are taken by name: FP8 products, and GELU by its tanh form."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from batchsent.commands.predict import load
from batchsent.errors import UsageError
from batchsent.model.dense import tanh_dense
from batchsent.model.device import Device, _cuda, _mps, choose_device
from batchsent.model.encoder import (
    centred,
    make_encoder,
    packed_on_cpu,
    reference_encoder,
    share_of_spread,
)
from batchsent.model.fp8 import fp8_dense
from batchsent.model.loading import identify, load_model
from batchsent.model.options import ModelOptions
from batchsent.model.parts import Dense
from batchsent.model.scorer import ModelScorer
from batchsent.model.tokens import make_text_encoder
from batchsent.model.ways import find_ways
from batchsent.precisions import PRECISIONS
from tests.character_model import score
from tests.encoders import distinct, texts_of_many_lengths
from tests.models import make_model
from tests.stand_in_torch import torch_with

BY_NAME = ("fp8", "float16-tanh")


def dense_layer(outputs=48, inputs=64, dtype=torch.float32, *, bias=True):
    random = torch.Generator().manual_seed(3)
    weight = (
        torch.randn(outputs, inputs, generator=random) * torch.logspace(-2, 2, outputs)[:, None]
    )
    made = torch.randn(outputs, generator=random) if bias else None
    return Dense(weight.to(dtype), None if made is None else made.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_a_product_in_fp8_is_right_to_its_digits(dtype, bias):
    """Numbers of 4 bits, so a sum of 64 products is right to some hundredths of its terms: for tokens
    and outputs of very different sizes, since each has a scale of its own.
    """
    layer = dense_layer(dtype=dtype, bias=bias)
    states = torch.randn(20, 64, generator=torch.Generator().manual_seed(1))
    states = (states * torch.logspace(-4, 4, 20)[:, None]).to(dtype)
    found = fp8_dense([layer], None)(states)
    assert found.dtype == dtype
    wanted = layer(states).float()
    terms = (states.float()[:, None] * layer.weight.float()).norm(dim=-1)
    error = (found.float() - wanted).abs()
    assert (error <= 0.2 * terms + 0.01 * wanted.abs()).all()
    assert (error.norm() / terms.norm()) < 0.06
    assert error.max() > 0


def test_odd_tokens_in_fp8():
    """Zeros give the bias; NaN and infinity give no number, and leave the tokens beside alone."""
    layer = dense_layer()
    states = torch.randn(5, 64, generator=torch.Generator().manual_seed(1))
    plain = fp8_dense([layer], None)(states)
    states[1], states[2, 7], states[3, 9] = 0, torch.nan, torch.inf
    found = fp8_dense([layer], None)(states)
    assert torch.equal(found[1], layer.bias)
    assert not torch.isfinite(found[2]).any()
    assert not torch.isfinite(found[3]).all()
    for row in (0, 4):
        torch.testing.assert_close(found[row], plain[row])


@pytest.mark.parametrize("bias", [True, False])
def test_the_tanh_form_takes_the_place_of_gelu_only(bias):
    """The product with that GELU, whichever of its names the model has; other activations stay."""
    layer = dense_layer(bias=bias)
    states = torch.randn(20, 64, generator=torch.Generator().manual_seed(1)) / 100
    wanted = functional.gelu(layer(states), approximate="tanh")
    for name in ("gelu", "gelu_new"):
        torch.testing.assert_close(tanh_dense([layer], name)(states), wanted)
    assert (functional.gelu(layer(states)) - wanted).abs().max() > 1e-4
    torch.testing.assert_close(tanh_dense([layer], "relu")(states), layer(states).relu())
    torch.testing.assert_close(tanh_dense([layer], None)(states), layer(states))


@pytest.fixture(scope="module", params=["distilbert", "albert", "modernbert"])
def folder(request, tmp_path_factory):
    """Make a tiny model: with biases, with two widths, with gated layers and no biases."""
    made = tmp_path_factory.mktemp(request.param)
    return distinct(make_model(made, request.param, labels=("a", "b", "c")))


def test_an_encoder_in_fp8_scores_nearly_as_in_float32(folder):
    """Its logits differ by a share of their spread: weights of 12 times the usual size and 32 numbers
    a token make that share ten times what it is on real models (examples/FIGURES.md).
    """
    exact = load_model(identify(str(folder)), device="cpu")
    model = load_model(identify(str(folder)), device="cpu", precision="bfloat16")
    tokens = make_text_encoder(exact.tokenizer, 64).encode(texts_of_many_lengths(20))
    wanted = centred(packed_on_cpu(exact).logits(tokens.ids, tokens.lengths).numpy())
    found = centred(packed_on_cpu(model, fp8_dense).logits(tokens.ids, tokens.lengths).numpy())
    assert 0 < (found - wanted).std() < 0.3 * wanted.std()


def test_an_encoder_with_the_tanh_form_scores_nearly_as_with_gelu(folder):
    """ALBERT's own GELU is that form already."""
    model = load_model(identify(str(folder)), device="cpu")
    tokens = make_text_encoder(model.tokenizer, 64).encode(texts_of_many_lengths(20))
    wanted, found = (
        packed_on_cpu(model, dense).logits(tokens.ids, tokens.lengths).numpy()
        for dense in (None, tanh_dense)
    )
    assert share_of_spread(found, wanted) <= PRECISIONS["float16-tanh"].tolerance
    assert (share_of_spread(found, wanted) == 0) == (model.config.model_type == "albert")


def gpu(precision, capability=(9, 0)):
    return Device("cuda:0", "NVIDIA H200", precision, "as asked", capability, 10**11)


@pytest.mark.parametrize("precision", BY_NAME)
def test_only_a_gpu_that_can_takes_them(precision):
    """Refused before anything is read, with the reason: CPUs, Apple's GPUs, older ones."""
    properties = SimpleNamespace(name="NVIDIA A100", major=7, minor=5, total_memory=10**10)
    stand_in = torch_with(properties)
    with pytest.raises(UsageError, match=f"{precision} requires a GPU of compute .*A100 has 7.5"):
        _cuda(stand_in, 0, precision)
    properties.major, properties.minor = 8, 9
    assert _cuda(stand_in, 0, precision).precision == precision
    properties.minor = 0
    if precision == "fp8":
        with pytest.raises(UsageError, match=r"capability 8\.9 or newer|capability 8\.9; NVIDIA"):
            _cuda(stand_in, 0, precision)
    with pytest.raises(UsageError, match="not supported on mps"):
        _mps(stand_in, precision)
    with pytest.raises(UsageError, match=f"{precision} requires an NVIDIA GPU"):
        choose_device("cpu", precision)
    refused = find_ways(ModelOptions(device="cpu"))["refused"]
    assert f"{precision} requires an NVIDIA GPU" in [found["why"] for found in refused]


def test_models_that_cannot_run_so_are_refused(tmp_path):
    """No tanh form of ReLU; FP8 kernels load 16 numbers at a time."""
    sizes = {"dim": 24, "hidden_dim": 40, "activation": "relu"}
    model = load_model(identify(str(make_model(tmp_path / "odd", **sizes))), device="cpu")
    for precision, why in {
        "fp8": "24 x 24 weights has a width that is no multiple of 16",
        "float16-tanh": "its activation, relu, has no tanh form",
    }.items():
        with pytest.raises(UsageError, match=f"does not run in {precision}: .*{why}") as caught:
            make_encoder(replace(model, device=gpu(precision)))
        assert caught.value.hint == "use --precision float16"


def test_a_run_compares_its_own_texts_with_float32(tiny_model):
    """As in int8: the summary has the label flips and the largest difference."""
    exact = load_model(identify(str(tiny_model)), device="cpu")
    assert reference_encoder(replace(exact, device=gpu("float16")), lambda: None) is None
    reference = reference_encoder(replace(exact, device=gpu("fp8")), lambda: packed_on_cpu(exact))
    encoder = packed_on_cpu(exact, fp8_dense)
    texts = texts_of_many_lengths(300)
    scorer = ModelScorer(
        exact, encoder, make_text_encoder(exact.tokenizer, 64), reference=reference
    )
    found = score(scorer, texts).probabilities
    said = scorer.facts()["model"]["agreement"]
    wanted = load(str(tiny_model), device="cpu").predict(texts[: said["texts"]])
    change = max(
        abs(float(one[1]) - two.probabilities["POSITIVE"])
        for one, two in zip(found, wanted, strict=False)
    )
    assert said["with"] == "float32"
    assert 0 < said["largest_difference"] == pytest.approx(change, abs=1e-5)


def test_text_without_a_finite_number_is_scored_in_float32(tiny_model):
    """They are loaded in half precision, so the same is done for them."""
    for precision, weights in (("fp8", "bfloat16"), ("float16-tanh", "float16")):
        assert gpu(precision).weights == weights
        model = replace(load_model(identify(str(tiny_model)), device="cpu"), device=gpu(precision))
        scorer = ModelScorer(
            model, packed_on_cpu(model), make_text_encoder(model.tokenizer, 64),
            open_float32=lambda: None,
        )  # fmt: skip
        assert scorer.open_float32 is not None
