"""Choose the device and the precision and say why; knows nothing of models."""

from dataclasses import dataclass
from typing import Any

from batchsent.errors import DeviceError, UsageError, printable
from batchsent.memory import check_room
from batchsent.model.cpu import has_fast_bfloat16
from batchsent.model.int8 import require_int8

PRECISIONS = ("auto", "float32", "float16", "bfloat16", "int8")


@dataclass(frozen=True)
class Device:
    """Where a model runs, and in which number format."""

    name: str  # cpu, cuda:0, mps
    description: str  # NVIDIA H200; CPU, 2 threads
    precision: str  # float32, float16, bfloat16 or int8
    reason: str  # why this precision, for people
    capability: tuple[int, int] | None = None  # of CUDA devices
    memory_bytes: int | None = None  # of the device itself; None where it shares the machine's

    @property
    def weights(self) -> str:
        """Number format in which the model is loaded; int8 is made of float32 afterwards."""
        return "float32" if self.precision == "int8" else self.precision

    @property
    def kind(self) -> str:
        """cpu, cuda or mps."""
        return self.name.partition(":")[0]


def choose_device(device: str, precision: str) -> Device:
    """Turn what the user typed into a device that is there and a precision that it is good at.

    Raises UsageError for names that mean nothing or a precision that the device is bad at, DeviceError for a device
    that is not there.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"no precision {printable(repr(precision))}", hint="choose one of: " + ", ".join(PRECISIONS))
    kind, number = _parse(device)
    if precision == "int8":
        if kind not in {"auto", "cpu"}:
            raise UsageError("int8 runs on CPUs only", hint="use --precision float16 on a GPU, or --device cpu")
        kind = "cpu"
    check_room("torch")
    import torch

    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if kind == "cuda":
        return _cuda(torch, number or 0, precision)
    if kind == "mps":
        if not torch.backends.mps.is_available():
            raise DeviceError("no Apple GPU is available (mps)", hint="use --device auto or --device cpu")
        if precision == "bfloat16":
            raise UsageError("bfloat16 is not supported on mps", hint="use --precision float32 or float16")
        chosen, reason = ("float32", "auto: mps") if precision == "auto" else (precision, "as asked")
        return Device("mps", "Apple GPU", chosen, reason)
    return _cpu(torch, precision)


def _parse(device: str) -> tuple[str, int | None]:
    kind, colon, number = device.partition(":")
    plain = kind in {"auto", "cpu", "cuda", "mps"} and not colon
    if not plain and not (kind == "cuda" and number.isascii() and number.isdigit()):
        raise UsageError(
            f"no device {printable(repr(device))}", hint="choose one of: auto, cpu, cuda, cuda:0, cuda:1, ..., mps"
        )
    return kind, int(number) if colon else None


def _cuda(torch: Any, number: int, precision: str) -> Device:
    if not torch.cuda.is_available():
        built = f"PyTorch {torch.__version__} is built without CUDA" if torch.version.cuda is None else "no GPU found"
        raise DeviceError(f"--device cuda: {built}", hint="use --device auto or --device cpu")
    if number >= torch.cuda.device_count():
        there = ", ".join(f"cuda:{i}" for i in range(torch.cuda.device_count()))
        raise DeviceError(f"there is no device cuda:{number}", hint=f"this machine has {there}")
    properties = torch.cuda.get_device_properties(number)
    capability = (properties.major, properties.minor)
    if precision != "auto":
        chosen, reason = precision, "as asked"
    elif capability >= (7, 0):
        # float16 and not bfloat16: 10 bits of mantissa against 7, and classifiers stay far inside its range.
        chosen, reason = "float16", f"auto: {properties.name}"
    else:
        chosen, reason = "float32", f"auto: {properties.name} has no fast float16 (compute capability below 7.0)"
    return Device(f"cuda:{number}", properties.name, chosen, reason, capability, properties.total_memory)


def _cpu(torch: Any, precision: str) -> Device:
    if precision == "float16":
        raise UsageError("float16 is slow and inexact on a CPU", hint="use --precision float32")
    if precision == "bfloat16" and not has_fast_bfloat16():
        # Without instructions for it bfloat16 measured 0.7 times the speed of float32; with avx512_bf16 1.6 times.
        raise UsageError(
            "bfloat16 is slower than float32 on this CPU (it has neither avx512_bf16 nor amx_bf16)",
            hint="use --precision float32",
        )
    if precision == "int8":
        require_int8()
    count = torch.get_num_threads()
    chosen, reason = ("float32", "auto: CPU") if precision == "auto" else (precision, "as asked")
    return Device("cpu", f"CPU, {count} thread{'s' if count > 1 else ''}", chosen, reason)
