"""A base model's folder or Hub id -> an encoder with a fresh classification head; knows nothing of training."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchsent.errors import BatchsentError, ModelError, UsageError, printable
from batchsent.model import folder, loading


@dataclass(frozen=True)
class Base:
    """A base model that was found and checked."""

    path: Path  # its local folder
    revision: str | None  # commit of a Hub model
    weights_sha256: str
    max_length: int  # tokens it reads, special tokens included


def locate_base(name: str, revision: str | None) -> Base:
    """Find a base model by folder or Hub id, and refuse what cannot be used safely.

    Nothing of the folder is run or unpickled. Raises ModelError, and UsageError for a revision of a folder.
    """
    path = Path(name).expanduser()
    commit = None
    if path.is_dir() and revision is not None:
        raise UsageError(f"a folder has no revision ({printable(path)})", hint="leave --revision out")
    if not path.is_dir():
        path = loading.fetch(name, revision)
        commit = path.name if loading.COMMIT.fullmatch(path.name) else None
    weights, limit = folder.inspect_base(path)
    return Base(path, commit, folder.sha256_of_all(weights), limit)


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
    except BatchsentError:
        raise  # a signal that came in the middle
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
