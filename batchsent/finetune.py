"""Labelled reviews -> a model folder: what `batchsent finetune` does, from the checks to the published folder.

Knows nothing of tokens and gradients (training.py) or of how labelled files are read (training_data.py).
"""

import csv
import dataclasses
import datetime
import importlib.metadata
import io
import json
import math
import shutil
import sys
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from batchsent import training
from batchsent.errors import BatchsentError, DeviceError, Locked, OutputError, UsageError, printable
from batchsent.evaluation.gold import GoldRule
from batchsent.model import folder
from batchsent.model.device import choose_device
from batchsent.model_card import make_card
from batchsent.options import build, option
from batchsent.run import commit
from batchsent.training_data import (
    Examples,
    Table,
    check_file,
    decide_labels,
    describe,
    hold_out,
    is_file,
    overlap,
    read_dataset,
    read_file,
    sample,
    select_examples,
)

OUTPUT = "sentiment-model"
DATASET, BASE_MODEL = "stanfordnlp/imdb", "distilbert-base-uncased"
# The notebook that everybody starts from: 4,000 reviews teach DistilBERT in minutes, 300 measure it to 4 points.
DATASET_SAMPLES = (4_000, 300)
# A pretrained encoder is nudged for 2 epochs; an untrained one must learn everything from the reviews at hand.
LEARNING_RATE, SCRATCH_LEARNING_RATE = 2e-5, 1e-3
EPOCHS, SCRATCH_EPOCHS = 2.0, 10.0
SCHEMA = "batchsent.model/1"


@dataclass(frozen=True)
class FinetuneOptions:
    """How a model is fine-tuned."""

    train: str = option(
        DATASET, "Labelled reviews: a CSV, TSV, JSONL or Parquet file, or a data set of the Hub.", metavar="FILE|NAME"
    )
    eval: str | None = option(
        None,
        "Reviews to measure on. Without it: the test split of the data set, or a held-out share of the file.",
        metavar="FILE|NAME",
    )
    train_split: str = option("train", "Split of a Hub data set to train on, such as train[:10%].", metavar="SPLIT")
    eval_split: str | None = option(
        None, "Split to measure on. Without it: test, else validation, else a held-out share.", metavar="SPLIT"
    )
    dataset_config: str | None = option(None, "Configuration of a Hub data set, such as sst2 of glue.", metavar="NAME")
    dataset_revision: str | None = option(None, "Commit, tag or branch of a Hub data set.", metavar="REVISION")
    hold_out: float = option(0.1, "Share of every class held out where there is nothing else to measure on.")
    text_column: str | None = option(None, "Column of the reviews. Without it: text or review.", metavar="NAME")
    label_column: str | None = option(
        None, "Column of the labels. Without it: label, labels or sentiment.", metavar="NAME"
    )
    labels: str | None = option(
        None, "Names of the classes 0, 1, ... Without it 0/1 and neg/pos become NEGATIVE,POSITIVE.", metavar="A,B,..."
    )
    label_map: str | None = option(
        None, "What values of the label column mean: neg=NEGATIVE,pos=POSITIVE,unsure=", metavar="VALUE=LABEL,..."
    )
    stars: str | None = option(
        None, "Classes of star ratings; ratings in no range are left out.", metavar="1-4:NEGATIVE,7-10:POSITIVE"
    )
    train_samples: int | None = option(
        None, f"Random rows to train on, 0 for all. Without it: {DATASET_SAMPLES[0]} of {DATASET}, all of others."
    )
    eval_samples: int | None = option(
        None, f"Random rows to measure on, 0 for all. Without it: {DATASET_SAMPLES[1]} of {DATASET}, all of others."
    )
    base_model: str = option(BASE_MODEL, "Encoder to start from: a folder or a Hub id.", metavar="FOLDER|ID")
    revision: str | None = option(None, "Commit, tag or branch of a base model of the Hub.", metavar="REVISION")
    from_scratch: bool = option(
        default=False, help="Train a small new model instead, with a vocabulary of the training texts."
    )
    max_length: int | None = option(None, "Tokens read of a review. Without it: what the base model can read.")
    learning_rate: float | None = option(
        None, f"Highest learning rate. Without it: {LEARNING_RATE}, or {SCRATCH_LEARNING_RATE} from scratch."
    )
    batch_size: int = option(16, "Reviews in a training step.")
    eval_batch_size: int = option(16, "Reviews measured at a time.")
    epochs: float | None = option(
        None, f"Passes over the training rows. Without it: {EPOCHS:g}, or {SCRATCH_EPOCHS:g} from scratch."
    )
    weight_decay: float = option(0.01, "Weight decay.")
    warmup: float = option(0.0, "Share of the steps (below 1), or number of steps, until the full learning rate.")
    seed: int = option(42, "Seed of samples, initial weights and order.")
    save_strategy: str = option("epoch", "When to checkpoint.", type=click.Choice(["epoch", "steps", "no"]))
    save_steps: int = option(500, "Steps between checkpoints with --save-strategy steps.")
    keep_checkpoints: bool = option(default=False, help="Keep the checkpoints beside the finished model.")
    device: str = option("auto", "Where to train.", type=click.Choice(["auto", "cpu", "cuda", "mps"]))
    torch_save: str | None = option(
        None, "Also write the state dict with torch.save.", type=click.Path(), metavar="FILE"
    )
    push_to_hub: str | None = option(None, "Also upload the finished folder to this Hub model.", metavar="OWNER/NAME")
    overwrite: bool = option(default=False, help="Replace the model that is at OUTPUT.")
    restart: bool = option(default=False, help="Throw away the checkpoints of an unfinished run and start over.")
    quiet: bool = option(default=False, help="Say nothing but errors.")


