"""Hugging Face's Trainer as it is set up here: order of the rows, loss, arguments.

Decides nothing about the data.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.evaluation.metrics import load_metric
from batchsent.model.tokens import TextEncoder
from batchsent.training.examples import Examples
from batchsent.training.firsttoken import first_token_only
from batchsent.training.plan import Plan

CURVE_POINTS = 50  # losses recorded over a training


@dataclass(frozen=True)
class Encoded:
    """Examples as token ids."""

    data: Any  # datasets.Dataset of input_ids and labels
    lengths: list[int]  # (rows,) tokens
    cut: int  # rows that lost tokens to the limit


def encode(examples: Examples, text_encoder: TextEncoder, *, soft_labels: bool = False) -> Encoded:
    """Tokenize examples as scoring does; `soft_labels` are a teacher's probabilities.

    Measured is on labels always: a student that agrees with its teacher need not be right.
    """
    import datasets
    import pyarrow as pa

    tokens = text_encoder.encode(examples.texts)
    # The loss is the cross entropy with either.
    labels = (
        list(examples.targets) if soft_labels and examples.targets is not None else examples.labels
    )
    columns = {
        "input_ids": pa.LargeListArray.from_arrays(tokens.offsets, tokens.ids),
        "labels": pa.array(labels),
    }
    data = datasets.Dataset(datasets.table.InMemoryTable(pa.table(columns)))
    return Encoded(data, tokens.lengths.tolist(), int((tokens.truncated_tokens > 0).sum()))


class Measurements:
    """What the Trainer calls with the outputs of an evaluation; remembers the last one."""

    def __init__(self, names: Sequence[str]) -> None:
        self.figures: dict[str, Any] = {}
        self.outputs: tuple[Any, Any] | None = None  # logits (rows, labels) and labels (rows,)
        self._metric = load_metric(names)

    def __call__(self, prediction: Any) -> dict[str, float]:
        """Return the figures that the Trainer logs: all but those of each class."""
        winners = prediction.predictions.argmax(axis=-1)
        self.figures = dict(
            self._metric.compute(predictions=winners, references=prediction.label_ids)
        )
        self.outputs = (prediction.predictions, prediction.label_ids)
        # The Trainer's own loss counts rows twice where several processes share an uneven number of
        # them.
        loss = cross_entropy(prediction.predictions, prediction.label_ids)
        return {
            "loss": loss,
            **{name: value for name, value in self.figures.items() if name != "per_class"},
        }


def cross_entropy(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Return the mean cross entropy of logits (rows, labels) with class numbers (rows,)."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    of_labels = shifted[np.arange(len(labels)), labels]
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - of_labels))


@dataclass(frozen=True)
class Loss:
    """Cross entropy with class numbers (rows,) or probabilities (rows, labels)."""

    class_weights: list[float] | None = None  # (labels,)
    label_smoothing: float = 0.0

    def __call__(self, outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        """Return the loss.

        `num_items_in_batch` is the Trainer's count of label cells in all batches of a step. Weights
        do not change what a step is divided by: then a batch of a rare class alone counts more, as
        it should.
        """
        from torch.nn import functional

        logits = outputs.logits.float()
        weights = None if self.class_weights is None else logits.new_tensor(self.class_weights)
        smoothing = self.label_smoothing
        total = functional.cross_entropy(
            logits, labels, weight=weights, label_smoothing=smoothing, reduction="sum"
        )
        if num_items_in_batch is None:
            return total / len(labels)
        return total * labels[0].numel() / num_items_in_batch


def balanced_weights(labels: Sequence[int], classes: int) -> list[float]:
    """Return class weights, rows / (classes x rows of the class), as scikit-learn has."""
    counts = [max(1, labels.count(number)) for number in range(classes)]
    return [len(labels) / (classes * count) for count in counts]


def sampler_class() -> Any:
    """Return the order in which a training reads its rows.

    A function, for torch and transformers are imported only where they are used.
    """
    import torch
    from transformers.trainer_pt_utils import get_length_grouped_indices

    class LengthGroupedSampler(torch.utils.data.Sampler):  # type: ignore[misc]  # torch is untyped here
        """Random batches of similar lengths, the same in an epoch that was interrupted.

        Of 4,000 IMDB reviews at 512 tokens and batch 16, 46 % of the tokens are padding in random
        order, 2 % in this one (19 % and 1 % at 256). transformers' own group_by_length draws from
        the global random state, which is another one when a training resumes in the middle of an
        epoch.
        """

        epoch = 0

        def __init__(self, lengths: list[int], batch_size: int, seed: int) -> None:
            self.lengths, self.batch_size, self.seed = lengths, batch_size, seed

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

        def __len__(self) -> int:
            return len(self.lengths)

        def __iter__(self) -> Iterator[int]:
            generator = torch.Generator().manual_seed(self.seed + self.epoch)
            return iter(
                get_length_grouped_indices(self.lengths, self.batch_size, generator=generator)
            )

    return LengthGroupedSampler


def trainer_class() -> Any:
    """Return the Trainer of this project."""
    import torch
    import transformers

    class LengthTrainer(transformers.Trainer):  # type: ignore[misc]  # transformers is untyped here
        """A Trainer with batches of one length; evaluations have the plain cross entropy."""

        def __init__(self, *, lengths: list[int], training_loss: Loss, **settings: Any) -> None:
            self.lengths, self.training_loss = lengths, training_loss
            super().__init__(**settings, compute_loss_func=training_loss)

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            # Of all processes: each takes the batches that are its turn.
            return sampler_class()(self.lengths, self._train_batch_size, self.args.seed)

        def compute_loss(self, model: Any, *arguments: Any, **settings: Any) -> Any:
            # Weights and smoothing are means to learn; a figure must compare with those of other
            # trainings.
            self.compute_loss_func = self.training_loss if model.training else Loss()
            return super().compute_loss(model, *arguments, **settings)

        def evaluate(self, *arguments: Any, **settings: Any) -> Any:
            # The loader of an evaluation draws a seed: whether one was made must not change the
            # dropout of the next step.
            with torch.random.fork_rng(devices=[]):
                return super().evaluate(*arguments, **settings)

        def _inner_training_loop(self, *arguments: Any, **settings: Any) -> Any:
            model = (
                self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
            )
            if self.args.use_cpu and self.args.bf16:
                # Fused attention is slow there: of 384 tokens in 12 heads of 32 it makes a step 1.3
                # times as long.
                model.set_attn_implementation("eager")
            with self.shortened_pass(model):
                return super()._inner_training_loop(*arguments, **settings)

        def shortened_pass(self, model: Any) -> AbstractContextManager[Any]:
            """Leave out of the forward pass what its loss does not need, while the block runs."""
            return first_token_only(model)

        def take_best(self, checkpoint: Path) -> None:
            """Restore a finished training from its last checkpoint, with its best weights."""
            state = transformers.TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
            self.state = state
            self._load_best_model()

    return LengthTrainer


def training_arguments(plan: Plan, rows: int, folder: Path, report_to: str) -> Any:
    """Return the arguments of a Trainer for so many training rows, its checkpoints in `folder`."""
    import transformers

    choosing = plan.early_stopping is not None
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        **plan.trainer_arguments(rows),
        # The best checkpoint can only be kept if every evaluation has one.
        eval_strategy=plan.save_strategy if choosing else "epoch",
        eval_steps=plan.save_steps,
        # One to resume from, the one before should that be half written, and the best.
        save_total_limit=3 if choosing else 2,
        load_best_model_at_end=choosing,
        metric_for_best_model="loss" if choosing else None,
        logging_steps=max(1, plan.steps(rows) // CURVE_POINTS),
        logging_nan_inf_filter=False,  # a loss that is no number must be seen
        dataloader_pin_memory=plan.device == "cuda",
        use_cpu=plan.device == "cpu",
        bf16=plan.precision == "bfloat16",
        fp16=plan.precision == "float16",
        # every weight of a classifier is used; looking costs a pass over them
        ddp_find_unused_parameters=False,
        report_to=report_to,
        disable_tqdm=True,  # its bars write to stdout too; the reporter has one of its own
    )
    # DataParallel would multiply the batch size by the number of GPUs
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def make_trainer(
    model: Any,
    tokenizer: Any,
    train: Encoded,
    measured: Encoded,
    plan: Plan,
    folder: Path,
    *,
    measurements: Measurements,
    loss: Loss,
    report_to: str = "none",
    make: Callable[..., Any] | None = None,
    model_init: Callable[[], Any] | None = None,
) -> Any:
    """Return a Trainer that learns from `train` and measures on `measured`.

    `make` is another class than `trainer_class()`; `model_init` makes the model where one Trainer
    trains several.
    """
    import transformers

    arguments = training_arguments(plan, len(train.lengths), folder, report_to)
    trainer = (make or trainer_class())(
        lengths=train.lengths,
        training_loss=loss,
        model=model,
        model_init=model_init,
        args=arguments,
        train_dataset=train.data,
        eval_dataset=measured.data,
        processing_class=tokenizer,
        data_collator=transformers.DataCollatorWithPadding(tokenizer),
        compute_metrics=measurements,
    )
    # it prints to stdout, which belongs to data
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer
