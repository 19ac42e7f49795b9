"""A search over learning rate, epochs and batch size, by Trainer and optuna.

Trials are measured on rows held out of the training rows; this module never sees the evaluation
rows.
"""

import dataclasses
import importlib.util
import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from batchsent.errors import DeviceError, UsageError
from batchsent.files import atomic
from batchsent.model.tokens import make_text_encoder
from batchsent.reporting import Reporter
from batchsent.training.checkpoints import TRIALS
from batchsent.training.hf_trainer import Measurements, encode, make_trainer, trainer_class
from batchsent.training.plan import Plan, Splits, describe_epochs
from batchsent.training.train import device_errors, make_loss
from batchsent.training.watching import LOSS, watcher

SEARCHED = ("learning_rate", "epochs", "batch_size")


def check_optuna() -> None:
    """Raise UsageError when the package that chooses what to try is not installed."""
    if importlib.util.find_spec("optuna") is None:
        raise UsageError(
            "--trials needs optuna", hint='install it: pip install "batchsent[search]"'
        )


class Progress(Reporter):
    """Passes on how far a trial is; the epochs of each trial are not shown."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def stage(self, text: str) -> None:
        """Say what is being done."""
        self._reporter.stage(f"trying settings: {text}")

    def progress(self, rows: int, total_rows: int | None, *, reused_rows: int = 0) -> None:
        """Say how many rows are done, of how many."""
        self._reporter.progress(rows, total_rows, reused_rows=reused_rows)


def search(
    make_model: Callable[[], Any],
    tokenizer: Any,
    splits: Splits,
    names: Sequence[str],
    plan: Plan,
    count: int,
    folder: Path,
    reporter: Reporter,
    *,
    stop: Callable[[], bool] = lambda: False,
) -> list[dict[str, Any]]:
    """Try `count` settings around the plan's, and return the results in order.

    The first trial is the plan itself, so that the search cannot end below it. Learning rates are
    drawn from a quarter to four times the plan's, epochs and batch size from its half, itself and
    its double. optuna's sampler has the plan's seed: the same data and options try the same.
    Measured are the validation rows after the last epoch. A trial that diverges or does not fit
    into memory has no loss, and its `failure` says why.

    Finished trials are kept in `folder`, where a search that was stopped finds them. Ends early
    when `stop` says so: the caller knows that it asked.
    """
    import transformers

    assert splits.validation is not None
    plan = dataclasses.replace(plan, early_stopping=None, save_strategy="no")
    text_encoder = make_text_encoder(tokenizer, plan.max_length, plan.long_text)
    encoded = encode(splits.train, text_encoder, soft_labels=True)
    ledger = Ledger(folder, count, reporter)
    measurements = Measurements(names)
    trainer = make_trainer(
        None,
        tokenizer,
        encoded,
        encode(splits.validation, text_encoder),
        plan,
        folder,
        measurements=measurements,
        loss=make_loss(splits, names, plan),
        make=trials_class(ledger, plan, measurements, stop),
        model_init=make_model,
    )
    trainer.add_callback(watcher(plan, len(encoded.lengths), Progress(reporter), stop))
    run_study(trainer, plan, len(encoded.lengths), ledger)
    transformers.set_seed(plan.seed)
    return ledger.runs


class Ledger:
    """What every trial gave, written down at once, so that a stopped search does none twice."""

    def __init__(self, folder: Path, count: int, reporter: Reporter) -> None:
        self.count = count
        self.runs = known_trials(folder)[:count]
        self._folder, self._reporter = folder, reporter
        if self.runs:
            reporter.notice(f"{len(self.runs)} of {count} trials are done already")

    def add(self, run: dict[str, Any]) -> None:
        """Write down one trial, and say what it gave."""
        self.runs.append(run)
        atomic.write_file(self._folder / TRIALS, json.dumps(self.runs, indent=1).encode())
        self._reporter.notice(describe(run, self.count))


def trials_class(
    ledger: Ledger, plan: Plan, measurements: Measurements, stop: Callable[[], bool]
) -> Any:
    """Return the Trainer of a search: each of its trainings is a trial.

    A function, for optuna and transformers are imported only where they are used.
    """
    import optuna

    class Trials(trainer_class()):  # type: ignore[misc]  # transformers is untyped here
        """A Trainer that writes down what every trial gave, and does none twice."""

        def train(self, resume_from_checkpoint: Any = None, trial: Any = None, **_: Any) -> None:
            self.hp_space(trial)
            if trial.number >= len(ledger.runs):
                run = self.attempt(trial)
                if run is None:
                    trial.study.stop()
                    raise optuna.TrialPruned
                ledger.add({"trial": trial.number + 1, **trial.params, **run})
            self.objective = ledger.runs[trial.number]["loss"]
            if self.objective is None:
                raise optuna.TrialPruned

        def attempt(self, trial: Any) -> dict[str, Any] | None:
            started = time.monotonic()
            try:
                with device_errors(plan):
                    super().train(trial=trial)
                if stop():
                    return None
                losses = [entry[LOSS] for entry in self.state.log_history if LOSS in entry]
                found = {
                    "loss": losses[-1],
                    **{name: measurements.figures[name] for name in ("accuracy", "macro_f1")},
                }
            except DeviceError as error:
                if is_device_gone(error):
                    raise  # and with it all other trials
                found = {"loss": None, "failure": error.message}
            return {**found, "runtime_s": round(time.monotonic() - started, 3)}

    return Trials


def is_device_gone(error: DeviceError) -> bool:
    """Tell whether a device failed for other reasons than too little memory."""
    import torch

    cause = error.__cause__
    failed = isinstance(cause, torch.AcceleratorError)
    return failed and not isinstance(cause, torch.OutOfMemoryError)


def run_study(trainer: Any, plan: Plan, rows: int, ledger: Ledger) -> None:
    """Let optuna choose what to try, from the plan's own settings on."""
    import optuna

    def space(trial: Any) -> dict[str, Any]:
        epochs = [plan.epochs / 2, plan.epochs, plan.epochs * 2]
        tried = dataclasses.replace(
            plan,
            learning_rate=trial.suggest_float(
                "learning_rate", plan.learning_rate / 4, plan.learning_rate * 4, log=True
            ),
            epochs=trial.suggest_categorical("epochs", epochs),
            batch_size=trial.suggest_categorical("batch_size", batch_sizes(plan)),
        )
        return tried.trainer_arguments(rows)

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(storage=storage, study_name="batchsent")
    study.enqueue_trial({name: getattr(plan, name) for name in SEARCHED})
    try:
        trainer.hyperparameter_search(
            hp_space=space,
            compute_objective=lambda metrics: float(metrics[LOSS]),
            n_trials=ledger.count,
            direction="minimize",
            backend="optuna",
            storage=storage,
            study_name="batchsent",
            load_if_exists=True,
            sampler=optuna.samplers.TPESampler(seed=plan.seed),
            # a trial cut short is not comparable with one that was not
            pruner=optuna.pruners.NopPruner(),
        )
    except ValueError:
        if any(run["loss"] is not None for run in ledger.runs):
            raise
        # optuna has no best trial to return: no trial came to its end


