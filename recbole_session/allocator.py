"""The C library's allocator, told to keep what a training step gives back for the next one."""

from __future__ import annotations

import ctypes
import platform

# Parameters of glibc's mallopt, from malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let the process keep memory that is freed, instead of returning it to the system.

    By default glibc maps every large block anew and unmaps it when it is freed: a step on the CPU then touches
    fresh pages all the time, which must be faulted in, zeroed, and brought into the caches. Blocks that stay are
    warm; a step of the paper's size takes 8 to 15% less time (``benchmarks/allocator.py``). The process holds on to
    the most that it ever used at once.

    Returns
    -------
    bool
        Whether it was done; other C libraries have no such setting.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # A threshold beyond 32 MB is refused by some versions for M_MMAP_THRESHOLD; the largest that all take comes next.
    mapped = any(mallopt(_M_MMAP_THRESHOLD, threshold) for threshold in (2**30, 2**25))
    return bool(mapped and mallopt(_M_TRIM_THRESHOLD, _NEVER))
