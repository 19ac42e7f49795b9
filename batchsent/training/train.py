"""A model and examples -> a trained classifier with its curve: the story of one training."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from batchsent.errors import DeviceError
from batchsent.model.tokens import make_text_encoder
from batchsent.reporting import Reporter
from batchsent.text import first_line
from batchsent.training.adapters import merge_adapters
from batchsent.training.checkpoints import STATE, read_clock, step_of, writing
from batchsent.training.few_rows import BaseWeights
from batchsent.training.hf_trainer import (
    Encoded,
    Loss,
    Measurements,
    balanced_weights,
    cross_entropy,
    encode,
    make_trainer,
)
from batchsent.training.plan import Plan, Splits, Trained
from batchsent.training.processes import lost_processes
from batchsent.training.watching import (
    LOSS,
    diverged,
    evaluation_is_missing,
    stopped_learning,
    watcher,
)

CURVE_COLUMNS = ("step", "epoch", "loss", "learning_rate", "grad_norm")


def train(
    model: Any,
    tokenizer: Any,
    splits: Splits,
    names: Sequence[str],
    plan: Plan,
    checkpoints: Path,
    reporter: Reporter,
    *,
    resume_from: Path | None = None,
    stop: Callable[[], bool] = lambda: False,
    report_to: str = "none",
    must_beat_base: bool = False,
    base_weights: Mapping[str, Any] | None = None,
) -> Trained:
    """Fine-tune the model and measure it on the evaluation rows.

    It is measured after every epoch, on the validation rows where there are some: then the weights
    with the smallest loss there are kept, and the evaluation rows are seen once, at the end. With
    `must_beat_base` the base's weights are kept unless the trained ones are clearly better on the
    rows that are measured after every epoch (few_rows.py); `base_weights` are these where the
    model has others already.
    Checkpoints go to `checkpoints`. When `stop` says so, in all processes of a training alike, it
    writes a last checkpoint and returns early: the caller knows that it asked. Raises DeviceError
    when the loss is no longer a number, out of memory, or when another process of the training is
    gone.
    """
    reporter.stage("tokenizing")
    text_encoder = make_text_encoder(tokenizer, plan.max_length, plan.long_text)
    training = encode(splits.train, text_encoder, soft_labels=True)
    evaluation = encode(splits.evaluation, text_encoder)
    chosen_by = evaluation if splits.validation is None else encode(splits.validation, text_encoder)
    measurements = Measurements(names)
    trainer = make_trainer(
        model,
        tokenizer,
        training,
        chosen_by,
        plan,
        checkpoints,
        measurements=measurements,
        loss=make_loss(splits, names, plan),
        report_to=report_to,
    )
    earlier_s = read_clock(resume_from)
    trainer.add_callback(watcher(plan, len(training.lengths), reporter, stop, earlier_s))
    with device_errors(plan), lost_processes():
        base = BaseWeights(trainer, measurements, base_weights) if must_beat_base else None
        with writing(checkpoints):
            runtime_s, train_loss = learn(trainer, plan, resume_from)
        kept_base = False
        if base is not None and not stop():
            kept_base = base.restore_unless_better(trainer, measurements)
        loss = last_loss(
            trainer, evaluation, measurements, final=splits.validation is not None, stopped=stop()
        )
        if kept_base:  # the curve ends with what was learned
            assert measurements.outputs is not None
            loss = cross_entropy(*measurements.outputs)
    outcome = {
        "train_loss": train_loss,
        "runtime_s": round(earlier_s + runtime_s, 3),
        "resumed_at_step": step_of(resume_from) if resume_from else None,
        "train_rows_cut": training.cut,
        "eval_rows_cut": evaluation.cut,
        "kept_base": kept_base,
    }
    return collect(trainer, tokenizer, measurements, plan, loss, outcome)


def collect(
    trainer: Any,
    tokenizer: Any,
    measurements: Measurements,
    plan: Plan,
    loss: float | None,
    outcome: dict[str, Any],
) -> Trained:
    """Return what came out of a Trainer, adapters merged. Raises DeviceError for lost weights."""
    import torch

    if not all(torch.isfinite(weight).all() for weight in trainer.model.parameters()):
        raise diverged(plan)
    model = trainer.model if plan.lora is None else merge_adapters(trainer.model)
    history = trainer.state.log_history
    return Trained(
        model=model.to("cpu"),
        tokenizer=tokenizer,
        metrics={"loss": loss, **measurements.figures},
        curve=[entry for entry in history if "loss" in entry or LOSS in entry],
        facts={
            **steps_of(trainer.state, plan),
            **outcome,
            "parameters": sum(weight.numel() for weight in model.parameters()),
        },
        held_out=measurements.outputs,
    )


def steps_of(state: Any, plan: Plan) -> dict[str, int | None]:
    """Return how many steps a training took, and which of them gave the weights that were kept."""
    best = state.best_global_step if plan.early_stopping is not None else None
    return {"steps": state.global_step, "best_step": best}


def make_loss(splits: Splits, names: Sequence[str], plan: Plan) -> Loss:
    """Return the loss to train with."""
    balanced = plan.class_weights == "balanced"
    weights = balanced_weights(splits.train.labels, len(names)) if balanced else None
    return Loss(weights, plan.label_smoothing)


def learn(trainer: Any, plan: Plan, resume_from: Path | None) -> tuple[float, float | None]:
    """Train, or resume from a checkpoint; return seconds and mean loss of this run.

    There is no mean loss after a resume: the Trainer has the losses since then alone, and divides
    them by all steps.
    """
    if resume_from is not None:
        state = json.loads((resume_from / STATE).read_text(encoding="utf-8"))
        # Killed between the last checkpoint and the model: one step more would be another model.
        if stopped_learning(state["log_history"], plan.early_stopping):
            trainer.take_best(resume_from)
            return 0.0, None
        trainer.args.eval_on_start = evaluation_is_missing(state, plan)
    outcome = trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    train_loss = float(outcome.training_loss) if resume_from is None else None
    return float(outcome.metrics["train_runtime"]), train_loss


def last_loss(
    trainer: Any, evaluation: Encoded, measurements: Measurements, *, final: bool, stopped: bool
) -> float | None:
    """Return the loss on the evaluation rows, measured now where it is not known.

    None for a stopped training. `final` says that the training was measured on other rows until
    now.
    """
    if stopped:
        return None
    if final:
        # Under a name of its own: the curve is about the rows that the checkpoint was chosen by.
        return float(trainer.evaluate(evaluation.data, metric_key_prefix="test")["test_loss"])
    if not measurements.figures:
        trainer.evaluate()  # the last epoch was measured before it was interrupted
    return next(
        float(entry[LOSS]) for entry in reversed(trainer.state.log_history) if LOSS in entry
    )


def smaller_batches(plan: Plan) -> str:
    """Say how the same training needs less memory: half the batch, twice the passes a step."""
    if plan.batch_size == 1:
        return f"use a --max-length below {plan.max_length}"
    half, passes = plan.batch_size // 2, plan.accumulate * 2
    return (
        f"use --batch-size {half} --accumulate {passes}, or a --max-length below {plan.max_length}"
    )


@contextmanager
def device_errors(plan: Plan) -> Iterator[None]:
    """Turn what torch raises of a device into a DeviceError."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceError(
            "out of memory while training",
            hint=smaller_batches(plan),
        ) from error
    except torch.AcceleratorError as error:
        raise DeviceError(
            f"the device failed while training: {first_line(error)}",
            hint="run the same command again: it resumes from the last checkpoint",
        ) from error


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep bars and load reports of transformers and datasets off the terminal."""
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