def finetune(output: str = OUTPUT, **options: Any) -> dict[str, Any]:
    """Fine-tune an encoder on labelled reviews, write a model folder, and return its metrics.json.

    Options are those of FinetuneOptions. Without any, DistilBERT learns from 4,000 reviews of IMDB, as in the
    notebook that its users know. The folder appears whole or not at all; a run that was killed goes on from its
    last checkpoint when it is started again.

    Raises UsageError for options or columns that cannot be and for an output that exists, InputError for data that
    cannot be read, ModelError for a base model that cannot be used, DeviceError when the device fails or the training
    diverges, OutputError when something cannot be written, Locked when another run is at it.
    """
    settings = build(FinetuneOptions, options)
    final = Path(output)

    def say(text: str) -> None:
        if not settings.quiet:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()

    check_options(settings)
    check_output(final, settings)
    with training.quiet_libraries():
        return run(final, settings, say)


def run(final: Path, settings: FinetuneOptions, say: Callable[[str], None]) -> dict[str, Any]:
    """Do what `finetune` promises, once the options are known to make sense."""
    base_path, base = find_base(settings)
    names, examples, evaluated = find_data(settings, say)
    device = choose_device(settings.device, "float32")
    # Autocast to bfloat16 doubles the speed of GPUs that have it; weights and optimizer stay float32.
    bfloat16 = device.kind == "cuda" and (device.capability or (0, 0)) >= (8, 0)
    plan = make_plan(settings, base_path, device.kind, "bfloat16" if bfloat16 else "float32")
    say(f"device: {device.description}, {plan.precision}; {plan.max_length} tokens a review")

    import transformers

    transformers.set_seed(plan.seed)
    if base_path is None:
        from batchsent.from_scratch import make_model, train_tokenizer

        tokenizer = train_tokenizer(examples.texts)
        model = make_model(len(tokenizer), names)
        say(
            f"from scratch: {len(tokenizer):,} words and pieces, learning rate {plan.learning_rate:g},"
            f" {plan.epochs:g} epochs"
        )
    else:
        model, tokenizer = training.load_base(base_path, names)
    data: dict[str, Any] = {
        "train": describe(examples, names),
        "eval": describe(evaluated, names),
        "overlap": overlap(examples, evaluated),
    }
    if data["overlap"]:
        say(f"warning: {data['overlap']:,} evaluation texts are also training texts; the figures flatter the model")
    identity = {
        "hyperparameters": dataclasses.asdict(plan),
        "labels": names,
        "train": data["train"]["rows_sha256"],
        "eval": data["eval"]["rows_sha256"],
        "base_model": base["weights_sha256"] or "from scratch",
        "versions": versions(),
    }
    work = final.parent / f"{final.name}.training"
    with Checkpoints(work, identity, restart=settings.restart) as checkpoints:
        if checkpoints.latest is not None:
            say(f"going on from {printable(checkpoints.latest)}")
        trained = training.train(
            model, tokenizer, examples, evaluated, names, plan, work, say, resume_from=checkpoints.latest
        )
        majority = max(data["eval"]["labels"].values()) / data["eval"]["rows"]
        if trained.metrics["accuracy"] <= majority:
            say("warning: the model is no better than always saying the most frequent class")
        document = {
            "schema": SCHEMA,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "labels": names,
            "metrics": {**trained.metrics, "majority_baseline": majority},
            "base_model": base,
            "data": data,
            "hyperparameters": dataclasses.asdict(plan),
            "options": public_options(settings),
            "training": trained.facts,
            "torch_save": settings.torch_save is not None,
            "versions": versions(),
        }
        write_folder(final, trained, document, overwrite=settings.overwrite, save=settings.torch_save)
        checkpoints.finished = not settings.keep_checkpoints
    say(f"model: {printable(final)}")
    if settings.push_to_hub is not None:
        say(f"uploaded: {push(final, settings.push_to_hub)}")
    return document


