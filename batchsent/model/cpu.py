"""The name and the instruction sets of this machine's CPU, without any library."""

import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


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
