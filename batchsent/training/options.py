"""The options of `batchsent finetune`, and which of them contradict each other; opens no file."""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchsent.errors import UsageError
from batchsent.filenames import exists, expand
from batchsent.options import option
from batchsent.urls import file_name

OUTPUT = "model"
DATASET, BASE_MODEL = "stanfordnlp/imdb", "distilbert-base-uncased"
# The notebook that everybody starts from: 4,000 reviews teach DistilBERT in minutes, 300 measure it
# to 4 points.
DATASET_SAMPLES = (4_000, 300)
# A pretrained encoder is nudged for 2 epochs; an untrained one has everything to learn, at a rate
# it can bear.
LEARNING_RATE, SCRATCH_LEARNING_RATE = 2e-5, 1e-3
# Adapters start at nothing and are few: ten times what nudges whole weights.
LORA_LEARNING_RATE = 2e-4
EPOCHS, SCRATCH_EPOCHS = 2.0, 4.0
# With fewer rows a base model must be beaten clearly (few_rows.py); measured with 50 and 200 rows.
FEW_ROWS = 250
SAVE_STRATEGIES, DEVICES = ("epoch", "steps", "no"), ("auto", "cpu", "cuda", "mps")
# Of a larger dump so many random reviews are learned from, where no number of steps is given.
PRETRAINING_TEXTS = 200_000
CLASS_WEIGHTS = ("none", "balanced")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
# Not window: a window of a review need not say what the whole of it does.
LONG_TEXT = ("head", "tail", "head-tail")


