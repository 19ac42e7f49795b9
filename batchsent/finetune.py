"""Labelled reviews -> a model folder: what `batchsent finetune` does, from the checks to the published folder.

Knows nothing of tokens and gradients (training/trainer.py) or of how labelled data is read (training/labelled.py).
"""

import dataclasses
import datetime
from pathlib import Path
from typing import Any

from batchsent.errors import InputError, UsageError, printable
from batchsent.evaluation.gold import GoldRule
from batchsent.model.device import Device, choose_device
from batchsent.options import build
from batchsent.reporting import Reporter
from batchsent.run import commit
from batchsent.run.lock import held_lock
from batchsent.run.signals import Signals
from batchsent.training import base, trainer
from batchsent.training.checkpoints import Checkpoints
from batchsent.training.examples import Examples, decide_labels, describe, hold_out, overlap, sample, select_examples
from batchsent.training.labelled import Table, is_file, read_dataset, read_file, read_probabilities
from batchsent.training.options import (
    DATASET,
    DATASET_SAMPLES,
    EPOCHS,
    LEARNING_RATE,
    OUTPUT,
    SCRATCH_EPOCHS,
    SCRATCH_LEARNING_RATE,
    FinetuneOptions,
    check_options,
    public_options,
)
from batchsent.training.publish import check_hub, push, versions, write_folder
from batchsent.training.scratch import POSITIONS, make_classifier, train_tokenizer

SCHEMA = "batchsent.model/1"


def finetune(output: str | Path = OUTPUT, *, reporter: Reporter | None = None, **options: Any) -> dict[str, Any]:
    """Fine-tune an encoder on labelled reviews, write a model folder, and return its metrics.json.

    Options are those of FinetuneOptions. Without any, DistilBERT learns from 4,000 reviews of IMDB, as in the
    notebook that its users know. The folder appears whole or not at all; a run that was killed or stopped goes on
    from its last checkpoint when it is started again.

    Raises UsageError for options or columns that cannot be and for an output that exists, InputError for data that
    cannot be read, ModelError for a base model that cannot be used, DeviceError when the device fails or the training
    diverges, OutputError when something cannot be written, Locked when another run is at it, Interrupted after a
    signal.
    """
    settings = build(FinetuneOptions, options)
    final = Path(output).expanduser()
    check_options(settings)
    check_inputs(settings)
    check_output(final, settings)
    if settings.push_to_hub is not None:
        check_hub(settings.push_to_hub)
    with commit.output_errors(final):
        final.parent.mkdir(parents=True, exist_ok=True)
    with Signals() as signals, held_lock(final, 0), trainer.quiet_libraries():
        return run(final, settings, reporter or Reporter(), signals)


def run(final: Path, settings: FinetuneOptions, reporter: Reporter, signals: Signals) -> dict[str, Any]:
    """Do what `finetune` promises, once the options are known to make sense."""
    found, origin = find_base(settings)
    names, examples, evaluated = find_data(settings, reporter)
    device = choose_device(settings.device, "float32")
    plan = make_plan(settings, found, device.kind, choose_precision(settings.precision, device))
    part = "" if plan.long_text == "head" else f", {plan.long_text} of longer ones"
    reporter.notice(f"device: {device.description}, {plan.precision}; {plan.max_length} tokens a review{part}")
    data: dict[str, Any] = {
        "train": describe(examples, names),
        "eval": describe(evaluated, names),
        "overlap": overlap(examples, evaluated),
    }
    if data["overlap"]:
        reporter.warning(f"{data['overlap']:,} evaluation texts are also training texts: the figures flatter the model")
    identity = {
        "hyperparameters": dataclasses.asdict(plan),
        "labels": names,
        "training rows": data["train"]["rows_sha256"],
        "evaluation rows": data["eval"]["rows_sha256"],
        "base model": origin["weights_sha256"],
        "versions": versions(),
    }
    work = final.with_name(f"{final.name}.training")
    with Checkpoints(work, identity, restart=settings.restart) as checkpoints:
        if checkpoints.latest is not None:
            reporter.notice(f"going on from {printable(checkpoints.latest)}")
        model, tokenizer = make_model(found, names, examples, plan, reporter)
        with signals.patient():
            trained = trainer.train(
                model,
                tokenizer,
                examples,
                evaluated,
                names,
                plan,
                work,
                reporter,
                resume_from=checkpoints.latest,
                stop=signals.stop,
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
            "options": public_options(settings),
            "training": {"device": device.description, **trained.facts},
            "torch_save": settings.torch_save is not None,
            "versions": versions(),
        }
        with signals.patient():
            write_folder(final, trained, document, overwrite=settings.overwrite, save=settings.torch_save)
        checkpoints.finished = not settings.keep_checkpoints
    reporter.notice(f"model: {printable(final)}")
    if settings.push_to_hub is not None:
        reporter.notice(f"uploaded to {printable(push(final, settings.push_to_hub))}")
    return document


