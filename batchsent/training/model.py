"""A base model, or none -> the model and the tokenizer to train."""

from pathlib import Path
from typing import Any

from batchsent.reporting import Reporter
from batchsent.training import base
from batchsent.training.adapters import add_adapters
from batchsent.training.examples import Examples
from batchsent.training.from_scratch import make_classifier, train_tokenizer
from batchsent.training.plan import Plan, describe_epochs
from batchsent.training.pretraining import load_encoder


def make_tokenizer(found: base.Base | None, train: Examples, plan: Plan, reporter: Reporter) -> Any:
    """Return the base model's tokenizer, or one learned from the training texts."""
    if found is not None:
        return base.load_tokenizer(found.path)
    reporter.stage("learning a vocabulary")
    tokenizer = train_tokenizer(train.texts)
    reporter.notice(
        f"from scratch: a vocabulary of {len(tokenizer):,} learned from the texts, learning rate"
        f" {plan.learning_rate:g}, {describe_epochs(plan.epochs)}"
    )
    return tokenizer


def new_model(
    found: base.Base | None,
    tokenizer: Any,
    names: list[str],
    plan: Plan,
    encoder: Path | None = None,
) -> Any:
    """Return the model to train with its new head; what is random in it hangs on the seed alone.

    `encoder` are the weights of a pre-trained encoder, to put in place of the base model's.
    """
    import transformers

    transformers.set_seed(plan.seed)
    model = (
        make_classifier(len(tokenizer), names)
        if found is None
        else base.load_base(found.path, names)
    )
    if encoder is not None:
        load_encoder(model, encoder)
    return model if plan.lora is None else add_adapters(model, plan.lora)
