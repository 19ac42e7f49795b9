"""Weights stored in 8 bits: int8 rows with a scale each, widened to floats as they are read.

A folder with `model.int8.safetensors` in place of `model.safetensors` holds each of its larger
matrices NAME as two tensors: NAME, int8 (rows, columns), and NAME.scale, float32 (rows,). The
weights are their product. That takes a quarter of the bytes of float32 and computes as float32
does: only the file is smaller, and --precision int8 is another matter. transformers does not know
the name and refuses the folder; `batchsent export --to transformers` writes one that it loads.

Source: symmetric quantization with a scale for each output channel (Nagel et al., "A White Paper on
Neural Network Quantization", 2021, section 2).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from batchsent.errors import ModelError
from batchsent.text import printable

FILE = "model.int8.safetensors"
SCALE = ".scale"
# A smaller matrix, such as a classifier of few labels, is stored in float16: it saves nothing.
LEAST_ROWS = 64
LARGEST = 127


def pack(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Return float tensors as they are stored: matrices in int8 with scales, others in float16."""
    import torch

    stored = {}
    for name, tensor in tensors.items():
        if tensor.dim() != 2 or len(tensor) < LEAST_ROWS:
            stored[name] = tensor.to(torch.float16).contiguous()
            continue
        scale = tensor.float().abs().amax(dim=1) / LARGEST
        scale[scale == 0] = 1  # a row of zeros
        stored[name] = (tensor.float() / scale[:, None]).round().to(torch.int8)
        stored[name + SCALE] = scale
    return stored


def write(tensors: Mapping[str, Any], folder: Path) -> Path:
    """Write float tensors into a folder in 8 bits, and return the path of the file."""
    from safetensors.torch import save_file

    path = folder / FILE
    save_file(pack(tensors), path, metadata={"format": "pt"})
    path.chmod(0o644)
    return path


def read(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the tensors of a safetensors file by their names, those stored in 8 bits as float32.

    One at a time, so that no second copy of a model is held. Raises ModelError for a scale that is
    missing, has another shape or is not a positive number.
    """
    import torch
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        names = set(file.keys())
        for name in sorted(names):
            if name.endswith(SCALE) and name.removesuffix(SCALE) in names:
                continue
            tensor = file.get_tensor(name)
            if tensor.dtype == torch.int8:
                scale = file.get_tensor(name + SCALE) if name + SCALE in names else None
                yield name, _widened(path, name, tensor, scale)
            else:
                yield name, tensor


def _widened(path: Path, name: str, tensor: Any, scale: Any) -> Any:
    """Return int8 (rows, columns) times scales (rows,) as float32. Raises ModelError."""
    import torch

    found = "none" if scale is None else f"{scale.dtype} {tuple(scale.shape)}"
    if scale is None or scale.dtype != torch.float32 or scale.shape != tensor.shape[:1]:
        rows = tensor.shape[0] if tensor.dim() else 0
        wrong = f"{rows} scales in float32 are due for the 8-bit weights {printable(name)}, found "
        raise _damaged(path, wrong + found)
    if not ((scale > 0) & torch.isfinite(scale)).all():
        raise _damaged(path, f"a scale of {printable(name)} is not a positive number")
    return tensor.float() * scale.reshape(-1, *[1] * (tensor.dim() - 1))


def _damaged(path: Path, what: str) -> ModelError:
    return ModelError(f"{printable(path)} is damaged: {what}", hint="copy or download it again")
