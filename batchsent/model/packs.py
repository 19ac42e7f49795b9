"""Where the texts of a batch are in their pack, and packs of one size that filler fills up.

cuBLASLt chooses how it computes a product by the product's shape, and another way gives other last
bits. So on CUDA every pack has the same number of tokens, and every product over one row a text the
same number of rows: the scores of a text have the same bits whatever else is in the batch, after an
interruption and with `--reuse` too. Attention needs no such care: it computes each text by itself.

Each pack costs as much as a full one: 3 ms for 16,384 tokens of DistilBERT's size, at 200 ns a
token (predicted). Shorter packs for few texts would be faster and have other last bits. The one
exception has a size of its own: what an early exit leaves runs on in packs of a quarter. Of 8,192
IMDB reviews (277 tokens on average) 1.1 % is filler (examples/filler.py).

No CUDA graphs. A pack of DistilBERT is 118 calls of torch's operators, 45 of them views. They take
1.0 ms of one core (a model of 8 numbers a token, on a CPU), the device works on the pack for 3 ms:
launching is hidden, and bounds a run at 60,000 reviews/s, three times what a large GPU is predicted
to do. What a graph could give back is 16 us of a core a review. It needs the same number of
sequences in every pack, buffers of its own for two packs in flight, and a way back where capturing
fails.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.model.batches import most_texts


@dataclass(frozen=True)
class PackSize:
    """The size of all packs of a run."""

    tokens: int  # of the texts and of what fills the pack up
    longest: int  # tokens that a text may have

    @property
    def texts(self) -> int:
        """How many texts a pack may have, and how many rows the products over texts have."""
        return most_texts(self.tokens, "constant")


@dataclass(frozen=True)
class Pack:
    """Where the texts of a batch are in their pack.

    After the texts there may be filler: sequences of their own, whose results nobody reads.
    """

    lengths: NDArray[np.int64]  # (sequences,) tokens of each text, and then of each filler
    texts: int  # how many of the sequences are texts
    longest: int  # tokens that a sequence may have
    # (sequences + 1,) int32 on the device: sequence i has tokens starts[i]:starts[i + 1]
    starts: Any
    query_starts: Any  # (texts + 1,) int32 on the device: 0, 1, 2, ...: one query a text
    places: Any  # (tokens,) int32 on the device: of each token in its sequence
    first: Any  # (rows,) int32 on the device: first token of each text; 0 in rows of no text

    @property
    def tokens(self) -> int:
        """Tokens of all sequences."""
        return int(self.lengths.sum())

    def without_filler(self) -> "Pack":
        """Return where the texts are, as if nothing came after them."""
        if self.texts == len(self.lengths):
            return self
        texts = self.texts
        return replace(self, lengths=self.lengths[:texts], starts=self.starts[: texts + 1])


def make_pack(lengths: NDArray[np.int64], device: str, size: PackSize | None = None) -> Pack:
    """Return where texts of these lengths are, one after the other, and filler up to a size."""
    import torch

    texts = len(lengths)
    rows, longest = texts, int(lengths.max(initial=0))
    if size is not None:
        free = size.tokens - int(lengths.sum())
        assert free >= 0
        assert texts <= size.texts
        rows, longest = size.texts, size.longest
        whole, rest = divmod(free, longest)
        lengths = np.concatenate([lengths, [longest] * whole, [rest] * (rest > 0)]).astype(np.int64)
    starts = np.zeros(len(lengths) + 1, dtype=np.int32)
    np.cumsum(lengths, out=starts[1:])
    places = np.arange(starts[-1], dtype=np.int32) - np.repeat(starts[:-1], lengths)
    first = np.zeros(rows, dtype=np.int32)
    first[:texts] = starts[:texts]
    return Pack(
        lengths=lengths,
        texts=texts,
        longest=longest,
        starts=to_device(starts, device),
        query_starts=torch.arange(texts + 1, dtype=torch.int32, device=device),
        places=to_device(places, device),
        first=to_device(first, device),
    )


def take_texts(
    pack: Pack, states: Any, texts: NDArray[np.int64], size: PackSize | None = None
) -> tuple[Pack, Any]:
    """Return where some of the texts, by rising numbers, are without the others; and their states.

    The states (tokens, width) of filler are those of any token.
    """
    device = str(states.device)
    left = make_pack(pack.lengths[texts], device, size)
    kept = np.zeros(pack.texts, dtype=bool)
    kept[texts] = True
    here = np.flatnonzero(np.repeat(kept, pack.lengths[: pack.texts]))
    tokens = np.zeros(left.tokens, dtype=np.int64)
    tokens[: len(here)] = here
    return left, states[to_device(tokens, device)]


def take_first_tokens(pack: Pack, tokens: int, device: str) -> tuple[Pack, Any]:
    """Return where the texts are when no more than so many tokens of each are left, and which.

    The numbers of the tokens that are left are on the device.
    """
    lengths = np.minimum(pack.lengths, tokens)
    # A text's tokens stand as many places later as the texts before it have lost tokens.
    lost = np.cumsum(pack.lengths - lengths) - (pack.lengths - lengths)
    kept = np.arange(lengths.sum()) + np.repeat(lost, lengths)
    return make_pack(lengths, device), to_device(kept, device)


def fill_rows(states: Any, rows: int) -> Any:
    """Return (rows, width) of fewer rows and zeros after them."""
    if len(states) == rows:
        return states
    from torch.nn.functional import pad

    return pad(states, (0, 0, 0, rows - len(states)))


def to_device(array: NDArray[Any], device: str) -> Any:
    """Copy an array to the device; on CUDA from pinned memory, without waiting for kernels."""
    import torch

    tensor = torch.from_numpy(array)
    if device.startswith("cuda"):
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
