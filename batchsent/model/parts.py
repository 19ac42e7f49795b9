"""The parts of an encoder: what the packed forward pass has to know of an architecture."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from batchsent.model.positions import NO_POSITIONS, Positions


class NotPacked(Exception):
    """Why a model cannot run packed, in words that end a sentence."""


@dataclass(frozen=True)
class Norm:
    """A layer normalization."""

    weight: Any  # (width,)
    bias: Any  # (width,) or None
    epsilon: float

    def __call__(self, states: Any) -> Any:
        """Return (..., width) normalized."""
        from torch.nn.functional import layer_norm

        return layer_norm(states, self.weight.shape, self.weight, self.bias, self.epsilon)


@dataclass(frozen=True)
class Dense:
    """A dense layer, with the names that torch.nn.Linear gives its parts."""

    weight: Any  # (outputs, inputs)
    bias: Any  # (outputs,) or None

    def __call__(self, states: Any) -> Any:
        """Return (..., outputs) of (..., inputs)."""
        from torch.nn.functional import linear

        return linear(states, self.weight, self.bias)


@dataclass(frozen=True, eq=False)
class Layer:
    """One block: attention and a feed-forward part, each added to what it reads.

    In a post-norm block the sums are normalized, in a pre-norm block what the two parts read.
    """

    query: Dense
    key: Dense
    value: Dense
    attention_output: Dense
    intermediate: Dense
    output: Dense
    gate: Dense | None = None  # multiplies what the activation makes of `intermediate` (GLU)
    norm_before_attention: Norm | None = None
    norm_after_attention: Norm | None = None
    norm_before_dense: Norm | None = None
    norm_after_dense: Norm | None = None
    positions: Positions = NO_POSITIONS


@dataclass(frozen=True)
class Head:
    """What makes logits of one vector a text: two dense layers with an activation between them."""

    hidden: Dense
    activation: str  # as config.json would name it
    output: Dense
    norm: Norm | None = None  # after the activation


@dataclass(frozen=True)
class EncoderWeights:
    """A text classifier made of embeddings, blocks and a head."""

    word_embeddings: Any  # (vocabulary, embedding width)
    norm: Norm  # of the embeddings
    layers: tuple[Layer, ...]  # the same object several times where blocks share their weights
    heads: int
    activation: str  # as config.json names it
    head: Head
    position_embeddings: Any = None  # (positions, embedding width), token types added; or None
    first_position: int = 0  # row of `position_embeddings` for the first token
    projection: Dense | None = None  # from the embeddings' width to that of the blocks
    final_norm: Norm | None = None  # after the last block
    pooling: Literal["first", "mean"] = "first"  # which token the head reads, or the mean of all

    @property
    def width(self) -> int:
        """Numbers of a token's state between the blocks."""
        return int(self.layers[0].attention_output.weight.shape[0])


# Returns the part of a name: a module, or a Dense made of the tensors of that name.
FindPart = Callable[[str], Any]
# A model's configuration as transformers reads it.
Config = Any


def find_norm(find: FindPart, name: str, epsilon: float) -> Norm:
    """Return a normalization by its name."""
    part = find(name)
    return Norm(part.weight, part.bias, epsilon)


def split_dense(part: Any, parts: int) -> list[Dense]:
    """Return a dense layer as several of equal size, whose outputs stand side by side in it."""
    weights = part.weight.chunk(parts)
    biases = [None] * parts if part.bias is None else part.bias.chunk(parts)
    return [Dense(weight, bias) for weight, bias in zip(weights, biases, strict=True)]
