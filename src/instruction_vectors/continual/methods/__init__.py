"""Methods of continual fine-tuning, one file each; a new file here is all a new method needs."""

import sys
from functools import cache

from instruction_vectors.continual.discovery import classes_in, named
from instruction_vectors.continual.method import Method


@cache
def methods() -> dict[str, type[Method]]:
    """Every method by name, as found in this folder."""
    return {method.name: method for method in classes_in(sys.modules[__name__], Method)}


def method_named(name: str) -> type[Method]:
    """The method called `name`.

    Raises:
        IVError: there is none.
    """
    return named(name, methods(), "unknown method")
