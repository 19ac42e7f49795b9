"""The CUDA path without a GPU: the unmodified encoders on fake CUDA tensors, which have shapes,
formats and devices but no numbers, and torch's own operator with a kernel for the CPU.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn.attention import varlen
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.initialization import no_init_weights

from batchsent.model.attention import VarlenAttention, has_varlen
from batchsent.model.device import Device
from batchsent.model.encoder import _packed, _why_not_packed
from batchsent.model.loading import LoadedModel, ModelIdentity, identify, load_model
from batchsent.model.packed import PackedEncoder
from batchsent.model.stock import StockEncoder
from batchsent.model.weights import extract_weights
from tests.encoders import VARLEN, alone, reference_varlen, texts_of_many_lengths, through
from tests.models import ARCHITECTURES, make_model

GPU = Device("cuda:1", "NVIDIA H200", "float16", "a test", (9, 0), 10**11)
# Formats on a GPU, with torch's names of the numbers between the products and of a product of each.
FORMATS = {
    "float16": (torch.float16, "aten::linear"),
    "fp8": (torch.bfloat16, "aten::_scaled_mm"),
    "float16-tanh": (torch.float16, "aten::_addmm_activation"),
}
LENGTHS = np.array([64, 30, 17, 3])


def index_by_operators(self, index):
    """Index by operators alone: Tensor.__getitem__ asks for a device guard, which CPU builds lack."""
    index = index if isinstance(index, tuple) else (index,)
    if any(isinstance(item, torch.Tensor) for item in index):
        tensors = [item if isinstance(item, torch.Tensor) else None for item in index]
        return torch.ops.aten.index.Tensor(self, tensors)
    if index[0] is Ellipsis:
        named = sum(item is not None for item in index) - 1
        index = (slice(None),) * (self.dim() - named) + index[1:]
    out, dimension = self, 0
    for item in index:
        if item is None:
            out = torch.ops.aten.unsqueeze(out, dimension)
            dimension += 1
        elif isinstance(item, int):
            out = torch.ops.aten.select.int(out, dimension, item)
        else:
            assert isinstance(item, slice)
            if item != slice(None):
                bounds = (item.start, item.stop, item.step or 1)
                out = torch.ops.aten.slice.Tensor(out, dimension, *bounds)
            dimension += 1
    return out


@pytest.fixture
def fake_cuda(monkeypatch):
    """Make every new tensor a fake one; its device is real to all that checks it."""
    real = torch.from_numpy

    def from_numpy(array):  # no operator, so the mode does not see it
        return torch.empty(array.shape, dtype=real(np.empty(0, array.dtype)).dtype)

    def contiguous(self, **_):
        return torch.ops.aten.clone(self, memory_format=torch.contiguous_format)

    with FakeTensorMode() as mode:
        monkeypatch.setattr(torch, "from_numpy", from_numpy)
        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self, *_: self)
        monkeypatch.setattr(FakeTensor, "__getitem__", index_by_operators, raising=False)
        monkeypatch.setattr(FakeTensor, "contiguous", contiguous, raising=False)
        yield mode


def module_of(kind, dtype=torch.float16):
    """Return a classifier of two labels, two layers and heads of 16 numbers on the fake GPU."""
    name, own = ARCHITECTURES[kind]
    layers = {"n_layers" if kind == "distilbert" else "num_hidden_layers": 3}
    settings = {"vocab_size": 500, "num_labels": 2, **own, **layers, "num_hidden_groups": 1}
    settings["max_position_embeddings"] = 80
    config = getattr(transformers, f"{name}Config")(**settings)
    with no_init_weights():  # fake tensors have no numbers to look at
        module = getattr(transformers, f"{name}ForSequenceClassification")(config)
    for part in module.modules():
        for store in (part._parameters, part._buffers):
            for name, value in store.items():
                if value is not None:
                    own = dtype if value.is_floating_point() else value.dtype
                    store[name] = torch.empty(value.shape, dtype=own, device=GPU.name)
                    if store is part._parameters:
                        store[name] = torch.nn.Parameter(store[name], requires_grad=False)
    module.set_attn_implementation("sdpa")
    return module.eval()


def model_of(module, precision="float16"):
    """Return a loaded model on the fake GPU."""

    class Tokenizer:
        pad_token_id = 0

    labels = ("NEGATIVE", "POSITIVE")
    identity = ModelIdentity("none", Path("none"), None, "", "", "", labels, 64, "None")
    device = replace(GPU, precision=precision)
    return LoadedModel(identity, module, Tokenizer, device, 64, module.config)


def ids_of(lengths):
    return np.zeros(lengths.sum(), np.int32)


class Operators(TorchDispatchMode):
    """Writes down the names of the operators that are called."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, arguments=(), settings=None):
        self.names.add(function.name())
        return function(*arguments, **(settings or {}))


