"""What can be told of a model folder from its files alone.

Never runs, unpickles or builds anything in it. Every number that decides how much is read or
allocated is checked against the file's size first.
"""

import json
import os
import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from batchsent.chunk import is_blank
from batchsent.errors import ModelError, UsageError
from batchsent.files import atomic
from batchsent.model.files import MAX_TEXT_BYTES, check_files, open_file, read_file, read_json
from batchsent.model.sizes import check_sizes
from batchsent.model.tokens import LONG_TEXT
from batchsent.text import printable

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
# A header is JSON, about 100 bytes a tensor: a hundred thousand of them.
MAX_HEADER_BYTES = 10_000_000
TENSOR_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(
        ("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I8", "U8", "BOOL"), 8
    ),
}
# Weights of the last layer of a classifier: BERT and friends, RoBERTa and friends, XLNet and XLM,
# LLaMA and friends.
HEADS = ("classifier.weight", "classifier.out_proj.weight", "logits_proj.weight", "score.weight")
EMBEDDINGS = (
    "word_embeddings.weight",
    "embed_tokens.weight",
    "tok_embeddings.weight",
    "word_embedding.weight",
)
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "bpe.codes",
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
    "metrics.json",
    "training_curve.csv",
    "seen_texts.hashes",
    "training_args.bin",
    "README.md",
    "report.html",
)
# One of these is enough to build a tokenizer of.
VOCABULARIES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".h5", ".msgpack")
# Position tables of these start counting behind the padding id.
OFFSET_POSITIONS = {
    *(
        "roberta",
        "xlm-roberta",
        "xlm-roberta-xl",
        "camembert",
        "longformer",
        "mpnet",
        "data2vec-text",
        "ibert",
    ),
    *("luke", "roberta-prelayernorm", "xmod", "bertweet"),
}
# What transformers writes where a tokenizer has no limit is 1e30; no encoder here reads a million
# tokens.
NO_LIMIT = 1_000_000
USUAL_LIMIT = 512
# Two special tokens and one of the text.
LEAST_LENGTH = 3


@dataclass(frozen=True)
class Tensor:
    """One entry of a safetensors header."""

    dtype: str
    shape: tuple[int, ...]
    start: int  # bytes, counted from the end of the header
    end: int


@dataclass(frozen=True)
class Inspection:
    """What the files of a model folder say about it."""

    config: dict[str, Any]
    weights: tuple[Path, ...]  # one file, or the shards in the order of their names
    tokenizer_files: tuple[Path, ...]
    labels: tuple[str, ...]
    max_length: int  # tokens that the tokenizer leaves, special tokens included
    positions: int | None  # tokens that the weights can tell apart
    long_text: str | None  # what of a longer text the model was trained on, as finetune notes it


def inspect(folder: Path) -> Inspection:
    """Read and check a model folder without running anything of it.

    Raises ModelError for a folder that is no text classifier with safetensors weights, is damaged,
    wants to run code of its own, or whose parts do not fit together.
    """
    parts = _inspect_encoder(folder)
    labels = _labels(folder, parts.config)
    _check_head(folder, parts.config, parts.tensors, labels)
    return Inspection(
        parts.config,
        parts.weights,
        parts.tokenizer_files,
        labels,
        parts.max_length,
        parts.positions,
        _long_text(folder, parts.config),
    )


