"""What a task's training is guided by, one file each; a new file here is all a new guide needs."""

import sys
from functools import cache

from instruction_vectors.continual.discovery import classes_in, named
from instruction_vectors.continual.guide import Guide, Vectors

__all__ = ["Guide", "Vectors", "guide_named", "guides"]


@cache
def guides() -> dict[str, Guide]:
    """Every guide by name, as found in this folder."""
    return {guide.name: guide() for guide in classes_in(sys.modules[__name__], Guide)}


def guide_named(name: str) -> Guide:
    """The guide called `name`.

    Raises:
        IVError: there is none.
    """
    return named(name, guides(), "unknown guide")
