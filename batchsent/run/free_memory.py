"""Free memory that the C library keeps, given back to the system."""

import ctypes


def give_back_memory() -> None:
    """Have the C library return its free memory to the system.

    Tensors of many sizes leave gaps, which glibc keeps: a 2 GB CSV with a tiny model ended at 3 GB
    instead of 1.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim is not None:
        trim(0)