def choose_precision(wanted: str, device: Device) -> str:
    """Return the number format of the forward pass: what was asked for, or bfloat16 where it is the faster one.

    Raises UsageError for float16 on a CPU, whose small gradients nothing would rescue.
    """
    if wanted == "float16" and device.kind == "cpu":
        raise UsageError("--precision float16 needs a GPU", hint="use bfloat16, or float32")
    if wanted != "auto":
        return wanted
    import torch

    # Autocast to bfloat16 doubles the speed of GPUs that have it, and of CPUs with instructions for it.
    if device.kind == "cuda":
        return "bfloat16" if (device.capability or (0, 0)) >= (8, 0) else "float32"
    fast = device.kind == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return "bfloat16" if fast else "float32"


def check_inputs(settings: FinetuneOptions) -> None:
    """Refuse a file that is not there, and options about data sets where all is files.

    Raises InputError or UsageError.
    """
    names = {"--train": settings.train} | ({"--eval": settings.eval} if settings.eval is not None else {})
    for flag, name in names.items():
        if is_file(name) and not Path(name).expanduser().exists():
            raise InputError(f"{flag}: there is no file {printable(name)}", hint="check the path")
    if all(is_file(name) for name in names.values()):
        for name in ("train_split", "eval_split", "dataset_config", "dataset_revision"):
            if getattr(settings, name) != getattr(FinetuneOptions, name):
                raise UsageError(f"--{name.replace('_', '-')} is about data sets of the Hub, not about files")


def check_output(final: Path, settings: FinetuneOptions) -> None:
    """Refuse an output that would destroy something. Raises UsageError."""
    if final.exists():
        if not settings.overwrite:
            raise UsageError(f"{printable(final)} exists already", hint="choose another name or add --overwrite")
        # --overwrite removes the old folder: it must be a model, not somebody's home.
        if not (final / "config.json").is_file() and not (final.is_dir() and not any(final.iterdir())):
            raise UsageError(
                f"{printable(final)} is no model folder, so it is not replaced", hint="choose another name"
            )
    if settings.torch_save is not None:
        saved = Path(settings.torch_save)
        if saved.exists() and not settings.overwrite:
            raise UsageError(f"{printable(saved)} exists already", hint="choose another name or add --overwrite")
        if saved.absolute().is_relative_to(final.absolute()):
            raise UsageError("--torch-save lies inside the model folder", hint="give a place beside it")
        if not saved.absolute().parent.is_dir():
            raise UsageError(f"there is no folder {printable(saved.parent)}", hint="make it first")


def find_base(settings: FinetuneOptions) -> tuple[base.Base | None, dict[str, Any]]:
    """Return the base model, None from scratch, and what metrics.json says of it."""
    if settings.from_scratch:
        return None, {"kind": "scratch", "name": None, "revision": None, "weights_sha256": None}
    found = base.locate_base(settings.base_model, settings.revision)
    local = Path(settings.base_model).expanduser().is_dir()
    return found, {
        "kind": "folder" if local else "hub",
        "name": found.path.resolve().name if local else settings.base_model,
        "revision": found.revision,
        "weights_sha256": found.weights_sha256,
    }