def check_replaced(folder: Path) -> None:
    """Refuse to replace a folder with files in it that batchsent did not write.

    --overwrite is about the model; a training file or notes beside it are the user's own. Raises
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
    tokenizer_config = folder / "tokenizer_config.json"
    tokenizer_settings = (
        read_json(tokenizer_config, "the tokenizer's settings") if tokenizer_config.exists() else {}
    )
    _refuse_code(folder, config, tokenizer_settings)
    _refuse_other_files(folder, config, tokenizer_settings)
    weights = weight_files(folder)
    tensors = {name: tensor for path in weights for name, tensor in read_header(path).items()}
    check_sizes(
        folder / "config.json", config, {name: tensor.shape for name, tensor in tensors.items()}
    )
    tokenizer_files = _tokenizer_files(folder)
    _check_vocabulary(folder, config, tensors)
    positions = _positions(folder, config)
    limit = _max_length(positions, tokenizer_settings)
    if limit < LEAST_LENGTH:
        raise ModelError(
            f"{printable(folder)} reads {limit} tokens of a text, special tokens included: at "
            f"least {LEAST_LENGTH} are needed",
            hint="mend model_max_length in tokenizer_config.json, or copy the model again",
        )
    return _Encoder(config, weights, tensors, tokenizer_files, limit, positions)


def weight_files(folder: Path) -> tuple[Path, ...]:
    """Return the safetensors files of a folder; pickles are refused without being opened."""
    if (folder / WEIGHTS).exists():
        return (folder / WEIGHTS,)
    if (folder / INDEX).exists():
        shards = read_json(folder / INDEX, "the list of weight files").get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise ModelError(f"{printable(folder / INDEX)} is damaged: it names no weight files")
        names = sorted({str(name) for name in shards.values()})
        for name in names:
            # The index is somebody else's file: it must not lead out of the folder, nor to a
            # pickle.
            if Path(name).name != name or not name.endswith(".safetensors"):
                raise ModelError(
                    f"{printable(folder / INDEX)} names a file it may not: {printable(name)}"
                )
            if not (folder / name).exists():
                raise ModelError(
                    f"{printable(folder)} lacks the weight file {printable(name)}",
                    hint="copy or download the model again",
                )
        return tuple(folder / name for name in names)
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLES)
    if pickles:
        raise ModelError(
            f"{printable(folder)} has its weights only as {printable(pickles[0])}, a format that "
            "can run code when it is opened; it was not opened",
            hint="where you trust it, convert it once: "
            "AutoModelForSequenceClassification.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)",
        )
    raise ModelError(
        f"{printable(folder)} has no weights ({WEIGHTS})",
        hint="give the folder that `batchsent finetune` or save_pretrained() wrote, with all of "
        "its files",
    )


def read_header(path: Path) -> dict[str, Tensor]:
    """Read and check the header of a safetensors file.

    The length it claims is compared with the file's size before anything of that length is read.
    Raises ModelError for a header that is absurd, tensors that overlap or leave gaps, or data that
    ends early.
    """

    def damaged(what: str) -> ModelError:
        return ModelError(
            f"{printable(path)} is damaged: {what}", hint="copy or download the model again"
        )

    try:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(8)
            if len(start) < 8:
                raise damaged(f"{size} bytes are no safetensors file")
            (length,) = struct.unpack("<Q", start)
            if length > min(size - 8, MAX_HEADER_BYTES):
                raise damaged(f"its header claims {length:,} bytes of a file of {size:,}")
            raw = file.read(length)
        header = json.loads(raw)
    except OSError as error:
        raise ModelError(f"cannot read {printable(path)}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise damaged("its header is not JSON") from error
    tensors = {}
    try:
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            first, last = entry["data_offsets"]
            tensors[name] = Tensor(
                entry["dtype"], tuple(map(int, entry["shape"])), int(first), int(last)
            )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise damaged("its header is malformed") from error
    _check_layout(tensors, size - 8 - length, damaged)
    return tensors


def _check_layout(tensors: dict[str, Tensor], data_bytes: int, damaged: Any) -> None:
    """Check that the tensors fill the data exactly, each with the bytes of its shape."""
    layout = sorted(tensors.values(), key=lambda t: (t.start, t.end))
    for name, tensor in tensors.items():
        bits = TENSOR_BITS.get(tensor.dtype)
        if min(tensor.shape, default=0) < 0 or tensor.start < 0 or tensor.end < tensor.start:
            raise damaged(f"tensor {printable(name)} has an impossible place or shape")
        count = 1
        for extent in tensor.shape:
            count *= extent
        if bits is not None and count * bits != (tensor.end - tensor.start) * 8:
            raise damaged(f"tensor {printable(name)} has not the bytes of its shape")
    if any(b.start != a.end for a, b in pairwise(layout)) or (layout and layout[0].start != 0):
        raise damaged("its tensors overlap or leave gaps")
    needed = layout[-1].end if layout else 0
    if needed != data_bytes:
        short = "is cut short" if data_bytes < needed else "has bytes that belong to no tensor"
        raise damaged(
            f"it {short}: {data_bytes:,} bytes of weights where the header needs {needed:,}"
        )


def _refuse_code(folder: Path, config: dict[str, Any], tokenizer_settings: dict[str, Any]) -> None:
    """Refuse a model that names code to run or kernels to fetch."""
    for name, document in (("config.json", config), ("tokenizer_config.json", tokenizer_settings)):
        if document.get("auto_map") or document.get("custom_pipelines"):
            raise ModelError(
                f"{printable(folder / name)} asks to run code that came with the model; it was not "
                "run",
                hint="batchsent runs only architectures that transformers ships: choose such a "
                "model",
            )
    for key, value in config.items():
        # transformers takes "owner/name" here for a kernel to download and run.
        if "attn_implementation" in key and "/" in str(value):
            raise ModelError(
                f"{printable(folder / 'config.json')}: {printable(key)} names foreign code "
                f"({printable(str(value)[:80])}); it was not fetched",
                hint=f"remove {printable(key)} from config.json",
            )
    if config.get("quantization_config"):
        raise ModelError(
            f"{printable(folder)} holds quantized weights, which need a library of their own",
            hint="give the model in float32 or float16; batchsent quantizes itself with "
            "--precision int8",
        )


def _refuse_other_files(
    folder: Path, config: dict[str, Any], tokenizer_settings: dict[str, Any]
) -> None:
    """Refuse a model that makes transformers read other files than those checked here."""
    if (folder / ADAPTER).exists():
        whole = (folder / WEIGHTS).exists() or (folder / INDEX).exists()
        raise ModelError(
            f"{printable(folder)} holds an adapter, {'beside' if whole else 'not'} a whole model",
            hint="merge it into its base model first: "
            "PeftModel.merge_and_unload().save_pretrained(FOLDER)",
        )
    for name, document, key in (
        ("config.json", config, "transformers_weights"),
        ("tokenizer_config.json", tokenizer_settings, "fast_tokenizer_files"),
    ):
        if document.get(key):
            raise ModelError(
                f"{printable(folder / name)}: {key} names other files than the model's own",
                hint=f"remove {key} from {name}",
            )


def _long_text(folder: Path, config: dict[str, Any]) -> str | None:
    """Return what finetune noted of long texts."""
    found = config.get("long_text")
    if found is not None and found not in LONG_TEXT:
        raise ModelError(
            f"{printable(folder / 'config.json')}: long_text is {printable(str(found)[:40])}",
            hint=f"it is one of {', '.join(LONG_TEXT)}: mend it, or remove it",
        )
    return found


def _labels(folder: Path, config: dict[str, Any]) -> tuple[str, ...]:
    """Return the label names in the order of the model's outputs."""
    where = printable(folder / "config.json")
    id2label = config.get("id2label")
    if id2label is None:
        count = config.get("num_labels", 2)
        id2label = (
            {i: f"LABEL_{i}" for i in range(count)}
            if isinstance(count, int) and 0 <= count <= 100_000
            else None
        )
    try:
        by_index = {int(index): _label_name(name) for index, name in id2label.items()}  # type: ignore[union-attr]
    except (AttributeError, TypeError, ValueError) as error:
        raise ModelError(f"{where}: id2label is no table of label names") from error
    if sorted(by_index) != list(range(len(by_index))):
        raise ModelError(f"{where}: id2label does not number its labels 0, 1, 2, ...")
    labels = tuple(by_index[i] for i in range(len(by_index)))
    unreadable = next((name for name in labels if is_blank(name) or not name.isprintable()), None)
    if unreadable is not None:
        what = "blank" if is_blank(unreadable) else "not printable"
        raise ModelError(
            f"{where}: the label name {printable(repr(unreadable[:40]))} in id2label is {what}",
            hint="give every label a name that can be read, in letters, digits or signs",
        )
    if len(labels) < 2 or config.get("problem_type") == "regression":
        raise ModelError(
            f"{printable(folder)} predicts {len(labels)} value{'s' * (len(labels) != 1)}, not one "
            "of several labels",
            hint="batchsent needs a classifier with two labels or more",
        )
    if config.get("problem_type") == "multi_label_classification":
        raise ModelError(
            f"{printable(folder)} gives any number of labels to a text (multi-label), batchsent "
            "exactly one",
            hint="give a model trained with problem_type single_label_classification",
        )
    doubles = sorted({name for name in labels if labels.count(name) > 1})
    if doubles:
        raise ModelError(
            f"{where}: the label name {printable(repr(doubles[0]))} stands for several outputs",
            hint="give every label in id2label a name of its own",
        )
    return labels


