"""Choose the device and the precision, and say why."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from batchsent.errors import BatchsentError, DeviceError, UsageError
from batchsent.memory import check_room, shortage
from batchsent.model.cpu import bound_kernel_caches, has_fast_bfloat16
from batchsent.model.fp8 import has_fp8
from batchsent.model.int8 import has_int8, require_int8
from batchsent.model.nvidia import (
    DriverFiles,
    cuda_is_available,
    explain_unserved_gpu,
    explain_unused_gpu,
)
from batchsent.precisions import CHOICES, PRECISIONS
from batchsent.text import first_line, printable

# Texts of the errors of a device whose memory is full. cuBLAS takes a workspace with its first
# product; without memory for that it is "not initialized".
FULL = (
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "failed to map segment from shared object",
    "Cannot allocate memory",
)
# Parts of the errors after which CUDA answers every call of the process with an error.
BREAKING = (
    "illegal memory access",
    "misaligned address",
    "illegal instruction",
    "device-side assert",
    "unspecified launch failure",
    "ECC error",
    "hardware stack error",
    "invalid program counter",
    "launch timed out",
)
# Loading PyTorch, transformers and the embedded model takes 1.3 GB of addresses. With a limit below
# this, the limit is the likeliest reason for any error while a model loads.
LEAST_ADDRESS_SPACE = 2_000_000_000
MORE_MEMORY = "end other programs, or let this one use more memory (ulimit -v, a container's limit)"
FREE_MEMORY = "end other programs on it, or use --device cpu"
# Parts of CUDA's error messages, and the hint for each.
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
    precision: str  # one of PRECISIONS
    reason: str  # why this precision, for people
    capability: tuple[int, int] | None = None  # of CUDA devices
    memory_bytes: int | None = None  # of the device itself; None where it shares the machine's
    torch: str | None = None  # PyTorch's version
    cuda: str | None = None  # version of CUDA that PyTorch was built with; None for other devices
    warning: str | None = None  # why a GPU that is there is not used, and what to install

    @property
    def weights(self) -> str:
        """Number format in which the model is loaded; others are made of it after that."""
        return PRECISIONS[self.precision].weights

    @property
    def kind(self) -> str:
        """cpu, cuda or mps."""
        return self.name.partition(":")[0]

    def facts(self) -> dict[str, Any]:
        """Return the facts for the summary: all that the bits of a score depend on."""
        return {
            "name": self.name,
            "description": self.description,
            "capability": None if self.capability is None else ".".join(map(str, self.capability)),
            "torch": self.torch,
            "cuda": self.cuda,
        }


def choose_device(device: str, precision: str, driver: DriverFiles | None = None) -> Device:
    """Return the device for what the user typed, with a precision that is fast on it.

    `driver` says where to look for NVIDIA's driver. Raises UsageError for unknown names and for a
    precision that is slow on the device, DeviceError for a device that is not there.
    """
    kind, numbers = parse_device(device, precision)
    if len(numbers) > 1:
        raise UsageError(
            f"--device {device} names several GPUs, and one is used here",
            hint=f"name one, such as cuda:{numbers[0]}; batch uses several for files",
        )
    check_room("torch")
    if kind == "cpu":
        check_cpu_precision(precision)
    torch = import_torch()
    if kind == "auto":
        return _auto(torch, precision, driver or DriverFiles())
    if kind == "cuda":
        return _cuda(torch, numbers[0] if numbers else 0, precision)
    if kind == "mps":
        return _mps(torch, precision)
    return _cpu(torch, precision)


def check_device(device: str, precision: str) -> None:
    """Refuse what `choose_device` refuses; torch is not imported where it is not necessary.

    It is not necessary for the defaults, nor for a CPU in all formats but int8.
    """
    kind, _ = parse_device(device, precision)
    if kind == "cpu":
        check_cpu_precision(precision)
    elif kind != "auto" or precision not in {"auto", "float32"}:
        choose_device(device, precision)


def check_cpu_precision(precision: str, no_gpu: str | None = None) -> None:
    """Raise UsageError for a format that is slow on this CPU.

    `no_gpu` says why a GPU is not used instead.
    """
    if precision != "auto" and "cpu" not in PRECISIONS[precision].devices:
        why = "is slow and inexact on a CPU"
        if PRECISIONS[precision].devices == ("cuda",):
            why = "requires an NVIDIA GPU"
        raise UsageError(f"{precision} {why}", hint=no_gpu or "use --precision float32")
    if precision == "bfloat16" and not has_fast_bfloat16():
        # Measured: 0.7 times the speed of float32 without instructions for it, 1.6 times with
        # avx512_bf16.
        raise UsageError(
            "bfloat16 is slower than float32 on this CPU (it has neither avx512_bf16 nor amx_bf16)",
            hint=no_gpu or "use --precision float32",
        )
    if precision == "int8":
        require_int8()


def parse_device(device: str, precision: str) -> tuple[str, tuple[int, ...]]:
    """Return the kind of device and the numbers of the GPUs that are named.

    Raises UsageError for unknown names, and for a device and a precision that do not go together.
    """
    if precision not in CHOICES:
        raise UsageError(
            f"{printable(repr(precision))} is not a precision",
            hint="choose one of: " + ", ".join(CHOICES),
        )
    kind, colon, given = device.partition(":")
    words = given.split(",") if colon else []
    plain = kind in {"auto", "cpu", "cuda", "mps"} and not colon
    if not plain and not (
        kind == "cuda" and all(word.isascii() and word.isdigit() for word in words)
    ):
        raise UsageError(
            f"{printable(repr(device))} is not a device",
            hint="choose one of: auto, cpu, cuda, cuda:0, cuda:1, cuda:0,1, ..., mps",
        )
    numbers = tuple(map(int, words))
    if len(set(numbers)) < len(numbers):
        raise UsageError(f"--device {device} names a GPU twice", hint="name each once")
    if precision != "auto" and PRECISIONS[precision].devices == ("cpu",):
        if kind not in {"auto", "cpu"}:
            raise UsageError(
                f"{precision} requires a CPU",
                hint="use --precision float16 on a GPU, or --device cpu",
            )
        kind = "cpu"
    return kind, numbers


def _auto(torch: Any, precision: str, driver: DriverFiles) -> Device:
    """Choose the first CUDA device, if this build serves it, else an Apple GPU, else the CPU."""
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
        reason = "no GPU found"
        if torch.version.cuda is None:
            reason = f"PyTorch {torch.__version__} is built without CUDA"
        if said:
            reason += f" ({printable(said)})"
        raise DeviceError(f"--device cuda: {reason}", hint="use --device auto or --device cpu")
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
        _check_gpu_precision(precision, properties.name, capability)
        chosen, reason = precision, "as asked"
    elif capability >= (7, 0):
        # float16 and not bfloat16: it has 10 bits of mantissa instead of 7, and the numbers of a
        # classifier are far within its range.
        chosen, reason = "float16", f"auto: {properties.name}"
    else:
        slow = "has no fast float16 (compute capability below 7.0)"
        chosen, reason = "float32", f"auto: {properties.name} {slow}"
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


def _check_gpu_precision(precision: str, name: str, capability: tuple[int, int]) -> None:
    """Raise UsageError for a format that an NVIDIA GPU or this torch does not have."""
    least = PRECISIONS[precision].least_capability
    if capability < least:
        wanted, there = (".".join(map(str, version)) for version in (least, capability))
        raise UsageError(
            f"{precision} requires a GPU of compute capability {wanted}; {printable(name)} has "
            f"{there}",
            hint="use --precision float16",
        )
    if precision == "fp8" and not has_fp8():
        raise UsageError(
            "this version of PyTorch has no products in FP8", hint="use --precision float16"
        )


def _mps(torch: Any, precision: str) -> Device:
    if not torch.backends.mps.is_available():
        raise DeviceError(
            "no Apple GPU is available (mps)", hint="use --device auto or --device cpu"
        )
    if precision != "auto" and "mps" not in PRECISIONS[precision].devices:
        raise UsageError(
            f"{precision} is not supported on mps", hint="use --precision float32 or float16"
        )
    chosen, reason = _float32_or(precision, "mps")
    return Device("mps", "Apple GPU", chosen, reason, torch=str(torch.__version__))


def _cpu(torch: Any, precision: str) -> Device:
    count = torch.get_num_threads()
    chosen, reason = _float32_or(precision, "CPU")
    if precision == "auto" and has_int8():
        reason += "; --precision int8 is faster"
    description = "CPU, 1 thread" if count == 1 else f"CPU, {count} threads"
    return Device("cpu", description, chosen, reason, torch=str(torch.__version__))


def _float32_or(precision: str, device: str) -> tuple[str, str]:
    """Return the precision of a device whose default is float32, and the reason for it."""
    if precision == "auto":
        return "float32", f"auto: {device}"
    return precision, "as asked"


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error of PyTorch means that memory is full; a smaller batch may fit."""
    return any(said in str(error) for said in FULL) or shortage(error) is not None


