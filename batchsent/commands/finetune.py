"""`batchsent finetune`: labelled reviews to a model folder, from the checks to publishing.

Knows nothing of tokens and gradients (training/train.py) or of how rows are read and chosen
(training/rows.py).
"""

import dataclasses
import datetime
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from batchsent.errors import InputError, ModelError, UsageError
from batchsent.filenames import check_new, exists, expand, is_folder, is_regular
from batchsent.files import atomic
from batchsent.files.lock import held_lock
from batchsent.files.signals import Signals
from batchsent.model.device import choose_device
from batchsent.model.folder import check_replaced
from batchsent.model.loading import EMBEDDED, EMBEDDED_FOLDER
from batchsent.options import build
from batchsent.reporting import Reporter
from batchsent.text import printable
from batchsent.training import base, search, train
from batchsent.training.adapters import add_adapters, check_peft
from batchsent.training.checkpoints import Checkpoints
from batchsent.training.examples import Examples, describe
from batchsent.training.from_scratch import make_classifier, train_tokenizer
from batchsent.training.options import (
    BASE_MODEL,
    OUTPUT,
    FinetuneOptions,
    check_options,
    public_options,
)
from batchsent.training.plan import Plan, make_plan
from batchsent.training.processes import Processes, launched
from batchsent.training.publish import check_hub, push, versions, write_folder
from batchsent.training.read_labelled import is_file
from batchsent.training.rows import find_rows
from batchsent.training.trackers import check_reporting, tensorboard_folder

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


def check_inputs(settings: FinetuneOptions) -> None:
    """Refuse a file that is not there, and options about data sets where all is files.

    Raises InputError or UsageError.
    """
    names = {"--train": settings.train} | (
        {"--eval": settings.eval} if settings.eval is not None else {}
    )
    for flag, name in names.items():
        if is_file(name) and not exists(expand(name)):
            raise InputError(f"{flag}: there is no file {printable(name)}", hint="check the path")
    if all(is_file(name) for name in names.values()):
        for name in ("train_split", "eval_split", "dataset_config", "dataset_revision"):
            if getattr(settings, name) != getattr(FinetuneOptions, name):
                raise UsageError(
                    f"--{name.replace('_', '-')} is about data sets of the Hub, not about files"
                )


def check_output(final: Path, settings: FinetuneOptions) -> None:
    """Refuse an output that would destroy something. Raises UsageError."""
    check_new(final, atomic.temporary_path(final))
    if exists(final):
        if not settings.overwrite:
            raise UsageError(
                f"{printable(final)} exists already", hint="choose another name or add --overwrite"
            )
        # --overwrite removes the old folder: it must be a model, not somebody's home.
        if not is_regular(final / "config.json") and not (
            is_folder(final) and not any(final.iterdir())
        ):
            raise UsageError(
                f"{printable(final)} is no model folder, so it is not replaced",
                hint="choose another name",
            )
        check_replaced(final)
    if settings.torch_save is not None:
        saved = Path(settings.torch_save)
        for flag, name in (("--train", settings.train), ("--eval", settings.eval)):
            if name is not None and exists(name) and exists(saved) and saved.samefile(name):
                raise UsageError(
                    f"{flag} and --torch-save are the same file",
                    hint="choose another name for --torch-save",
                )
        check_new(saved, atomic.temporary_path(saved))
        if exists(saved) and not settings.overwrite:
            raise UsageError(
                f"{printable(saved)} exists already", hint="choose another name or add --overwrite"
            )
        if saved.absolute().is_relative_to(final.absolute()):
            raise UsageError(
                "--torch-save lies inside the model folder", hint="give a place beside it"
            )
        if not is_folder(saved.absolute().parent):
            raise UsageError(f"there is no folder {printable(saved.parent)}", hint="make it first")


def check_extras(settings: FinetuneOptions, processes: int) -> None:
    """Refuse options whose package is not installed, or that several processes cannot share.

    Raises UsageError.
    """
    if settings.lora is not None:
        check_peft()
    if settings.trials is not None:
        search.check_optuna()
        if processes > 1:
            raise UsageError(
                "--trials runs in one process",
                hint="search without torchrun, then train with what it chose",
            )
    if settings.report_to != "none":
        check_reporting(settings.report_to)


def find_base(
    settings: FinetuneOptions, reporter: Reporter
) -> tuple[base.Base | None, dict[str, Any]]:
    """Return the base model, None from scratch, and what metrics.json says of it."""
    if settings.from_scratch:
        return None, {"kind": "scratch", "name": None, "revision": None, "weights_sha256": None}
    name = settings.base_model
    try:
        found = base.locate_base(name, settings.revision)
    except ModelError as error:
        if name != BASE_MODEL or settings.revision or not error.details.get("unreachable"):
            raise
        reporter.warning(
            f"the Hub cannot be reached for {name}: starting from the small model that comes with "
            "batchsent"
        )
        name = EMBEDDED
        found = base.locate_base(name, None)
    local = is_folder(expand(name))
    kind = "folder" if local else "hub"
    if found.path == EMBEDDED_FOLDER:
        kind = "embedded"
    return found, {
        "kind": kind,
        "name": found.path.resolve().name if local else name,
        "revision": found.revision,
        "weights_sha256": found.weights_sha256,
    }


def make_tokenizer(found: base.Base | None, train: Examples, plan: Plan, reporter: Reporter) -> Any:
    """Return the base model's tokenizer, or one learned from the training texts."""
    if found is not None:
        return base.load_tokenizer(found.path)
    tokenizer = train_tokenizer(train.texts)
    reporter.notice(
        f"from scratch: a vocabulary of {len(tokenizer):,} learned from the texts, learning rate"
        f" {plan.learning_rate:g}, {plan.epochs:g} epochs"
    )
    return tokenizer


def new_model(found: base.Base | None, tokenizer: Any, names: list[str], plan: Plan) -> Any:
    """Return the model to train with its new head; what is random in it hangs on the seed alone."""
    import transformers

    transformers.set_seed(plan.seed)
    model = (
        make_classifier(len(tokenizer), names)
        if found is None
        else base.load_base(found.path, names)
    )
    return model if plan.lora is None else add_adapters(model, plan.lora)
