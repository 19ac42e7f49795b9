"""The name and the instruction sets of this machine's CPU, and how its kernels are kept."""

import os
import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")

# Each batch has its own number of tokens, so each of its dense layers is a new kernel of 0.57
# MB, half of it in oneDNN's cache and half in ideep's. Both keep 1,024: 51 batches of IMDB reviews
# held 240 MB, and the gaps between these another 400. A kernel is made in 0.24 ms and runs for 40,
# so that the caches save nothing; 32 hold what the layers of a batch have in common.
KERNEL_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
KEPT_KERNELS = "32"


def bound_kernel_caches() -> None:
    """Have PyTorch keep few oneDNN kernels, unless the user's environment says how many.

    It reads this when it runs its first kernel.
    """
    for name in KERNEL_CACHES:
        os.environ.setdefault(name, KEPT_KERNELS)


def has_fast_bfloat16() -> bool:
    """Tell whether the CPU multiplies bfloat16 numbers faster than float32."""
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(cpu_flags())


def cpu_flags() -> set[str]:
    """Return the instruction sets of the CPU, from Linux; an empty set on other systems."""
    return set((_field("flags") or _field("Features")).split())  # Features on ARM


def cpu_name() -> str:
    """Return the CPU's name as Linux has it; on other systems, and on ARM, its architecture."""
    return _field("model name") or platform.processor() or platform.machine()


def _field(name: str) -> str:
    """Return the first value of this name in /proc/cpuinfo, or nothing."""
    if not CPUINFO.exists():
        return ""
    for line in CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
