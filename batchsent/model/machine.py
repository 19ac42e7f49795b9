"""What a report of a fault says of the machine: system, processor, driver; no path, no name."""

import os
import platform
import re
from typing import Any

from batchsent.model.cpu import cpu_flags, cpu_name
from batchsent.model.nvidia import DriverFiles

# Instruction sets that decide which kernels run, on x86 and on ARM.
FLAGS = re.compile(r"(sse4|avx|amx|fma|f16c|asimd|sve|i8mm|bf16)")
# Settings that change how fast a model runs, or its last digits. No path stands in them.
SETTINGS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_LAUNCH_BLOCKING",
    "CUBLAS_WORKSPACE_CONFIG",
    "NVIDIA_TF32_OVERRIDE",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)
LONGEST_SETTING = 100


def machine_facts() -> dict[str, Any]:
    """Return system, processor with its instruction sets in one line, cores, memory and driver."""
    flags = sorted(flag for flag in cpu_flags() if FLAGS.match(flag))
    settings = [f"{name}={os.environ[name]}" for name in SETTINGS if name in os.environ]
    return {
        "system": platform.platform(),
        "cpu": cpu_name(),
        "cpu_flags": " ".join(flags),
        "cores": usable_cores(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "nvidia_driver": DriverFiles().read_version(),
        "settings": [setting[:LONGEST_SETTING] for setting in settings],
    }


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
