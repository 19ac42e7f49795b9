"""`batchsent finetune`: labelled reviews to a model folder, from the checks to publishing.

Knows nothing of tokens and gradients (training/train.py) or of how rows are read and chosen
(training/rows.py).
"""

import dataclasses
import datetime
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from batchsent.filenames import expand
from batchsent.files import atomic
from batchsent.files.lock import held_lock
from batchsent.files.signals import Signals
from batchsent.model.device import choose_device
from batchsent.options import build
from batchsent.reporting import Reporter
from batchsent.text import printable
from batchsent.training import search, train
from batchsent.training.base import find_base
from batchsent.training.checkpoints import Checkpoints
from batchsent.training.checks import check_extras, check_inputs, check_output
from batchsent.training.examples import describe
from batchsent.training.model import make_tokenizer, new_model
from batchsent.training.options import (
    OUTPUT,
    FinetuneOptions,
    check_options,
    public_options,
)
from batchsent.training.plan import make_plan
from batchsent.training.processes import Processes, launched
from batchsent.training.publish import check_hub, push, versions, write_folder
from batchsent.training.rows import find_rows
from batchsent.training.trackers import tensorboard_folder

SCHEMA = "batchsent.model/1"


def finetune(
    output: str | Path = OUTPUT, *, reporter: Reporter | None = None, **options: Any
) -> dict[str, Any]:
    """Fine-tune an encoder on labelled reviews, write a model folder, and return its metrics.json.

    Options are those of FinetuneOptions. Without any, DistilBERT learns from 4,000 reviews of IMDB,
    as in the notebook that its users know. The folder appears whole or not at all; a run that was
    killed or stopped goes on from its last checkpoint when it is started again. Where torchrun or
    accelerate launch started several processes they train one model together; the first of them
    writes and speaks.

    Raises UsageError for options or columns that cannot be and for an output that exists,
    InputError for data that cannot be read, ModelError for a base model that cannot be used,
    DeviceError when the device fails or the training diverges, OutputError when something cannot be
    written, Locked when another run is at it, Interrupted after a signal.
    """
    settings = build(FinetuneOptions, options)
    final = expand(output)
    with launched(settings.device) as processes, Signals() as signals, ExitStack() as stack:
        with processes.sync_errors():
            check_options(settings)
            check_inputs(settings)
            check_output(final, settings)
            check_extras(settings, processes.count)
            if processes.first:
                if settings.push_to_hub is not None:
                    check_hub(settings.push_to_hub)
                with atomic.output_errors(final):
                    final.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(held_lock(final, 0))
        stack.enter_context(train.quiet_libraries())
        speaking = reporter if reporter is not None and processes.first else Reporter()
        return run(final, settings, speaking, signals, processes)


def run(
    final: Path,
    settings: FinetuneOptions,
    reporter: Reporter,
    signals: Signals,
    processes: Processes,
) -> dict[str, Any]:
    """Do what `finetune` promises, once the options are known to make sense."""
    with processes.sync_errors():
        found, origin = find_base(settings, reporter)
        names, splits = find_rows(settings, reporter)
        device = choose_device(settings.device, "float32")
        plan = make_plan(settings, found, device, processes.count)
    part = "" if plan.long_text == "head" else f", {plan.long_text} of longer ones"
    if device.warning is not None:
        reporter.warning(device.warning)
    reporter.notice(
        f"device: {device.description}, {plan.precision}; {plan.max_length} tokens a review{part}"
    )
    sides = {"train": splits.train, "validation": splits.validation, "eval": splits.evaluation}
    data = {name: describe(side, names) for name, side in sides.items() if side is not None}
    identity = {
        "hyperparameters": dataclasses.asdict(plan),
        "trials": settings.trials,
        "labels": names,
        **{f"{name} rows": side["rows_sha256"] for name, side in data.items()},
        "base model": origin["weights_sha256"],
        "versions": versions(),
    }
    work = final.absolute().with_name(f"{final.name}.training")
    with ExitStack() as stack:
        checkpoints: Checkpoints | None = None
        with processes.sync_errors():
            if processes.first:
                kept = Checkpoints(work, identity, restart=settings.restart, resume=settings.resume)
                checkpoints = stack.enter_context(kept)
        latest = processes.broadcast(checkpoints.latest if checkpoints is not None else None)
        if latest is not None:
            reporter.notice(f"resuming from {printable(latest)}")
        with processes.sync_errors():
            tokenizer = make_tokenizer(found, splits.train, plan, reporter)

        def make_model() -> Any:
            return new_model(found, tokenizer, names, plan)

        trials = None
        if settings.trials is not None:
            with signals.deferred():
                runs = search.search(
                    make_model,
                    tokenizer,
                    splits,
                    names,
                    plan,
                    settings.trials,
                    work,
                    reporter,
                    stop=signals.stop,
                )
            plan, trials = search.choose(runs, plan)
            reporter.notice(search.describe_choice(trials))
            if plan.early_stopping is None:
                splits = splits.whole()
                data["train"] = describe(splits.train, names)
        with processes.sync_errors():
            model = make_model()

        def stop() -> bool:
            # A launcher's signal need not come to all processes before the same step; nor to all of
            # them at all.
            signals.received = processes.first_set(signals.received)
            return signals.stop()

        with signals.deferred(), tensorboard_folder(final):
            trained = train.train(
                model,
                tokenizer,
                splits,
                names,
                plan,
                work,
                reporter,
                resume_from=latest,
                stop=stop,
                report_to=settings.report_to,
            )
        majority = max(data["eval"]["labels"].values()) / data["eval"]["rows"]
        if trained.metrics["accuracy"] <= majority:
            reporter.warning("the model is no better than always saying the most frequent class")
        document = {
            "schema": SCHEMA,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "labels": names,
            "metrics": {**trained.metrics, "majority_baseline": majority},
            "base_model": origin,
            "data": data,
            "hyperparameters": dataclasses.asdict(plan),
            "trials": trials,
            "options": public_options(settings),
            "training": {"device": device.description, **trained.facts},
            "torch_save": settings.torch_save is not None,
            "versions": versions(),
        }
        with processes.sync_errors():
            if checkpoints is not None:
                with signals.deferred():
                    write_folder(
                        final,
                        trained,
                        document,
                        overwrite=settings.overwrite,
                        save=settings.torch_save,
                    )
                checkpoints.finished = not settings.keep_checkpoints
    reporter.notice(f"model: {printable(final)}")
    if settings.push_to_hub is not None and processes.first:
        reporter.notice(f"uploaded to {printable(push(final, settings.push_to_hub))}")
    return document
