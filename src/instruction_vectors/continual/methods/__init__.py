"""Methods of continual fine-tuning, one file each; a new file here is all a new method needs."""

import importlib
import pkgutil
from functools import cache

from instruction_vectors.continual.method import Method
from instruction_vectors.errors import IVError


@cache
def methods() -> dict[str, type[Method]]:
    """Every method by name, as found in this folder."""
    found: dict[str, type[Method]] = {}
    for module in pkgutil.iter_modules(__path__):
        loaded = importlib.import_module(f"{__name__}.{module.name}")
        found |= {c.name: c for c in vars(loaded).values() if _is_method(c, loaded.__name__)}
    return found


def method_named(name: str) -> type[Method]:
    """The method called `name`.

    Raises:
        IVError: there is none.
    """
    if name not in methods():
        raise IVError(f"unknown method {name!r}; there are {', '.join(sorted(methods()))}")
    return methods()[name]


def _is_method(candidate: object, module: str) -> bool:
    return isinstance(candidate, type) and issubclass(candidate, Method) and candidate.__module__ == module
