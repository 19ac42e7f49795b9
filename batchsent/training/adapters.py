"""LoRA: small adapters on a frozen encoder, merged into a plain model at the end."""

import importlib.util
import warnings
from typing import Any

from batchsent.errors import UsageError


def check_peft() -> None:
    """Raise UsageError when the package for adapters is not installed."""
    if importlib.util.find_spec("peft") is None:
        raise UsageError("--lora needs peft", hint='install it: pip install "batchsent[lora]"')


def add_adapters(model: Any, rank: int) -> Any:
    """Return the model with LoRA adapters of a rank on every dense layer of its encoder.

    The head is trained whole. The head, and the pooler in front of it, are new in most base models:
    an adapter on random weights that stay as they are would learn little.
    """
    import peft
    import torch

    encoder = getattr(model, model.base_model_prefix)
    head = [
        name
        for name, module in model.named_children()
        if module is not encoder and any(True for _ in module.parameters())
    ]
    if getattr(encoder, "pooler", None) is not None:
        head.append("pooler")
    dense = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and not set(name.split(".")) & set(head)
    ]
    # Twice the rank is the usual scale; 0.05 of dropout what peft's own examples train classifiers
    # with.
    config = peft.LoraConfig(
        task_type=peft.TaskType.SEQ_CLS,
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.05,
        target_modules=dense,
        modules_to_save=head,
    )
    with warnings.catch_warnings():
        # peft still asks transformers for attributes that have new names.
        warnings.simplefilter("ignore", FutureWarning)
        return peft.get_peft_model(model, config)


def merge_adapters(model: Any) -> Any:
    """Return the plain model that computes what model and adapters did: scoring needs no peft."""
    return model.merge_and_unload()
