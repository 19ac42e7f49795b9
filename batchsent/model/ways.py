"""The ways in which this machine could run a model: device, number format and forward pass."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from batchsent.errors import BatchsentError
from batchsent.model.device import Device, choose_device
from batchsent.model.options import ModelOptions
from batchsent.precisions import PRECISIONS

# Forward passes, by the first word of an encoder's `path`; and the first one with packs as large as
# their texts where a run fills them up to one size: what that costs.
PACKED, STOCK, UNFILLED = "packed", "transformers", "unfilled"


@dataclass(frozen=True)
class Way:
    """One way to run a model."""

    device: str  # cpu, cuda:0, mps
    precision: str
    path: str | None  # PACKED, STOCK or UNFILLED; None for what a run would choose

    def __str__(self) -> str:
        return f"{self.device} {self.precision} {self.path or 'as a run chooses'}"


# What all ways are compared with.
REFERENCE = Way("cpu", "float32", STOCK)


def find_ways(options: ModelOptions) -> dict[str, Any]:
    """Return what a run would choose here, the ways that are possible, and the formats refused.

    Options other than auto leave only the ways of that device and precision. Of several GPUs all
    but the first have one way, with the precision that a run would choose. Raises UsageError or
    DeviceError where a run would.
    """
    default = choose_device(options.device, options.precision)
    ways: list[dict[str, Any]] = []
    refused, devices = [], []
    for name in _device_names(options.device):
        first_way = len(ways)
        for precision in _precisions(options.precision, name, default):
            try:
                device = choose_device(name, precision)
            except BatchsentError as error:
                refused.append({"device": name, "precision": precision, "why": error.message})
                continue
            ways += [asdict(Way(device.name, precision, path)) for path in _paths(device)]
        if len(ways) > first_way:
            devices.append(_facts(device))
        if name not in {"cpu", "cuda:0", options.device}:
            del ways[first_way + 1 :]
    return {
        "default": {"device": default.name, "precision": default.precision},
        "reason": default.reason,
        "warning": default.warning,
        "torch": default.torch,
        "cuda": default.cuda,
        "devices": devices,
        "ways": ways,
        "refused": refused,
    }


def _device_names(device: str) -> list[str]:
    """Return the devices of this machine that an option leaves."""
    import torch

    kind, colon, _ = device.partition(":")
    if colon or kind in {"cpu", "mps"}:
        return [device]
    names = [] if kind == "cuda" else ["cpu"]
    if torch.cuda.is_available():
        names += [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if kind == "auto" and torch.backends.mps.is_available():
        names.append("mps")
    return names


def _precisions(precision: str, device: str, default: Device) -> Iterator[str]:
    """Yield the formats to try on a device, that of a run first."""
    names = [default.precision, *(name for name in PRECISIONS if name != default.precision)]
    for name in names:
        is_for_cpus = PRECISIONS[name].devices == ("cpu",)
        if precision in ("auto", name) and (device == "cpu" or not is_for_cpus):
            yield name


def _paths(device: Device) -> tuple[str, ...]:
    """Return the forward passes of a format; some are made of the parts of the packed one."""
    if PRECISIONS[device.precision].opt_in:
        return (PACKED,)
    return (PACKED, UNFILLED, STOCK) if device.kind == "cuda" else (PACKED, STOCK)


def _facts(device: Device) -> dict[str, Any]:
    facts = device.facts()
    return {
        "name": facts["name"],
        "description": facts["description"],
        "capability": facts["capability"],
        "memory_bytes": device.memory_bytes,
    }
