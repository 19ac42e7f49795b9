"""`batchsent finetune`: labelled reviews to a model folder, from the checks to publishing."""

import dataclasses
import datetime
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
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
from batchsent.training import pretraining, search, train
from batchsent.training.base import find_base
from batchsent.training.checkpoints import PRETRAINING, Checkpoints
from batchsent.training.checks import check_extras, check_inputs, check_output
from batchsent.training.examples import describe
from batchsent.training.few_rows import must_beat_base
from batchsent.training.masked_model import check_family
from batchsent.training.measure import measure
from batchsent.training.model import make_tokenizer, new_model
from batchsent.training.notices import say_result, say_where, say_where_it_resumes
from batchsent.training.options import (
    FEW_ROWS,
    OUTPUT,
    FinetuneOptions,
    check_options,
    public_options,
)
from batchsent.training.plan import Setup, Trained, describe_sides, make_plan
from batchsent.training.pretraining import Pretrained, pretrain
from batchsent.training.processes import Processes, launched
from batchsent.training.publish import check_hub, push, write_folder
from batchsent.training.rows import find_rows
from batchsent.training.seen import seen_by
from batchsent.training.trackers import tensorboard_folder
from batchsent.training.unlabelled import find_unlabelled
from batchsent.versions import TRAINING, versions

SCHEMA = "batchsent.model/1"


