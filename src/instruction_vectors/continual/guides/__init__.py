"""What a task's training is guided by, one file each; a new file here is all a new guide needs."""

import importlib
import pkgutil
from functools import cache

from instruction_vectors.continual.guide import Guide, Vectors
from instruction_vectors.errors import IVError

__all__ = ["Guide", "Vectors", "guide_named", "guides"]


@cache
def guides() -> dict[str, Guide]:
    """Every guide by name, as found in this folder."""
    found: dict[str, Guide] = {}
    for module in pkgutil.iter_modules(__path__):
        loaded = importlib.import_module(f"{__name__}.{module.name}")
        found |= {c.name: c() for c in vars(loaded).values() if _is_guide(c, loaded.__name__)}
    return found


def guide_named(name: str) -> Guide:
    """The guide called `name`.

    Raises:
        IVError: there is none.
    """
    if name not in guides():
        raise IVError(f"unknown guide {name!r}; there are {', '.join(sorted(guides()))}")
    return guides()[name]


def _is_guide(candidate: object, module: str) -> bool:
    return isinstance(candidate, type) and issubclass(candidate, Guide) and candidate.__module__ == module
