"""Choose the device and the precision and say why; knows nothing of models."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from batchsent.errors import BatchsentError, DeviceError, UsageError
from batchsent.memory import check_room, shortage
from batchsent.model.cpu import has_fast_bfloat16
from batchsent.model.int8 import require_int8
from batchsent.model.nvidia import (
    DriverFiles,
    cuda_is_available,
    explain_unserved_gpu,
    explain_unused_gpu,
)
from batchsent.text import first_line, printable

PRECISIONS = ("auto", "float32", "float16", "bfloat16", "int8")
# Formats with fewer digits, or a smaller range, than the weights were trained in.
HALF = ("float16", "bfloat16")
# What a device says when its memory is full. cuBLAS takes a workspace with its first product:
# without room for that it is "not initialized".
FULL = (
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "failed to map segment from shared object",
    "Cannot allocate memory",
)
# Loading PyTorch, transformers and the embedded model takes 1.3 GB of addresses; below this a limit
# is the likeliest reason for any error while a model loads.
LEAST_ADDRESS_SPACE = 2_000_000_000
MORE_MEMORY = "end other programs, or let this one use more memory (ulimit -v, a container's limit)"
FREE_MEMORY = "end other programs on it, or use --device cpu"
# What CUDA says, and what to do about it.
CUDA_HINTS = {
    "busy or unavailable": "another program holds it (nvidia-smi lists them): end that one, or use "
    "--device cpu",
    "no kernel image": "install a build of PyTorch that serves this GPU, or use --device cpu",
    "driver": "update the NVIDIA driver, or use --device cpu",
}


@dataclass(frozen=True)
class Device:
    """Where a model runs, and in which number format."""

    name: str  # cpu, cuda:0, mps
    description: str  # NVIDIA H200; CPU, 2 threads
    precision: str  # float32, float16, bfloat16 or int8
    reason: str  # why this precision, for people
    capability: tuple[int, int] | None = None  # of CUDA devices
    memory_bytes: int | None = None  # of the device itself; None where it shares the machine's
    torch: str | None = None  # PyTorch's version
    cuda: str | None = None  # version of CUDA that PyTorch was built with; None for other devices
    warning: str | None = None  # why a GPU that is there is not used, and what to install

    @property
    def weights(self) -> str:
        """Number format in which the model is loaded; int8 is made of float32 afterwards."""
        return "float32" if self.precision == "int8" else self.precision

    @property
    def kind(self) -> str:
        """cpu, cuda or mps."""
        return self.name.partition(":")[0]

    def facts(self) -> dict[str, Any]:
        """Return what the summary says of it: all that the bits of a score depend on."""
        return {
            "name": self.name,
            "description": self.description,
            "capability": None if self.capability is None else ".".join(map(str, self.capability)),
            "torch": self.torch,
            "cuda": self.cuda,
        }


def choose_device(device: str, precision: str, driver: DriverFiles | None = None) -> Device:
    """Turn what the user typed into a device that is there and a precision that it is good at.

    `driver` says where to look for NVIDIA's driver. Raises UsageError for names that mean nothing
    or a precision that the device is bad at, DeviceError for a device that is not there.
    """
    kind, number = _parse(device, precision)
    check_room("torch")
    if kind == "cpu":
        check_cpu_precision(precision)
    torch = _import_torch()
    if kind == "auto":
        return _auto(torch, precision, driver or DriverFiles())
    if kind == "cuda":
        return _cuda(torch, number or 0, precision)
    return _mps(torch, precision) if kind == "mps" else _cpu(torch, precision)


def check_device(device: str, precision: str) -> None:
    """Refuse what `choose_device` would refuse, without torch where the answer needs none.

    None is needed for the defaults, and for a CPU in all formats but int8.
    """
    kind, _ = _parse(device, precision)
    if kind == "cpu":
        check_cpu_precision(precision)
    elif kind != "auto" or precision not in {"auto", "float32"}:
        choose_device(device, precision)


def check_cpu_precision(precision: str, no_gpu: str | None = None) -> None:
    """Raise UsageError for a format that is no use on this CPU.

    `no_gpu` says why a GPU is not used instead.
    """
    if precision == "float16":
        raise UsageError(
            "float16 is slow and inexact on a CPU", hint=no_gpu or "use --precision float32"
        )
    if precision == "bfloat16" and not has_fast_bfloat16():
        # Without instructions for it bfloat16 measured 0.7 times the speed of float32; with
        # avx512_bf16 1.6 times.
        raise UsageError(
            "bfloat16 is slower than float32 on this CPU (it has neither avx512_bf16 nor amx_bf16)",
            hint=no_gpu or "use --precision float32",
        )
    if precision == "int8":
        require_int8()


def _parse(device: str, precision: str) -> tuple[str, int | None]:
    """Return the kind of device and its number.

    Raises UsageError for names that mean nothing, alone or together.
    """
    if precision not in PRECISIONS:
        raise UsageError(
            f"{printable(repr(precision))} is not a precision",
            hint="choose one of: " + ", ".join(PRECISIONS),
        )
    kind, colon, number = device.partition(":")
    plain = kind in {"auto", "cpu", "cuda", "mps"} and not colon
    if not plain and not (kind == "cuda" and number.isascii() and number.isdigit()):
        raise UsageError(
            f"{printable(repr(device))} is not a device",
            hint="choose one of: auto, cpu, cuda, cuda:0, cuda:1, ..., mps",
        )
    if precision == "int8":
        if kind not in {"auto", "cpu"}:
            raise UsageError(
                "int8 requires a CPU", hint="use --precision float16 on a GPU, or --device cpu"
            )
        kind = "cpu"
    return kind, int(number) if colon else None


def _auto(torch: Any, precision: str, driver: DriverFiles) -> Device:
    """Take the first CUDA device, if this build serves it, else an Apple GPU, else the CPU."""
    available, said = cuda_is_available(torch)
    if available:
        with device_errors("the GPU", "cuda"):
            properties = torch.cuda.get_device_properties(0)
        unserved = explain_unserved_gpu(
            torch, properties.name, (properties.major, properties.minor)
        )
        if unserved is None:
            return _cuda(torch, 0, precision)
        warning: str | None = f"the CPU is used: {unserved[0]}; {unserved[1]}"
    elif torch.backends.mps.is_available():
        return _mps(torch, precision)
    else:
        warning = explain_unused_gpu(torch, said, driver)
    check_cpu_precision(precision, warning)
    return replace(_cpu(torch, precision), warning=warning)


def _cuda(torch: Any, number: int, precision: str) -> Device:
    available, said = cuda_is_available(torch)
    if not available:
        built = (
            f"PyTorch {torch.__version__} is built without CUDA"
            if torch.version.cuda is None
            else "no GPU found"
        )
        reason = f" ({printable(said)})" if said else ""
        raise DeviceError(
            f"--device cuda: {built}{reason}", hint="use --device auto or --device cpu"
        )
    with device_errors("the GPU", "cuda"):
        count = torch.cuda.device_count()
        if number >= count:
            there = ", ".join(f"cuda:{i}" for i in range(count))
            raise DeviceError(f"there is no device cuda:{number}", hint=f"this machine has {there}")
        properties = torch.cuda.get_device_properties(number)
    capability = (properties.major, properties.minor)
    unserved = explain_unserved_gpu(torch, properties.name, capability)
    if unserved is not None:
        raise DeviceError(unserved[0], hint=unserved[1])
    if precision != "auto":
        chosen, reason = precision, "as asked"
    elif capability >= (7, 0):
        # float16 and not bfloat16: 10 bits of mantissa against 7, and classifiers stay far inside
        # its range.
        chosen, reason = "float16", f"auto: {properties.name}"
    else:
        chosen, reason = (
            "float32",
            f"auto: {properties.name} has no fast float16 (compute capability below 7.0)",
        )
    return Device(
        f"cuda:{number}",
        properties.name,
        chosen,
        reason,
        capability,
        properties.total_memory,
        torch=str(torch.__version__),
        cuda=torch.version.cuda,
    )


def _mps(torch: Any, precision: str) -> Device:
    if not torch.backends.mps.is_available():
        raise DeviceError(
            "no Apple GPU is available (mps)", hint="use --device auto or --device cpu"
        )
    if precision == "bfloat16":
        raise UsageError(
            "bfloat16 is not supported on mps", hint="use --precision float32 or float16"
        )
    chosen, reason = ("float32", "auto: mps") if precision == "auto" else (precision, "as asked")
    return Device("mps", "Apple GPU", chosen, reason, torch=str(torch.__version__))


def _cpu(torch: Any, precision: str) -> Device:
    count = torch.get_num_threads()
    chosen, reason = ("float32", "auto: CPU") if precision == "auto" else (precision, "as asked")
    description = f"CPU, {count} thread{'s' if count > 1 else ''}"
    return Device("cpu", description, chosen, reason, torch=str(torch.__version__))


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error of PyTorch's says that memory is full: then less at a time may go."""
    return any(said in str(error) for said in FULL) or shortage(error) is not None


