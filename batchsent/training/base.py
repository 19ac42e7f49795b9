"""A base model's folder or Hub id -> an encoder with a classification head."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchsent.errors import BatchsentError, ModelError
from batchsent.filenames import expand, is_folder
from batchsent.model import files, folder, loading
from batchsent.reporting import Reporter
from batchsent.text import first_line, printable
from batchsent.training.options import BASE_MODEL, FinetuneOptions


@dataclass(frozen=True)
class Base:
    """A base model that was found and checked."""

    path: Path  # its local folder
    revision: str | None  # commit of a Hub model
    weights_sha256: str
    max_length: int  # tokens it reads, special tokens included
    labels: tuple[str, ...] = ()  # of its classification head; empty where it has none
    long_text: str | None = None  # what of a longer text it was trained on, where it says so


def find_base(settings: FinetuneOptions, reporter: Reporter) -> tuple[Base | None, dict[str, Any]]:
    """Return the base model, None from scratch, and what metrics.json says of it."""
    if settings.from_scratch:
        return None, {"kind": "scratch", "name": None, "revision": None, "weights_sha256": None}
    name = settings.base_model
    try:
        found = locate_base(name, settings.revision)
    except ModelError as error:
        if name != BASE_MODEL or settings.revision or not error.details.get("unreachable"):
            raise
        reporter.warning(
            f"the Hub cannot be reached for {name}: starting from the small model that comes with "
            "batchsent"
        )
        name = loading.EMBEDDED
        found = locate_base(name, None)
    local = is_folder(expand(name))
    kind = "folder" if local else "hub"
    if found.path == loading.EMBEDDED_FOLDER:
        kind = "embedded"
    return found, {
        "kind": kind,
        "name": found.path.resolve().name if local else name,
        "revision": found.revision,
        "weights_sha256": found.weights_sha256,
    }


def locate_base(name: str, revision: str | None) -> Base:
    """Find a base model by folder or Hub id, and refuse what cannot be used safely.

    Nothing of the folder is run or unpickled. Raises ModelError, and UsageError for a revision of a
    folder.
    """
    path, commit = loading.locate(name, revision)
    weights, limit = folder.inspect_base(path)
    labels: tuple[str, ...] = ()
    long_text = None
    with suppress(ModelError):  # an encoder without a head, or with one of another kind
        classifier = folder.inspect(path)
        labels, long_text = classifier.labels, classifier.long_text
    return Base(path, commit, files.sha256_of_all(weights), limit, labels, long_text)


def load_tokenizer(path: Path) -> Any:
    """Load the tokenizer of a base model. Raises ModelError."""
    import transformers

    with loading_errors(path), loading.stdout_discarded():
        return transformers.AutoTokenizer.from_pretrained(
            path, local_files_only=True, trust_remote_code=False
        )


def load_base(path: Path, names: Sequence[str]) -> Any:
    """Load a base model with a classification head for the named classes.

    A classifier of as many classes keeps its head; otherwise there is a fresh one. Raises
    ModelError when the encoder itself lacks weights.
    """
    import torch

    labels = {
        "id2label": dict(enumerate(names)),
        "label2id": {name: i for i, name in enumerate(names)},
        "problem_type": "single_label_classification",
    }
    with loading_errors(path):
        model, info = loading.model_from(
            path, config=labels, dtype=torch.float32, ignore_mismatched_sizes=True
        )
    # The head is new on purpose; so is the pooler where a masked language model had none.
    absent = {key for key in info["missing_keys"] if ".pooler." not in key}
    absent |= {key if isinstance(key, str) else key[0] for key in info["mismatched_keys"]}
    check_encoder_is_whole(path, model, absent)
    return model


def check_encoder_is_whole(path: Path, model: Any, absent: Iterable[str]) -> None:
    """Refuse a base model where weights of the encoder itself are `absent`. Raises ModelError."""
    of_encoder = {key for key in absent if key.startswith(f"{model.base_model_prefix}.")}
    if of_encoder:
        raise ModelError(
            f"base model {printable(path)} lacks {len(of_encoder)} weights of its architecture, "
            f"{printable(min(of_encoder))} among them",
            hint="copy or download it again",
        )


@contextmanager
def loading_errors(path: Path) -> Iterator[None]:
    """Turn what goes wrong while foreign files become a model into a ModelError.

    It has no common class.
    """
    try:
        yield
    except BatchsentError:
        raise  # a signal that came in the middle
    except Exception as error:
        raise ModelError(
            f"base model {printable(path)} cannot be loaded: {first_line(error)}",
            hint="--base-model takes a Hub id or a folder of an encoder that transformers knows",
        ) from error