@pytest.mark.parametrize("precision", FORMATS)
@pytest.mark.parametrize("kind", VARLEN)
def test_what_the_cuda_kernels_get_is_what_they_require(kind, precision, fake_cuda):
    """Device, number format, strides, alignment and counts, in every layer; the result is float32
    on the same GPU. torch itself checks what its products in FP8 get.
    """
    dtype, product = FORMATS[precision]
    model = model_of(module_of(kind, dtype), precision)
    assert _why_not_packed(model) is None
    encoder = _packed(model)
    kernel, calls, windows = encoder.attention.kernel, [], []

    def checked(query, key, value, starts, key_starts, longest, longest_key, **settings):
        for part in (query, key, value):
            assert (part.device, part.dtype) == (torch.device(GPU.name), dtype)
            assert part.stride(-1) == 1
            assert part.stride(0) % 8 == part.storage_offset() % 8 == 0  # it loads 16 bytes
            assert part.shape[-1] % 8 == 0
        for part in (starts, key_starts):
            assert (part.device, part.dtype) == (torch.device(GPU.name), torch.int32)
            assert part.is_contiguous()
        assert type(longest) is type(longest_key) is int
        windows.append(settings.get("window_size"))
        calls.append((len(query), len(key), longest, longest_key))
        return kernel(query, key, value, starts, key_starts, longest, longest_key, **settings)

    encoder.attention.kernel = checked
    with Operators() as called:
        found = encoder.probabilities(ids_of(LENGTHS), LENGTHS)
    assert (found.device, found.dtype) == (torch.device(GPU.name), torch.float32)
    assert found.shape == (4, 2)
    # A product takes GELU in with its bias, and ModernBERT has no biases.
    is_called = any(product in name for name in called.names)
    assert is_called == ((kind, precision) != ("modernbert", "float16-tanh"))
    # The pack is filled up; the last layer asks for the first token of each text only.
    assert calls == [(16_384, 16_384, 64, 64)] * 2 + [(4, 114, 1, 64)]
    # Of ModernBERT's blocks the second one sees 8 tokens on each side.
    assert windows == [None, (8, 8) if kind == "modernbert" else None, None]


@pytest.mark.parametrize("kind", VARLEN)
@pytest.mark.parametrize("lengths", [(9, 9), (9, 5)])
def test_transformers_own_way_stays_on_the_gpu(kind, lengths, fake_cuda):
    """With a mask and without one."""
    encoder = StockEncoder(model_of(module_of(kind)), "padded", "a test")
    found = encoder.probabilities(ids_of(np.array(lengths)), np.array(lengths))
    assert (found.device, found.dtype) == (torch.device(GPU.name), torch.float32)


def test_a_tensor_left_on_the_cpu_is_found(fake_cuda):
    """The tests above can fail: fake tensors of two devices do not go together."""
    encoder = _packed(model_of(module_of("distilbert")))
    encoder.position_embeddings = torch.empty(
        encoder.position_embeddings.shape, dtype=torch.float16, device="cpu"
    )
    with pytest.raises(RuntimeError, match="device"):
        encoder.probabilities(ids_of(LENGTHS), LENGTHS)


# --- torch's own operator


def on_cpu(
    query,
    key,
    value,
    starts,
    key_starts,
    longest,
    longest_key,
    causal=False,
    scale=None,
    window=None,
    *_,
):
    """Compute what the operator computes, with a kernel written out."""
    assert not causal
    packs = (starts, key_starts, longest, longest_key)
    window = (-1, -1) if window is None else tuple(window)
    found = reference_varlen(query, key, value, *packs, scale=scale, window_size=window)
    spread = torch.zeros(query.shape[1], len(query))
    return found.contiguous(), spread, torch.zeros(2, dtype=torch.uint64)


@pytest.fixture(scope="module")
def operator():
    """Return torch's operator, which has a kernel for CUDA only, with one for the CPU."""
    assert has_varlen()
    varlen._varlen_attn.register_kernel("cpu", on_cpu)
    return torch.ops.torch_attn._varlen_attn.default


@pytest.mark.parametrize("kind", VARLEN)
def test_torchs_own_operator_scores_as_transformers_does(kind, operator, tmp_path):
    """Through varlen_attn itself, with the arguments of this version of torch."""
    folder = make_model(tmp_path / kind, kind, labels=("a", "b", "c"))
    model = load_model(identify(str(folder)), device="cpu")
    texts = texts_of_many_lengths(20)
    encoder = PackedEncoder(
        extract_weights(model.module), "cpu", VarlenAttention(), "packed", "test"
    )
    found = through(encoder, model, texts, 700, "packed")
    np.testing.assert_allclose(found, alone(model, texts), atol=1e-5)


@pytest.mark.parametrize("first_only", [False, True])
def test_the_operator_passes_torchs_own_checks(first_only, operator):
    """opcheck: it changes none of the views that it gets, and its fake form is like the real one."""
    states = torch.randn(26, 3 * 32).unflatten(-1, (3, 2, 16))
    query, key, value = states.unbind(1)
    starts = torch.tensor([0, 17, 20, 26], dtype=torch.int32)
    query_starts, longest = starts, 17
    if first_only:
        query, query_starts, longest = query[starts[:-1].long()], torch.arange(4).int(), 1
    torch.library.opcheck(
        operator,
        (query, key, value, query_starts, starts, longest, 17),
        test_utils=("test_schema", "test_faketensor"),
    )
