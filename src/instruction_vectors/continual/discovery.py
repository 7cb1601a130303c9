"""Classes that are found where they lie: a new file in a folder is all that a new method or guide needs."""

import importlib
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import TypeVar

from instruction_vectors.errors import IVError

T = TypeVar("T")


def classes_in(package: ModuleType, base: type[T]) -> list[type[T]]:
    """The subclasses of `base` that the package's own modules define."""
    modules = (importlib.import_module(f"{package.__name__}.{found.name}") for found in pkgutil.iter_modules(package.__path__))
    return [kind for module in modules for kind in vars(module).values() if _defines(module, kind) and issubclass(kind, base)]


def _defines(module: ModuleType, candidate: object) -> bool:
    return isinstance(candidate, type) and candidate.__module__ == module.__name__


def named(name: str, known: Mapping[str, T], unknown: str) -> T:
    """What is known under a name; `unknown` opens the sentence said of one that is not: "unknown method".

    Raises:
        IVError: there is nothing of that name.
    """
    if name not in known:
        raise IVError(f"{unknown} {name!r}; there are {', '.join(sorted(known))}")
    return known[name]
