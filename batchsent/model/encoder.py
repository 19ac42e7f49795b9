"""The forward pass: token ids of a batch to label probabilities; knows nothing of rows, texts or files."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from batchsent.model.batches import Shape
from batchsent.model.loading import LoadedModel


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
    """Return the fastest way to run a model on its device."""
    if model.device.kind == "cpu":
        return StockEncoder(model, "equal", "texts of equal length together: no padding on a CPU")
    return StockEncoder(model, "padded", "texts of near-equal length together")


class StockEncoder:
    """The model as transformers runs it, over batches of equal or near-equal length."""

    def __init__(self, model: LoadedModel, shape: Shape, reason: str) -> None:
        self.model = model
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
        on_device = _to_device(torch, table, self.model.device.name)
        mask = None if equal else _to_device(torch, place.astype(np.int64), self.model.device.name)
        with torch.inference_mode():
            logits = self.model.module(input_ids=on_device, attention_mask=mask).logits
            return torch.softmax(logits.float(), dim=-1)


def _to_device(torch: Any, array: NDArray[Any], device: str) -> Any:
    """Copy an array to the device; from pinned memory on CUDA, so that the copy does not wait for the kernels."""
    tensor = torch.from_numpy(array)
    if device.startswith("cuda"):
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
