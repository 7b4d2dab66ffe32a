"""Settings of the allocator and of the garbage collector, made once at start."""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_MMAP_BYTES: Final = 4 << 20
_TRIM_BYTES: Final = 16 << 20
_OLD_AFTER: Final = 50
"""Collections of the middle generation before the old one is looked through; Python's own number is 10."""


def tune_malloc() -> bool:
    """Keep freed read buffers in the heap. True when the C library took the settings (glibc, see mallopt(3)).

    A socket read makes a ``bytes`` of up to 256 KiB, above glibc's threshold for giving memory back to the kernel:
    without this each gigabyte read costs some 288,000 page faults and twice the time.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)) and bool(mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES))


def settle_heap() -> None:
    """Take what exists now out of the garbage collector's sight; call it once, when the server is ready.

    What was made at start (modules, models, the S3 client's service description: some 300,000 objects) lives as long as
    the process. Looking through it again and again would stop the loop for a tenth of a second at a time. Much the same
    holds for what lives as long as its connection: a thousand that come at once need not be looked through at every
    quarter more of them. Garbage is mostly young when it is found, so little waits for that.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*gc.get_threshold()[:2], _OLD_AFTER)
