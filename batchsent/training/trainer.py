"""A model and examples -> a trained classifier with its curve, by Hugging Face's Trainer; writes no final file."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchsent.errors import DeviceError, printable
from batchsent.evaluation.metrics import load_metric
from batchsent.model.tokens import TextEncoder, make_text_encoder
from batchsent.reporting import Reporter
from batchsent.training.checkpoints import step_of, writing
from batchsent.training.examples import Examples
from batchsent.training.firsttoken import first_token_only

CURVE_POINTS = 50  # losses recorded over a training
CURVE_COLUMNS = ("step", "epoch", "loss", "learning_rate", "grad_norm")


@dataclass(frozen=True)
class Plan:
    """How to train, with every default resolved."""

    seed: int
    learning_rate: float
    epochs: float
    batch_size: int
    eval_batch_size: int
    weight_decay: float
    warmup: float  # below 1 a share of the steps, else steps
    max_length: int  # tokens read of a review, special tokens included
    save_strategy: str  # epoch, steps or no
    save_steps: int
    device: str  # auto, cpu, cuda or mps
    precision: str  # float32, or bfloat16 or float16 under autocast
    long_text: str  # what of a longer review is read


@dataclass(frozen=True)
class Trained:
    """What came out of a training."""

    model: Any
    tokenizer: Any
    metrics: dict[str, Any]  # on the evaluation examples
    curve: list[dict[str, float]]  # one entry a logged step, evaluations among them
    facts: dict[str, Any]  # steps, seconds, device, rows that were cut
    held_out: tuple[Any, Any] | None  # logits (rows, labels) and labels (rows,) of the evaluation examples


def train(
    model: Any,
    tokenizer: Any,
    examples: Examples,
    evaluated: Examples,
    names: Sequence[str],
    plan: Plan,
    checkpoints: Path,
    reporter: Reporter,
    *,
    resume_from: Path | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Trained:
    """Fine-tune the model on the examples and measure it after every epoch.

    Checkpoints go to `checkpoints`. When `stop` says so the training writes a last checkpoint and returns early:
    the caller knows that it asked. Raises DeviceError when the loss is no longer a number, or out of memory.
    """
    import numpy as np
    import torch
    import transformers
    from transformers.trainer_pt_utils import get_length_grouped_indices

    text_encoder = make_text_encoder(tokenizer, plan.max_length, plan.long_text)
    training_set, lengths, cut = encode(examples, text_encoder)
    evaluation_set, _, evaluation_cut = encode(evaluated, text_encoder)
    metric = load_metric(names)
    figures: dict[str, Any] = {}
    held_out: list[tuple[Any, Any]] = []

    def compute_metrics(prediction: Any) -> dict[str, float]:
        figures.clear()
        held_out[:] = [(prediction.predictions, prediction.label_ids)]
        winners = np.argmax(prediction.predictions, axis=-1)
        figures.update(metric.compute(predictions=winners, references=prediction.label_ids))
        return {name: value for name, value in figures.items() if name != "per_class"}

    class Order(torch.utils.data.Sampler):  # type: ignore[misc]  # torch is untyped here
        """Random batches of similar lengths, the same for an epoch whether or not the training was interrupted.

        Of 4,000 IMDB reviews at 512 tokens and batch 16, 46 % of the tokens are padding in random order, 2 % in this
        one (19 % and 1 % at 256). transformers' own group_by_length draws from the global random state, which is
        another one when a training goes on in the middle of an epoch.
        """

        epoch = 0

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

        def __len__(self) -> int:
            return len(lengths)

        def __iter__(self) -> Iterator[int]:
            generator = torch.Generator().manual_seed(plan.seed + self.epoch)
            return iter(get_length_grouped_indices(lengths, plan.batch_size, generator=generator))

    class LengthTrainer(transformers.Trainer):  # type: ignore[misc]  # transformers is untyped here
        """A Trainer whose batches hold reviews of one length."""

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return Order()

    if plan.device == "cpu" and plan.precision == "bfloat16":
        # Fused attention is slow there: of 384 tokens in 12 heads of 32 it makes a step 1.3 times as long.
        model.set_attn_implementation("eager")
    steps = math.ceil(math.ceil(len(examples.texts) / plan.batch_size) * plan.epochs)
    arguments = transformers.TrainingArguments(
        output_dir=str(checkpoints),
        seed=plan.seed,
        learning_rate=plan.learning_rate,
        num_train_epochs=plan.epochs,
        per_device_train_batch_size=plan.batch_size,
        per_device_eval_batch_size=plan.eval_batch_size,
        weight_decay=plan.weight_decay,
        warmup_steps=round(plan.warmup * steps) if plan.warmup < 1 else round(plan.warmup),
        eval_strategy="epoch",
        save_strategy=plan.save_strategy,
        save_steps=plan.save_steps,
        save_total_limit=2,  # one to go on from, and the one before should that be half written
        logging_steps=max(1, steps // CURVE_POINTS),
        logging_nan_inf_filter=False,  # a loss that is no number must be seen
        dataloader_pin_memory=plan.device == "cuda",
        use_cpu=plan.device == "cpu",
        bf16=plan.precision == "bfloat16",
        fp16=plan.precision == "float16",
        report_to="none",
        disable_tqdm=True,  # its bars write to stdout too; the reporter has one of its own
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # DataParallel would multiply the batch size by the number of GPUs
    trainer = LengthTrainer(
        model=model,
        args=arguments,
        train_dataset=training_set,
        eval_dataset=evaluation_set,
        processing_class=tokenizer,
        data_collator=transformers.DataCollatorWithPadding(tokenizer),
        compute_loss_func=mean_loss,
        compute_metrics=compute_metrics,
    )
    trainer.remove_callback(transformers.PrinterCallback)  # it prints to stdout, which belongs to data
    trainer.add_callback(watcher(reporter, stop, plan.batch_size, len(lengths) * plan.epochs))
    try:
        with writing(checkpoints), first_token_only(model):
            outcome = trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
        if not figures and not stop():
            trainer.evaluate()  # the last epoch was measured before it was interrupted
    except torch.OutOfMemoryError as error:
        raise DeviceError(
            "out of memory while training", hint=f"use a --batch-size below {plan.batch_size} or a smaller --max-length"
        ) from error
    except torch.AcceleratorError as error:
        raise DeviceError(
            f"the device failed while training: {printable(str(error).splitlines()[0])}",
            hint="run the same command again: it goes on from the last checkpoint",
        ) from error
    if not all(torch.isfinite(weight).all() for weight in trainer.model.parameters()):
        raise diverged()
    history = trainer.state.log_history
    return Trained(
        model=trainer.model.to("cpu"),
        tokenizer=tokenizer,
        metrics={"loss": next((e["eval_loss"] for e in reversed(history) if "eval_loss" in e), None), **figures},
        curve=[entry for entry in history if "loss" in entry or "eval_loss" in entry],
        facts={
            "steps": outcome.global_step,
            "train_loss": float(outcome.training_loss),
            "runtime_s": round(float(outcome.metrics["train_runtime"]), 3),
            "resumed_at_step": step_of(resume_from) if resume_from else None,
            "parameters": sum(weight.numel() for weight in trainer.model.parameters()),
            "train_rows_cut": cut,
            "eval_rows_cut": evaluation_cut,
        },
        held_out=held_out[0] if held_out else None,
    )


def encode(examples: Examples, text_encoder: TextEncoder) -> tuple[Any, list[int], int]:
    """Tokenize examples into a `datasets.Dataset`, as scoring does.

    Also return each one's number of tokens, and how many lost tokens to the limit.
    """
    import datasets
    import pyarrow as pa

    tokens = text_encoder.encode(examples.texts)
    # A teacher's probabilities take the labels' place: the loss is the cross entropy with either.
    labels = examples.labels if examples.targets is None else list(examples.targets)
    columns = {"input_ids": pa.LargeListArray.from_arrays(tokens.offsets, tokens.ids), "labels": pa.array(labels)}
    data = datasets.Dataset(datasets.table.InMemoryTable(pa.table(columns)))
    return data, tokens.lengths.tolist(), int((tokens.tokens_cut > 0).sum())


def mean_loss(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
    """Return the cross entropy with class numbers (rows,) or with probabilities (rows, labels).

    `num_items_in_batch` is the Trainer's count of label cells in all batches of a step.
    """
    from torch.nn.functional import cross_entropy

    if num_items_in_batch is None:
        return cross_entropy(outputs.logits.float(), labels)
    cells = labels[0].numel()
    return cross_entropy(outputs.logits.float(), labels, reduction="sum") * cells / num_items_in_batch


def diverged() -> DeviceError:
    """Return the error of a training whose numbers left the number line."""
    return DeviceError(
        "the loss is no longer a finite number: the training diverged, no model was written",
        hint="use a smaller --learning-rate, or --warmup 0.1",
        diverged=True,
    )


def watcher(reporter: Reporter, stop: Callable[[], bool], batch_size: int, rows: float) -> Any:
    """Return a Trainer callback that says how far the training is, and ends it when asked or when it diverged."""
    import transformers

    class Watcher(transformers.TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
        """Progress by rows, and a line an evaluation."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            reporter.progress(min(round(rows), state.global_step * batch_size), round(rows))
            if stop():
                control.should_save = args.save_strategy != "no"
                control.should_evaluate, control.should_training_stop = False, True

        def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if stop():
                control.should_evaluate = False  # whoever stops a run does not wait for figures

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
            logs = logs or {}
            if not all(math.isfinite(logs[name]) for name in ("loss", "grad_norm", "eval_loss") if name in logs):
                raise diverged()
            if "eval_loss" in logs:
                reporter.notice(
                    f"epoch {state.epoch or 0:.2f}, step {state.global_step} of {state.max_steps}:"
                    f" loss {logs['eval_loss']:.4f}, accuracy {logs['eval_accuracy']:.4f},"
                    f" macro F1 {logs['eval_macro_f1']:.4f}"
                )

    return Watcher()


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep bars and load reports of transformers and datasets off the terminal while the block runs."""
    import datasets
    import transformers

    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    dataset_bars = datasets.are_progress_bars_disabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
        if not dataset_bars:
            datasets.enable_progress_bars()
