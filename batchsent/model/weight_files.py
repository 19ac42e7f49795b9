"""The safetensors files of a model folder: which they are, and what their headers say."""

import json
import os
import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from batchsent.errors import ModelError
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
                    f"{printable(folder / INDEX)} names a file outside the folder or not in "
                    f"safetensors: {printable(name)}"
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
                raise damaged(f"{size} bytes are too short for a safetensors file")
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
            raise damaged(f"tensor {printable(name)} has a negative size or offset")
        count = 1
        for extent in tensor.shape:
            count *= extent
        if bits is not None and count * bits != (tensor.end - tensor.start) * 8:
            raise damaged(
                f"tensor {printable(name)} does not have the bytes that its shape requires"
            )
    if any(b.start != a.end for a, b in pairwise(layout)) or (layout and layout[0].start != 0):
        raise damaged("its tensors overlap or leave gaps")
    needed = layout[-1].end if layout else 0
    if needed != data_bytes:
        short = "is cut short" if data_bytes < needed else "has bytes that belong to no tensor"
        raise damaged(
            f"it {short}: {data_bytes:,} bytes of weights where the header needs {needed:,}"
        )
