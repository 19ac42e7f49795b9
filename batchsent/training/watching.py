"""Callbacks of a training: progress, stop on request, on divergence, without progress."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from batchsent.errors import DeviceError
from batchsent.reporting import Reporter
from batchsent.training.checkpoints import write_clock
from batchsent.training.plan import Plan

# On the evaluation rows, or on the held-out rows where there are some to choose by.
LOSS = "eval_loss"
# Of a pre-training only.
PERPLEXITY = "eval_perplexity"


def diverged(plan: Plan, hint: str | None = None) -> DeviceError:
    """Return the error of a training that diverged: its loss is not finite.

    Without a hint it speaks of the learning rate.
    """
    if hint is None:
        hint = f"use a --learning-rate below {plan.learning_rate:g}"
        if not plan.warmup:
            hint += ", or --warmup 0.1"
    return DeviceError(
        "the loss is no longer a finite number: the training diverged, no model was written",
        hint=hint,
        diverged=True,
    )


def stopped_learning(history: Sequence[Mapping[str, float]], patience: int | None) -> bool:
    """Tell whether the last `patience` evaluations had no smaller loss than before.

    The log is part of every checkpoint, so that a resumed training knows what transformers' own
    callback would have forgotten.
    """
    losses = [entry[LOSS] for entry in history if LOSS in entry]
    return (
        patience is not None
        and bool(losses)
        and len(losses) - 1 - losses.index(min(losses)) >= patience
    )


def evaluation_is_missing(state: Mapping[str, Any], plan: Plan) -> bool:
    """Tell whether a checkpoint was written where an evaluation is due, and before it was made.

    `state` is its trainer_state.json. A training that resumes there must evaluate first.
    """
    by_step = plan.early_stopping is not None and plan.save_strategy == "steps"
    due = (
        state["global_step"] % plan.save_steps == 0
        if by_step
        else float(state["epoch"]).is_integer()
    )
    return due and not any(
        LOSS in entry and entry["step"] == state["global_step"] for entry in state["log_history"]
    )


class Stages:
    """Shows how far a training is: its rows, and those of the evaluations in between.

    `args` and `state` are the Trainer's, whose epochs and batch size a search changes from trial to
    trial.
    """

    def __init__(self, rows: int, reporter: Reporter, name: str = "training") -> None:
        self._rows = rows  # training rows
        self._reporter, self._name = reporter, name
        # Rows trained before the stage began: the pace is that of the others.
        self._reused_rows = 0
        self._measured_batches = 0  # of the evaluation that runs

    def train(self, args: Any, state: Any) -> None:
        """Begin the stage of training, or return to it after an evaluation."""
        self._reused_rows = self._rows_until(args, state)
        self._reporter.stage(self._name)

    def train_step(self, args: Any, state: Any) -> None:
        """Show the rows after a step."""
        total = round(self._rows * args.num_train_epochs)
        done = self._rows_until(args, state)
        self._reporter.progress(done, total, reused_rows=self._reused_rows)

    def measure_batch(self, args: Any, rows: int) -> None:
        """Show the rows after a batch of an evaluation of `rows` rows."""
        if self._measured_batches == 0:
            self._reporter.stage("measuring")
        self._measured_batches += 1
        batch_rows = args.eval_batch_size * args.world_size
        self._reporter.progress(min(rows, self._measured_batches * batch_rows), rows)

    def end_measuring(self, args: Any, state: Any) -> None:
        """Return to the training, where it is not over."""
        self._measured_batches = 0
        if state.global_step < state.max_steps:
            self.train(args, state)

    def _rows_until(self, args: Any, state: Any) -> int:
        step_rows = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        total = round(self._rows * args.num_train_epochs)
        return int(min(total, state.global_step * step_rows))


def watcher(
    plan: Plan,
    rows: int,
    reporter: Reporter,
    stop: Callable[[], bool],
    earlier_s: float = 0.0,
    *,
    stage: str = "training",
    hint: str | None = None,
) -> Any:
    """Return a Trainer callback that says how far the training is and when it is to end.

    `rows` are the training rows; `stop` is asked after every step and must say the same in every
    process. `earlier_s` is what an interrupted training took until the checkpoint that it resumes
    from; every checkpoint notes the sum. `stage` is what is shown, `hint` what a person can do
    where the training diverges.
    """
    import transformers

    stages = Stages(rows, reporter, stage)

    class Watcher(transformers.TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
        """Progress by rows, a line an evaluation, and the end."""

        stopping = False
        started = time.monotonic()

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.started = time.monotonic()
            stages.train(args, state)

        def on_prediction_step(
            self, args: Any, state: Any, control: Any, eval_dataloader: Any = None, **_: Any
        ) -> None:
            stages.measure_batch(args, len(eval_dataloader.dataset))

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            stages.train_step(args, state)
            self.stopping = stop()
            if self.stopping:
                end_training(plan, args, state, control)

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.is_world_process_zero:
                checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
                write_clock(checkpoint, earlier_s + time.monotonic() - self.started)

        def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            # Also comes where a training is stopped within an epoch.
            if self.stopping and (plan.early_stopping is None or not state.epoch.is_integer()):
                control.should_evaluate = False

        def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            stages.end_measuring(args, state)
            if stopped_learning(state.log_history, plan.early_stopping):
                control.should_training_stop = True

        def on_log(
            self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
        ) -> None:
            check_finite(plan, logs or {}, hint)
            if logs and LOSS in logs:
                reporter.notice(describe_evaluation(state, logs))

    return Watcher()


def end_training(plan: Plan, args: Any, state: Any, control: Any) -> None:
    """Tell the Trainer to stop after this step, with a checkpoint to resume from."""
    control.should_training_stop = True
    if plan.early_stopping is None:
        # A stop does not wait for figures: the run that resumes here makes them.
        control.should_save, control.should_evaluate = args.save_strategy != "no", False
    elif args.save_strategy == "steps" or not state.epoch.is_integer():
        # at the end of an epoch after its evaluation: it may be the best
        control.should_save = True


def check_finite(plan: Plan, logs: Mapping[str, float], hint: str | None = None) -> None:
    """Raise DeviceError where the Trainer logs a number that is not finite."""
    names = ["loss", LOSS]
    # float16's gradients overflow now and then: its scaler skips the step and takes a smaller
    # scale.
    if plan.precision != "float16":
        names.append("grad_norm")
    if not all(math.isfinite(logs[name]) for name in names if name in logs):
        raise diverged(plan, hint)


def describe_evaluation(state: Any, logs: Mapping[str, float]) -> str:
    """Return a line about an evaluation."""
    figures = {"accuracy": "eval_accuracy", "macro F1": "eval_macro_f1"}
    words = "loss"
    if PERPLEXITY in logs:
        figures, words = {"perplexity": PERPLEXITY}, "loss on masked tokens"
    found = "".join(f", {name} {logs[key]:.4f}" for name, key in figures.items())
    return (
        f"epoch {state.epoch or 0:.2f}, step {state.global_step} of {state.max_steps}:"
        f" {words} {logs[LOSS]:.4f}{found}"
    )
