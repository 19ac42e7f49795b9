"""How a model is to be trained, and what came out: what travels between the parts of a training.

Does nothing.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from batchsent.training.examples import Examples


@dataclass(frozen=True)
class Plan:
    """How to train, with every default resolved."""

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
