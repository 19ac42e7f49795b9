"""The parts of a classifier that the packed forward pass needs, taken from its named tensors.

Each architecture that can run packed has one function here. It takes the tensors from a model that
transformers has loaded, or from the weight files themselves: their names are the same. What it
returns is checked against transformers' own forward pass (encoder.make_encoder), so a new version
of transformers cannot make it silently wrong.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Norm:
    """A layer normalization."""

    weight: Any  # (width,)
    bias: Any  # (width,)
    epsilon: float


@dataclass(frozen=True)
class Dense:
    """A dense layer, with the names that torch.nn.Linear gives its parts."""

    weight: Any  # (outputs, inputs)
    bias: Any  # (outputs,)

    def __call__(self, states: Any) -> Any:
        """Return (..., outputs) of (..., inputs)."""
        from torch.nn.functional import linear

        return linear(states, self.weight, self.bias)


@dataclass(frozen=True)
class Layer:
    """One block: attention, normalization, two dense layers, normalization."""

    query: Dense
    key: Dense
    value: Dense
    attention_output: Dense
    attention_norm: Norm
    intermediate: Dense
    output: Dense
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


# The tensors of a model by their names, and its configuration as transformers reads it.
Tensors = Mapping[str, Any]
Config = Any


def extract_weights(module: Any) -> EncoderWeights | None:
    """Return the parts of a model that transformers has loaded: its own parameters, not copies.

    None for an architecture that is not known here. Raises KeyError for a parameter that is not
    there.
    """
    return take_weights(type(module).__name__, module.config, dict(module.named_parameters()))


def take_weights(architecture: str, config: Config, tensors: Tensors) -> EncoderWeights | None:
    """Return the parts of a model, or None for an architecture that is not known here.

    Raises KeyError for a tensor that is not there.
    """
    known = {
        "DistilBertForSequenceClassification": _distilbert,
        "BertForSequenceClassification": _bert,
        "RobertaForSequenceClassification": _roberta,
        "XLMRobertaForSequenceClassification": _roberta,
        "CamembertForSequenceClassification": _roberta,
    }
    take = known.get(architecture)
    if (
        take is None
        or getattr(config, "is_decoder", False)
        or getattr(config, "add_cross_attention", False)
    ):
        return None
    if not isinstance(getattr(config, "hidden_act", getattr(config, "activation", None)), str):
        return None
    return take(config, tensors)


def read_tensors(files: tuple[Path, ...], device: str, dtype: Any) -> dict[str, Any]:
    """Read safetensors files as transformers loads them: onto a device, in one number format."""
    from safetensors import safe_open

    tensors = {}
    for path in files:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (it is no dictionary)
                # A copy: the file is mapped into memory at any address, and kernels are chosen by
                # the alignment of what they get.
                tensors[name] = file.get_tensor(name).to(device, dtype, copy=True)
    return tensors


def _norm(tensors: Tensors, name: str, epsilon: float) -> Norm:
    return Norm(tensors[f"{name}.weight"], tensors[f"{name}.bias"], epsilon)


def _dense(tensors: Tensors, name: str) -> Dense:
    return Dense(tensors[f"{name}.weight"], tensors[f"{name}.bias"])


def _distilbert(config: Config, tensors: Tensors) -> EncoderWeights:
    import torch

    epsilon = 1e-12  # stands in the code of transformers, not in the configuration

    def layer(number: int) -> Layer:
        block = f"distilbert.transformer.layer.{number}"
        return Layer(
            query=_dense(tensors, f"{block}.attention.q_lin"),
            key=_dense(tensors, f"{block}.attention.k_lin"),
            value=_dense(tensors, f"{block}.attention.v_lin"),
            attention_output=_dense(tensors, f"{block}.attention.out_lin"),
            attention_norm=_norm(tensors, f"{block}.sa_layer_norm", epsilon),
            intermediate=_dense(tensors, f"{block}.ffn.lin1"),
            output=_dense(tensors, f"{block}.ffn.lin2"),
            output_norm=_norm(tensors, f"{block}.output_layer_norm", epsilon),
        )

    pre_classifier = _dense(tensors, "pre_classifier")
    classifier = _dense(tensors, "classifier")

    return EncoderWeights(
        word_embeddings=tensors["distilbert.embeddings.word_embeddings.weight"],
        positions=tensors["distilbert.embeddings.position_embeddings.weight"],
        first_position=0,
        norm=_norm(tensors, "distilbert.embeddings.LayerNorm", epsilon),
        layers=tuple(layer(number) for number in range(config.n_layers)),
        heads=config.n_heads,
        activation=config.activation,
        head=lambda first: classifier(torch.relu(pre_classifier(first))),
    )


def _bert(config: Config, tensors: Tensors) -> EncoderWeights:
    pooler = _dense(tensors, "bert.pooler.dense")
    head = _tanh_head(pooler, _dense(tensors, "classifier"))
    return _bert_like(config, tensors, "bert", 0, head)


def _roberta(config: Config, tensors: Tensors) -> EncoderWeights:
    hidden = _dense(tensors, "classifier.dense")
    head = _tanh_head(hidden, _dense(tensors, "classifier.out_proj"))
    # Positions count from the padding id on.
    return _bert_like(config, tensors, "roberta", config.pad_token_id + 1, head)


def _tanh_head(hidden: Dense, output: Dense) -> Callable[[Any], Any]:
    import torch

    return lambda first: output(torch.tanh(hidden(first)))


def _bert_like(
    config: Config, tensors: Tensors, base: str, first_position: int, head: Callable[[Any], Any]
) -> EncoderWeights:
    epsilon = config.layer_norm_eps

    def layer(number: int) -> Layer:
        block = f"{base}.encoder.layer.{number}"
        return Layer(
            query=_dense(tensors, f"{block}.attention.self.query"),
            key=_dense(tensors, f"{block}.attention.self.key"),
            value=_dense(tensors, f"{block}.attention.self.value"),
            attention_output=_dense(tensors, f"{block}.attention.output.dense"),
            attention_norm=_norm(tensors, f"{block}.attention.output.LayerNorm", epsilon),
            intermediate=_dense(tensors, f"{block}.intermediate.dense"),
            output=_dense(tensors, f"{block}.output.dense"),
            output_norm=_norm(tensors, f"{block}.output.LayerNorm", epsilon),
        )

    # A single text is all of token type 0.
    token_type = tensors[f"{base}.embeddings.token_type_embeddings.weight"][0]
    return EncoderWeights(
        word_embeddings=tensors[f"{base}.embeddings.word_embeddings.weight"],
        positions=tensors[f"{base}.embeddings.position_embeddings.weight"] + token_type,
        first_position=first_position,
        norm=_norm(tensors, f"{base}.embeddings.LayerNorm", epsilon),
        layers=tuple(layer(number) for number in range(config.num_hidden_layers)),
        heads=config.num_attention_heads,
        activation=config.hidden_act,
        head=head,
    )
