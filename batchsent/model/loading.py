"""From what the user typed to a model on a device: a folder, a Hub id or nothing.

Safetensors only, no foreign code. `identify` needs neither torch nor transformers: a run can be
refused, or found to be done already, without them.
"""

import difflib
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchsent.errors import BatchsentError, DeviceError, ModelError, UsageError
from batchsent.filenames import exists, expand, is_folder, is_regular, names_in
from batchsent.model import early_exit, int8_storage
from batchsent.model.device import (
    FREE_MEMORY,
    MORE_MEMORY,
    Device,
    choose_device,
    device_error,
    is_out_of_memory,
    lacks_memory,
)
from batchsent.model.early_exit import EarlyExit
from batchsent.model.files import sha256_of_all
from batchsent.model.folder import inspect
from batchsent.model.options import check_max_length
from batchsent.model.parts import EncoderWeights
from batchsent.model.tokenizer_files import TOKENIZER_FILES
from batchsent.model.weight_files import weight_files
from batchsent.standard_streams import is_command
from batchsent.text import first_line, printable
from batchsent.text_columns import TextColumns

# A Hub id: owner/name, or name alone for the oldest models.
HUB_ID = re.compile(r"[\w][\w.-]{0,95}(/[\w][\w.-]{0,95})?", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")
# The card and the texts seen are for a training that starts from the model.
HUB_FILES = ["config.json", "*.safetensors", "*.safetensors.index.json", *TOKENIZER_FILES]
HUB_FILES += ["README.md", "seen_texts.hashes", "calibration.json", "held_out.json"]
HUB_FILES += ["canaries.json", early_exit.FILE]
HUB_TIMEOUT_S = 10.0
# The model that comes with the package, for those who name none.
EMBEDDED = "embedded"
EMBEDDED_FOLDER = Path(__file__).parents[1] / EMBEDDED


@dataclass(frozen=True)
class ModelIdentity:
    """Which model it is: enough to say whether two runs used the same one."""

    source: str  # what the user typed
    path: Path  # the local folder
    revision: str | None  # commit of a Hub model, 40 hexadecimal digits; None for a folder
    weights_sha256: str
    tokenizer_sha256: str  # over all tokenizer files
    config_sha256: str  # over config.json, and early_exit.json where there is one
    labels: tuple[str, ...]  # in the order of the model's outputs
    max_length: int  # tokens that the model can read, special tokens included
    architecture: str  # DistilBertForSequenceClassification
    positions: int | None = None  # tokens that the weights allow, where the tokenizer cuts earlier
    # what of a longer text it was trained on, where config.json says so
    long_text: str | None = None
    # which columns its training texts were made of, where they were named
    text_columns: TextColumns | None = None
    early_exit: EarlyExit | None = None  # where texts may skip layers
    cascade: "Cascade | None" = None  # a faster model that scores texts first


@dataclass(frozen=True)
class Cascade:
    """The fast model of a cascade, and below which score of it the main model runs."""

    identity: ModelIdentity
    below: float


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run: loaded by transformers, or as `weights` from its files alone."""

    identity: ModelIdentity
    module: Any  # transformers model in eval mode, on the device; None where it was not needed
    tokenizer: Any  # transformers tokenizer, or checked.RecordedTokenizer
    device: Device
    max_length: int  # tokens read of a text: what the tokenizer cuts at, or what the user said
    config: Any = None  # the configuration as transformers reads it
    weights: EncoderWeights | None = None  # where there is no module


def identify(source: str | None, revision: str | None = None) -> ModelIdentity:
    """Find a model by folder or Hub id, or the embedded one, and check its files.

    Hub models come from the local cache where the Hub cannot be reached. Raises ModelError for a
    model that is not there, is damaged, is no classifier or would run code of its own.
    """
    path, commit = locate(source, revision)
    found = inspect(path)
    named = found.config.get("architectures")
    weights_sha256 = sha256_of_all(found.weights)
    settings = [path / "config.json"]
    if exists(path / early_exit.FILE):
        settings.append(path / early_exit.FILE)
    return ModelIdentity(
        source=EMBEDDED if source is None else source,
        path=path,
        revision=commit,
        weights_sha256=weights_sha256,
        tokenizer_sha256=sha256_of_all(found.tokenizer_files),
        config_sha256=sha256_of_all(settings),
        labels=found.labels,
        max_length=found.max_length,
        architecture=str(named[0])
        if isinstance(named, list) and named
        else str(found.config.get("model_type")),
        positions=found.positions,
        long_text=found.long_text,
        text_columns=found.text_columns,
        early_exit=early_exit.read(path, len(found.labels), weights_sha256=weights_sha256),
    )


def locate(source: str | None, revision: str | None) -> tuple[Path, str | None]:
    """Return the folder of a model, and of a Hub model its commit.

    A folder that exists wins over the name of the embedded model, and that over a Hub id. Raises
    ModelError, and UsageError for a revision of what has none.
    """
    path = EMBEDDED_FOLDER if source is None else expand(source)
    if source == EMBEDDED and not is_folder(path):
        path = EMBEDDED_FOLDER
    if is_folder(path):
        if revision is not None:
            raise UsageError(
                f"a folder has no revision ({printable(path)})", hint="leave --revision out"
            )
        return path, None
    path = fetch(str(source), revision)
    return path, path.name if COMMIT.fullmatch(path.name) else None


def fetch(source: str, revision: str | None) -> Path:
    """Return the local folder of a Hub model, fetching what is missing."""
    name = printable(source)
    if exists(source):
        raise ModelError(
            f"{name} is a file; a model is a folder", hint="give the folder that holds config.json"
        )
    if not HUB_ID.fullmatch(source) or source.startswith((".", "~", "/")):
        raise ModelError(f"there is no folder {name}", hint=_nearby(source))
    from huggingface_hub import errors as hub
    from huggingface_hub import snapshot_download

    both = f"if you meant a folder: {_nearby(source)}"
    try:
        reachable = _hub_answers(source, revision)
        return Path(
            snapshot_download(
                source,
                revision=revision,
                allow_patterns=HUB_FILES,
                ignore_patterns=["*/*"],  # copies for other runtimes live in sub-folders
                local_files_only=not reachable,
            )
        )
    except hub.GatedRepoError as error:
        raise ModelError(
            f"{name} is a gated model of the Hub",
            hint="accept its terms on its page, then log in: hf auth login",
        ) from error
    except hub.RepositoryNotFoundError as error:
        raise ModelError(
            f"there is no folder {name}, and no model of this name on the Hub that you may read",
            hint=f"check the spelling, or log in for a private model: hf auth login; {both}",
        ) from error
    except hub.RevisionNotFoundError as error:
        raise ModelError(
            f"the model {name} has no revision {printable(revision)}",
            hint="give a branch, a tag or a commit",
        ) from error
    except hub.HFValidationError as error:
        raise ModelError(
            f"there is no folder {name}, and it is no Hub id", hint=_nearby(source)
        ) from error
    except (hub.HTTPError, OSError) as error:  # type: ignore[attr-defined]  # of httpx or httpx2, as the Hub's client has it
        offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
        why = "HF_HUB_OFFLINE is set" if offline else "the Hub cannot be reached"
        raise ModelError(
            f"there is no folder {name}, and no whole model of this name in the local cache "
            f"({why})",
            hint="give a model folder, or download it once where there is a network: hf download "
            f"{name}; {both}",
            unreachable=True,
        ) from error


def _hub_answers(source: str, revision: str | None) -> bool:
    """Ask the Hub for the model with a time limit, which snapshot_download has not.

    False where nobody answers. Raises huggingface_hub's own errors for a model that is not there or
    may not be read.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub import errors as hub

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        HfApi(library_name="batchsent").model_info(source, revision=revision, timeout=HUB_TIMEOUT_S)
    except (hub.RepositoryNotFoundError, hub.RevisionNotFoundError):
        raise
    except (hub.HTTPError, OSError):  # type: ignore[attr-defined]  # as above
        return False
    return True


def _nearby(source: str) -> str:
    """Name the model folders beside the one that is not there."""
    path = expand(source)
    parent = path.parent
    there = [name for name in names_in(parent) if is_regular(parent / name / "config.json")]
    # The likeliest meant first: there may be more folders than an error can name.
    there.sort(key=lambda name: (-difflib.SequenceMatcher(None, name, path.name).ratio(), name))
    if not there:
        return "give a folder with config.json and model.safetensors, or a Hub id (owner/name)"
    shown = ", ".join(str(parent / name) for name in there[:5])
    return f"model folders there: {printable(shown)}"


def load_model(
    identity: ModelIdentity,
    *,
    device: str = "auto",
    precision: str = "auto",
    max_length: int | None = None,
) -> LoadedModel:
    """Load weights and tokenizer onto a device, ready to run.

    Raises UsageError for options that cannot be, DeviceError for a device that is not there or has
    no room, ModelError for weights that do not make the model that config.json describes.
    """
    check_max_length(identity, max_length)
    chosen = choose_device(device, precision)
    tokenizer = _load_tokenizer(identity.path)
    module = load_module(identity, chosen)
    _check_ids(identity.path, tokenizer, module)
    length = max_length or identity.max_length
    return LoadedModel(identity, module, tokenizer, chosen, length, module.config)


def _check_ids(path: Path, tokenizer: Any, module: Any) -> None:
    """Refuse a tokenizer with ids beyond the table of words: loading it may add special tokens."""
    try:
        words = int(module.get_input_embeddings().weight.shape[0])
    except (NotImplementedError, AttributeError):
        return  # an architecture without such a table
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= words:
        raise ModelError(
            f"{printable(path)}: the tokenizer has ids up to {largest:,}, the model knows "
            f"{words:,} words",
            hint="the tokenizer belongs to another model: save the right one into the folder",
        )


def _load_tokenizer(path: Path) -> Any:
    """Load a folder's tokenizer; nothing is printed. Raises ModelError."""
    import transformers

    with loading_errors(path), _quiet(transformers), stdout_discarded():
        return transformers.AutoTokenizer.from_pretrained(
            path, local_files_only=True, trust_remote_code=False
        )


def load_module(identity: ModelIdentity, device: Device) -> Any:
    """Load the weights, in the format that the device names, ready to run on it.

    Raises ModelError and DeviceError as `load_model` does.
    """
    import torch
    import transformers

    path = identity.path
    with loading_errors(path), _quiet(transformers):
        module, info = model_from(path, dtype=getattr(torch, device.weights))
    if info["missing_keys"]:
        missing = printable(", ".join(sorted(info["missing_keys"])[:3]))
        raise ModelError(
            f"{printable(path)} lacks weights of its architecture: {missing}",
            hint="copy or download the model again; a base model must be fine-tuned first",
        )
    if module.config.num_labels != len(identity.labels):
        raise ModelError(f"{printable(path)} changed while it was being loaded")
    try:
        return module.eval().requires_grad_(requires_grad=False).to(device.name)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise DeviceError(
                f"{device.description} has no room for the model", hint=FREE_MEMORY
            ) from error
        raise device_error(device.description, error) from error


# Which class transformers has for a configuration and the last part of the class's name.
CLASSES = {
    "SequenceClassification": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING",
    "MaskedLM": "MODEL_FOR_MASKED_LM_MAPPING",
}


def model_from(
    path: Path,
    *,
    head: str = "SequenceClassification",
    config: dict[str, Any] | None = None,
    **settings: Any,
) -> tuple[Any, dict[str, Any]]:
    """Return the model of a folder, as transformers makes it, and what it says of its weights.

    `head` is the last part of the name of its class. Nothing but the folder is read, and no code of
    it is run. `config` replaces parts of its configuration. Weights that are stored in 8 bits are
    widened here.
    """
    import transformers

    # A conversion service must not be asked about a folder that is already safetensors.
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    local = {"local_files_only": True, "trust_remote_code": False}
    configuration = transformers.AutoConfig.from_pretrained(path, **local, **(config or {}))
    kind = getattr(transformers, f"AutoModelFor{head}")
    architecture = getattr(transformers, CLASSES[head]).get(type(configuration), kind)
    # Never as config.json has it: it may name code of the Hub. DeBERTa and MPNet have eager only.
    attention = "sdpa" if getattr(architecture, "_supports_sdpa", False) else "eager"
    settings |= {"attn_implementation": attention, "output_loading_info": True}
    files = weight_files(path)
    if files[0].name != int8_storage.FILE:
        module, info = kind.from_pretrained(
            path, config=configuration, use_safetensors=True, **local, **settings
        )
        return module, info
    weights = dict(int8_storage.read(files[0]))
    module, info = architecture.from_pretrained(
        None, config=configuration, state_dict=weights, **settings
    )
    return module, info


@contextmanager
def loading_errors(path: Path) -> Iterator[None]:
    """Turn what goes wrong while files become a model into a ModelError: it has no common class."""
    try:
        yield
    except BatchsentError:
        raise  # a signal that came in the middle
    except Exception as error:
        if lacks_memory(error):
            message = f"there is no memory to load {printable(path)}"
            raise DeviceError(message, hint=MORE_MEMORY) from error
        raise ModelError(
            f"{printable(path)} cannot be loaded: {first_line(error)}",
            hint="copy or download the model again, or fine-tune it again with this version of "
            "transformers",
        ) from error


@contextmanager
def stdout_discarded() -> Iterator[None]:
    """Drop what is printed past Python: the tokenizers library does, and stdout may be the data.

    In a Python program nothing is dropped: its other threads may print meanwhile.
    """
    if not is_command():
        yield
        return
    if sys.stdout is not None:
        sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:  # it is closed
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Keep transformers' bars and load reports off stderr.

    What they say is checked here and said in our words.
    """
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