@dataclass(frozen=True)
class FinetuneOptions:
    """How a model is fine-tuned."""

    train: str = option(
        DATASET,
        "Labelled reviews: a CSV, TSV, JSON lines or Parquet file, or a data set of the Hub. Texts "
        "are read as they are, HTML included, as in scoring.",
        metavar="FILE|NAME",
        group="Common",
    )
    eval: str | None = option(
        None,
        "Reviews to measure on. Without it: the test split of the data set, or a held-out share "
        "of the file.",
        metavar="FILE|NAME",
        group="Common",
    )
    train_split: str = option(
        "train",
        "Split of a Hub data set to train on, such as train[:10%].",
        metavar="SPLIT",
        group="Data",
    )
    eval_split: str | None = option(
        None,
        "Split to measure on. Without it: test, else validation, else a held-out share.",
        metavar="SPLIT",
        group="Data",
    )
    dataset_config: str | None = option(
        None,
        "Configuration of a Hub data set, such as sst2 of glue.",
        metavar="NAME",
        group="Data",
    )
    dataset_revision: str | None = option(
        None,
        "Commit, tag or branch of a Hub data set.",
        metavar="REVISION",
        group="Data",
    )
    delimiter: str | None = option(
        None,
        "Field delimiter of CSV: one character, or auto [default: comma; tab for .tsv].",
        short="-d",
        group="Data",
    )
    encoding: str = option(
        "utf-8",
        "Encoding of CSV, or auto (byte order marks, else utf-8, else cp1252).",
        group="Data",
    )
    hold_out: float = option(
        0.1,
        "Share of every class held out: to measure on without --eval, and for --early-stopping "
        "and --trials.",
        group="Data",
    )
    text_column: str | tuple[str, ...] | None = option(
        None,
        "Column of the reviews; repeated, the values of several are joined. The model's folder "
        "keeps the names for batch. Without it: text or review.",
        metavar="NAME",
        multiple=True,
        group="Common",
    )
    text_joint: str | None = option(
        None,
        r"What is put between the values of several text columns, such as '\n'. Without it: an "
        "empty line.",
        metavar="TEXT",
        group="Data",
    )
    label_column: str | None = option(
        None,
        "Column of the labels. Without it: label, labels or sentiment.",
        metavar="NAME",
        group="Common",
    )
    labels: str | None = option(
        None,
        "Names of the classes 0, 1, ... Without it 0/1 and neg/pos become NEGATIVE,POSITIVE.",
        metavar="A,B,...",
        group="Data",
    )
    label_map: str | None = option(
        None,
        "What values of the label column mean: neg=NEGATIVE,pos=POSITIVE,unsure=",
        metavar="VALUE=LABEL,...",
        group="Data",
    )
    stars: str | None = option(
        None,
        "Classes of star ratings; ratings in no range are left out.",
        metavar="1-4:NEGATIVE,7-10:POSITIVE",
        group="Data",
    )
    train_samples: int | None = option(
        None,
        f"Random rows to train on, 0 for all. Without it: {DATASET_SAMPLES[0]} of {DATASET}, all "
        "of others.",
        group="Data",
    )
    eval_samples: int | None = option(
        None,
        f"Random rows to measure on, 0 for all. Without it: {DATASET_SAMPLES[1]} of {DATASET}, all "
        "of others.",
        group="Data",
    )
    base_model: str = option(
        BASE_MODEL,
        "Encoder to start from: a folder, a Hub id, or embedded for the small model that comes "
        f"with batchsent. Fewer than {FEW_ROWS} rows replace the weights of one that has the same "
        "labels only where the result is clearly better on the rows held out, unless "
        "--learning-rate, --epochs or --trials is given.",
        metavar="FOLDER|ID",
        group="Common",
    )
    revision: str | None = option(
        None,
        "Commit, tag or branch of a base model of the Hub.",
        metavar="REVISION",
        group="Model and device",
    )
    from_scratch: bool = option(
        default=False,
        help="Train a small new model instead, with a vocabulary of the training texts.",
        group="Model and device",
    )
    max_length: int | None = option(
        None,
        "Tokens read of a review. Without it: what the base model can read.",
        group="Model and device",
    )
    long_text: str | None = option(
        None,
        "What is read of a longer review, in training and in scoring. Without it: as the base "
        "model was trained, else its head.",
        choices=LONG_TEXT,
        group="Model and device",
    )
    distill: bool = option(
        default=False,
        help="Learn the probabilities in the columns prob_LABEL, which a teacher's `batch "
        "--probabilities` wrote.",
        group="Training",
    )
    crops: int = option(
        0,
        "Also train on so many crops of each review: 1 to 3 sentences with its label, for models "
        "that score short texts.",
        metavar="N",
        group="Data",
    )
    pretrain_on: str | None = option(
        None,
        "Unlabelled reviews of your domain, any file that batch reads or a folder of them: first "
        "train the base model's encoder to guess masked words of these.",
        metavar="DUMP",
        group="Training",
    )
    pretrain_steps: int | None = option(
        None,
        "Steps of --pretrain-on, each of --batch-size random reviews. Without it: one pass over "
        f"the dump, of {PRETRAINING_TEXTS:,} reviews at most.",
        metavar="N",
        group="Training",
    )
    learning_rate: float | None = option(
        None,
        f"Highest learning rate. Without it: {LEARNING_RATE}, {LORA_LEARNING_RATE} with --lora, or"
        f" {SCRATCH_LEARNING_RATE} from scratch.",
        group="Training",
    )
    batch_size: int = option(
        16, "Reviews in a forward pass, in each process of a torchrun.", group="Training"
    )
    accumulate: int = option(
        1,
        "Forward passes in a training step: the batch of a larger device, in less memory.",
        group="Training",
    )
    eval_batch_size: int = option(16, "Reviews measured at a time.", group="Training")
    epochs: float | None = option(
        None,
        f"Passes over the training rows. Without it: {EPOCHS:g}, or {SCRATCH_EPOCHS:g} from "
        "scratch.",
        group="Training",
    )
    early_stopping: int | None = option(
        None,
        "Stop after so many evaluations without a smaller loss on held-out training rows, and "
        "keep the best weights.",
        metavar="N",
        group="Training",
    )
    trials: int | None = option(
        None,
        "First try so many learning rates, epochs and batch sizes on held-out training rows "
        "(needs optuna).",
        metavar="N",
        group="Training",
    )
    class_weights: str = option(
        "none",
        "balanced: rare classes weigh as much as frequent ones.",
        choices=CLASS_WEIGHTS,
        group="Training",
    )
    label_smoothing: float = option(
        0.0, "Share of the target that is spread over all classes.", group="Training"
    )
    lora: int | None = option(
        None,
        "Train adapters of this rank, merged into the weights at the end (needs peft).",
        metavar="RANK",
        group="Training",
    )
    weight_decay: float = option(0.01, "Weight decay.", group="Training")
    warmup: float = option(
        0.0,
        "Share of the steps (below 1), or number of steps, until the full learning rate.",
        group="Training",
    )
    seed: int = option(42, "Seed of samples, initial weights and order.", group="Training")
    save_strategy: str = option(
        "epoch", "When to checkpoint.", choices=SAVE_STRATEGIES, group="Run"
    )
    save_steps: int = option(
        500,
        "Steps between checkpoints with --save-strategy steps, and of --pretrain-on.",
        group="Run",
    )
    keep_checkpoints: bool = option(
        default=False,
        help="Keep the checkpoints beside the finished model.",
        group="Run",
    )
    device: str = option("auto", "Where to train.", choices=DEVICES, group="Model and device")
    precision: str = option(
        "auto",
        "Number format of the forward pass; weights and optimizer stay float32.",
        choices=PRECISIONS,
        group="Model and device",
    )
    report_to: str = option(
        "none",
        "Also send the curve to tensorboard, wandb, mlflow, ... as transformers does.",
        metavar="NAME",
        group="Run",
    )
    torch_save: str | None = option(
        None,
        "Also write the state dict with torch.save.",
        metavar="FILE",
        group="Run",
    )
    push_to_hub: str | None = option(
        None,
        "Also upload the finished folder to this Hub model.",
        metavar="OWNER/NAME",
        group="Run",
    )
    overwrite: bool = option(
        default=False, help="Replace the model that is at OUTPUT.", group="Common"
    )
    resume: bool = option(
        default=False,
        help="Resume an unfinished training, or fail. Without it: resume where that is possible.",
        group="Common",
    )
    restart: bool = option(
        default=False,
        help="Throw away the checkpoints of an unfinished run and start over.",
        group="Run",
    )


