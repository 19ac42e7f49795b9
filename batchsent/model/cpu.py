"""The instruction sets of this machine's CPU for bfloat16 and int8, without any library."""

from pathlib import Path


def has_fast_bfloat16() -> bool:
    """Tell whether the CPU multiplies bfloat16 numbers faster than float32."""
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(cpu_flags())


def cpu_flags() -> set[str]:
    """Return the instruction sets of the CPU, from Linux; an empty set on other systems."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return set()
    for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("flags"):
            return set(line.split())
    return set()
