"""A benchmark run: which cells."""

from collections.abc import Mapping
from typing import Any

from instruction_vectors.continual.cell import Cell, grid
from instruction_vectors.errors import IVError

AXES: dict[str, type] = {"methods": str, "guides": str, "seeds": int, "learning_rates": float, "epochs": int}
"""What a grid varies; every other setting is the same in all its cells."""


def cells_of(settings: Mapping[str, Any]) -> list[Cell]:
    """Cells of a grid from settings under the names of `Cell` and the axes, one value or a list of them for each axis.

    Under `variants` stand settings laid over the others, a grid of its own for each: `[{}, {guidance: {sign: -1}}, {heads: 5}]`.
    All variants of a seed come before the next seed.

    Raises:
        IVError: an unknown name, a value of the wrong kind, or no sequence.
    """
    given = dict(settings)
    if (variants := given.pop("variants", None)) is not None:
        if not isinstance(variants, list) or not all(isinstance(each, Mapping) for each in variants):
            raise IVError(f"variants: expected a list of settings by name, got {variants!r}")
        cells = [cell for each in variants for cell in cells_of(_laid_over(given, each))]
        return sorted(cells, key=lambda cell: cell.seed)
    axes = {name: _values(name, given.pop(name)) for name in AXES if given.get(name) is not None}
    for name in ("benchmark", "sequence"):
        if not given.get(name):
            raise IVError(f"a grid needs a {name}")
    bases = [Cell.of({**given, "sequence": sequence}) for sequence in _several(given.pop("sequence"))]
    return [cell for base in bases for cell in grid(base, **axes)]


def _laid_over(given: Mapping[str, Any], variant: Mapping[str, Any]) -> dict[str, Any]:
    """`given` with what a variant says otherwise; of settings within settings only what it names."""
    both = [(name, given.get(name), value) for name, value in variant.items()]
    changed = {name: {**old, **new} if isinstance(old, Mapping) and isinstance(new, Mapping) else new for name, old, new in both}
    return {**given, **changed}


def _values(name: str, value: Any) -> list[Any]:
    try:
        return [AXES[name](one) for one in _several(value)]  # YAML reads 1e-3 as a text
    except (TypeError, ValueError) as error:
        raise IVError(f"{name}: expected {AXES[name].__name__} values, got {value!r}") from error


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
