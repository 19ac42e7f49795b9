# Written by `python -m tests.stub`, which `make fix` runs: do not edit.
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from pyarrow import RecordBatchReader

from batchsent.errors import (
    BatchsentError as BatchsentError,
    DeviceError as DeviceError,
    GateFailed as GateFailed,
    InputError as InputError,
    Interrupted as Interrupted,
    Locked as Locked,
    ModelError as ModelError,
    OutputError as OutputError,
    PipeClosed as PipeClosed,
    UsageError as UsageError,
)
from batchsent.reporting import (
    Reporter as Reporter,
)
from batchsent.terminal.reporters import (
    JsonReporter as JsonReporter,
    TerminalReporter as TerminalReporter,
)
from batchsent.commands.batch_scorer import (
    BatchScorer as BatchScorer,
)
from batchsent.commands.predict import (
    Model as Model,
    Prediction as Prediction,
)
from batchsent.commands.summary import (
    Summary as Summary,
)
from batchsent.run.models import Models

__version__: str

def batch(
    input: str | PathLike[str] | Sequence[str | PathLike[str]] | Any,
    output: str | PathLike[str] | None = None,
    *,
    reporter: Reporter | None = None,
    models: Models | None = None,
    progress: bool = False,
    device: str = "auto",
    precision: str = "auto",
    max_length: int | None = None,
    long_text: Literal["head", "tail", "head-tail", "window"] | None = None,
    batch_tokens: int | None = None,
    model: str | PathLike[str] | None = None,
    revision: str | None = None,
    cascade: str | PathLike[str] | None = None,
    cascade_below: float | None = None,
    text_column: str | Sequence[str] | None = None,
    text_joint: str | None = None,
    text_column_index: int | None = None,
    chunk_rows: int = 8192,
    limit: int | None = None,
    input_format: Literal["csv", "tsv", "parquet", "arrow", "jsonl"] | None = None,
    delimiter: str | None = None,
    quotechar: str = '"',
    escapechar: str | None = None,
    skip_initial_space: bool = False,
    encoding: str = "utf-8",
    encoding_errors: Literal["replace", "strict"] = "replace",
    no_header: bool = False,
    skip_lines: int = 0,
    max_field_bytes: int = 16777216,
    bad_rows: Literal["error", "reject"] = "error",
    prefix: str = "",
    probabilities: bool = False,
    details: bool = False,
    sentences: bool = False,
    polarity: bool = False,
    polarity_labels: str | None = None,
    neutral_band: float | None = None,
    unsure_below: float | None = None,
    calibrated: bool = False,
    no_receipt: bool = False,
    group_by: str | None = None,
    disagreements: str | PathLike[str] | None = None,
    gold: str | None = None,
    gold_stars: str | None = None,
    stars: str | None = None,
    gold_map: str | None = None,
    keep: str | None = None,
    fail_under: str | Sequence[str] = (),
    report: bool = False,
    report_examples: int = 0,
    reuse: str | Sequence[str] = (),
    source_column: str | None = None,
    work_folder: str | PathLike[str] | None = None,
    output_format: Literal["csv", "tsv", "parquet", "arrow", "jsonl"] | None = None,
    summary: str | PathLike[str] | None = None,
    rejects: str | PathLike[str] | None = None,
    max_bad_rows: str | None = None,
    overwrite: bool = False,
    restart: bool = False,
    lock_wait: float = 0.0,
    stop_after: str | None = None,
    stop_at: str | None = None,
    processes: int = 1,
    engine: Literal["ray"] | None = None,
    workers: int | None = None,
    address: str | None = None,
    dry_run: bool = False,
) -> Any:
    """Score the reviews of a file and write the same rows with a label and a score each.

    `input` is a path, a URL, a folder or a list of them, `output` a path, or a folder for several
    inputs; `-` is stdin or stdout. The options are those of BatchOptions. `models` gives the model
    in place of `model`, for programs and tests. Returns the summary that is written beside the
    output; its `status` is complete, or up_to_date when the output was there already, made of the
    same input by the same model and options. Several inputs have one summary, with `files`. Rerun
    after an interruption, it resumes where the first run stopped and writes the same bytes.

    A frame has no `output`: what is returned is a frame of the same kind, as of `score_frame` of a
    loaded model. The options about files are refused then. Raises BatchsentError.
    """

