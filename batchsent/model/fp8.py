"""Dense layers in FP8 on GPUs: torch's scaled products, a scale for every token and output channel.

Numbers are e4m3: 4 bits of exponent and 3 of mantissa, up to 448. What stands between the products
is computed in bfloat16, which is also what the products with such scales give on every GPU.

Expected on an H200 at DistilBERT's size, not measured: the products of a token take 63 ns less than
in float16, and finding the scales and converting its inputs takes 30 ns (from the cache) to 67 ns
(from memory), since torch has no one kernel for it. So it may be no faster: `batchsent info MODEL
--check` and `make bench-gpu` say so. How far it agrees with float32: examples/FIGURES.md.

Source: Micikevicius et al., "FP8 Formats for Deep Learning", 2022, https://arxiv.org/abs/2209.05433.
"""

from collections.abc import Callable
from typing import Any

from batchsent.model.dense import find_activation, join_linears
from batchsent.model.parts import EncoderWeights

LARGEST = 448.0
# The kernels load 16 numbers at a time.
WIDTHS = 16
# A token of zeros has this scale.
SMALLEST = 1e-12


def has_fp8() -> bool:
    """Tell whether this torch has FP8 numbers and products of them."""
    import torch

    return hasattr(torch, "_scaled_mm") and hasattr(torch, "float8_e4m3fn")


def why_not_fp8(weights: EncoderWeights) -> str | None:
    """Say why the dense layers of a model cannot run in FP8, or None."""
    for layer in set(weights.layers):
        for dense in (layer.query, layer.attention_output, layer.intermediate, layer.output):
            if any(width % WIDTHS for width in dense.weight.shape):
                widths = " x ".join(map(str, dense.weight.shape))
                return f"a layer of {widths} weights has a width that is no multiple of {WIDTHS}"
    return None


def fp8_dense(modules: list[Any], activation: str | None) -> Callable[[Any], Any]:
    """Make one dense layer of linear modules: FP8 weights and inputs, outputs in their format."""
    import torch

    weight, bias = join_linears(modules)
    dtype = weight.dtype
    weight_scale = weight.abs().amax(dim=1, keepdim=True).float().clamp_(min=SMALLEST) / LARGEST
    transposed = (weight.float() / weight_scale).to(torch.float8_e4m3fn).t()
    weight_scale = weight_scale.reshape(1, -1)
    act = None if activation is None else find_activation(activation)

    def run(states: Any) -> Any:
        # The largest of a token: one pass, where abs makes a copy.
        largest = torch.linalg.vector_norm(states, float("inf"), dim=1, keepdim=True)
        factor = LARGEST / largest.clamp_(min=SMALLEST)
        # Rounding the factor may give 450 for the largest number, which e4m3 rounds to 448.
        inputs = (states * factor).to(torch.float8_e4m3fn)
        product = torch._scaled_mm(
            inputs,
            transposed,
            scale_a=factor.float().reciprocal_(),
            scale_b=weight_scale,
            bias=bias,
            out_dtype=dtype,
        )
        return product if act is None else act(product)

    return run