def finetune(
    output: str | Path = OUTPUT, *, reporter: Reporter | None = None, **options: Any
) -> dict[str, Any]:
    """Fine-tune an encoder on labelled reviews, write a model folder, and return its metrics.json.

    Options are those of FinetuneOptions. Without any, DistilBERT learns from 4,000 reviews of IMDB,
    as in the notebook that its users know. The folder appears whole or not at all; a run that was
    killed or stopped resumes from its last checkpoint when it is started again. Where torchrun or
    accelerate launch started several processes they train one model together; only the first of
    them writes files and messages.

    Raises UsageError for options or columns that do not fit together and for an output that exists,
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
        messages = reporter if reporter is not None and processes.first else Reporter()
        base = "a new model" if settings.from_scratch else printable(settings.base_model)
        messages.notice(
            f"fine-tuning {base} on {printable(settings.train)} into {printable(final)}"
        )
        stack.enter_context(train.quiet_libraries())
        return train_and_publish(final, settings, messages, signals, processes)


def train_and_publish(
    final: Path,
    settings: FinetuneOptions,
    reporter: Reporter,
    signals: Signals,
    processes: Processes,
) -> dict[str, Any]:
    """Train, write the model folder, and upload it where asked; the options are checked already."""
    with processes.sync_errors():
        setup = prepare(settings, reporter, processes.count)
    work = final.absolute().with_name(f"{final.name}.training")
    with opened_checkpoints(work, setup, settings, processes, reporter) as (checkpoints, latest):
        reporter.stage("loading the base model")
        with processes.sync_errors():
            tokenizer = make_tokenizer(setup.base, setup.splits.train, setup.plan, reporter)
        with say_where_it_resumes(checkpoints, setup.plan, reporter), signals.deferred():
            pretrained = pretrain(
                setup,
                settings,
                tokenizer,
                work / PRETRAINING,
                processes,
                reporter,
                partial(stop_together, processes, signals),
            )
        encoder = None if pretrained is None else pretrained.encoder
        trials = None
        if settings.trials is not None:
            setup, trials = search_settings(
                setup, tokenizer, encoder, settings.trials, work, reporter, signals
            )
        may_keep_base = must_beat_base(setup, settings)
        with processes.sync_errors():
            model, base_weights = make_models(
                setup, tokenizer, encoder, may_keep_base=may_keep_base
            )
        with (
            say_where_it_resumes(checkpoints, setup.plan, reporter),
            signals.deferred(),
            tensorboard_folder(final),
        ):
            trained = train.train(
                model,
                tokenizer,
                setup.splits,
                setup.names,
                setup.plan,
                work,
                reporter,
                resume_from=latest,
                stop=partial(stop_together, processes, signals),
                report_to=settings.report_to,
                must_beat_base=may_keep_base,
                base_weights=base_weights,
            )
        document = describe_model(setup, settings, trained, pretrained, trials)
        if document["metrics"]["accuracy"] <= document["metrics"]["majority_baseline"]:
            reporter.warning("the model is no better than always saying the most frequent class")
        with processes.sync_errors():
            if checkpoints is not None:
                document |= measure_and_write(
                    final, setup, settings, trained, document, reporter, signals
                )
                checkpoints.finished = not settings.keep_checkpoints
    say_result(document, setup, reporter)
    reporter.notice(f"model: {printable(final)}")
    if settings.push_to_hub is not None and processes.first:
        reporter.stage("uploading")
        reporter.notice(f"uploaded to {printable(push(final, settings.push_to_hub))}")
    return document


def make_models(
    setup: Setup, tokenizer: Any, encoder: Path | None, *, may_keep_base: bool
) -> tuple[Any, dict[str, Any] | None]:
    """Return the model to train, and the base model's weights where pre-training changed them.

    These are None where they are not among what may be kept.
    """
    base_weights = None
    if may_keep_base and encoder is not None:
        base_model = new_model(setup.base, tokenizer, setup.names, setup.plan)
        base_weights = base_model.state_dict()
    return new_model(setup.base, tokenizer, setup.names, setup.plan, encoder), base_weights


def prepare(settings: FinetuneOptions, reporter: Reporter, processes: int) -> Setup:
    """Find the base model, the rows and the device, and say what was found."""
    reporter.stage("looking for the base model")
    base, origin = find_base(settings, reporter)
    if settings.pretrain_on is not None and base is not None:
        check_family(base.path)
    reporter.stage("reading the rows")
    names, splits = find_rows(settings, reporter)
    device = choose_device(settings.device, "float32")
    plan = make_plan(settings, base, device, processes)
    if device.warning is not None:
        reporter.warning(device.warning)
    part = "" if plan.long_text == "head" else f", {plan.long_text} of longer ones"
    if part and settings.long_text is None:
        part += ", as the base model reads them (--long-text names another part)"
    reporter.notice(
        f"device: {device.description}, {plan.precision}; {plan.max_length} tokens a review{part}"
    )
    seen = seen_by(None if base is None else base.path)
    unlabelled = find_unlabelled(settings, splits, plan, reporter)
    data = describe_sides(splits, names)
    setup = Setup(base, origin, names, splits, data, plan, device, seen, unlabelled)
    if unlabelled is not None and must_beat_base(setup, settings):
        reporter.warning(
            f"with fewer than {FEW_ROWS} training rows the base model's weights are kept as they "
            "came, without the pre-training, unless what is learned is clearly better (label more "
            "rows; a --learning-rate that you name is obeyed)"
        )
    return setup


@contextmanager
def opened_checkpoints(
    work: Path, setup: Setup, settings: FinetuneOptions, processes: Processes, reporter: Reporter
) -> Iterator[tuple[Checkpoints | None, Path | None]]:
    """Open the checkpoints in the first process, and tell all processes which is the latest.

    Gives None in place of the checkpoints in the other processes.
    """
    with ExitStack() as stack:
        checkpoints: Checkpoints | None = None
        with processes.sync_errors():
            if processes.first:
                identity = checkpoint_identity(setup, settings)
                kept = Checkpoints(work, identity, restart=settings.restart, resume=settings.resume)
                checkpoints = stack.enter_context(kept)
        latest = processes.broadcast(checkpoints.latest if checkpoints is not None else None)
        if checkpoints is not None:
            say_where(checkpoints, setup.plan, reporter)
        yield checkpoints, latest


def checkpoint_identity(setup: Setup, settings: FinetuneOptions) -> dict[str, Any]:
    """Return what must be equal for a training to resume the checkpoints of another."""
    return {
        "hyperparameters": dataclasses.asdict(setup.plan),
        "trials": settings.trials,
        "labels": setup.names,
        **{f"{name} rows": side["rows_sha256"] for name, side in setup.data.items()},
        "base model": setup.origin["weights_sha256"],
        "pre-training": pretraining.describe(setup, settings),
        "versions": versions(TRAINING),
    }


def search_settings(
    setup: Setup,
    tokenizer: Any,
    encoder: Path | None,
    count: int,
    work: Path,
    reporter: Reporter,
    signals: Signals,
) -> tuple[Setup, dict[str, Any]]:
    """Try settings, and return the setup with the best and the trials for metrics.json.

    Unless early stopping needs them, the validation rows are training rows from then on.
    """

    def make_model() -> Any:
        return new_model(setup.base, tokenizer, setup.names, setup.plan, encoder)

    with signals.deferred():
        runs = search.search(
            make_model,
            tokenizer,
            setup.splits,
            setup.names,
            setup.plan,
            count,
            work,
            reporter,
            stop=signals.stop,
        )
    plan, trials = search.choose(runs, setup.plan)
    reporter.notice(search.describe_choice(trials))
    found = dataclasses.replace(setup, plan=plan)
    if plan.early_stopping is None:
        splits = setup.splits.whole()
        data = setup.data | {"train": describe(splits.train, setup.names)}
        found = dataclasses.replace(found, splits=splits, data=data)
    return found, trials


def stop_together(processes: Processes, signals: Signals) -> bool:
    """Tell whether to stop, in all processes alike.

    A launcher's signal need not come to all processes before the same step, nor to all of them at
    all.
    """
    signals.received = processes.first_set(signals.received)
    return signals.stop()


def measure_and_write(
    final: Path,
    setup: Setup,
    settings: FinetuneOptions,
    trained: Trained,
    document: dict[str, Any],
    reporter: Reporter,
    signals: Signals,
) -> dict[str, Any]:
    """Measure the trained model, write its folder, and return metrics.json as it is there."""
    assert trained.held_out is not None
    whole = document | measure(setup, trained.held_out[0], reporter)
    reporter.stage("writing the model")
    with signals.deferred():
        write_folder(
            final,
            trained,
            whole,
            setup,
            overwrite=settings.overwrite,
            save=settings.torch_save,
        )
    return whole


def describe_model(
    setup: Setup,
    settings: FinetuneOptions,
    trained: Trained,
    pretrained: Pretrained | None,
    trials: dict[str, Any] | None,
) -> dict[str, Any]:
    """Return metrics.json, but for what is known once the folder is written."""
    evaluated = setup.data["eval"]
    majority = max(evaluated["labels"].values()) / evaluated["rows"]
    return {
        "schema": SCHEMA,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "labels": setup.names,
        "metrics": {**trained.metrics, "majority_baseline": majority},
        "base_model": setup.origin,
        "data": setup.data,
        "hyperparameters": dataclasses.asdict(setup.plan),
        "pretraining": None if pretrained is None else pretrained.facts,
        "trials": trials,
        "options": public_options(settings),
        "training": {"device": setup.device.description, **trained.facts},
        "torch_save": settings.torch_save is not None,
        "versions": versions(TRAINING),
    }