def check_options(settings: FinetuneOptions) -> None:
    """Refuse options that cannot mean what they say. Raises UsageError, InputError for a file that is not there."""
    positive = ("batch_size", "eval_batch_size", "save_steps", "learning_rate", "epochs", "max_length")
    for name in positive:
        value = getattr(settings, name)
        if value is not None and not (0 < value < math.inf):
            raise UsageError(f"--{name.replace('_', '-')} {value}: must be above 0")
    for name in ("train_samples", "eval_samples", "weight_decay", "warmup", "seed"):
        value = getattr(settings, name)
        if value is not None and not (0 <= value < math.inf):
            raise UsageError(f"--{name.replace('_', '-')} {value}: must be 0 or more")
    if not 0 < settings.hold_out < 1:
        raise UsageError(f"--hold-out {settings.hold_out}: must be between 0 and 1", hint="try --hold-out 0.1")
    for name, known in (("save_strategy", ("epoch", "steps", "no")), ("device", ("auto", "cpu", "cuda", "mps"))):
        if getattr(settings, name) not in known:
            raise UsageError(
                f"--{name.replace('_', '-')} {printable(getattr(settings, name))!r} is unknown",
                hint=f"known are {', '.join(known)}",
            )
    if settings.label_map is not None and settings.stars is not None:
        raise UsageError("--label-map and --stars both say what labels mean", hint="leave one of them out")
    if settings.from_scratch and (settings.base_model != BASE_MODEL or settings.revision is not None):
        raise UsageError("--from-scratch starts from no base model", hint="leave out --base-model and --revision")
    if is_file(settings.train):
        check_file(settings.train, "--train")
    if settings.eval is not None and is_file(settings.eval):
        check_file(settings.eval, "--eval")
    if settings.push_to_hub is not None:
        check_hub(settings.push_to_hub)


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


def check_hub(repository: str) -> None:
    """Refuse an upload that cannot succeed before hours of training. Raises UsageError."""
    import huggingface_hub
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        huggingface_hub.HfApi().whoami()
    except (OSError, ValueError) as error:
        raise UsageError(
            f"--push-to-hub {printable(repository)}: the Hub does not know who you are",
            hint="log in first: hf auth login",
        ) from error
    try:
        validate_repo_id(repository)
    except ValueError as error:
        raise UsageError(f"--push-to-hub {printable(repository)!r} is no Hub id", hint="write OWNER/NAME") from error


def find_base(settings: FinetuneOptions) -> tuple[Path | None, dict[str, Any]]:
    """Return the folder of the base model, None from scratch, and what metrics.json says of it."""
    if settings.from_scratch:
        return None, {"kind": "scratch", "name": None, "revision": None, "weights_sha256": None}
    path, revision = training.locate_base(settings.base_model, settings.revision)
    local = Path(settings.base_model).expanduser().is_dir()
    return path, {
        "kind": "folder" if local else "hub",
        "name": path.resolve().name if local else settings.base_model,
        "revision": revision,
        "weights_sha256": folder.sha256_of_all(folder.weight_files(path)),
    }


