"""Dense layers of a precision: one function of linear modules with the same input."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from batchsent.model.parts import EncoderWeights
from batchsent.precisions import Precision
from batchsent.text import printable

# Makes one function of linear modules with the same input, and the activation after them (or None).
MakeDense = Callable[[list[Any], str | None], Callable[[Any], Any]]
# The activations that have a tanh form, or are it.
GELUS = ("gelu", "gelu_new", "gelu_pytorch_tanh")
# How oneDNN calls an activation: its name, and which of its two GELUs it is. Its ReLU is not used,
# since it makes 0 of NaN: a damaged model would give scores.
ONEDNN_ACTIVATIONS = {
    None: ("none", ""),
    "gelu": ("gelu", "none"),
    "gelu_new": ("gelu", "tanh"),
    "gelu_pytorch_tanh": ("gelu", "tanh"),
}


def join_linears(modules: list[Any]) -> tuple[Any, Any]:
    """Return the weights and biases of linear modules with the same input, concatenated.

    The bias is None where none of them has one.
    """
    import torch

    weight = torch.cat([module.weight for module in modules]).contiguous()
    if all(module.bias is None for module in modules):
        return weight, None
    return weight, torch.cat([module.bias for module in modules]).contiguous()


def find_activation(name: str) -> Callable[[Any], Any]:
    """Return an activation by its name in config.json.

    The usual ones are torch's own: importing transformers' takes a second.
    """
    import torch
    from torch.nn import functional

    tanh_gelu = partial(functional.gelu, approximate="tanh")
    usual: dict[str, Callable[[Any], Any]] = {
        "gelu": functional.gelu,
        "relu": functional.relu,
        "tanh": torch.tanh,
        "gelu_new": tanh_gelu,
        "gelu_pytorch_tanh": tanh_gelu,
    }
    if name in usual:
        return usual[name]
    from transformers.activations import ACT2FN

    activation: Callable[[Any], Any] = ACT2FN[name]
    return activation


def dense_of(precision: Precision) -> MakeDense | None:
    """Return what makes the dense layers of a precision; None for the usual ones."""
    return None if precision.dense is None else _function(precision.dense)


def why_not(precision: Precision, weights: EncoderWeights) -> str | None:
    """Say why a model with such weights cannot run in a precision, or None."""
    return None if precision.obstacle is None else _function(precision.obstacle)(weights)


def _function(name: str) -> Callable[..., Any]:
    """Return MODULE.NAME of batchsent.model: modules of other precisions are not imported."""
    module, _, function = name.rpartition(".")
    found: Callable[..., Any] = getattr(import_module(f"batchsent.model.{module}"), function)
    return found


def fastest_dense(dtype: Any, device: str) -> MakeDense:
    """Choose how dense layers run in a number format of torch, which their weights are in."""
    import torch

    if device == "cpu" and dtype == torch.float32 and _has_onednn():
        return _onednn_dense
    return _dense


def _dense(modules: list[Any], activation: str | None) -> Callable[[Any], Any]:
    """Make a dense layer of torch's own parts."""
    from torch.nn.functional import linear

    weight, bias = join_linears(modules)
    if activation is None:
        return lambda states: linear(states, weight, bias)
    act = find_activation(activation)
    return lambda states: act(linear(states, weight, bias))


def tanh_dense(modules: list[Any], activation: str | None) -> Callable[[Any], Any]:
    """Make a dense layer whose GELU has its tanh form: CUDA computes that inside of the product.

    On a CPU it is torch's own function after the product: `_addmm_activation` has the other GELU
    there.
    """
    import torch

    weight, bias = join_linears(modules)
    if activation in GELUS and bias is not None and weight.is_cuda:
        transposed = weight.t()
        return lambda states: torch._addmm_activation(bias, states, transposed, use_gelu=True)
    tanh_form = "gelu_pytorch_tanh" if activation in GELUS else activation
    return fastest_dense(weight.dtype, weight.device.type)(modules, tanh_form)


def why_not_tanh(weights: EncoderWeights) -> str | None:
    """Say why the activation of a model has no tanh form, or None."""
    if weights.activation in GELUS:
        return None
    return f"its activation, {printable(weights.activation)}, has no tanh form"


def _has_onednn() -> bool:
    """Tell whether torch has oneDNN's prepacked linear layer, which torch.compile uses."""
    import torch

    has_reorder = hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    has_pointwise = hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return torch.backends.mkldnn.is_available() and has_reorder and has_pointwise


def _onednn_dense(modules: list[Any], activation: str | None) -> Callable[[Any], Any]:
    """Make a dense layer with weights laid out for oneDNN and GELU inside of it.

    A row of the result has the same bits whatever the other rows are. With torch's own `linear`
    products of fewer than 16 rows have other bits, on two threads those of up to 384 rows.

    On an AMD EPYC (Zen 4, 2 cores) 224 GFLOP/s where torch.nn.functional.linear gives 195, and 216
    against 185 with GELU (1024 tokens, 768 to 3072).
    """
    import torch

    weight, bias = join_linears(modules)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight)
    run = torch.ops.mkldnn._linear_pointwise
    fused, algorithm = ONEDNN_ACTIVATIONS.get(activation, ("none", ""))

    def multiply(states: Any) -> Any:
        if len(states) == 1:  # a single row is added up in another order
            return run(states.repeat(2, 1), packed, bias, fused, [], algorithm)[:1]
        return run(states, packed, bias, fused, [], algorithm)

    if activation is None or activation in ONEDNN_ACTIVATIONS:
        return multiply
    act = find_activation(activation)
    return lambda states: act(multiply(states))