def lacks_memory(error: BaseException) -> bool:
    """Tell whether memory is the likeliest reason for what went wrong while a model was loaded.

    Where the process may use too little, libraries fail in words of their own ("unknown parameter
    type").
    """
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return is_out_of_memory(error) or 0 <= limit < LEAST_ADDRESS_SPACE


def _import_torch() -> Any:
    try:
        import torch
    except (ImportError, OSError, MemoryError) as error:
        if not lacks_memory(error):
            raise
        raise DeviceError("there is not enough memory to load PyTorch", hint=MORE_MEMORY) from error
    return torch


@contextmanager
def device_errors(description: str, kind: str) -> Iterator[None]:
    """Turn what goes wrong while a device is asked, or a model put on it, into a DeviceError.

    On a CPU only a lack of memory is the device's fault; all else stays what it is.
    """
    try:
        yield
    except BatchsentError:
        raise
    except (RuntimeError, MemoryError) as error:
        if kind == "cpu" and not lacks_memory(error):
            raise
        raise device_error(description, error) from error


def device_error(description: str, error: BaseException, hint: str | None = None) -> DeviceError:
    """Return the error for what a device said, by its first line.

    `hint` is for what has no better one.
    """
    said = f"{printable(description)} failed: {first_line(error)}"
    if is_out_of_memory(error):
        return DeviceError(said, hint=FREE_MEMORY)
    if lacks_memory(error):
        return DeviceError(said, hint=MORE_MEMORY)
    known = [advice for words, advice in CUDA_HINTS.items() if words in first_line(error)]
    return DeviceError(
        said, hint=known[0] if known else hint or "run the same command again, or use --device cpu"
    )