def compare(
    a: str | PathLike[str],
    b: str | PathLike[str],
    *,
    reporter: Reporter | None = None,
    progress: bool = False,
    text_column: str | Sequence[str] | None = None,
    text_joint: str | None = None,
    text_column_index: int | None = None,
    chunk_rows: int = 8192,
    limit: int | None = None,
    input_format: Literal["csv", "tsv", "parquet", "arrow", "jsonl"] | None = None,
    delimiter: str | None = None,
    quotechar: str = '"',
    escapechar: str | None = None,
    skip_initial_space: bool = False,
    encoding: str = "utf-8",
    encoding_errors: Literal["replace", "strict"] = "replace",
    no_header: bool = False,
    skip_lines: int = 0,
    max_field_bytes: int = 16777216,
    bad_rows: Literal["error", "reject"] = "error",
    flips: str | PathLike[str] | None = None,
    gold: str | None = None,
    group_by: str | None = None,
    prefix: str = "",
    overwrite: bool = False,
    gold_map: str | None = None,
    labels: str | None = None,
    fail_on: str | Sequence[str] = (),
    html: str | PathLike[str] | None = None,
) -> dict[str, Any]:
    """Return what changed between two runs; the options are those of CompareOptions.

    `a` is what `b` is measured against. Of two summaries: labels, scores, lengths, metrics, model
    and options. Of two scored files of the same rows: the labels that changed, by direction, score
    and group. `html` also writes the comparison as a page.

    Raises GateFailed, with the comparison as its attribute `document`, where one of the conditions
    `fail_on` holds; InputError for what cannot be read or is damaged, and for rows that are not the
    same; UsageError for what is no condition, for one file of each kind, and where a file would
    take the place of something else; OutputError.
    """

def evaluate(
    file: str | Path,
    *,
    reporter: Reporter | None = None,
    progress: bool = False,
    device: str = "auto",
    precision: str = "auto",
    max_length: int | None = None,
    long_text: Literal["head", "tail", "head-tail", "window"] | None = None,
    batch_tokens: int | None = None,
    text_column: str | Sequence[str] | None = None,
    text_joint: str | None = None,
    text_column_index: int | None = None,
    chunk_rows: int = 8192,
    limit: int | None = None,
    input_format: Literal["csv", "tsv", "parquet", "arrow", "jsonl"] | None = None,
    delimiter: str | None = None,
    quotechar: str = '"',
    escapechar: str | None = None,
    skip_initial_space: bool = False,
    encoding: str = "utf-8",
    encoding_errors: Literal["replace", "strict"] = "replace",
    no_header: bool = False,
    skip_lines: int = 0,
    max_field_bytes: int = 16777216,
    bad_rows: Literal["error", "reject"] = "error",
    gold: str | None = None,
    gold_map: str | None = None,
    gold_stars: str | None = None,
    stars: str | None = None,
    prefix: str = "",
    labels: str | None = None,
    unsure_below: float | None = None,
    fail_under: str | Sequence[str] = (),
    model: str | PathLike[str] | None = None,
    revision: str | None = None,
    audit: str | PathLike[str] | None = None,
) -> dict[str, Any]:
    """Judge the labels of a scored file by a gold column; the options are those of EvaluateOptions.

    Reads the columns `label` and `score`, and `prob_<label>` and `truncated` where the file has
    them; with `model` the file's texts are scored instead, and nothing is written. Returns rows,
    predictions, evaluation and warnings in the form of a summary; with `audit` what
    commands/audit.py says of the file.

    Raises UsageError and InputError for what cannot be judged, GateFailed where a figure is under
    `fail_under`, with the document as its attribute `document`.
    """

