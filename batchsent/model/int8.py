"""Dense layers in int8 on CPUs with VNNI: torch's oneDNN kernels, a scale for every token.

Weights have a scale for each output; inputs have a scale for each token, so that the scores of a
text do not depend on the other texts of a batch. Everything but the dense layers stays float32.

Reviews a second of one core's time (AMD EPYC Zen 4, DistilBERT size, IMDB, unpadded): this 12.3;
one scale for all tokens of a batch (torch.ops.quantized.linear_dynamic) 12.1; ONNX Runtime's
dynamic int8 11.1; CTranslate2's 10.3; this package's float32 4.8. In another run, the machine
shared: this 9.8; OpenVINO's dynamic int8 in groups of 128 (the bench's "openvino int8") 8.5; this
package's bfloat16 6.7, its float32 4.2. On a fine-tuned MiniLM, 5,000 IMDB test reviews: accuracy
0.8668 where float32 has 0.8676.

Where a block's time goes (Intel Xeon with avx512_vnni and avx512_bf16, without AMX, 2026-11-28,
1,024 tokens at DistilBERT's size, milliseconds of one busy core): query, key and value 11.8,
attention over texts of 272 tokens 11.2, its output 5.3, up with GELU 17.8, down 18.8; of these the
products alone 7.7 (query, key, value), 11.1 (up) and 8.9 (down). What was tried and not kept:
attention in bfloat16 (15.2 in place of 11.2, and 25.5 of 18.8 for 512 tokens), as two products and
a softmax (19.2 in bfloat16, 15.5 in float32), over keys copied head by head (no difference);
`linalg.vector_norm` for the largest number of a token (10.4 in place of 1.1); one pass of
`quantize_per_tensor` or `quantize_per_channel` in place of rounding, int8 and the flipped bit (5.6
and 15.4 in place of 2.5); slices of 256 tokens in place of 512 (2 % faster, less than two runs
differ), of 128 and 1,024 (2 and 1 % slower).
"""

from collections.abc import Callable
from typing import Any

from batchsent.errors import UsageError
from batchsent.model.cpu import cpu_flags
from batchsent.model.dense import find_activation, join_linears

FLOAT32_HINT = "use --precision float32"
# Inputs are unsigned bytes around 128, since VNNI's instructions are for unsigned inputs.
ZERO_POINT = 128
LARGEST = 127.0


def require_int8() -> None:
    """Raise UsageError where this CPU or this torch has no fast and exact 8-bit kernels."""
    import torch

    if not any(flag in cpu_flags() for flag in ("avx512_vnni", "avx_vnni")):
        # Without VNNI oneDNN adds pairs of products in 16 bits, which overflow.
        raise UsageError(
            "int8 requires a CPU with VNNI instructions (avx512_vnni or avx_vnni)",
            hint=FLOAT32_HINT,
        )
    has_prepack = hasattr(torch.ops.onednn, "qlinear_prepack")
    if not has_prepack or not hasattr(torch.ops.onednn, "qlinear_pointwise"):
        raise UsageError(
            f"PyTorch {torch.__version__} has no 8-bit kernels for this CPU", hint=FLOAT32_HINT
        )


def has_int8() -> bool:
    """Tell whether `require_int8` raises nothing."""
    try:
        require_int8()
    except UsageError:
        return False
    return True


def int8_dense(modules: list[Any], activation: str | None) -> Callable[[Any], Any]:
    """Make one dense layer of linear modules: int8 weights and inputs, float32 outputs."""
    import torch

    weight, bias = join_linears(modules)
    weight_scale = weight.abs().amax(dim=1).clamp_(min=1e-12) / LARGEST
    zeros = torch.zeros(len(weight), dtype=torch.int32)
    whole = (weight / weight_scale[:, None]).round_().to(torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(whole, None)
    multiply = torch.ops.onednn.qlinear_pointwise
    activate = None
    if activation is not None:
        activate = torch.ops.aten.gelu_ if activation == "gelu" else find_activation(activation)

    def run(states: Any) -> Any:
        # amax and amin, since abs makes a copy, and aminmax along the last dimension is 20 times
        # slower.
        scale = torch.maximum(states.amax(1, keepdim=True), states.amin(1, keepdim=True).neg_())
        scale.clamp_(min=1e-12).div_(LARGEST)
        # Through int8, since float to uint8 is 8 times slower; flipping the top bit adds 128.
        inputs = torch.mul(states, scale.reciprocal()).round_().to(torch.int8).view(torch.uint8)
        inputs.bitwise_xor_(ZERO_POINT)
        product = multiply(
            inputs,
            1.0,
            ZERO_POINT,
            packed,
            weight_scale,
            zeros,
            None,
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        )
        if bias is None:
            product.mul_(scale)
        else:
            torch.addcmul(bias, product, scale, out=product)
        return product if activate is None else activate(product)

    return run
