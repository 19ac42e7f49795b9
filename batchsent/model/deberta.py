"""The parts of DeBERTa-v2 and v3, whose attention sees contents and distances apart.

Source: He et al., "DeBERTa: Decoding-enhanced BERT with Disentangled Attention", 2020,
https://arxiv.org/abs/2006.03654.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from batchsent.model.parts import (
    Config,
    Dense,
    EncoderWeights,
    FindPart,
    Head,
    Layer,
    NotPacked,
    find_norm,
)
from batchsent.model.positions import Positions


@dataclass(frozen=True)
class Distances:
    """The vectors that stand for distances, the same in all blocks."""

    vectors: Any  # (2 * span, width): that of distance -span first, that of distance 0 in row span
    span: int
    buckets: int  # 0 where each distance has a vector of its own
    farthest: int

    def rows(self, least: int, most: int) -> Any:
        """Return the row of `vectors` for each distance from `least` to `most`."""
        import torch

        distance = torch.arange(least, most + 1, device=self.vectors.device)
        if self.buckets > 0:
            distance = log_bucket(distance, self.buckets, self.farthest)
        return (distance + self.span).clamp(0, 2 * self.span - 1)


def log_bucket(distance: Any, buckets: int, farthest: int) -> Any:
    """Return distances, those beyond half of the buckets as their logarithm grows."""
    import torch

    middle = buckets // 2
    # As transformers has it: float32 throughout, since an edge between buckets must not move.
    far = distance.abs().clamp(min=middle - 1)
    share = torch.log(far / middle) / torch.log(torch.tensor((farthest - 1) / middle))
    logarithmic = torch.ceil(share * (middle - 1)) + middle
    return torch.where(far <= middle, distance, (logarithmic * distance.sign()).long())


@dataclass(frozen=True)
class DisentangledBias:
    """What the contents of queries and keys say of their distance, added to attention's scores."""

    distances: Distances
    heads: int
    scale: float
    key: Dense | None  # makes keys of distances for the queries (c2p); None where they have none
    query: Dense | None  # makes queries of distances for the keys (p2c)

    @cached_property
    def _keys(self) -> Any:
        return self._by_head(self.key)

    @cached_property
    def _queries(self) -> Any:
        return self._by_head(self.query)

    def _by_head(self, dense: Any) -> Any:
        """Return (heads, width, 2 * span), scaled, or None."""
        if dense is None:
            return None
        vectors = dense(self.distances.vectors) * self.scale
        return vectors.unflatten(1, (self.heads, -1)).permute(1, 2, 0).contiguous()

    def __call__(self, queries: Any, keys: Any) -> Any:
        """Return (texts, heads, queries, keys)."""
        asking, asked = queries.shape[2], keys.shape[2]
        # A key stands up to asking - 1 tokens before a query, and up to asked - 1 after it.
        rows = self.distances.rows(1 - asked, asking - 1)
        to_position = from_position = None
        if self._keys is not None:
            to_position = diagonals(queries @ self._keys[:, :, rows.flip(0)], asked)
        if self._queries is not None:
            from_position = diagonals(keys @ self._queries[:, :, rows], asking).transpose(2, 3)
        if to_position is None or from_position is None:
            return to_position if from_position is None else from_position
        return to_position + from_position


def diagonals(scores: Any, width: int) -> Any:
    """Return a view of (texts, heads, rows, distances) as (texts, heads, rows, width).

    With three rows and a width of three, from the distances that are marked:

        . . x x x
        . x x x .
        x x x . .
    """
    texts, heads, rows, distances = scores.shape
    steps = (*scores.stride()[:2], distances - 1, 1)
    return scores.as_strided((texts, heads, rows, width), steps, rows - 1)


def deberta_v2(config: Config, find: FindPart) -> EncoderWeights:
    """Take the parts of a DebertaV2ForSequenceClassification, the class of DeBERTa-v2 and v3.

    Raises NotPacked for a convolution and for embeddings that are narrower than the blocks.
    """
    epsilon = config.layer_norm_eps
    if getattr(config, "conv_kernel_size", 0) > 0:
        raise NotPacked("its first block has a convolution over neighbouring tokens")
    if getattr(config, "embedding_size", config.hidden_size) != config.hidden_size:
        raise NotPacked("its embeddings are widened before they are normalized")
    kinds = config.pos_att_type or []
    to_position, from_position = "c2p" in kinds, "p2c" in kinds
    width = getattr(config, "attention_head_size", config.hidden_size // config.num_attention_heads)
    scale = 1 / math.sqrt(width * (1 + to_position + from_position))
    table = _distances(config, find)

    def layer(number: int) -> Layer:
        block = f"deberta.encoder.layer.{number}"
        attention = f"{block}.attention.self"
        bias = None
        if table is not None and (to_position or from_position):
            names = ("key_proj", "query_proj")
            if not getattr(config, "share_att_key", False):
                names = ("pos_key_proj", "pos_query_proj")
            key = find(f"{attention}.{names[0]}") if to_position else None
            query = find(f"{attention}.{names[1]}") if from_position else None
            bias = DisentangledBias(table, config.num_attention_heads, scale, key, query)
        return Layer(
            query=find(f"{attention}.query_proj"),
            key=find(f"{attention}.key_proj"),
            value=find(f"{attention}.value_proj"),
            attention_output=find(f"{block}.attention.output.dense"),
            norm_after_attention=find_norm(find, f"{block}.attention.output.LayerNorm", epsilon),
            intermediate=find(f"{block}.intermediate.dense"),
            output=find(f"{block}.output.dense"),
            norm_after_dense=find_norm(find, f"{block}.output.LayerNorm", epsilon),
            positions=Positions(bias=bias, scale=scale),
        )

    return EncoderWeights(
        word_embeddings=find("deberta.embeddings.word_embeddings").weight,
        position_embeddings=_absolute(config, find),
        norm=find_norm(find, "deberta.embeddings.LayerNorm", epsilon),
        layers=tuple(layer(number) for number in range(config.num_hidden_layers)),
        heads=config.num_attention_heads,
        activation=config.hidden_act,
        head=Head(find("pooler.dense"), config.pooler_hidden_act, find("classifier")),
    )


def _distances(config: Config, find: FindPart) -> Distances | None:
    """Return the vectors of distances, None for a model without them."""
    if not config.relative_attention:
        return None
    farthest = config.max_relative_positions
    if farthest < 1:
        farthest = config.max_position_embeddings
    buckets = max(0, getattr(config, "position_buckets", -1))
    span = buckets or farthest
    vectors = find("deberta.encoder.rel_embeddings").weight[: 2 * span]
    if "layer_norm" in getattr(config, "norm_rel_ebd", "none").lower():
        vectors = find_norm(find, "deberta.encoder.LayerNorm", config.layer_norm_eps)(vectors)
    return Distances(vectors, span, buckets, farthest)


def _absolute(config: Config, find: FindPart) -> Any:
    """Return the absolute positions, with the token type of a single text; None for neither."""
    table = None
    if config.position_biased_input:
        table = find("deberta.embeddings.position_embeddings").weight
    if config.type_vocab_size > 0:
        token_type = find("deberta.embeddings.token_type_embeddings").weight[:1]
        rows = config.max_position_embeddings
        table = token_type.expand(rows, -1) if table is None else table + token_type
    return table