def breaks_device(error: BaseException) -> bool:
    """Tell whether after an error of PyTorch nothing runs on the device in this process."""
    return any(said in str(error) for said in BREAKING)


def lacks_memory(error: BaseException) -> bool:
    """Tell whether a lack of memory is the likeliest reason for an error while a model loads.

    Under a low limit libraries fail with other messages ("unknown parameter type").
    """
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return is_out_of_memory(error) or 0 <= limit < LEAST_ADDRESS_SPACE


def import_torch() -> Any:
    """Import torch. Raises DeviceError where the memory for it is lacking."""
    bound_kernel_caches()
    try:
        import torch
    except (ImportError, OSError, MemoryError) as error:
        if not lacks_memory(error):
            raise
        raise DeviceError("there is not enough memory to load PyTorch", hint=MORE_MEMORY) from error
    return torch


@contextmanager
def device_errors(description: str, kind: str) -> Iterator[None]:
    """Turn errors of a device inside the block into a DeviceError.

    On a CPU only a lack of memory is the device's error; other errors are not changed.
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
    """Return the DeviceError for an error of a device, with its first line.

    `hint` is used where no better one is known.
    """
    message = f"{printable(description)} failed: {first_line(error)}"
    if is_out_of_memory(error):
        return DeviceError(message, hint=FREE_MEMORY)
    if lacks_memory(error):
        return DeviceError(message, hint=MORE_MEMORY)
    for words, known_hint in CUDA_HINTS.items():
        if words in first_line(error):
            return DeviceError(message, hint=known_hint)
    return DeviceError(message, hint=hint or "run the same command again, or use --device cpu")
