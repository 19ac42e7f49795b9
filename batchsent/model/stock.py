"""The forward pass of transformers: batches of equal lengths, or padded with a mask."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.model.batches import Shape
from batchsent.model.loading import LoadedModel
from batchsent.model.packs import to_device


class StockEncoder:
    """The model as transformers runs it, over batches of equal or near-equal length."""

    def __init__(self, model: LoadedModel, shape: Shape, reason: str) -> None:
        self.module = model.module
        self.device = model.device.name
        self.shape: Shape = shape
        self.pack_tokens: int | None = None
        self.path = f"transformers, {shape} lengths"
        self.reason = reason
        self.warning: str | None = None
        padding = model.tokenizer.pad_token_id
        self.padding_id = 0 if padding is None else int(padding)
        self.early_exit = model.identity.early_exit
        self.early_exits = 0

    def probabilities(self, ids: NDArray[np.int32], lengths: NDArray[np.int64]) -> Any:
        """Return a (texts, labels) float32 tensor on the device.

        An early exit decides as in the packed forward pass, but saves nothing here.
        """
        import torch

        rule = self.early_exit
        with torch.inference_mode():
            output = self._run(ids, lengths, states=rule is not None)
            found = torch.softmax(output.logits.float(), dim=-1)
            if rule is None:
                return found
            first = output.hidden_states[rule.layer][:, 0]
            found, exits = rule.decide(rule.probabilities(first), found.__getitem__)
            self.early_exits += exits
            return found

    def logits(self, ids: NDArray[np.int32], lengths: NDArray[np.int64]) -> Any:
        """Return what softmax makes the probabilities of after all layers.

        They are (texts, labels) float32 on the device.
        """
        import torch

        with torch.inference_mode():
            return self._run(ids, lengths, states=False).logits.float()

    def _run(self, ids: NDArray[np.int32], lengths: NDArray[np.int64], *, states: bool) -> Any:
        rows, longest = len(lengths), int(lengths.max())
        place = np.arange(longest) < lengths[:, None]
        table = np.full((rows, longest), self.padding_id, dtype=np.int64)
        table[place] = ids
        equal = bool((lengths == longest).all())
        mask = None if equal else to_device(place.astype(np.int64), self.device)
        return self.module(
            input_ids=to_device(table, self.device),
            attention_mask=mask,
            output_hidden_states=states,
        )
