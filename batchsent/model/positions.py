"""What attention knows of the places of tokens: nothing, rotary angles, a window, or a bias.

Absolute positions are no matter of attention: they are added to the embeddings.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# (texts, heads, queries, width) and (texts, heads, keys, width) -> what is added to their scaled
# products, (1 or texts, heads, queries, keys). Queries are the first tokens of their texts.
Bias = Callable[[Any, Any], Any]


@dataclass(frozen=True, eq=False)
class Rotary:
    """Rotary positions: queries and keys are turned by angles that grow with the place.

    Source: Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021,
    https://arxiv.org/abs/2104.09864.
    """

    cosines: Any  # (positions, half of a head's width) float32
    sines: Any  # the same

    def __call__(self, states: Any, places: Any) -> Any:
        """Return (tokens, any, heads, width) turned by the angles of their `places` (tokens,)."""
        import torch

        cosines, sines = (table[places][:, None, None] for table in (self.cosines, self.sines))
        exact = states.float()
        turned = torch.empty(exact.shape, dtype=exact.dtype, device=exact.device)
        first, second = exact.chunk(2, dim=-1)
        turned_first, turned_second = turned.chunk(2, dim=-1)
        torch.mul(first, cosines, out=turned_first).addcmul_(second, sines, value=-1)
        torch.mul(second, cosines, out=turned_second).addcmul_(first, sines)
        return turned.to(states.dtype)


def make_rotary(width: int, theta: float, positions: int, device: Any) -> Rotary:
    """Make the angles of heads of a width: theta^(-2i/width) times the place."""
    import torch

    exponents = torch.arange(0, width, 2, dtype=torch.float32, device=device) / width
    places = torch.arange(positions, dtype=torch.float32, device=device)
    angles = places[:, None] * (1.0 / theta**exponents)
    return Rotary(angles.cos(), angles.sin())


@dataclass(frozen=True)
class Positions:
    """How the attention of one block depends on the places of tokens."""

    rotary: Rotary | None = None
    window: int | None = None  # tokens on each side that a token attends to; None for all
    bias: Bias | None = None
    scale: float | None = None  # of the products of queries and keys; None for 1 / sqrt(width)


NO_POSITIONS = Positions()


def distances(queries: int, keys: int, device: Any) -> Any:
    """Return how many tokens after each query each key stands: (queries, keys)."""
    import torch

    after = torch.arange(keys, device=device)
    return after - torch.arange(queries, device=device)[:, None]