def find_data(settings: FinetuneOptions, say: Callable[[str], None]) -> tuple[list[str], Examples, Examples]:
    """Return the names of the classes, the examples to train on and those to measure on."""
    table, splits = read_table(settings, settings.train, settings.train_split)
    rule = decide_labels(table, settings.labels, settings.label_map, settings.stars)
    examples = select_examples(table, rule)
    train_samples, eval_samples = (
        None if given == 0 else given if given is not None else usual if settings.train == DATASET else None
        for given, usual in zip((settings.train_samples, settings.eval_samples), DATASET_SAMPLES, strict=True)
    )
    split = settings.eval_split or next((name for name in ("test", "validation") if name in splits), None)
    if settings.eval is not None:
        other, _ = read_table(settings, settings.eval, settings.eval_split or "test")
        evaluated = evaluation_examples(other, rule)
    elif not is_file(settings.train) and split is not None:
        other, _ = read_table(settings, settings.train, split)
        evaluated = evaluation_examples(other, rule)
    else:
        examples, evaluated = hold_out(examples, settings.hold_out, settings.seed)
        say(f"evaluation: {len(evaluated.texts):,} rows held out of {printable(table.name)} (--eval names others)")
    examples = sample(examples, train_samples, settings.seed)
    evaluated = sample(evaluated, eval_samples, settings.seed)
    names = list(rule.labels)
    for side, rows in (("train", examples), ("evaluate", evaluated)):
        counts = ", ".join(f"{printable(name)} {count:,}" for name, count in rows.counts(names).items())
        left = {reason: count for reason, count in rows.facts["left_out"].items() if count}
        without = "; left out: " + ", ".join(f"{n:,} {r.replace('_', ' ')}" for r, n in left.items()) if left else ""
        say(f"{side}: {printable(rows.facts['name'])}: {len(rows.texts):,} rows ({counts}){without}")
    if len(Counter(examples.labels)) < 2:
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
    path = Path(name)
    if is_file(name) and not path.is_dir():
        return read_file(path, settings.text_column, settings.label_column), []
    return read_dataset(
        name,
        config=settings.dataset_config,
        revision=settings.dataset_revision,
        split=split,
        text_column=settings.text_column,
        label_column=settings.label_column,
        keep_numbers=settings.labels is not None,
    )


def make_plan(settings: FinetuneOptions, base: Path | None, device: str, precision: str) -> training.Plan:
    """Resolve the defaults that depend on others. Raises UsageError for more tokens than the base model can read."""
    scratch = base is None
    if base is None:
        from batchsent.from_scratch import POSITIONS

        limit = POSITIONS
    else:
        limit = training.read_limit(base)
    if settings.max_length is not None and not 3 <= settings.max_length <= limit:
        raise UsageError(
            f"--max-length {settings.max_length}: the base model reads 3 to {limit} tokens",
            hint=f"leave it out to read {limit}",
        )
    return training.Plan(
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
    )


class Checkpoints:
    """The folder of checkpoints beside the output: locked, bound to what is being trained, removed when done."""

    def __init__(self, path: Path, identity: dict[str, Any], *, restart: bool) -> None:
        self.path = path
        self.identity = json.loads(json.dumps(identity))
        self.restart = restart
        self.latest: Path | None = None  # the newest complete checkpoint of this very training
        self.finished = False  # set when nothing of the folder is needed any more

    def __enter__(self) -> "Checkpoints":
        """Lock the folder and find what a killed run left. Raises Locked, or UsageError for another training's."""
        import filelock

        with commit.output_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        self.lock = filelock.FileLock(self.path / "lock")
        try:
            self.lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise Locked(
                f"another run is training in {printable(self.path)}", hint="wait for it, or choose another output"
            ) from error
        try:
            self.adopt()
        except BaseException:
            self.lock.release()
            raise
        return self

    def adopt(self) -> None:
        """Bind the folder to this training, or find its newest checkpoint where it is bound to it already."""
        note = self.path / "run.json"
        known: dict[str, Any] = {}
        with suppress(FileNotFoundError, ValueError):
            known = json.loads(note.read_text(encoding="utf-8"))
        old = sorted(self.path.glob("checkpoint-*"), key=step_of, reverse=True)
        if self.restart or not old:
            for checkpoint in old:
                shutil.rmtree(checkpoint)
        elif known != self.identity:
            other = sorted(key for key in self.identity if known.get(key) != self.identity[key])
            raise UsageError(
                f"{printable(self.path)} holds checkpoints of another training (other {', '.join(other)})",
                hint="run the same command as before to go on with it, or add --restart to throw them away",
            )
        else:
            self.latest = next((checkpoint for checkpoint in old if is_complete(checkpoint)), None)
        commit.write_file(note, json.dumps(self.identity, indent=1).encode())

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        """Remove the folder when the model is published, or when there is nothing in it to go on from."""
        # A diverged training would diverge again from its checkpoint.
        hopeless = isinstance(error, DeviceError) or not any(self.path.glob("checkpoint-*"))
        if self.finished or (error is not None and hopeless):
            shutil.rmtree(self.path, ignore_errors=True)
        self.lock.release()


