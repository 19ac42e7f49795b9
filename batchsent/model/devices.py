"""Which devices of this machine a run uses: its CPUs in several processes, or equal GPUs."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from batchsent.errors import DeviceError, UsageError
from batchsent.memory import check_room
from batchsent.model.cascade import open_model
from batchsent.model.device import choose_device, import_torch, parse_device
from batchsent.model.loading import ModelIdentity
from batchsent.model.machine import usable_cores
from batchsent.model.nvidia import DriverFiles
from batchsent.model.options import ModelOptions
from batchsent.model.pool import ProcessPlan
from batchsent.model.submission import Scorer

VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Devices:
    """The devices of a run, one for each process."""

    names: tuple[str, ...]  # as --device names one; several are all "cpu", or GPUs
    left_out: str | None = None  # which GPUs are not used, and why


def check_devices(device: str, precision: str, processes: int) -> str:
    """Refuse devices that do not go together; return one of them, as --device names it.

    torch is imported only where several GPUs are named. Raises UsageError or DeviceError.
    """
    kind, numbers = parse_device(device, precision)
    if processes > 1 and kind not in {"auto", "cpu"}:
        raise _only_on_cpus(processes, f"--device {device}")
    cores = usable_cores()
    if processes > cores:
        raise UsageError(
            f"--processes {processes}: each needs a core and memory for a model of its own, and "
            f"this program may use {cores} {'core' if cores == 1 else 'cores'}",
            hint=f"use --processes {cores}" if cores > 1 else "leave --processes out",
        )
    if len(numbers) > 1:
        return choose_devices(device, precision, processes).names[0]
    return device


def choose_devices(
    device: str, precision: str, processes: int = 1, driver: DriverFiles | None = None
) -> Devices:
    """Return the devices for what the user typed.

    On GPUs there is a process for each: for `cuda` and `auto` those that are equal to the first,
    since on another one the same text may get other last digits. Raises UsageError for GPUs that
    are named and differ, and for several processes on one; DeviceError for a device that is not
    there.
    """
    kind, numbers = parse_device(device, precision)
    if processes > 1:
        driver = driver or DriverFiles()
        may_be_gpu = driver.read_version() is not None or sys.platform == "darwin"
        if kind == "auto" and may_be_gpu:
            found = choose_device(device, precision, driver)
            if found.kind != "cpu":
                raise _only_on_cpus(processes, f"{found.description}, which auto chooses,")
        return Devices((device,) * processes)
    if kind not in {"auto", "cuda"}:
        return Devices((device,))
    first = f"cuda:{numbers[0]}" if numbers else device
    if choose_device(first, precision, driver).kind != "cuda":
        return Devices((device,))
    return equal_gpus(import_torch(), numbers)


def equal_gpus(torch: Any, numbers: Sequence[int]) -> Devices:
    """Return the GPUs of these numbers, or of all those that are equal to the first.

    Raises UsageError for numbers of GPUs that differ, DeviceError for one that is not there.
    """
    count = torch.cuda.device_count()
    for number in numbers:
        if number >= count:
            there = ", ".join(f"cuda:{i}" for i in range(count))
            raise DeviceError(f"there is no device cuda:{number}", hint=f"this machine has {there}")
    found = [
        (number, torch.cuda.get_device_properties(number)) for number in numbers or range(count)
    ]
    kinds = {
        f"cuda:{number}": (gpu.name, gpu.major, gpu.minor, gpu.total_memory)
        for number, gpu in found
    }
    first = next(iter(kinds.values()))
    names = tuple(name for name, kind in kinds.items() if kind == first)
    others = [f"{name} ({kind[0]})" for name, kind in kinds.items() if kind != first]
    if not others:
        return Devices(names)
    unlike = f"{', '.join(others)} is not like {names[0]} ({first[0]})"
    if numbers:
        raise UsageError(
            f"{unlike}: the same text may get other last digits there",
            hint=f"name equal GPUs, such as cuda:{','.join(n.partition(':')[2] for n in names)}",
        )
    return Devices(names, f"not used: {unlike}")


def plans_of(
    identity: ModelIdentity, options: ModelOptions, names: Sequence[str]
) -> list[ProcessPlan]:
    """Return what each process of a pool is to open, and where."""
    plans = []
    for name in names:
        kind, _, number = name.partition(":")
        variables: dict[str, str] = {}
        own = name
        if number:
            # It sees this GPU only: what a library puts on "the" GPU is not all on the first one.
            visible = os.environ.get(VISIBLE)
            variables = {VISIBLE: visible.split(",")[int(number)] if visible else number}
            own = f"{kind}:0"
        opener = partial(open_share, identity, replace(options, device=own), len(names))
        plans.append(ProcessPlan("cpu" if kind == "auto" else name, opener, variables))
    return plans


def open_share(identity: ModelIdentity, options: ModelOptions, processes: int) -> Scorer:
    """Load the model in one of several processes, which share the threads of the machine.

    A number of threads that the user has set (OMP_NUM_THREADS) is that of each.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        check_room("torch")
        torch = import_torch()
        torch.set_num_threads(max(1, torch.get_num_threads() // processes))
    return open_model(identity, options)


def _only_on_cpus(processes: int, device: str) -> UsageError:
    return UsageError(
        f"--processes {processes} is for CPUs: {device} is used by one process",
        hint="leave --processes out, or use --device cpu; several GPUs are --device cuda:0,1",
    )
