"""What the files of a model folder say about the model, checked without building it.

Nothing in the folder is run or unpickled. Every number that decides how much is read or allocated
is first checked against the size of its file.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchsent.errors import ModelError, UsageError
from batchsent.files import atomic
from batchsent.model import early_exit
from batchsent.model.files import check_files, read_json
from batchsent.model.labels import read_labels
from batchsent.model.packing import LONG_TEXT
from batchsent.model.sizes import check_sizes
from batchsent.model.tokenizer_files import TOKENIZER_FILES, find_tokenizer_files, largest_id
from batchsent.model.weight_files import INDEX, WEIGHTS, Tensor, read_header, weight_files
from batchsent.text import printable
from batchsent.text_columns import TextColumns

ADAPTER = "adapter_config.json"
# Weights of the last layer of a classifier: BERT and friends, RoBERTa and friends, XLNet and XLM,
# LLaMA and friends.
HEADS = ("classifier.weight", "classifier.out_proj.weight", "logits_proj.weight", "score.weight")
EMBEDDINGS = (
    "word_embeddings.weight",
    "embed_tokens.weight",
    "tok_embeddings.weight",
    "word_embedding.weight",
)
# What finetune, save_pretrained and export write into a folder; anything else there is the user's.
WRITTEN_FILES = (
    *TOKENIZER_FILES,
    "config.json",
    "generation_config.json",
    "chat_template.jinja",
    "model*.safetensors",
    "model.safetensors.index.json",
    "model.onnx*",
    "model.pt2",
    "calibration.json",
    "canaries.json",
    early_exit.FILE,
    "held_out.json",
    "metrics.json",
    "training_curve.csv",
    "seen_texts.hashes",
    "training_args.bin",
    "README.md",
    "report.html",
)
# In the position tables of these the first token has the row after that of the padding id.
OFFSET_POSITIONS = {
    "bertweet",
    "camembert",
    "data2vec-text",
    "ibert",
    "longformer",
    "luke",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
}
# For a tokenizer without a limit transformers writes 1e30; no encoder reads a million tokens.
NO_LIMIT = 1_000_000
USUAL_LIMIT = 512
# Two special tokens and one of the text.
LEAST_LENGTH = 3


@dataclass(frozen=True)
class Inspection:
    """What the files of a model folder say about it."""

    config: dict[str, Any]
    weights: tuple[Path, ...]  # one file, or the shards in the order of their names
    tokenizer_files: tuple[Path, ...]
    labels: tuple[str, ...]
    max_length: int  # tokens that the tokenizer leaves, special tokens included
    positions: int | None  # tokens that the weights have positions for
    long_text: str | None  # what of a longer text the model was trained on, as finetune records it
    text_columns: TextColumns | None  # what the training texts were made of, where it is recorded


def inspect(folder: Path) -> Inspection:
    """Read and check a model folder without running anything of it.

    Raises ModelError for a folder that is not a text classifier with safetensors weights, is
    damaged, requires code of its own, or has files that do not fit together.
    """
    parts = _inspect_encoder(folder)
    labels = read_labels(folder, parts.config)
    _check_head(folder, parts.config, parts.tensors, labels)
    return Inspection(
        parts.config,
        parts.weights,
        parts.tokenizer_files,
        labels,
        parts.max_length,
        parts.positions,
        _long_text(folder, parts.config),
        _text_columns(folder, parts.config),
    )


def check_replaced(folder: Path) -> None:
    """Refuse to replace a folder that holds files that batchsent did not write.

    --overwrite is about the model; a training file or notes beside it belong to the user. Raises
    UsageError.
    """
    foreign = atomic.foreign_names(folder, WRITTEN_FILES)
    if foreign:
        raise UsageError(
            f"{printable(folder)} holds {printable(foreign[0])}, which batchsent did not write, so "
            "it is not replaced",
            hint="move it elsewhere, or choose another name with -o",
        )


def inspect_base(folder: Path) -> tuple[tuple[Path, ...], int]:
    """Check an encoder to be fine-tuned as `inspect` checks a classifier, the head aside.

    Returns its weight files and how many tokens it reads. Raises ModelError.
    """
    parts = _inspect_encoder(folder)
    return parts.weights, parts.max_length


@dataclass(frozen=True)
class _Encoder:
    """A model folder without its head."""

    config: dict[str, Any]
    weights: tuple[Path, ...]
    tensors: dict[str, Tensor]
    tokenizer_files: tuple[Path, ...]
    max_length: int
    positions: int | None


def _inspect_encoder(folder: Path) -> _Encoder:
    """Read and check all of a folder but the head. Raises ModelError."""
    check_files(folder)
    config = read_json(folder / "config.json", "the model's configuration")
    tokenizer_settings = {}
    if (folder / "tokenizer_config.json").exists():
        tokenizer_settings = read_json(folder / "tokenizer_config.json", "the tokenizer's settings")
    _refuse_code(folder, config, tokenizer_settings)
    _refuse_other_files(folder, config, tokenizer_settings)
    weights = weight_files(folder)
    tensors: dict[str, Tensor] = {}
    for path in weights:
        tensors.update(read_header(path))
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    check_sizes(folder / "config.json", config, shapes)
    tokenizer_files = find_tokenizer_files(folder)
    _check_vocabulary(folder, config, tensors)
    positions = _positions(folder, config)
    limit = _max_length(positions, tokenizer_settings)
    if limit < LEAST_LENGTH:
        raise ModelError(
            f"{printable(folder)} reads {limit} tokens of a text, special tokens included; "
            f"batchsent requires {LEAST_LENGTH} or more",
            hint="correct model_max_length in tokenizer_config.json, or copy the model again",
        )
    return _Encoder(config, weights, tensors, tokenizer_files, limit, positions)


def _refuse_code(folder: Path, config: dict[str, Any], tokenizer_settings: dict[str, Any]) -> None:
    """Refuse a model that requires code to run or kernels to fetch."""
    for name, document in (("config.json", config), ("tokenizer_config.json", tokenizer_settings)):
        if document.get("auto_map") or document.get("custom_pipelines"):
            raise ModelError(
                f"{printable(folder / name)} asks to run code that came with the model; it was not "
                "run",
                hint="batchsent runs only architectures that transformers ships: choose such a "
                "model",
            )
    for key, value in config.items():
        # With "owner/name" here transformers downloads a kernel and runs it.
        if "attn_implementation" in key and "/" in str(value):
            raise ModelError(
                f"{printable(folder / 'config.json')}: {printable(key)} names foreign code "
                f"({printable(str(value)[:80])}); it was not fetched",
                hint=f"remove {printable(key)} from config.json",
            )
    if config.get("quantization_config"):
        raise ModelError(
            f"{printable(folder)} holds quantized weights, which require a library of their own",
            hint="give the model in float32 or float16; batchsent quantizes itself with "
            "--precision int8",
        )


def _refuse_other_files(
    folder: Path, config: dict[str, Any], tokenizer_settings: dict[str, Any]
) -> None:
    """Refuse a model that makes transformers read other files than those checked here."""
    if (folder / ADAPTER).exists():
        is_whole = (folder / WEIGHTS).exists() or (folder / INDEX).exists()
        beside = "beside" if is_whole else "not"
        raise ModelError(
            f"{printable(folder)} holds an adapter, {beside} a whole model",
            hint="merge it into its base model first: "
            "PeftModel.merge_and_unload().save_pretrained(FOLDER)",
        )
    others = (
        ("config.json", config, "transformers_weights"),
        ("tokenizer_config.json", tokenizer_settings, "fast_tokenizer_files"),
    )
    for name, document, key in others:
        if document.get(key):
            raise ModelError(
                f"{printable(folder / name)}: {key} names other files than the model's own",
                hint=f"remove {key} from {name}",
            )


def _long_text(folder: Path, config: dict[str, Any]) -> str | None:
    """Return what of a longer text the model was trained on, as finetune records it."""
    found = config.get("long_text")
    if found is not None and found not in LONG_TEXT:
        raise ModelError(
            f"{printable(folder / 'config.json')}: long_text is {printable(str(found)[:40])}",
            hint=f"set it to one of {', '.join(LONG_TEXT)}, or remove it",
        )
    return found


def _text_columns(folder: Path, config: dict[str, Any]) -> TextColumns | None:
    """Return which columns the training texts were made of, as finetune records them."""
    names = config.get("text_columns")
    if names is None:
        return None
    try:
        return TextColumns.of(names, config.get("text_joint"))
    except ValueError as error:
        raise ModelError(
            f"{printable(folder / 'config.json')}: {error}",
            hint='write column names, as in "text_columns": ["title", "body"], or remove it',
        ) from error


def _check_head(
    folder: Path, config: dict[str, Any], tensors: dict[str, Tensor], labels: tuple[str, ...]
) -> None:
    """Refuse a model without a classification head: transformers would make a random one."""
    named = config.get("architectures")
    architectures = [str(a) for a in named] if isinstance(named, list) else []
    heads = []
    for name, tensor in tensors.items():
        if any(name == head or name.endswith(f".{head}") for head in HEADS):
            heads.append(tensor)
    if any(a.endswith("ForSequenceClassification") for a in architectures) and heads:
        rows = {head.shape[0] for head in heads if head.shape}
        if len(labels) not in rows:
            found = ", ".join(map(str, sorted(rows)))
            raise ModelError(
                f"{printable(folder)}: config.json names {len(labels)} labels, the classifier has "
                f"{found} outputs",
                hint="copy or download the model again, or correct id2label in config.json",
            )
        return
    if not architectures and heads:
        return
    kind = printable(", ".join(architectures) or config.get("model_type", "unknown"))
    raise ModelError(
        f"{printable(folder)} has no classification head (it is a {kind})",
        hint="fine-tune it first: batchsent finetune --base-model FOLDER -o NEW_FOLDER",
    )


def _check_vocabulary(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Refuse a tokenizer with ids that are not in the embedding table."""
    rows = config.get("vocab_size")
    for name, tensor in tensors.items():
        if name.endswith(EMBEDDINGS) and tensor.shape:
            rows = tensor.shape[0]
            break
    largest = largest_id(folder)
    if isinstance(rows, int) and largest is not None and largest >= rows:
        raise ModelError(
            f"{printable(folder)}: the tokenizer has ids up to {largest:,}, the model has "
            f"embeddings for {rows:,}",
            hint="the tokenizer belongs to another model: save the right one into the folder",
        )


def _positions(folder: Path, config: dict[str, Any]) -> int | None:
    """Return how many tokens the weights have positions for; None for a model without a limit."""
    positions = config.get("max_position_embeddings", config.get("n_positions"))
    if positions is None:
        return None
    if str(config.get("model_type")) in OFFSET_POSITIONS:
        padding = config.get("pad_token_id")
        if padding is None:
            padding = 1  # the default of these architectures
        if not isinstance(padding, int) or padding < 0:
            where = printable(folder / "config.json")
            raise ModelError(
                f"{where}: pad_token_id is {printable(str(padding)[:40])}, not a token's id",
                hint="copy or download the model again",
            )
        positions -= padding + 1
    return int(positions)


def _max_length(positions: int | None, tokenizer_settings: dict[str, Any]) -> int:
    """Return how many tokens the model reads, special tokens included."""
    limits = []
    if positions is not None:
        limits.append(positions)
    stated = tokenizer_settings.get("model_max_length")
    if isinstance(stated, int | float) and 0 < stated < NO_LIMIT:
        limits.append(int(stated))
    return max(1, min(limits, default=USUAL_LIMIT))
