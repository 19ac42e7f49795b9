"""A base model and examples -> a trained classifier with its curve, by Hugging Face's Trainer; writes no final file."""

import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchsent.errors import DeviceError, ModelError, printable
from batchsent.evaluation.metrics import load_metric
from batchsent.model import folder, loading
from batchsent.training_data import Examples

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
    precision: str  # float32, or bfloat16 under autocast


@dataclass(frozen=True)
class Trained:
    """What came out of a training."""

    model: Any
    tokenizer: Any
    metrics: dict[str, Any]  # on the evaluation examples
    curve: list[dict[str, float]]  # one entry a logged step, evaluations among them
    facts: dict[str, Any]  # steps, seconds, device, rows that were cut


def locate_base(name: str, revision: str | None) -> tuple[Path, str | None]:
    """Return the local folder of a base model and its commit on the Hub, and refuse what cannot be used safely.

    Nothing of the folder is run or unpickled. Raises ModelError.
    """
    path = Path(name).expanduser()
    commit = None
    if not path.is_dir():
        path = loading._download(name, revision)
        commit = path.name if loading.COMMIT.fullmatch(path.name) else None
    config = folder.read_json(path / "config.json", "the model's configuration")
    settings = path / "tokenizer_config.json"
    folder._refuse_code(path, config, folder.read_json(settings, "the tokenizer") if settings.exists() else {})
    for weights in folder.weight_files(path):
        folder.read_header(weights)
    return path, commit


def read_limit(path: Path) -> int:
    """Return how many tokens a base model reads."""
    settings = path / "tokenizer_config.json"
    return folder._max_length(
        folder.read_json(path / "config.json", "the model's configuration"),
        folder.read_json(settings, "the tokenizer") if settings.exists() else {},
    )


def load_base(path: Path, names: Sequence[str]) -> tuple[Any, Any]:
    """Load a base model with a fresh classification head for the named classes, and its tokenizer.

    A head for other classes is replaced. Raises ModelError when the encoder itself lacks weights.
    """
    import torch
    import transformers

    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")  # no service is asked to convert anything
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        model, info = transformers.AutoModelForSequenceClassification.from_pretrained(
            path,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            attn_implementation="sdpa",
            dtype=torch.float32,
            id2label=dict(enumerate(names)),
            label2id={name: i for i, name in enumerate(names)},
            problem_type="single_label_classification",
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    # What can go wrong while foreign files are turned into a model has no common class.
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"base model {printable(path)} cannot be loaded: {printable(lines[0][:300])}",
            hint="--base-model takes a Hub id or a folder of an encoder that transformers knows",
        ) from error
    # The head is new on purpose; so is the pooler where a masked language model had none.
    absent = {key for key in info["missing_keys"] if ".pooler." not in key}
    absent |= {key if isinstance(key, str) else key[0] for key in info["mismatched_keys"]}
    absent = {key for key in absent if key.startswith(f"{model.base_model_prefix}.")}
    if absent:
        raise ModelError(
            f"base model {printable(path)} lacks {len(absent)} weights of its architecture, {printable(min(absent))}"
            " among them",
            hint="copy or download it again",
        )
    return model, tokenizer


