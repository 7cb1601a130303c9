"""How the C library keeps large blocks of memory, which tensors of a CPU are."""

import ctypes
import os

LARGE = 2**20
"""Bytes from which a block is kept apart: below the activations of some hundred tokens, above what Python objects take."""
_KEPT = 2**27
"""Bytes of free memory at its end that the heap keeps for smaller blocks, which come and go with every batch."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h; mallopt(3)."""


def large_blocks_apart() -> bool:
    """Have glibc map each large block on its own and return it when it is freed; tells whether it does.

    By itself glibc raises the size from which it does so to 32 MB (mallopt(3), M_MMAP_THRESHOLD). Activations of many sizes then
    share the heap with what lives longer, such as kept teacher states: it grows in holes, and looking for one that fits costs
    training on long rows a fifth of its time. Another allocator, another C library and whoever has told glibc otherwise in the
    environment are left alone. PyTorch, which listens until its first tensor, is told to ask for huge pages: a new block needs
    fewer of them.
    """
    if "MALLOC_MMAP_THRESHOLD_" in os.environ or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version") or not hasattr(library, "mallopt"):
        return False
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    return all(library.mallopt(*each) == 1 for each in ((_M_MMAP_THRESHOLD, LARGE), (_M_TRIM_THRESHOLD, _KEPT)))
