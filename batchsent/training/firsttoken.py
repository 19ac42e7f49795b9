"""The last layer for the first token only, while a model is trained.

The heads of DistilBERT, BERT, RoBERTa and ELECTRA classifiers read one token of the last layer. Its
keys and values are needed of all tokens, everything else of that one: the gradients are the same,
and of a model of few layers a good part of a training step is saved. Scoring does the same
(model/packed.py).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

from batchsent.model.weights import extract_weights

# Where the blocks of an architecture are. All have post-norm, attention without a bias, and a last
# block of their own.
BLOCKS = {
    "DistilBertForSequenceClassification": "distilbert.transformer.layer",
    "BertForSequenceClassification": "bert.encoder.layer",
    "RobertaForSequenceClassification": "roberta.encoder.layer",
    "XLMRobertaForSequenceClassification": "roberta.encoder.layer",
    "CamembertForSequenceClassification": "roberta.encoder.layer",
    "ElectraForSequenceClassification": "electra.encoder.layer",
}


@contextmanager
def first_token_only(model: Any) -> Iterator[bool]:
    """Compute the last layer for the first token only while the block runs.

    Yields whether that is so: another architecture stays as it is.
    """
    blocks = BLOCKS.get(type(model).__name__)
    if blocks is None or getattr(model.config, "is_decoder", False):
        yield False
        return
    import torch
    from transformers.activations import ACT2FN

    weights = extract_weights(model)
    block = attrgetter(blocks)(model)[-1]
    layer, heads, activation = weights.layers[-1], weights.heads, ACT2FN[weights.activation]
    attention_norm, output_norm = layer.norm_after_attention, layer.norm_after_dense
    assert attention_norm is not None
    assert output_norm is not None
    within, behind_attention, behind_dense = dropouts(model.config)
    functional = torch.nn.functional

    def forward(hidden_states: Any, attention_mask: Any = None, *_: Any, **__: Any) -> Any:
        """Return (texts, 1, width) of (texts, tokens, width)."""
        drop = block.training
        first = hidden_states[:, :1]
        query, key, value = (
            dense(states).unflatten(-1, (heads, -1)).transpose(1, 2)
            for dense, states in (
                (layer.query, first),
                (layer.key, hidden_states),
                (layer.value, hidden_states),
            )
        )
        mask = None if attention_mask is None else attention_mask[:, :, :1]
        seen = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=within if drop else 0.0
        )
        mixed = layer.attention_output(seen.transpose(1, 2).flatten(2))
        mixed = attention_norm(functional.dropout(mixed, behind_attention, drop) + first)
        dense = layer.output(activation(layer.intermediate(mixed)))
        return output_norm(functional.dropout(dense, behind_dense, drop) + mixed)

    block.forward = forward
    try:
        yield True
    finally:
        del block.forward  # the class's own is seen again


def dropouts(config: Any) -> tuple[float, float, float]:
    """Return the dropouts of the attention and after it, and after the dense layers."""
    if hasattr(config, "attention_dropout"):  # DistilBERT
        return config.attention_dropout, 0.0, config.dropout
    return (
        config.attention_probs_dropout_prob,
        config.hidden_dropout_prob,
        config.hidden_dropout_prob,
    )