def train(
    model: Any,
    tokenizer: Any,
    examples: Examples,
    evaluated: Examples,
    names: Sequence[str],
    plan: Plan,
    checkpoints: Path,
    say: Callable[[str], None],
    *,
    resume_from: Path | None = None,
) -> Trained:
    """Fine-tune the model on the examples and measure it after every epoch.

    Checkpoints go to `checkpoints`. Raises DeviceError when the loss stops being a number, or out of memory.
    """
    import numpy as np
    import torch
    import transformers

    training_set, cut = encode(examples, tokenizer, plan.max_length)
    evaluation_set, evaluation_cut = encode(evaluated, tokenizer, plan.max_length)
    metric = load_metric(names)
    figures: dict[str, Any] = {}

    def compute_metrics(prediction: Any) -> dict[str, float]:
        figures.clear()
        winners = np.argmax(prediction.predictions, axis=-1)
        figures.update(metric.compute(predictions=winners, references=prediction.label_ids))
        return {name: value for name, value in figures.items() if name != "per_class"}

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
        save_total_limit=2,  # one to resume from, and the one before should that be half written
        logging_steps=max(1, steps // CURVE_POINTS),
        logging_nan_inf_filter=False,  # a loss that is no number must be seen
        # Reviews of one length share a batch: at 512 tokens half of a random batch of IMDB reviews is padding.
        train_sampling_strategy="group_by_length",
        dataloader_pin_memory=plan.device == "cuda",
        use_cpu=plan.device == "cpu",
        bf16=plan.precision == "bfloat16",
        report_to="none",
        disable_tqdm=True,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # DataParallel would multiply the batch size by the number of GPUs
    trainer = transformers.Trainer(
        model=model,
        args=arguments,
        train_dataset=training_set,
        eval_dataset=evaluation_set,
        processing_class=tokenizer,
        data_collator=transformers.DataCollatorWithPadding(tokenizer),
        compute_metrics=compute_metrics,
    )
    trainer.remove_callback(transformers.PrinterCallback)  # it prints to stdout, which belongs to data
    trainer.add_callback(progress(say))
    try:
        outcome = trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
        history = trainer.state.log_history
        if not figures or not any("eval_loss" in entry and entry["step"] == outcome.global_step for entry in history):
            trainer.evaluate()
    except torch.OutOfMemoryError as error:
        raise DeviceError(
            "out of memory while training", hint=f"use a --batch-size below {plan.batch_size} or a smaller --max-length"
        ) from error
    history = trainer.state.log_history
    if not all(torch.isfinite(weight).all() for weight in trainer.model.parameters()):
        raise diverged()
    last = next(entry for entry in reversed(history) if "eval_loss" in entry)
    runtime_s = float(outcome.metrics["train_runtime"])
    return Trained(
        model=trainer.model.to("cpu"),
        tokenizer=tokenizer,
        metrics={"loss": last["eval_loss"], **figures},
        curve=[entry for entry in history if "loss" in entry or "eval_loss" in entry],
        facts={
            "steps": outcome.global_step,
            "epochs": float(plan.epochs),
            "train_loss": float(outcome.training_loss),
            "runtime_s": round(runtime_s, 3),
            "device": str(arguments.device),
            "precision": plan.precision,
            "parameters": sum(weight.numel() for weight in trainer.model.parameters()),
            "train_rows_cut": cut,
            "eval_rows_cut": evaluation_cut,
        },
    )


def encode(examples: Examples, tokenizer: Any, max_length: int) -> tuple[Any, int | None]:
    """Tokenize examples into a `datasets.Dataset`; also return how many lost tokens to `max_length`.

    The second value is None for a tokenizer that cannot tell.
    """
    import datasets

    cut = 0 if tokenizer.is_fast else None

    def tokenize(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        nonlocal cut
        encoded = tokenizer(batch["text"], truncation=True, max_length=max_length)
        if cut is not None:
            cut += sum(bool(encoding.overflowing) for encoding in encoded.encodings)
        return dict(encoded)

    data = datasets.Dataset.from_dict({"text": examples.texts, "labels": examples.labels})
    # The fingerprint is only for datasets' cache, which data in memory does not use; hashing a tokenizer is slow.
    return data.map(tokenize, batched=True, remove_columns=["text"], new_fingerprint="batchsent"), cut


def diverged() -> DeviceError:
    """Return the error of a training whose numbers left the number line."""
    return DeviceError(
        "the loss is no longer a finite number: the training diverged, no model was written",
        hint="use a smaller --learning-rate, or --warmup 0.1",
    )


def progress(say: Callable[[str], None]) -> Any:
    """Return a Trainer callback that says how far the training is, and stops it when the loss is no number."""
    import transformers

    class Progress(transformers.TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
        """Lines on stderr: losses now and then, and every evaluation."""

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
            logs = logs or {}
            for name in ("loss", "grad_norm", "eval_loss"):
                if name in logs and not math.isfinite(logs[name]):
                    raise diverged()
            where = f"step {state.global_step}/{state.max_steps}, epoch {state.epoch or 0:.2f}"
            if "eval_loss" in logs:
                say(
                    f"{where}: evaluated: accuracy {logs['eval_accuracy']:.4f}, macro F1 {logs['eval_macro_f1']:.4f},"
                    f" loss {logs['eval_loss']:.4f}"
                )
            elif "loss" in logs:
                say(f"{where}: loss {logs['loss']:.4f}")

    return Progress()


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
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
        if not dataset_bars:
            datasets.enable_progress_bars()