def step_of(checkpoint: Path) -> int:
    """Return the step in a checkpoint's name; the Trainer writes checkpoint-STEP."""
    number = checkpoint.name.rpartition("-")[2]
    return int(number) if number.isdigit() else -1


def is_complete(checkpoint: Path) -> bool:
    """Tell whether a checkpoint was written to its end: a killed Trainer leaves a half-written one behind."""
    try:
        state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        folder.read_header(checkpoint / folder.WEIGHTS)
    except (OSError, ValueError, BatchsentError):
        return False
    archives = ("optimizer.pt", "scheduler.pt", "rng_state.pth")
    return state.get("global_step") == step_of(checkpoint) and all(
        zipfile.is_zipfile(checkpoint / name) for name in archives
    )


def write_folder(
    final: Path, trained: training.Trained, document: dict[str, Any], *, overwrite: bool, save: str | None
) -> None:
    """Write the model folder and publish it in one step; before that the state dict, where one was asked for."""
    import torch

    temporary = commit.temporary_directory(final)
    try:
        with commit.output_errors(final):
            # The evaluation cut reviews there: a scoring run must do the same to keep what it promises.
            trained.tokenizer.model_max_length = document["hyperparameters"]["max_length"]
            trained.model.save_pretrained(temporary)
            trained.tokenizer.save_pretrained(temporary)
            files = {
                "metrics.json": json.dumps(document, indent=2, allow_nan=False) + "\n",
                "training_curve.csv": curve_csv(trained.curve),
                "README.md": make_card(document),
            }
            for name, text in files.items():
                (temporary / name).write_bytes(text.encode("utf-8", "replace"))
        if save is not None:
            with commit.output_errors(save):
                pending = commit.PendingFile(Path(save))
                try:
                    torch.save(trained.model.state_dict(), pending)
                    pending.commit()
                finally:
                    pending.close()
        commit.publish_directory(temporary, final, overwrite=overwrite)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def curve_csv(curve: list[dict[str, float]]) -> str:
    """Return the training curve as CSV, a line a step: loss and learning rate, and the metrics where measured."""
    steps: dict[int, dict[str, float]] = {}
    for entry in curve:
        steps.setdefault(int(entry["step"]), {}).update(entry)
    measured = {key for entry in curve for key in entry if key.startswith("eval_")}
    # How long an evaluation took differs between two runs that are otherwise the same.
    columns = [*training.CURVE_COLUMNS, *sorted(k for k in measured if not k.endswith(("_runtime", "_per_second")))]
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(steps[step] for step in sorted(steps))
    return out.getvalue()


def public_options(settings: FinetuneOptions) -> dict[str, Any]:
    """Return the options as metrics.json shows them: files by their names, for paths tell of people."""
    shown = dataclasses.asdict(settings)
    for name in ("train", "eval", "base_model", "torch_save"):
        if shown[name] is not None and (Path(shown[name]).expanduser().exists() or Path(shown[name]).is_absolute()):
            shown[name] = Path(shown[name]).name
    return shown


def versions() -> dict[str, str]:
    """Return the versions of what made the model."""
    packages = ("torch", "transformers", "tokenizers", "datasets", "evaluate", "scikit-learn", "numpy")
    found = {}
    for package in ("batchsent", *packages):
        with suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return {"batchsent": "unknown", "python": ".".join(map(str, sys.version_info[:3]))} | found


def push(final: Path, repository: str) -> str:
    """Upload the finished folder to a Hub model, made where it is not there, and return its address.

    Raises OutputError; the folder itself is safe.
    """
    import huggingface_hub

    api = huggingface_hub.HfApi()
    try:
        address = api.create_repo(repository, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=final, commit_message="Upload a model made with batchsent")
    except (OSError, ValueError, RuntimeError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise OutputError(
            f"the model is in {printable(final)}, but was not uploaded: {printable(first_line)}",
            hint=f"try again without training: hf upload {printable(repository)} {printable(final)}",
        ) from error
    return str(address)