def _label_name(value: Any) -> str:
    if not isinstance(value, str | int):
        raise TypeError(f"a label is {value!r}")
    return str(value)


def _check_head(
    folder: Path, config: dict[str, Any], tensors: dict[str, Tensor], labels: tuple[str, ...]
) -> None:
    """Refuse a model without a classification head: transformers would invent one."""
    named = config.get("architectures")
    architectures = [str(a) for a in named] if isinstance(named, list) else []
    heads = [
        tensor
        for name, tensor in tensors.items()
        if any(name == h or name.endswith("." + h) for h in HEADS)
    ]
    if any(a.endswith("ForSequenceClassification") for a in architectures) and heads:
        rows = {head.shape[0] for head in heads if head.shape}
        if len(labels) not in rows:
            found = ", ".join(map(str, sorted(rows)))
            raise ModelError(
                f"{printable(folder)}: config.json names {len(labels)} labels, the classifier has "
                f"{found} outputs",
                hint="copy or download the model again, or mend id2label in config.json",
            )
        return
    if not architectures and heads:
        return
    kind = printable(", ".join(architectures) or config.get("model_type", "unknown"))
    raise ModelError(
        f"{printable(folder)} has no classification head (it is a {kind})",
        hint="fine-tune it first: batchsent finetune --base-model FOLDER -o NEW_FOLDER",
    )


