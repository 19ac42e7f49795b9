"""An encoder that scores a text by its first character, with a token for each character."""

from functools import partial
from pathlib import Path

import numpy as np
import torch

from batchsent.model.device import Device
from batchsent.model.loading import LoadedModel, ModelIdentity
from batchsent.model.packing import pack
from batchsent.model.scorer import ModelScorer


class CharacterTokens:
    """A token for each character: lengths that can be checked by eye."""

    path, long_text = "characters", "head"

    def encode(self, texts):
        """Return a token for each character."""
        ids = np.array([ord(c) for text in texts for c in text], dtype=np.int32)
        counts = np.array(list(map(len, texts)), dtype=np.int64)
        nothing = np.empty(0, dtype=np.int32)
        return pack(ids, counts, (nothing, nothing), 512, "head")


class FirstCharacter:
    """An encoder whose answer names its text: the first character is the probability in percent.

    `memory` is how many tokens fit, `full` makes the error of those that do not; `raises` is called
    before each batch.
    """

    path, reason, warning = "characters", "made for tests", None
    early_exit, early_exits, pack_tokens = None, 0, None

    def __init__(self, memory=10**9, shape="packed", raises=None, full=None):
        self.memory, self.shape, self.raises = memory, shape, raises
        self.full = full or partial(
            torch.OutOfMemoryError, "CUDA out of memory. Tried to allocate 20.00 MiB"
        )
        self.batches = []

    def probabilities(self, ids, lengths):
        """Return what the first characters say."""
        if self.raises:
            self.raises()
        if len(ids) > self.memory:
            raise self.full()
        self.batches.append(list(lengths))
        first = ids[np.cumsum(lengths) - lengths].astype(np.float32) / 100
        first[first == ord("x") / 100] = np.nan
        return torch.from_numpy(np.stack([1 - first, first], axis=1))


def scorer_of(encoder, batch_tokens=20, device="cpu", precision="float32", open_float32=None):
    identity = ModelIdentity("none", Path("none"), None, "", "", "", ("LOW", "HIGH"), 512, "None")
    model = LoadedModel(identity, None, None, Device(device, "a test", precision, "test"), 512)
    return ModelScorer(model, encoder, CharacterTokens(), batch_tokens, open_float32=open_float32)


def score(scorer, texts, **options):
    return scorer.score(scorer.prepare(texts), **options)


class InFloat32(FirstCharacter):
    """The same model in float32: finite for texts that begin with x, unless they go on with x."""

    def probabilities(self, ids, lengths):
        self.batches.append(list(lengths))
        starts = np.cumsum(lengths) - lengths
        first = np.where(ids[starts] == ord("x"), 0.25, ids[starts] / 100).astype(np.float32)
        first[ids[starts + 1] == ord("x")] = np.inf
        return torch.from_numpy(np.stack([1 - first, first], axis=1))
