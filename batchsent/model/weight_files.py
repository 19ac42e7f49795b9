"""The safetensors files of a model folder: which they are, and what their headers say."""

import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchsent.errors import ModelError
from batchsent.model import int8_storage
from batchsent.model.files import open_file, read_json
from batchsent.text import printable

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
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
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".h5", ".msgpack")


@dataclass(frozen=True)
class Tensor:
    """One entry of a safetensors header."""

    dtype: str
    shape: tuple[int, ...]
    start: int  # bytes, counted from the end of the header
    end: int


def weight_files(folder: Path) -> tuple[Path, ...]:
    """Return the safetensors files of a folder. Raises ModelError; pickles are not opened."""
    if (folder / WEIGHTS).exists():
        return (folder / WEIGHTS,)
    if (folder / INDEX).exists():
        return _shards(folder)
    if (folder / int8_storage.FILE).exists():
        return (folder / int8_storage.FILE,)
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


def _shards(folder: Path) -> tuple[Path, ...]:
    """Return the weight files that the index of a folder names."""
    shards = read_json(folder / INDEX, "the list of weight files").get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ModelError(f"{printable(folder / INDEX)} is damaged: it names no weight files")
    names = sorted({str(name) for name in shards.values()})
    for name in names:
        # The index may come from anybody: it must not lead out of the folder, nor to a pickle.
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ModelError(
                f"{printable(folder / INDEX)} names a file outside the folder or not in "
                f"safetensors: {printable(name)}"
            )
        if not (folder / name).exists():
            raise ModelError(
                f"{printable(folder)} lacks the weight file {printable(name)}",
                hint="copy or download the model again",
            )
    return tuple(folder / name for name in names)


def read_header(path: Path) -> dict[str, Tensor]:
    """Read and check the header of a safetensors file.

    The length of the header is compared with the file's size before it is read. Raises ModelError
    for a damaged header, tensors that overlap or leave gaps, and data that ends early.
    """

    def damaged(what: str) -> ModelError:
        return ModelError(
            f"{printable(path)} is damaged: {what}", hint="copy or download the model again"
        )

    try:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            start_bytes = file.read(8)
            if len(start_bytes) < 8:
                raise damaged(f"{size} bytes are too short for a safetensors file")
            (length,) = struct.unpack("<Q", start_bytes)
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
            if name != "__metadata__":
                shape = tuple(map(int, entry["shape"]))
                start, end = map(int, entry["data_offsets"])
                tensors[name] = Tensor(entry["dtype"], shape, start, end)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise damaged("its header is malformed") from error
    _check_layout(tensors, size - 8 - length, damaged)
    return tensors


def _check_layout(tensors: dict[str, Tensor], data_bytes: int, damaged: Any) -> None:
    """Check that the tensors fill the data exactly, each with the bytes of its shape."""
    for name, tensor in tensors.items():
        bits = TENSOR_BITS.get(tensor.dtype)
        if min(tensor.shape, default=0) < 0 or tensor.start < 0 or tensor.end < tensor.start:
            raise damaged(f"tensor {printable(name)} has a negative size or offset")
        count = 1
        for extent in tensor.shape:
            count *= extent
        if bits is not None and count * bits != (tensor.end - tensor.start) * 8:
            raise damaged(
                f"tensor {printable(name)} does not have the bytes that its shape requires"
            )
    needed = 0
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.start, tensor.end)):
        if tensor.start != needed:
            raise damaged("its tensors overlap or leave gaps")
        needed = tensor.end
    if needed != data_bytes:
        what = "it is cut short" if data_bytes < needed else "it has bytes that belong to no tensor"
        raise damaged(f"{what}: {data_bytes:,} bytes of weights, {needed:,} in the header")
