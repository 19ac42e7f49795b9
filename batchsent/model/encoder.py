"""Choose the fastest right way to run a model: token ids of a batch to label probabilities.

The packed way is checked against transformers' own forward pass when the model loads; where they disagree, or it
fails, the model runs as transformers runs it, and the summary says so.
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from batchsent.errors import UsageError
from batchsent.model.batches import Shape
from batchsent.model.int8 import FLOAT32_HINT, int8_dense
from batchsent.model.loading import LoadedModel
from batchsent.model.packed import MakeDense, PackedEncoder, VarlenAttention, attention_by_length, has_varlen, to_device
from batchsent.model.weights import take_apart

# Largest difference of a probability between the packed way and transformers. Float16 has 11 bits; measured against
# float32 on CPU the two ways differ by 1e-6.
TOLERANCE = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 5e-2, "int8": 0.2}
# The check's texts: unequal lengths, so that a text that sees its neighbour is caught.
CHECK_LENGTHS = (3, 17, 9, 9, 2)


class Encoder(Protocol):
    """One way to run a model."""

    shape: Shape  # how batches must be made for it
    path: str  # its name in the summary
    reason: str  # why this one, for people

    def probabilities(self, ids: NDArray[np.int32], lengths: NDArray[np.int64]) -> Any:
        """Return a (texts, labels) float32 tensor on the device.

        `ids` holds the texts' tokens one behind the other, `lengths` how many belong to each. On an accelerator the
        result may still be being computed.
        """


def make_encoder(model: LoadedModel) -> Encoder:
    """Return the fastest way to run a model on its device that gives the same as transformers does."""
    device = model.device
    if device.precision == "int8":
        return _int8(model)
    stock: Encoder = (
        StockEncoder(model, "equal", "texts of equal length together, so without padding")
        if device.kind == "cpu"
        else StockEncoder(model, "padded", "texts of near-equal length together")
    )
    obstacle = _obstacle(model)
    if obstacle is None:
        packed = _packed(model)
        obstacle = _disagreement(packed, stock, model)
        if obstacle is None:
            return packed
    stock.reason += f"; not packed: {obstacle}"
    return stock


def _int8(model: LoadedModel) -> PackedEncoder:
    """Return the 8-bit encoder; raises UsageError for a model that cannot run so, since it was asked for by name."""
    obstacle = _obstacle(model)
    if obstacle is None:
        packed = packed_float32(model, int8_dense)
        obstacle = _disagreement(packed, packed_float32(model), model)
        if obstacle is None:
            packed.path, packed.reason = "packed, int8", f"dense layers in int8; {packed.reason}"
            return packed
    raise UsageError(f"this model does not run in int8: {obstacle}", hint=FLOAT32_HINT)


def packed_float32(model: LoadedModel, dense: MakeDense | None = None) -> PackedEncoder:
    """Return the packed encoder for a CPU, with dense layers made by `dense` or exact ones."""
    parts = take_apart(model.module)
    assert parts is not None
    reason = "no padding, last layer for the first token only"
    return PackedEncoder(parts, "cpu", attention_by_length, "packed", reason, dense)


def _packed(model: LoadedModel) -> PackedEncoder:
    if model.device.kind == "cpu":
        return packed_float32(model)
    parts = take_apart(model.module)
    assert parts is not None
    reason = f"no padding, last layer for the first token only ({model.device.description})"
    return PackedEncoder(parts, model.device.name, VarlenAttention(), "packed, varlen attention", reason)


def _obstacle(model: LoadedModel) -> str | None:
    """Say why a model cannot run packed, or None."""
    device = model.device
    if take_apart(model.module) is None:
        return f"{type(model.module).__name__} is not one of the architectures taken apart"
    if device.kind == "cpu":
        return None
    if device.kind != "cuda":
        return f"{device.kind} has no attention over packed texts"
    if device.capability is None or device.capability < (8, 0):
        return "the GPU's compute capability is below 8.0"
    if device.precision == "float32":
        return "attention over packed texts needs float16 or bfloat16"
    if not has_varlen():
        return "this version of PyTorch has no attention over packed texts"
    return None


def _disagreement(packed: Encoder, stock: Encoder, model: LoadedModel) -> str | None:
    """Run both ways over a few made-up texts and say how they differ, or None."""
    random = np.random.default_rng(0)
    longest = min(model.max_length, *CHECK_LENGTHS[1:2])
    lengths = np.minimum(np.array(CHECK_LENGTHS, dtype=np.int64), longest)
    # Ids from the middle of the vocabulary: special tokens stand at its ends.
    words = int(model.module.config.vocab_size)
    texts = [random.integers(words // 4, words - words // 4, n).astype(np.int32) for n in lengths]
    try:
        together = packed.probabilities(np.concatenate(texts), lengths).cpu().numpy()
    # The packed way calls parts of torch that are younger than their documentation: any failure means "not here".
    except (RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError) as error:
        return f"it failed here ({type(error).__name__})"
    alone = [stock.probabilities(text, np.array([len(text)])).cpu().numpy() for text in texts]
    worst = float(np.abs(together - np.concatenate(alone)).max())
    if not worst <= TOLERANCE[model.device.precision]:
        return f"it differs from transformers by {worst:.1g} here"
    return None


class StockEncoder:
    """The model as transformers runs it, over batches of equal or near-equal length."""

    def __init__(self, model: LoadedModel, shape: Shape, reason: str) -> None:
        self.module = model.module
        self.device = model.device.name
        self.shape: Shape = shape
        self.path = f"transformers, {shape} lengths"
        self.reason = reason
        padding = model.tokenizer.pad_token_id
        self.padding_id = 0 if padding is None else int(padding)

    def probabilities(self, ids: NDArray[np.int32], lengths: NDArray[np.int64]) -> Any:
        """Return a (texts, labels) float32 tensor on the device."""
        import torch

        rows, longest = len(lengths), int(lengths.max())
        place = np.arange(longest) < lengths[:, None]
        table = np.full((rows, longest), self.padding_id, dtype=np.int64)
        table[place] = ids
        equal = bool((lengths == longest).all())
        with torch.inference_mode():
            mask = None if equal else to_device(place.astype(np.int64), self.device)
            logits = self.module(input_ids=to_device(table, self.device), attention_mask=mask).logits
            return torch.softmax(logits.float(), dim=-1)