def check_options(settings: FinetuneOptions) -> None:
    """Refuse numbers and combinations that cannot be meant. Raises UsageError."""
    positive = (
        "batch_size",
        "accumulate",
        "eval_batch_size",
        "save_steps",
        "learning_rate",
        "epochs",
        "max_length",
    )
    for name in (*positive, "early_stopping", "trials", "lora", "pretrain_steps"):
        value = getattr(settings, name)
        if value is not None and not (0 < value < math.inf):
            raise UsageError(f"--{name.replace('_', '-')} {value:g}: must be above 0")
    for name in ("train_samples", "eval_samples", "crops", "weight_decay", "warmup", "seed"):
        value = getattr(settings, name)
        if value is not None and not (0 <= value < math.inf):
            raise UsageError(f"--{name.replace('_', '-')} {value}: must be 0 or more")
    if not 0 <= settings.label_smoothing < 1:
        raise UsageError(
            f"--label-smoothing {settings.label_smoothing}: must be from 0 to below 1",
            hint="try 0.1",
        )
    if not 0 < settings.hold_out < 1:
        raise UsageError(
            f"--hold-out {settings.hold_out}: must be between 0 and 1", hint="try --hold-out 0.1"
        )
    if settings.label_map is not None and settings.stars is not None:
        raise UsageError(
            "--label-map and --stars both say what labels mean", hint="leave one of them out"
        )
    if settings.from_scratch and (
        settings.base_model != BASE_MODEL or settings.revision is not None
    ):
        raise UsageError(
            "--from-scratch starts from no base model", hint="leave out --base-model and --revision"
        )
    if settings.from_scratch and settings.lora is not None:
        raise UsageError(
            "--lora keeps a base model as it is, and --from-scratch has none",
            hint="leave one of them out",
        )
    if settings.pretrain_on is None and settings.pretrain_steps is not None:
        raise UsageError(
            "--pretrain-steps is about --pretrain-on",
            hint="name the unlabelled reviews with --pretrain-on, or leave it out",
        )
    if settings.pretrain_on is not None and settings.from_scratch:
        raise UsageError(
            "--pretrain-on continues the pre-training of a base model, and --from-scratch has none",
            hint="leave one of them out",
        )
    if settings.distill and (settings.class_weights != "none" or settings.label_smoothing):
        raise UsageError(
            "--class-weights and --label-smoothing are about labels, --distill learns "
            "probabilities",
            hint="leave them out",
        )
    if settings.distill and settings.crops:
        raise UsageError(
            "--crops gives crops the label of their review, --distill learns probabilities",
            hint="leave one of them out, or let the teacher score crops of the reviews",
        )
    if settings.early_stopping is not None and settings.save_strategy == "no":
        raise UsageError(
            "--early-stopping keeps the best checkpoint, --save-strategy no makes none",
            hint="use --save-strategy epoch or steps",
        )
    if settings.resume and settings.restart:
        raise UsageError(
            "--resume continues a training, --restart starts over", hint="leave one of them out"
        )


def public_options(settings: FinetuneOptions) -> dict[str, Any]:
    """Return the options for metrics.json: files by name only, since paths tell of people."""
    shown = dataclasses.asdict(settings)
    for name in ("train", "eval", "base_model", "torch_save"):
        if shown[name] is not None and (
            exists(expand(shown[name])) or Path(shown[name]).is_absolute()
        ):
            shown[name] = Path(shown[name]).name
    if settings.pretrain_on is not None:
        shown["pretrain_on"] = file_name(settings.pretrain_on)
    return shown
