"""What memory holds: telling its end from other errors, and remembering how many tokens of a model go together."""

import logging
import re
import weakref

import torch

from instruction_vectors.models.anatomy import Anatomy

logger = logging.getLogger(__name__)

_TOLD = re.compile(r"out[ _]of[ _](device[ _]|host[ _])?memory|not enough memory|allocate memory|_ALLOC_FAILED", re.IGNORECASE)
"""How backends say it whose errors have no type of their own: CPU, MPS, Level Zero, and cuBLAS, cuDNN or hipBLAS anywhere."""


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory did not suffice."""
    told = isinstance(error, RuntimeError) and _TOLD.search(str(error))
    return bool(told) or isinstance(error, torch.OutOfMemoryError | MemoryError)


class Room:
    """Tokens at once that memory holds: as many as are wanted, unless a model was found to take fewer."""

    def __init__(self) -> None:
        self._found: weakref.WeakKeyDictionary[Anatomy, int] = weakref.WeakKeyDictionary()

    def of(self, anatomy: Anatomy, wanted: int) -> int:
        """Tokens to begin with."""
        return min(wanted, self._found.get(anatomy, wanted))

    def settle(self, anatomy: Anatomy, known: int, tokens: int) -> int:
        """Remember what went well, and say so if it is less than what was known; returns it."""
        if tokens < known:
            logger.warning("out of memory with %d tokens at once: going on with %d", known, tokens)
            self._found[anatomy] = tokens
        return tokens
