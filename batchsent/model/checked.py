"""Load a model whose forward pass without padding was checked here before, without transformers.

Importing transformers and running its own forward pass beside ours takes most of the time until a
first score. The result of the check depends on the bytes of the model, the versions, the device and
the code here, and on nothing else: it is recorded in the user's cache folder under a hash of all of
these, with the tokenizer and the configuration as transformers made them of the files.
"""

import contextlib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from batchsent.errors import Interrupted, OutputError
from batchsent.filenames import cache_folder
from batchsent.files.atomic import write_file
from batchsent.model import int8_storage
from batchsent.model.cpu import cpu_flags
from batchsent.model.device import Device, device_errors
from batchsent.model.files import read_file, sha256_of_all
from batchsent.model.loading import LoadedModel, ModelIdentity, loading_errors, stdout_discarded
from batchsent.model.parts import EncoderWeights, NotPacked
from batchsent.model.weight_files import weight_files
from batchsent.model.weights import assemble_weights, read_tensors
from batchsent.versions import SCORING, versions

# A record is as large as a tokenizer.json: 0.3 to 17 MB. Those used last are kept.
MOST_RECORDS = 20
MOST_RECORD_BYTES = 200_000_000


@dataclass(frozen=True)
class RecordedTokenizer:
    """A tokenizer as transformers made it, with what is asked of one of transformers' own."""

    backend_tokenizer: Any  # of the tokenizers library
    truncation_side: str
    pad_token_id: int | None
    is_fast: bool = True


def load_checked(identity: ModelIdentity, device: Device, max_length: int) -> LoadedModel | None:
    """Load a model without transformers, or return None where it was not checked here before.

    Its `module` is None.
    """
    path = record_path(identity, device, max_length)
    try:
        record = json.loads(read_file(path, MOST_RECORD_BYTES))
        config = SimpleNamespace(**record["config"])
        tokenizer = read_tokenizer(record)
        architecture = record["architecture"]
    except FileNotFoundError:
        return None
    except Interrupted:
        raise
    except Exception:  # noqa: BLE001 (the tokenizers library raises plain exceptions)
        with contextlib.suppress(OSError):
            path.unlink()  # it is damaged: the next check writes it again
        return None
    with contextlib.suppress(OSError):
        path.touch()  # those used last are kept
    with loading_errors(identity.path), device_errors(device.description, device.kind):
        weights = read_weights(identity, device, architecture, config)
    if weights is None:
        return None
    return LoadedModel(identity, None, tokenizer, device, max_length, config, weights)


def record_check(model: LoadedModel) -> None:
    """Record that the forward pass without padding of a model, loaded by transformers, was checked.

    Nothing is recorded where its files do not hold the very weights that it runs with, nor where
    the cache folder cannot be written.
    """
    assert model.module is not None
    path = record_path(model.identity, model.device, model.max_length)
    if path.exists() or not getattr(model.tokenizer, "is_fast", False):
        return
    if not files_hold(weight_files(model.identity.path), model.module):
        return
    record = {
        "architecture": type(model.module).__name__,
        # The names by which all architectures know their sizes.
        "config": model.config.to_dict() | {"hidden_size": model.config.hidden_size},
        "tokenizer": model.tokenizer.backend_tokenizer.to_str(),
        "truncation_side": model.tokenizer.truncation_side,
        "pad_token_id": model.tokenizer.pad_token_id,
    }
    with contextlib.suppress(OSError, OutputError, TypeError, ValueError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, json.dumps(record).encode())
        records = sorted(path.parent.iterdir(), key=lambda found: found.stat().st_mtime)
        for old in records[:-MOST_RECORDS]:
            old.unlink()


def record_path(identity: ModelIdentity, device: Device, max_length: int) -> Path:
    """Return where the record of a check is: named by a hash of all that the check depends on."""
    depends_on = {
        "weights": identity.weights_sha256,
        "tokenizer": identity.tokenizer_sha256,
        "config": identity.config_sha256,
        "versions": versions(SCORING),
        "code": sha256_of_all(Path(__file__).parent.glob("*.py")),
        "device": {**device.facts(), "precision": device.precision},
        "cpu": sorted(cpu_flags()),
        "max_length": max_length,
    }
    content = json.dumps(depends_on, sort_keys=True).encode()
    return cache_folder("checked") / f"{hashlib.sha256(content).hexdigest()}.json"


def read_tokenizer(record: dict[str, Any]) -> RecordedTokenizer:
    """Return the tokenizer of a record."""
    from tokenizers import Tokenizer

    with stdout_discarded():
        backend = Tokenizer.from_str(record["tokenizer"])
    return RecordedTokenizer(backend, record["truncation_side"], record["pad_token_id"])


def read_weights(
    identity: ModelIdentity, device: Device, architecture: str, config: Any
) -> EncoderWeights | None:
    """Return the parts of a model from its files; None where a tensor has another name there."""
    import torch

    files = weight_files(identity.path)
    tensors = read_tensors(files, device.name, getattr(torch, device.weights))
    with contextlib.suppress(KeyError, NotPacked):
        return assemble_weights(architecture, config, tensors)
    return None


def files_hold(files: tuple[Path, ...], module: Any) -> bool:
    """Tell whether files hold the very parameters that a model runs with, to the last bit.

    One tensor at a time, so that it takes no memory for a second copy of the model.
    """
    import torch

    left = dict(module.named_parameters())
    for path in files:
        for name, tensor in int8_storage.read(path):
            parameter = left.pop(name, None)
            if parameter is None:
                continue
            if not torch.equal(tensor.to(parameter.dtype), parameter.cpu()):
                return False
    return not left
