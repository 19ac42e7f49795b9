"""The parts of MPNet: BERT with a bias for the distance of two tokens, the same in all blocks."""

import math
from dataclasses import dataclass
from typing import Any

from batchsent.model.parts import Config, EncoderWeights, FindPart, Head, Layer, find_norm
from batchsent.model.positions import Positions

# They stand in the code of transformers, not in the configuration.
BUCKETS, FARTHEST = 32, 128
PADDING_ID = 1


@dataclass(frozen=True, eq=False)
class DistanceBias:
    """A number for each distance and head, which is added to the scores of attention."""

    table: Any  # (buckets, heads)

    def __call__(self, queries: Any, keys: Any) -> Any:
        """Return (1, heads, queries, keys)."""
        import torch

        asking, asked = queries.shape[2], keys.shape[2]
        after = torch.arange(1 - asking, asked, device=queries.device)
        # A row for each query, the last one first: the next query has the same numbers one key on.
        rows = self.table[bucket(after)].T.unfold(1, asked, 1)
        return rows.flip(1)[None]


def bucket(after: Any) -> Any:
    """Return the bucket of each distance: one for each short one, then as its logarithm grows.

    Distances to keys before a query have the first half of the buckets, to keys after it the other.
    """
    import torch

    half = BUCKETS // 2
    exact = half // 2
    far = after.abs()
    growth = torch.log(far.float() / exact) / math.log(FARTHEST / exact) * (half - exact)
    logarithmic = (exact + growth.long()).clamp(max=half - 1)
    return torch.where(far < exact, far, logarithmic) + (after > 0) * half


def mpnet(config: Config, find: FindPart) -> EncoderWeights:
    """Take the parts of an MPNetForSequenceClassification."""
    epsilon = config.layer_norm_eps
    positions = Positions(bias=DistanceBias(find("mpnet.encoder.relative_attention_bias").weight))

    def layer(number: int) -> Layer:
        block = f"mpnet.encoder.layer.{number}"
        return Layer(
            query=find(f"{block}.attention.attn.q"),
            key=find(f"{block}.attention.attn.k"),
            value=find(f"{block}.attention.attn.v"),
            attention_output=find(f"{block}.attention.attn.o"),
            norm_after_attention=find_norm(find, f"{block}.attention.LayerNorm", epsilon),
            intermediate=find(f"{block}.intermediate.dense"),
            output=find(f"{block}.output.dense"),
            norm_after_dense=find_norm(find, f"{block}.output.LayerNorm", epsilon),
            positions=positions,
        )

    return EncoderWeights(
        word_embeddings=find("mpnet.embeddings.word_embeddings").weight,
        position_embeddings=find("mpnet.embeddings.position_embeddings").weight,
        first_position=PADDING_ID + 1,
        norm=find_norm(find, "mpnet.embeddings.LayerNorm", epsilon),
        layers=tuple(layer(number) for number in range(config.num_hidden_layers)),
        heads=config.num_attention_heads,
        activation=config.hidden_act,
        head=Head(find("classifier.dense"), "tanh", find("classifier.out_proj")),
    )