def find_data(settings: FinetuneOptions, reporter: Reporter) -> tuple[list[str], Examples, Examples]:
    """Return the names of the classes, the examples to train on and those to measure on."""
    table, splits = read_table(settings, settings.train, settings.train_split)
    rule = decide_labels(table, settings.labels, settings.label_map, settings.stars)
    names = list(rule.labels)
    targets = read_probabilities(settings.train, names) if settings.distill else None
    examples = select_examples(table, rule, targets)
    split = settings.eval_split or next((name for name in ("test", "validation") if name in splits), None)
    if settings.eval is not None:
        other, _ = read_table(settings, settings.eval, settings.eval_split or "test")
        evaluated = evaluation_examples(other, rule)
    elif split is not None and not is_file(settings.train):
        other, _ = read_table(settings, settings.train, split)
        evaluated = evaluation_examples(other, rule)
    else:
        examples, evaluated = hold_out(examples, settings.hold_out, settings.seed)
        reporter.notice(f"{settings.hold_out:.0%} of {printable(table.name)} is held out to measure on")
    usual = DATASET_SAMPLES if settings.train == DATASET else (None, None)
    asked = (settings.train_samples, settings.eval_samples)
    examples, evaluated = (
        sample(side, (default if count is None else count) or None, settings.seed)
        for side, count, default in zip((examples, evaluated), asked, usual, strict=True)
    )
    for verb, side in (("train on", examples), ("measure on", evaluated)):
        counts = ", ".join(f"{count:,} {printable(name)}" for name, count in side.counts(names).items())
        left = ", ".join(f"{n:,} {why.replace('_', ' ')}" for why, n in side.facts["left_out"].items() if n)
        left_out = f"; left out of {side.facts['rows_read']:,}: {left}" if left else ""
        reporter.notice(f"{verb} {len(side.texts):,} rows of {printable(side.facts['name'])}: {counts}{left_out}")
    if len(set(examples.labels)) < 2:
        raise UsageError(
            "the training rows are all of one class", hint="give more rows, or mend --label-column and --labels"
        )
    return names, examples, evaluated


def evaluation_examples(table: Table, rule: GoldRule) -> Examples:
    """Return the rows to measure on. Raises UsageError when there are none."""
    examples = select_examples(table, rule)
    if not examples.texts:
        raise UsageError(
            f"{printable(table.name)}: no row has a text and a label to measure on", hint="name others with --eval"
        )
    return examples


def read_table(settings: FinetuneOptions, name: str, split: str) -> tuple[Table, list[str]]:
    """Read labelled rows from a file or a data set, with the names of the splits that the data set has."""
    if is_file(name):
        return read_file(name, settings.text_column, settings.label_column), []
    return read_dataset(
        name,
        config=settings.dataset_config,
        revision=settings.dataset_revision,
        split=split,
        text_column=settings.text_column,
        label_column=settings.label_column,
        keep_numbers=settings.labels is not None,
    )


def make_model(
    found: base.Base | None, names: list[str], examples: Examples, plan: trainer.Plan, reporter: Reporter
) -> tuple[Any, Any]:
    """Return the model to train with its new head, and its tokenizer; what is random in them hangs on the seed."""
    import transformers

    transformers.set_seed(plan.seed)
    if found is not None:
        return base.load_base(found.path, names)
    tokenizer = train_tokenizer(examples.texts)
    reporter.notice(
        f"from scratch: a vocabulary of {len(tokenizer):,} learned from the texts, learning rate"
        f" {plan.learning_rate:g}, {plan.epochs:g} epochs"
    )
    return make_classifier(len(tokenizer), names), tokenizer


def make_plan(settings: FinetuneOptions, found: base.Base | None, device: str, precision: str) -> trainer.Plan:
    """Resolve the defaults that depend on others. Raises UsageError for more tokens than the base model can read."""
    scratch = found is None
    limit = POSITIONS if found is None else found.max_length
    if settings.max_length is not None and not 3 <= settings.max_length <= limit:
        raise UsageError(
            f"--max-length {settings.max_length}: the base model reads 3 to {limit} tokens",
            hint=f"leave it out to read {limit}",
        )
    return trainer.Plan(
        seed=settings.seed,
        learning_rate=settings.learning_rate or (SCRATCH_LEARNING_RATE if scratch else LEARNING_RATE),
        epochs=settings.epochs or (SCRATCH_EPOCHS if scratch else EPOCHS),
        batch_size=settings.batch_size,
        eval_batch_size=settings.eval_batch_size,
        weight_decay=settings.weight_decay,
        warmup=settings.warmup,
        max_length=settings.max_length or limit,
        save_strategy=settings.save_strategy,
        save_steps=settings.save_steps,
        device=device,
        precision=precision,
        long_text=settings.long_text,
    )
