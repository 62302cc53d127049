"""One setting for glibc's malloc that makes megabyte messages several times faster."""

import ctypes
import ctypes.util
import logging
import platform

log = logging.getLogger(__name__)

# <malloc.h>
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -2, -3, -8
# The largest that mallopt takes: HEAP_MAX_SIZE / 2 on 64-bit machines.
MMAP_THRESHOLD = 32 * 1024 * 1024
TRIM_THRESHOLD = 64 * 1024 * 1024
TOP_PAD = 16 * 1024 * 1024
LEAN = (2 * 1024 * 1024, 12 * 1024 * 1024, 1024 * 1024)  # the same three; smaller ones cost packing half its time


def tune_malloc(arenas: int = 0, *, lean: bool = False) -> bool:
    """Keep freed message buffers in the process instead of giving each back to the kernel.

    glibc maps every block above 128 KiB anew and unmaps it on free, so each large message pays for page
    faults on both ends. Call it before the first large allocation. Returns whether it took effect; other
    C libraries need nothing and are left alone. `benchmarks/malloc.py` measures it.

    Args:
        arenas: heaps that threads share, at most; each keeps its own free memory. 0 = glibc's choice, 8 for each core.
        lean: keep a quarter as much, for a process with a few frames a second and little memory.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    large, trim, pad = LEAN if lean else (MMAP_THRESHOLD, TRIM_THRESHOLD, TOP_PAD)
    settings = [(M_MMAP_THRESHOLD, large), (M_TRIM_THRESHOLD, trim), (M_TOP_PAD, pad)]
    if arenas:
        settings.append((M_ARENA_MAX, arenas))
    done = all([libc.mallopt(parameter, value) == 1 for parameter, value in settings])
    if not done:
        log.info("malloc refused its settings; large messages will be slower")
    return done


def give_back() -> bool:
    """Return what malloc holds and nobody uses to the kernel, once: after a peak, such as loading a model.

    Returns whether anything was returned; C libraries other than glibc need it not.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    return bool(ctypes.CDLL(None).malloc_trim(0))
