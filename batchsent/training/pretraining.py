"""Pre-training on unlabelled reviews: the base model's encoder learns masked tokens, before labels.

Gururangan et al. 2020 call it domain-adaptive pre-training. It is a stage of its own in the folder
of the checkpoints: it resumes from checkpoints of its own, and once finished is not run again.
"""

import dataclasses
import gc
import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchsent.errors import BatchsentError, ModelError
from batchsent.files import atomic
from batchsent.model.tokens import make_text_encoder
from batchsent.model.weight_files import read_header
from batchsent.reporting import Reporter
from batchsent.text import printable
from batchsent.training.base import Base
from batchsent.training.checkpoints import (
    PRETRAINED,
    describe_steps,
    latest_whole,
    newest_first,
    read_clock,
    read_state,
    writing,
)
from batchsent.training.masked import encode_texts, make_masked_trainer
from batchsent.training.masked_model import HEAD_RATE, check_tokenizer, load_masked_model
from batchsent.training.options import FinetuneOptions
from batchsent.training.plan import Plan, Setup, Unlabelled
from batchsent.training.processes import Processes, lost_processes
from batchsent.training.train import device_errors
from batchsent.training.watching import LOSS, PERPLEXITY, diverged, watcher

ENCODER = "encoder.safetensors"
# Usual for batches of some dozens of texts; warm-up, since the head of most base models is new.
LEARNING_RATE, WARMUP = 1e-4, 0.06
OVERFLOW_HINT = "--precision float32 helps where numbers overflow; else leave --pretrain-on out"


@dataclass(frozen=True)
class Pretrained:
    """A finished pre-training."""

    encoder: Path  # weights of the encoder, by the names that they have within it
    facts: dict[str, Any]  # for metrics.json


def steps_and_plan(setup: Setup, settings: FinetuneOptions) -> tuple[int, Plan]:
    """Return the number of steps of a pre-training, and how the Trainer is set up for it."""
    assert setup.unlabelled is not None
    rows = len(setup.unlabelled.train)
    plan = dataclasses.replace(
        setup.plan,
        learning_rate=LEARNING_RATE,
        epochs=1.0,
        warmup=WARMUP,
        lora=None,
        early_stopping=None,
        save_strategy="no" if setup.plan.save_strategy == "no" else "steps",
    )
    one_pass = plan.steps(rows)
    steps = settings.pretrain_steps or one_pass
    return steps, dataclasses.replace(plan, epochs=steps / one_pass)


def describe(setup: Setup, settings: FinetuneOptions) -> dict[str, Any] | None:
    """Return what must be equal for a pre-training to be resumed, or its result to be used."""
    if setup.unlabelled is None:
        return None
    return {
        "steps": steps_and_plan(setup, settings)[0],
        "learning_rate": LEARNING_RATE,
        "rows": len(setup.unlabelled.train),
        "rows_sha256": setup.unlabelled.facts["rows_sha256"],
    }


def pretrain(
    setup: Setup,
    settings: FinetuneOptions,
    tokenizer: Any,
    folder: Path,
    processes: Processes,
    reporter: Reporter,
    stop: Callable[[], bool],
) -> Pretrained | None:
    """Pre-train the encoder, or take what an earlier run has finished or begun in `folder`.

    None where no pre-training was asked for, and where `stop` ended it. Raises DeviceError as
    `train` does, UsageError and ModelError for a base model that cannot learn masked tokens.
    """
    if setup.unlabelled is None:
        return None
    assert setup.base is not None
    check_tokenizer(tokenizer)
    steps, plan = steps_and_plan(setup, settings)
    found = processes.broadcast(read_result(folder))
    if found is not None:
        reporter.notice(f"pre-training: done already; {describe_result(found.facts)}")
        return found
    resume_from = processes.broadcast(latest_whole(folder))
    if resume_from is not None:
        reporter.notice(f"resuming from {printable(resume_from)}: {position(resume_from)}")
    reporter.stage("tokenizing")
    with device_errors(plan), lost_processes(), writing(folder):
        done = train_encoder(
            setup.base,
            setup.unlabelled,
            tokenizer,
            plan,
            steps,
            folder,
            resume_from,
            reporter,
            stop,
        )
    if stop():
        return None
    weights, facts = done
    with processes.sync_errors():
        if processes.first:
            write_result(folder, weights, facts, keep=settings.keep_checkpoints)
    gc.collect()  # Trainer and optimizer refer to each other and still hold the device's memory
    reporter.notice(f"pre-training: {describe_result(facts)}")
    if facts["loss_after"] >= facts["loss_before"]:
        reporter.warning(
            "pre-training did not lower the loss on masked tokens: give more rows or steps, or "
            "leave --pretrain-on out"
        )
    return Pretrained(folder / ENCODER, facts)