def _tokenizer_files(folder: Path) -> tuple[Path, ...]:
    files = tuple(folder / name for name in TOKENIZER_FILES if (folder / name).exists())
    if not any((folder / name).exists() for name in VOCABULARIES):
        raise ModelError(
            f"{printable(folder)} has no tokenizer (tokenizer.json, vocab.txt, ...)",
            hint="save it into the same folder: "
            "AutoTokenizer.from_pretrained(BASE_MODEL).save_pretrained(FOLDER)",
        )
    return files


def _check_vocabulary(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Refuse a tokenizer whose ids reach beyond the embedding table."""
    rows = next(
        (t.shape[0] for name, t in tensors.items() if name.endswith(EMBEDDINGS) and t.shape), None
    )
    if rows is None:
        rows = config.get("vocab_size")
    largest = _largest_id(folder)
    if isinstance(rows, int) and largest is not None and largest >= rows:
        raise ModelError(
            f"{printable(folder)}: the tokenizer has ids up to {largest:,}, the model knows "
            f"{rows:,} words",
            hint="the tokenizer belongs to another model: save the right one into the folder",
        )


def _largest_id(folder: Path) -> int | None:
    """Return the largest token id of the tokenizer files, or None where unknown."""
    if (folder / "tokenizer.json").exists():
        document = read_json(folder / "tokenizer.json", "the tokenizer", MAX_TEXT_BYTES)
        try:
            vocabulary = document["model"]["vocab"]
            # Unigram models list their pieces, the others map piece to id.
            ids = (
                [len(vocabulary) - 1]
                if isinstance(vocabulary, list)
                else [int(i) for i in vocabulary.values()]
            )
            ids += [int(token["id"]) for token in document.get("added_tokens") or []]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"{printable(folder / 'tokenizer.json')} is damaged: not a tokenizer",
                hint="save the tokenizer into the folder again",
            ) from error
        return max(ids, default=-1)
    if (folder / "vocab.txt").exists():
        content = read_file(folder / "vocab.txt", MAX_TEXT_BYTES)
        return content.count(b"\n") - content.endswith(b"\n")
    return None


def _positions(folder: Path, config: dict[str, Any]) -> int | None:
    """Return how many tokens the weights can tell apart by their place.

    None for a model without such a limit.
    """
    positions = config.get("max_position_embeddings", config.get("n_positions"))
    if positions is None:
        return None
    if str(config.get("model_type")) in OFFSET_POSITIONS:
        padding = 1 if config.get("pad_token_id") is None else config["pad_token_id"]
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
    limits = [] if positions is None else [positions]
    stated = tokenizer_settings.get("model_max_length")
    if isinstance(stated, int | float) and 0 < stated < NO_LIMIT:
        limits.append(int(stated))
    return max(1, min(limits, default=USUAL_LIMIT))