def choose(runs: Sequence[dict[str, Any]], plan: Plan) -> tuple[Plan, dict[str, Any]]:
    """Return the plan with the best trial's settings, and the search for metrics.json.

    The best has the smallest loss; of equals it is the first.

    Raises DeviceError when no trial came to its end.
    """
    ended = [run for run in runs if run["loss"] is not None]
    if not ended:
        raise DeviceError(
            f"no trial of {len(runs)} came to its end: "
            f"{runs[0]['failure'] if runs else 'no trial was made'}",
            hint="use a smaller --learning-rate or --batch-size",
            diverged=True,
        )
    best = min(ended, key=lambda run: float(run["loss"]))
    settings = {name: best[name] for name in SEARCHED}
    found = {
        "seed": plan.seed,
        "chosen": best["trial"],
        "chosen_by": "smallest loss on held-out training rows",
    }
    return dataclasses.replace(plan, **settings), found | {"runs": list(runs)}


def describe_choice(trials: dict[str, Any]) -> str:
    """Return a line about what a search chose."""
    best = next(run for run in trials["runs"] if run["trial"] == trials["chosen"])
    return f"trial {best['trial']} is the best of {len(trials['runs'])}: {settings_of(best)}"


def batch_sizes(plan: Plan) -> list[int]:
    """Return the batch sizes to try: half, the plan's own and double."""
    return sorted({max(1, plan.batch_size // 2), plan.batch_size, plan.batch_size * 2})


def known_trials(folder: Path) -> list[dict[str, Any]]:
    """Return what an earlier search of the same training wrote down.

    Nothing where that is damaged.
    """
    with suppress(OSError, ValueError):
        runs = json.loads((folder / TRIALS).read_text(encoding="utf-8"))
        if isinstance(runs, list) and all(isinstance(run, dict) and "loss" in run for run in runs):
            return runs
    return []


def describe(run: dict[str, Any], count: int) -> str:
    """Return a line about a trial."""
    start = f"trial {run['trial']} of {count}: {settings_of(run)}"
    if run["loss"] is None:
        return f"{start}: {run['failure']}"
    return f"{start}: loss {run['loss']:.4f}, accuracy {run['accuracy']:.4f}"


def settings_of(run: dict[str, Any]) -> str:
    """Return the settings of a trial in words."""
    epochs = describe_epochs(run["epochs"])
    return f"learning rate {run['learning_rate']:.2e}, {epochs}, batch {run['batch_size']}"
