"""A benchmark run: which cells."""

from typing import Any

from instruction_vectors.continual.cell import Cell, grid
from instruction_vectors.errors import IVError

AXES: dict[str, type] = {"methods": str, "guides": str, "seeds": int, "learning_rates": float, "epochs": int}
"""What a grid varies; every other setting is the same in all its cells."""


def cells_of(settings: dict[str, Any]) -> list[Cell]:
    """Cells of a grid from settings under the names of `Cell` and the axes, one value or a list of them for each axis.

    Raises:
        IVError: an unknown name, a value of the wrong kind, or no sequence.
    """
    given = dict(settings)
    axes = {name: _values(name, given.pop(name)) for name in AXES if given.get(name) is not None}
    for name in ("benchmark", "sequence"):
        if not given.get(name):
            raise IVError(f"a grid needs a {name}")
    bases = [Cell.of({**given, "sequence": sequence}) for sequence in _several(given.pop("sequence"))]
    return [cell for base in bases for cell in grid(base, **axes)]


def _values(name: str, value: Any) -> list[Any]:
    try:
        return [AXES[name](one) for one in _several(value)]  # YAML reads 1e-3 as a text
    except (TypeError, ValueError) as error:
        raise IVError(f"{name}: expected {AXES[name].__name__} values, got {value!r}") from error


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
