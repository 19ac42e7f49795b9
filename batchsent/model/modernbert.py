"""The parts of ModernBERT: pre-norm blocks, gated dense layers, rotary positions, local windows."""

from batchsent.model.parts import (
    Config,
    EncoderWeights,
    FindPart,
    Head,
    Layer,
    NotPacked,
    find_norm,
    split_dense,
)
from batchsent.model.positions import Positions, make_rotary


def modernbert(config: Config, find: FindPart) -> EncoderWeights:
    """Take the parts of a ModernBertForSequenceClassification.

    Raises NotPacked for rotary positions other than the plain ones.
    """
    epsilon = config.norm_eps
    words = find("model.embeddings.tok_embeddings").weight
    positions = {kind: _positions(config, kind, words.device) for kind in set(config.layer_types)}

    def layer(number: int) -> Layer:
        block = f"model.layers.{number}"
        query, key, value = split_dense(find(f"{block}.attn.Wqkv"), 3)
        intermediate, gate = split_dense(find(f"{block}.mlp.Wi"), 2)
        # The embeddings, which the first block reads, are normalized already.
        before = find_norm(find, f"{block}.attn_norm", epsilon) if number else None
        return Layer(
            norm_before_attention=before,
            query=query,
            key=key,
            value=value,
            attention_output=find(f"{block}.attn.Wo"),
            norm_before_dense=find_norm(find, f"{block}.mlp_norm", epsilon),
            intermediate=intermediate,
            gate=gate,
            output=find(f"{block}.mlp.Wo"),
            positions=positions[config.layer_types[number]],
        )

    return EncoderWeights(
        word_embeddings=words,
        norm=find_norm(find, "model.embeddings.norm", epsilon),
        layers=tuple(layer(number) for number in range(config.num_hidden_layers)),
        heads=config.num_attention_heads,
        activation=config.hidden_activation,
        final_norm=find_norm(find, "model.final_norm", epsilon),
        pooling="mean" if config.classifier_pooling == "mean" else "first",
        head=Head(
            hidden=find("head.dense"),
            activation=config.classifier_activation,
            norm=find_norm(find, "head.norm", epsilon),
            output=find("classifier"),
        ),
    )


def _positions(config: Config, kind: str, device: object) -> Positions:
    """Return what blocks of a kind know of places: full_attention or sliding_attention."""
    settings = config.rope_parameters[kind]
    if settings["rope_type"] != "default":
        raise NotPacked(f"its rotary positions are of the type {settings['rope_type']}")
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rotary = make_rotary(width, settings["rope_theta"], config.max_position_embeddings, device)
    # The window of the configuration has both sides of a token.
    window = config.local_attention // 2 if kind == "sliding_attention" else None
    return Positions(rotary=rotary, window=window)
