"""How a model is to be trained, and what came out: what travels between the parts of a training."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from batchsent.errors import UsageError
from batchsent.model.cpu import has_fast_bfloat16
from batchsent.model.device import Device
from batchsent.training.base import Base
from batchsent.training.examples import Examples, describe
from batchsent.training.from_scratch import POSITIONS
from batchsent.training.options import (
    EPOCHS,
    LEARNING_RATE,
    LONG_TEXT,
    LORA_LEARNING_RATE,
    SCRATCH_EPOCHS,
    SCRATCH_LEARNING_RATE,
    FinetuneOptions,
)
from batchsent.training.seen import SeenTexts

# What Hugging Face's Trainer calls the fields of a plan.
TRAINER_ARGUMENTS = {
    "seed": "seed",
    "learning_rate": "learning_rate",
    "epochs": "num_train_epochs",
    "batch_size": "per_device_train_batch_size",
    "eval_batch_size": "per_device_eval_batch_size",
    "accumulate": "gradient_accumulation_steps",
    "weight_decay": "weight_decay",
    "save_strategy": "save_strategy",
    "save_steps": "save_steps",
}


@dataclass(frozen=True)
class Plan:
    """How to train, with every default resolved: options keep their names."""

    seed: int
    learning_rate: float
    epochs: float
    batch_size: int  # reviews in a forward pass of one process
    accumulate: int  # forward passes in a step
    processes: int
    eval_batch_size: int
    weight_decay: float
    warmup: float  # below 1 a share of the steps, else steps
    label_smoothing: float
    class_weights: str  # none or balanced
    lora: int | None  # rank of adapters
    early_stopping: int | None  # evaluations without a smaller loss
    max_length: int  # tokens read of a review, special tokens included
    save_strategy: str  # epoch, steps or no
    save_steps: int
    device: str  # auto, cpu, cuda or mps
    precision: str  # float32, or bfloat16 or float16 under autocast
    long_text: str  # what of a longer review is read

    def steps(self, rows: int) -> int:
        """Return the number of steps of the optimizer in a training with so many rows."""
        batches = math.ceil(rows / (self.batch_size * self.processes))
        return math.ceil(math.ceil(batches / self.accumulate) * self.epochs)

    def warmup_steps(self, rows: int) -> int:
        """Return the number of steps until the full learning rate."""
        return round(self.warmup * self.steps(rows)) if self.warmup < 1 else round(self.warmup)

    def trainer_arguments(self, rows: int) -> dict[str, Any]:
        """Return the plan in the Trainer's words, for a training with so many rows."""
        arguments = {theirs: getattr(self, ours) for ours, theirs in TRAINER_ARGUMENTS.items()}
        return arguments | {"warmup_steps": self.warmup_steps(rows)}


def make_plan(settings: FinetuneOptions, base: Base | None, device: Device, processes: int) -> Plan:
    """Resolve the defaults that depend on others; every other option is taken as it is.

    Raises UsageError for more tokens than the base model can read, and for a precision that the
    device cannot train in.
    """
    limit = POSITIONS if base is None else base.max_length
    if settings.max_length is not None and not 3 <= settings.max_length <= limit:
        raise UsageError(
            f"--max-length {settings.max_length}: the base model reads 3 to {limit} tokens",
            hint=f"leave it out to read {limit}",
        )
    learning_rate, epochs = usual_pace(settings, base)
    resolved: dict[str, Any] = {
        "learning_rate": settings.learning_rate or learning_rate,
        "epochs": float(settings.epochs or epochs),
        "max_length": settings.max_length or limit,
        "long_text": settings.long_text or inherited_long_text(base) or "head",
        "processes": processes,
        "device": device.kind,
        "precision": choose_precision(settings.precision, device),
    }
    names = [field.name for field in dataclasses.fields(Plan) if field.name not in resolved]
    return Plan(**{name: getattr(settings, name) for name in names}, **resolved)


def inherited_long_text(base: Base | None) -> str | None:
    """Return how the base model reads long reviews, where a training can do the same."""
    if base is None or base.long_text not in LONG_TEXT:
        return None
    return base.long_text


def describe_epochs(epochs: float) -> str:
    """Return a number of epochs in words."""
    return "1 epoch" if epochs == 1 else f"{epochs:g} epochs"


def usual_pace(settings: FinetuneOptions, base: Base | None) -> tuple[float, float]:
    """Return the learning rate and the epochs of those who name none."""
    if base is None:
        return SCRATCH_LEARNING_RATE, SCRATCH_EPOCHS
    if settings.lora is not None:
        return LORA_LEARNING_RATE, EPOCHS
    return LEARNING_RATE, EPOCHS


def choose_precision(wanted: str, device: Device) -> str:
    """Return the number format of the forward pass: as asked, or bfloat16 where faster.

    Raises UsageError for float16 on a CPU, whose small gradients nothing would rescue.
    """
    if wanted == "float16" and device.kind == "cpu":
        raise UsageError("--precision float16 needs a GPU", hint="use bfloat16, or float32")
    if wanted != "auto":
        return wanted
    # Autocast to bfloat16 doubles the speed of GPUs that have it, and of CPUs with instructions for
    # it.
    if device.kind == "cuda":
        return "bfloat16" if (device.capability or (0, 0)) >= (8, 0) else "float32"
    return "bfloat16" if device.kind == "cpu" and has_fast_bfloat16() else "float32"


@dataclass(frozen=True)
class Splits:
    """The rows of a training, no text in two of them."""

    train: Examples
    # held out of the training rows, to choose by; never reported as the model's figures
    validation: Examples | None
    evaluation: Examples  # to measure on, once everything is chosen

    def whole(self) -> "Splits":
        """Return the splits with the validation rows back among the training rows."""
        if self.validation is None:
            return self
        return dataclasses.replace(self, train=self.train.join(self.validation), validation=None)


def describe_sides(splits: Splits, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return what metrics.json says of the rows: train, eval, and validation where there is one."""
    sides = {"train": splits.train, "validation": splits.validation, "eval": splits.evaluation}
    return {name: describe(side, names) for name, side in sides.items() if side is not None}


@dataclass(frozen=True)
class Unlabelled:
    """Texts to pre-train on, and others to measure that on: no text twice."""

    train: list[str]
    held_out: list[str]
    facts: dict[str, Any]  # where they came from, what was left out


@dataclass(frozen=True)
class Setup:
    """What is trained, where and how: everything that is found before a model is loaded."""

    base: Base | None  # None from scratch
    origin: dict[str, Any]  # what metrics.json says of the base model
    names: list[str]  # of the classes
    splits: Splits
    data: dict[str, dict[str, Any]]  # what metrics.json says of train, validation and eval
    plan: Plan
    device: Device
    seen: SeenTexts  # what the base model was fine-tuned on
    unlabelled: Unlabelled | None = None  # to pre-train on first

    @property
    def seen_afterwards(self) -> SeenTexts:
        """Return what the trained model will have been fine-tuned on, or chosen by."""
        validation = self.splits.validation
        chosen_by = [] if validation is None else validation.texts
        return self.seen.with_texts(self.splits.train.texts + chosen_by)


@dataclass(frozen=True)
class Trained:
    """What came out of a training."""

    model: Any
    tokenizer: Any
    metrics: dict[str, Any]  # on the evaluation examples
    curve: list[dict[str, float]]  # one entry a logged step, evaluations among them
    facts: dict[str, Any]  # steps, seconds, device, rows that were cut
    # logits (rows, labels) and labels (rows,) of the evaluation examples
    held_out: tuple[Any, Any] | None
