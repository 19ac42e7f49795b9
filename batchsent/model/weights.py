"""The parts of a transformers classifier that the packed forward pass needs.

Knows architectures and runs none. Each architecture that can run packed has one function here. What
it returns is checked against the model itself before it is used (encoder.make_encoder), so a new
version of transformers cannot make it silently wrong.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Norm:
    """A layer normalization."""

    weight: Any  # (width,)
    bias: Any  # (width,)
    epsilon: float


@dataclass(frozen=True)
class Layer:
    """One block: attention, normalization, two dense layers, normalization.

    Modules are torch.nn.Linear.
    """

    query: Any
    key: Any
    value: Any
    attention_output: Any
    attention_norm: Norm
    intermediate: Any
    output: Any
    output_norm: Norm


@dataclass(frozen=True)
class EncoderWeights:
    """An encoder with absolute positions and a head that reads the first token only."""

    word_embeddings: Any  # (vocabulary, width)
    positions: Any  # (positions, width), token types added
    first_position: int  # row of `positions` for the first token
    norm: Norm
    layers: tuple[Layer, ...]
    heads: int
    activation: str  # as config.json names it
    head: Callable[[Any], Any]  # (texts, width) -> (texts, labels)


def extract_weights(module: Any) -> EncoderWeights | None:
    """Return the parts of a model, or None for an architecture that is not known here."""
    known = {
        "DistilBertForSequenceClassification": _distilbert,
        "BertForSequenceClassification": _bert,
        "RobertaForSequenceClassification": _roberta,
        "XLMRobertaForSequenceClassification": _roberta,
        "CamembertForSequenceClassification": _roberta,
    }
    config = module.config
    take = known.get(type(module).__name__)
    if (
        take is None
        or getattr(config, "is_decoder", False)
        or getattr(config, "add_cross_attention", False)
    ):
        return None
    if not isinstance(getattr(config, "hidden_act", getattr(config, "activation", None)), str):
        return None
    return take(module)


def _norm(module: Any) -> Norm:
    return Norm(module.weight, module.bias, module.eps)


def _distilbert(module: Any) -> EncoderWeights:
    import torch

    embeddings, config = module.distilbert.embeddings, module.config
    layers = tuple(
        Layer(
            query=block.attention.q_lin,
            key=block.attention.k_lin,
            value=block.attention.v_lin,
            attention_output=block.attention.out_lin,
            attention_norm=_norm(block.sa_layer_norm),
            intermediate=block.ffn.lin1,
            output=block.ffn.lin2,
            output_norm=_norm(block.output_layer_norm),
        )
        for block in module.distilbert.transformer.layer
    )
    pre_classifier, classifier = module.pre_classifier, module.classifier
    return EncoderWeights(
        word_embeddings=embeddings.word_embeddings.weight,
        positions=embeddings.position_embeddings.weight,
        first_position=0,
        norm=_norm(embeddings.LayerNorm),
        layers=layers,
        heads=config.n_heads,
        activation=config.activation,
        head=lambda first: classifier(torch.relu(pre_classifier(first))),
    )


def _bert(module: Any) -> EncoderWeights:
    pooler, classifier = module.bert.pooler, module.classifier
    # The pooler takes (texts, tokens, width) and reads token 0.
    return _bert_like(module, module.bert, 0, lambda first: classifier(pooler(first[:, None])))


def _roberta(module: Any) -> EncoderWeights:
    classifier = module.classifier
    # Positions count from behind the padding id; the head takes (texts, tokens, width) and reads
    # token 0.
    return _bert_like(
        module,
        module.roberta,
        module.config.pad_token_id + 1,
        lambda first: classifier(first[:, None]),
    )


def _bert_like(
    module: Any, base: Any, first_position: int, head: Callable[[Any], Any]
) -> EncoderWeights:
    embeddings, config = base.embeddings, module.config
    layers = tuple(
        Layer(
            query=block.attention.self.query,
            key=block.attention.self.key,
            value=block.attention.self.value,
            attention_output=block.attention.output.dense,
            attention_norm=_norm(block.attention.output.LayerNorm),
            intermediate=block.intermediate.dense,
            output=block.output.dense,
            output_norm=_norm(block.output.LayerNorm),
        )
        for block in base.encoder.layer
    )
    return EncoderWeights(
        word_embeddings=embeddings.word_embeddings.weight,
        # A single text is all of token type 0.
        positions=embeddings.position_embeddings.weight
        + embeddings.token_type_embeddings.weight[0],
        first_position=first_position,
        norm=_norm(embeddings.LayerNorm),
        layers=layers,
        heads=config.num_attention_heads,
        activation=config.hidden_act,
        head=head,
    )
