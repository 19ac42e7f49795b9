"""Callbacks of a training: progress, stop on request, on divergence, without progress."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from batchsent.errors import DeviceError
from batchsent.reporting import Reporter
from batchsent.training.plan import Plan

# On the evaluation rows, or on the held-out rows where there are some to choose by.
LOSS = "eval_loss"


def diverged() -> DeviceError:
    """Return the error of a training that diverged: its loss is not finite."""
    return DeviceError(
        "the loss is no longer a finite number: the training diverged, no model was written",
        hint="use a smaller --learning-rate, or --warmup 0.1",
        diverged=True,
    )


def stopped_learning(history: Sequence[Mapping[str, float]], patience: int | None) -> bool:
    """Tell whether the last `patience` evaluations had no smaller loss than before.

    The log is part of every checkpoint, so that a training that goes on from one knows what
    transformers' own callback would have forgotten.
    """
    losses = [entry[LOSS] for entry in history if LOSS in entry]
    return (
        patience is not None
        and bool(losses)
        and len(losses) - 1 - losses.index(min(losses)) >= patience
    )


def evaluation_is_missing(state: Mapping[str, Any], plan: Plan) -> bool:
    """Tell whether a checkpoint was written where an evaluation is due, and before it was made.

    `state` is its trainer_state.json. Whoever goes on from there must evaluate first.
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


def watcher(plan: Plan, rows: int, reporter: Reporter, stop: Callable[[], bool]) -> Any:
    """Return a Trainer callback that says how far the training is and when it is to end.

    `rows` are the training rows; `stop` is asked after every step and must say the same in every
    process.
    """
    import transformers

    # float16's gradients overflow now and then: its scaler skips the step and goes on with a
    # smaller scale.
    finite = ("loss", LOSS) if plan.precision == "float16" else ("loss", "grad_norm", LOSS)

    class Watcher(transformers.TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
        """Progress by rows, and a line an evaluation."""

        stopping = False

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            # Not the plan's: a search changes epochs and batch size from trial to trial.
            total = round(rows * args.num_train_epochs)
            step_rows = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
            reporter.progress(min(total, state.global_step * step_rows), total)
            self.stopping = stop()
            if not self.stopping:
                return
            control.should_training_stop = True
            if plan.early_stopping is None:
                # Whoever stops a run does not wait for figures; a run that goes on makes them.
                control.should_save, control.should_evaluate = args.save_strategy != "no", False
            elif args.save_strategy == "steps" or not state.epoch.is_integer():
                # at the end of an epoch behind its evaluation: it may be the best
                control.should_save = True

        def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            # Also comes where a training is stopped within an epoch.
            if self.stopping and (plan.early_stopping is None or not state.epoch.is_integer()):
                control.should_evaluate = False

        def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if stopped_learning(state.log_history, plan.early_stopping):
                control.should_training_stop = True

        def on_log(
            self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
        ) -> None:
            logs = logs or {}
            if not all(math.isfinite(logs[name]) for name in finite if name in logs):
                raise diverged()
            if LOSS in logs:
                reporter.notice(
                    f"epoch {state.epoch or 0:.2f}, step {state.global_step} of {state.max_steps}:"
                    f" loss {logs[LOSS]:.4f}, accuracy {logs['eval_accuracy']:.4f},"
                    f" macro F1 {logs['eval_macro_f1']:.4f}"
                )

    return Watcher()
