"""Methods of continual fine-tuning, one file each; a new file here is all a new method needs."""

import sys
from functools import cache

from instruction_vectors.continual.discovery import classes_in, named
from instruction_vectors.continual.method import Method
from instruction_vectors.continual.methods.anchors import Anchors
from instruction_vectors.errors import IVError


@cache
def methods() -> dict[str, type[Method]]:
    """Every method by name, as found in this folder."""
    return {method.name: method for method in classes_in(sys.modules[__name__], Method)}


def method_named(name: str) -> type[Method]:
    """The method called `name`; `osf+steered_anchors` is the first with the anchors of the second (`Anchors.over`).

    Raises:
        IVError: there is none, or the two do not go together.
    """
    way, plus, anchors = name.partition("+")
    return _with_anchors(way, anchors) if plus else named(name, methods(), "unknown method")


@cache
def _with_anchors(way: str, anchors: str) -> type[Method]:
    over, kind = method_named(way), method_named(anchors)
    if not issubclass(kind, Anchors):
        makers = ", ".join(name for name, method in methods().items() if issubclass(method, Anchors))
        raise IVError(f"what follows the + of a method is one of {makers}, got {anchors!r}")
    return kind.over(over)


def method_if_known(name: str) -> type[Method] | None:
    """The method called `name`, None where there is none here: a result can be of another version's."""
    try:
        return method_named(name)
    except IVError:
        return None
