"""The architectures that can run packed, and their parts: of a loaded model, or of its files.

Each architecture has one function, which takes the parts by their names: they are the same in a
model that transformers has loaded and in the weight files. What it returns is checked against
transformers' own forward pass (encoder.make_encoder), so a new version of transformers cannot make
it silently wrong.
"""

from collections.abc import Callable, Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any

from batchsent.model import int8_storage
from batchsent.model.bert import albert, bert, distilbert, electra, roberta
from batchsent.model.deberta import deberta_v2
from batchsent.model.modernbert import modernbert
from batchsent.model.mpnet import mpnet
from batchsent.model.parts import Config, Dense, EncoderWeights, FindPart, NotPacked

ARCHITECTURES: dict[str, Callable[[Config, FindPart], EncoderWeights]] = {
    "DistilBertForSequenceClassification": distilbert,
    "BertForSequenceClassification": bert,
    "RobertaForSequenceClassification": roberta,
    "XLMRobertaForSequenceClassification": roberta,
    "CamembertForSequenceClassification": roberta,
    "ElectraForSequenceClassification": electra,
    "AlbertForSequenceClassification": albert,
    "MPNetForSequenceClassification": mpnet,
    "DebertaV2ForSequenceClassification": deberta_v2,
    "ModernBertForSequenceClassification": modernbert,
}


def extract_weights(module: Any) -> EncoderWeights:
    """Return the parts of a model that transformers has loaded: its own modules, not copies.

    Raises NotPacked for an architecture that is not known here, or a setting of one.
    """
    # Not get_submodule, which does not see through the wrappers that LoRA puts around modules.
    return _take_weights(
        type(module).__name__, module.config, lambda name: attrgetter(name)(module)
    )


def assemble_weights(
    architecture: str, config: Config, tensors: Mapping[str, Any]
) -> EncoderWeights:
    """Return the parts of a model made of its named tensors.

    Raises NotPacked as extract_weights does, and KeyError for a tensor that is not there.
    """

    def find(name: str) -> Dense:
        # An embedding has no bias.
        return Dense(tensors[f"{name}.weight"], tensors.get(f"{name}.bias"))

    return _take_weights(architecture, config, find)


def _take_weights(architecture: str, config: Config, find: FindPart) -> EncoderWeights:
    take = ARCHITECTURES.get(architecture)
    if take is None:
        raise NotPacked(f"{architecture} is not one of the architectures taken apart")
    if getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False):
        raise NotPacked("it is a decoder")
    weights = take(config, find)
    if not isinstance(weights.activation, str) or not isinstance(weights.head.activation, str):
        raise NotPacked("its activation has no name")
    return weights


def read_tensors(files: tuple[Path, ...], device: str, dtype: Any) -> dict[str, Any]:
    """Read safetensors files as transformers loads them: onto a device, in one number format."""
    tensors = {}
    for path in files:
        for name, tensor in int8_storage.read(path):
            # A copy: the file is mapped into memory at any address, and kernels are chosen by the
            # alignment of what they get.
            tensors[name] = tensor.to(device, dtype, copy=True)
    return tensors