def train_encoder(
    base: Base,
    unlabelled: Unlabelled,
    tokenizer: Any,
    plan: Plan,
    steps: int,
    folder: Path,
    resume_from: Path | None,
    reporter: Reporter,
    stop: Callable[[], bool],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train; return the encoder's weights and the facts; both are empty after a stop."""
    import torch
    import transformers

    text_encoder = make_text_encoder(tokenizer, plan.max_length, plan.long_text)
    transformers.set_seed(plan.seed)
    model, new_head = load_masked_model(base.path)
    trainer = make_masked_trainer(
        model,
        tokenizer,
        encode_texts(unlabelled.train, text_encoder),
        encode_texts(unlabelled.held_out, text_encoder),
        plan,
        steps,
        folder,
    )
    trainer.head_rate = HEAD_RATE if new_head else 1.0
    earlier_s = read_clock(resume_from)
    rows = len(unlabelled.train)
    trainer.add_callback(
        watcher(plan, rows, reporter, stop, earlier_s, stage="pre-training", hint=OVERFLOW_HINT)
    )
    runtime_s = learn(trainer, steps, resume_from)
    if stop():
        return {}, {}
    if not any(entry["step"] == steps for entry in evaluations(trainer)):
        trainer.evaluate()  # the last checkpoint was written before it
    before, after = evaluations(trainer)[0], evaluations(trainer)[-1]
    weights = {
        name: weight.detach().to("cpu", copy=True).contiguous()
        for name, weight in trainer.model.base_model.state_dict().items()
    }
    if not all(torch.isfinite(weight).all() for weight in weights.values()):
        raise diverged(plan, OVERFLOW_HINT)
    facts = unlabelled.facts | {
        "steps": steps,
        "epochs": round(plan.epochs, 4),
        "learning_rate": plan.learning_rate,
        "new_head": new_head,
        "loss_before": before[LOSS],
        "loss_after": after[LOSS],
        "perplexity_before": before[PERPLEXITY],
        "perplexity_after": after[PERPLEXITY],
        "runtime_s": round(earlier_s + runtime_s, 3),
    }
    return weights, facts


def learn(trainer: Any, steps: int, resume_from: Path | None) -> float:
    """Train, measuring first, or resume from a checkpoint; return the seconds of this run."""
    trainer.args.eval_on_start = resume_from is None
    if resume_from is not None and (read_state(resume_from) or {})["global_step"] >= steps:
        trainer.take_weights(resume_from)
        return 0.0
    outcome = trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    return float(outcome.metrics["train_runtime"])


def evaluations(trainer: Any) -> list[dict[str, float]]:
    """Return the evaluations so far, those before a resume too."""
    return [entry for entry in trainer.state.log_history if LOSS in entry]


def position(checkpoint: Path) -> str:
    """Say how far a checkpoint of a pre-training is."""
    return f"pre-training, {describe_steps(checkpoint)}"


def describe_kept(folder: Path) -> str | None:
    """Say what of a pre-training is kept in its folder; None where nothing is."""
    if read_result(folder) is not None:
        return "the finished pre-training"
    kept = latest_whole(folder)
    return None if kept is None else f"{folder.name}/{kept.name}, {position(kept)}"


def describe_result(facts: dict[str, Any]) -> str:
    """Say what a pre-training gave."""
    return (
        f"loss on masked tokens of {facts['held_out']:,} rows held out "
        f"{facts['loss_before']:.4f} before, {facts['loss_after']:.4f} after (perplexity "
        f"{facts['perplexity_before']:,.1f}, {facts['perplexity_after']:,.1f})"
    )


def read_result(folder: Path) -> Pretrained | None:
    """Return what a pre-training has left in its folder; None where it is not finished."""
    with suppress(OSError, ValueError, BatchsentError):
        facts = json.loads((folder / PRETRAINED).read_text(encoding="utf-8"))
        read_header(folder / ENCODER)
        return Pretrained(folder / ENCODER, facts)
    return None


def write_result(
    folder: Path, weights: dict[str, Any], facts: dict[str, Any], *, keep: bool
) -> None:
    """Write the encoder, then the facts, which say that it is whole; checkpoints go unless kept."""
    import safetensors.torch

    with atomic.output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        atomic.write_file(folder / ENCODER, safetensors.torch.save(weights))
        atomic.write_file(folder / PRETRAINED, json.dumps(facts, indent=1).encode())
        for checkpoint in [] if keep else newest_first(folder):
            shutil.rmtree(checkpoint)


def load_encoder(model: Any, path: Path) -> None:
    """Put the weights of a pre-trained encoder into a classifier; its pooler and head stay.

    Raises ModelError for weights of another encoder.
    """
    from safetensors.torch import load_file

    found = model.base_model.load_state_dict(load_file(path), strict=False)
    unexpected = [*found.unexpected_keys, *(k for k in found.missing_keys if "pooler." not in k)]
    if unexpected:
        raise ModelError(
            f"{printable(path)} is not the encoder of this base model: {printable(unexpected[0])}",
            hint="add --restart to pre-train it again",
        )
