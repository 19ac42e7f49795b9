"""The parts of a classifier that the packed forward pass needs, taken by their names.

Each architecture that can run packed has one function here. It takes the parts from a model that
transformers has loaded, or from the weight files themselves: their names are the same. What it
returns is checked against transformers' own forward pass (encoder.make_encoder), so a new version
of transformers cannot make it silently wrong.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from batchsent.model import int8_storage


@dataclass(frozen=True)
class Norm:
    """A layer normalization."""

    weight: Any  # (width,)
    bias: Any  # (width,)
    epsilon: float

    def __call__(self, states: Any) -> Any:
        """Return (..., width) normalized."""
        from torch.nn.functional import layer_norm

        return layer_norm(states, self.weight.shape, self.weight, self.bias, self.epsilon)


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


# Returns the part of a name: a module, or a Dense made of the tensors of that name.
FindPart = Callable[[str], Any]
# A model's configuration as transformers reads it.
Config = Any


def extract_weights(module: Any) -> EncoderWeights | None:
    """Return the parts of a model that transformers has loaded: its own modules, not copies.

    None for an architecture that is not known here.
    """
    # Not get_submodule, which does not see through the wrappers that LoRA puts around modules.
    return _take_weights(
        type(module).__name__, module.config, lambda name: attrgetter(name)(module)
    )


def assemble_weights(
    architecture: str, config: Config, tensors: Mapping[str, Any]
) -> EncoderWeights | None:
    """Return the parts of a model made of its named tensors.

    None for an architecture that is not known here. Raises KeyError for a tensor that is not there.
    """

    def find(name: str) -> Dense:
        # An embedding has no bias.
        return Dense(tensors[f"{name}.weight"], tensors.get(f"{name}.bias"))

    return _take_weights(architecture, config, find)


def _take_weights(architecture: str, config: Config, find: FindPart) -> EncoderWeights | None:
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
    return take(config, find)


def read_tensors(files: tuple[Path, ...], device: str, dtype: Any) -> dict[str, Any]:
    """Read safetensors files as transformers loads them: onto a device, in one number format."""
    tensors = {}
    for path in files:
        for name, tensor in int8_storage.read(path):
            # A copy: the file is mapped into memory at any address, and kernels are chosen by the
            # alignment of what they get.
            tensors[name] = tensor.to(device, dtype, copy=True)
    return tensors


def _norm(find: FindPart, name: str, epsilon: float) -> Norm:
    part = find(name)
    return Norm(part.weight, part.bias, epsilon)


def _distilbert(config: Config, find: FindPart) -> EncoderWeights:
    import torch

    epsilon = 1e-12  # stands in the code of transformers, not in the configuration

    def layer(number: int) -> Layer:
        block = f"distilbert.transformer.layer.{number}"
        return Layer(
            query=find(f"{block}.attention.q_lin"),
            key=find(f"{block}.attention.k_lin"),
            value=find(f"{block}.attention.v_lin"),
            attention_output=find(f"{block}.attention.out_lin"),
            attention_norm=_norm(find, f"{block}.sa_layer_norm", epsilon),
            intermediate=find(f"{block}.ffn.lin1"),
            output=find(f"{block}.ffn.lin2"),
            output_norm=_norm(find, f"{block}.output_layer_norm", epsilon),
        )

    pre_classifier, classifier = find("pre_classifier"), find("classifier")
    return EncoderWeights(
        word_embeddings=find("distilbert.embeddings.word_embeddings").weight,
        positions=find("distilbert.embeddings.position_embeddings").weight,
        first_position=0,
        norm=_norm(find, "distilbert.embeddings.LayerNorm", epsilon),
        layers=tuple(layer(number) for number in range(config.n_layers)),
        heads=config.n_heads,
        activation=config.activation,
        head=lambda first: classifier(torch.relu(pre_classifier(first))),
    )


def _bert(config: Config, find: FindPart) -> EncoderWeights:
    head = _tanh_head(find("bert.pooler.dense"), find("classifier"))
    return _bert_like(config, find, "bert", 0, head)


def _roberta(config: Config, find: FindPart) -> EncoderWeights:
    head = _tanh_head(find("classifier.dense"), find("classifier.out_proj"))
    # Positions count from the padding id on.
    return _bert_like(config, find, "roberta", config.pad_token_id + 1, head)


def _tanh_head(hidden: Callable[[Any], Any], output: Callable[[Any], Any]) -> Callable[[Any], Any]:
    import torch

    return lambda first: output(torch.tanh(hidden(first)))


def _bert_like(
    config: Config, find: FindPart, base: str, first_position: int, head: Callable[[Any], Any]
) -> EncoderWeights:
    epsilon = config.layer_norm_eps

    def layer(number: int) -> Layer:
        block = f"{base}.encoder.layer.{number}"
        return Layer(
            query=find(f"{block}.attention.self.query"),
            key=find(f"{block}.attention.self.key"),
            value=find(f"{block}.attention.self.value"),
            attention_output=find(f"{block}.attention.output.dense"),
            attention_norm=_norm(find, f"{block}.attention.output.LayerNorm", epsilon),
            intermediate=find(f"{block}.intermediate.dense"),
            output=find(f"{block}.output.dense"),
            output_norm=_norm(find, f"{block}.output.LayerNorm", epsilon),
        )

    # A single text is all of token type 0.
    token_type = find(f"{base}.embeddings.token_type_embeddings").weight[0]
    return EncoderWeights(
        word_embeddings=find(f"{base}.embeddings.word_embeddings").weight,
        positions=find(f"{base}.embeddings.position_embeddings").weight + token_type,
        first_position=first_position,
        norm=_norm(find, f"{base}.embeddings.LayerNorm", epsilon),
        layers=tuple(layer(number) for number in range(config.num_hidden_layers)),
        heads=config.num_attention_heads,
        activation=config.hidden_act,
        head=head,
    )