def export(
    model: str,
    output: str | Path,
    *,
    reporter: Reporter | None = None,
    progress: bool = False,
    to: Literal["onnx", "torch", "transformers"] = "onnx",
    revision: str | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a model for another runtime: program, config.json with the labels, tokenizer.

    The program takes ``input_ids`` and ``attention_mask``, int64 (rows, tokens) with any number of
    rows and up to as many tokens as the model reads, and gives ``logits`` float32 (rows, labels).
    Before the folder gets its name the program is loaded again and compared with the model on texts
    of different lengths, alone and padded: no logit may differ by more than `TOLERANCE` of the
    largest. Returns what was written and the largest difference found.

    Raises UsageError for an output that exists or a package that is missing, ModelError for a model
    that cannot be used or exported, or has other logits after it, OutputError, Locked and
    Interrupted as finetune does.
    """

def finetune(
    output: str | Path = "model",
    *,
    reporter: Reporter | None = None,
    progress: bool = False,
    train: str | PathLike[str] = "stanfordnlp/imdb",
    eval: str | PathLike[str] | None = None,
    train_split: str = "train",
    eval_split: str | None = None,
    dataset_config: str | None = None,
    dataset_revision: str | None = None,
    delimiter: str | None = None,
    encoding: str = "utf-8",
    hold_out: float = 0.1,
    text_column: str | Sequence[str] | None = None,
    text_joint: str | None = None,
    label_column: str | None = None,
    labels: str | None = None,
    label_map: str | None = None,
    stars: str | None = None,
    train_samples: int | None = None,
    eval_samples: int | None = None,
    base_model: str | PathLike[str] = "distilbert-base-uncased",
    revision: str | None = None,
    from_scratch: bool = False,
    max_length: int | None = None,
    long_text: Literal["head", "tail", "head-tail"] | None = None,
    distill: bool = False,
    crops: int = 0,
    pretrain_on: str | None = None,
    pretrain_steps: int | None = None,
    learning_rate: float | None = None,
    batch_size: int = 16,
    accumulate: int = 1,
    eval_batch_size: int = 16,
    epochs: float | None = None,
    early_stopping: int | None = None,
    trials: int | None = None,
    class_weights: Literal["none", "balanced"] = "none",
    label_smoothing: float = 0.0,
    lora: int | None = None,
    weight_decay: float = 0.01,
    warmup: float = 0.0,
    seed: int = 42,
    save_strategy: Literal["epoch", "steps", "no"] = "epoch",
    save_steps: int = 500,
    keep_checkpoints: bool = False,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
    report_to: str = "none",
    torch_save: str | PathLike[str] | None = None,
    push_to_hub: str | None = None,
    overwrite: bool = False,
    resume: bool = False,
    restart: bool = False,
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

def info(
    model: str | PathLike[str] | None = None,
    *,
    reporter: Reporter | None = None,
    progress: bool = False,
    device: str = "auto",
    precision: str = "auto",
    max_length: int | None = None,
    long_text: Literal["head", "tail", "head-tail", "window"] | None = None,
    batch_tokens: int | None = None,
    revision: str | None = None,
    check: bool = False,
) -> dict[str, Any]:
    """Return versions, the device that would be used, and the facts of a model if one is named.

    A model is loaded, so that the way it would run is what a scoring run takes. With `check` it is
    run in every way that this machine could, the embedded one if none is named; its `failure` says
    why the way that a run takes cannot be trusted. Of a scored file in place of a model the receipt
    is returned. Options are those of InfoOptions. Raises ModelError, DeviceError, UsageError or
    InputError.
    """

def load(
    model: str | PathLike[str] | None = None,
    *,
    revision: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    max_length: int | None = None,
    long_text: Literal["head", "tail", "head-tail", "window"] | None = None,
    batch_tokens: int | None = None,
) -> Model:
    """Load a model folder or Hub id, without either the model that comes with batchsent.

    Options are those of ModelOptions: device, precision, max_length, long_text, batch_tokens.
    Raises ModelError, DeviceError or UsageError with what to do about it; warns where scoring is
    slower than the machine could be.

    >>> model = load("my-model")  # doctest: +SKIP
    >>> model.predict(["what a lovely film"])[0].label  # doctest: +SKIP
    'POSITIVE'
    """

def report(
    summary: str | PathLike[str],
    output: str | PathLike[str] | None = None,
) -> Path:
    """Write the HTML page of a summary, one file without scripts, and return its path.

    Without `output` the page is written beside the summary, as OUTPUT.report.html, and replaces the
    page of any run. With `output` it replaces only a page of the same run. Raises InputError for a
    summary that cannot be read or is damaged, UsageError where the page would replace another file
    or the examples that the run put on it,
    OutputError where it cannot be written.
    """

def sample(
    file: str | PathLike[str],
    output: str | PathLike[str],
    *,
    reporter: Reporter | None = None,
    progress: bool = False,
    text_column: str | Sequence[str] | None = None,
    text_joint: str | None = None,
    text_column_index: int | None = None,
    chunk_rows: int = 8192,
    limit: int | None = None,
    input_format: Literal["csv", "tsv", "parquet", "arrow", "jsonl"] | None = None,
    delimiter: str | None = None,
    quotechar: str = '"',
    escapechar: str | None = None,
    skip_initial_space: bool = False,
    encoding: str = "utf-8",
    encoding_errors: Literal["replace", "strict"] = "replace",
    no_header: bool = False,
    skip_lines: int = 0,
    max_field_bytes: int = 16777216,
    bad_rows: Literal["error", "reject"] = "error",
    rows: int = 200,
    seed: int = 0,
    prefix: str = "",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Draw rows of a scored file to label by hand; the options are those of SampleOptions.

    The rows are drawn at random within strata of label and score, more from strata where the model
    is less sure, and written in the order of the file, the user's columns as they are. Added are
    audit_row (counted from 1), audit_stratum, audit_stratum_rows, audit_weight (the rows that one
    row stands for; 1 / weight is its inclusion probability), audit_text (a mark that `evaluate`
    knows the text by) and the empty audit_gold for the label. Returns rows, strata and path.

    The file is read twice, in constant memory. Raises UsageError, InputError, OutputError.
    """

def stream(
    input: str | PathLike[str],
    *,
    models: Models | None = None,
    device: str = "auto",
    precision: str = "auto",
    max_length: int | None = None,
    long_text: Literal["head", "tail", "head-tail", "window"] | None = None,
    batch_tokens: int | None = None,
    model: str | PathLike[str] | None = None,
    revision: str | None = None,
    cascade: str | PathLike[str] | None = None,
    cascade_below: float | None = None,
    text_column: str | Sequence[str] | None = None,
    text_joint: str | None = None,
    text_column_index: int | None = None,
    chunk_rows: int = 8192,
    limit: int | None = None,
    input_format: Literal["csv", "tsv", "parquet", "arrow", "jsonl"] | None = None,
    delimiter: str | None = None,
    quotechar: str = '"',
    escapechar: str | None = None,
    skip_initial_space: bool = False,
    encoding: str = "utf-8",
    encoding_errors: Literal["replace", "strict"] = "replace",
    no_header: bool = False,
    skip_lines: int = 0,
    max_field_bytes: int = 16777216,
    bad_rows: Literal["error", "reject"] = "error",
    prefix: str = "",
    probabilities: bool = False,
    details: bool = False,
    sentences: bool = False,
    polarity: bool = False,
    polarity_labels: str | None = None,
    neutral_band: float | None = None,
    unsure_below: float | None = None,
    calibrated: bool = False,
) -> RecordBatchReader:
    """Score the reviews of a file while they are read: returns an Arrow reader.

    Its batches have the rows of the file in their order, with the new columns after the file's own;
    those of CSV and JSON lines are text. `input` is a path or a URL, `-` is stdin. The options are
    those of `batch` that are not about an output. Nothing is written, and at most ten chunks are in
    memory, whatever the size of the file. With `bad_rows="reject"` rows that cannot be taken are
    left out and a warning counts them. What is wrong with file, options or model raises
    BatchsentError at once; a row that cannot be taken, when it is read.

    >>> for rows in stream("reviews.csv"):  # doctest: +SKIP
    ...     print(rows.num_rows, rows.schema.names)
    """

def verify(
    input: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    reporter: Reporter | None = None,
    progress: bool = False,
    text_column: str | Sequence[str] | None = None,
    text_joint: str | None = None,
    text_column_index: int | None = None,
    chunk_rows: int = 8192,
    limit: int | None = None,
    input_format: Literal["csv", "tsv", "parquet", "arrow", "jsonl"] | None = None,
    delimiter: str | None = None,
    quotechar: str = '"',
    escapechar: str | None = None,
    skip_initial_space: bool = False,
    encoding: str = "utf-8",
    encoding_errors: Literal["replace", "strict"] = "replace",
    no_header: bool = False,
    skip_lines: int = 0,
    max_field_bytes: int = 16777216,
    bad_rows: Literal["error", "reject"] = "error",
    prefix: str = "",
    source_column: str | None = None,
    output_format: Literal["csv", "tsv", "parquet", "arrow", "jsonl"] | None = None,
    summary: str | PathLike[str] | None = None,
    rejects: str | PathLike[str] | None = None,
) -> dict[str, Any]:
    """Prove that `output` has the rows of `input`, in order, unchanged, with scores.

    The options are those of VerifyOptions; those that are not given are those of the run, as its
    summary has them. CSV that was copied is compared byte for byte, everything else value for
    value. Beyond that scores must be float32 numbers from 0 to 1 that agree with each other, rows
    without text have no label, and what the summary says of rows, labels, scores, lengths and files
    must be what they are, the tables beside the output among them. Memory does not grow with the
    files. Returns the verdict, with `status` same, the rows, and what was checked and what could
    not be.

    Where a run has read several files as one input (`source_column`), `input` is the folder, the
    pattern or the list that it was given. Where `output` is a folder, each file of the folder, or
    of the pattern, `input` is compared with its output there; the verdict has `files`, and
    GateFailed comes after the last one.

    Raises GateFailed for the first difference, with the verdict as its attribute `document`;
    InputError where the input or the summary cannot be read, or the output is not there; UsageError
    for options that do not fit.
    """
