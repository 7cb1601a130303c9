"""A benchmark run: which cells."""

from collections.abc import Iterable, Mapping
from typing import Any

from instruction_vectors.continual.cell import Cell, grid
from instruction_vectors.errors import IVError

AXES: dict[str, type] = {"methods": str, "guides": str, "seeds": int, "learning_rates": float, "epochs": int}
"""What a grid varies; every other setting is the same in all its cells."""
_ONE = {
    "methods": "method",
    "guides": "guide",
    "seeds": "seed",
    "learning_rates": "stage.learning_rate",
    "epochs": "stage.epochs",
}
"""The setting of a cell that each axis stands in place of."""
_PERHAPS_UNUSED = {"guidance", "heads", "source", "method_settings"}
"""Settings of which a cell's name holds what the cell uses."""


def cells_of(settings: Mapping[str, Any]) -> list[Cell]:
    """Cells of a grid from settings under the names of `Cell` and the axes, one value or a list of them for each axis.

    Under `variants` stand settings laid over the others, a grid of its own for each: `[{}, {guidance: {sign: -1}}, {heads: 5}]`.
    All variants of a seed come before the next seed; cells that differ in nothing they use are one.

    Raises:
        IVError: an unknown name, a value of the wrong kind, no sequence, or two cells of one name.
    """
    given = dict(settings)
    variants = given.pop("variants", [{}])
    if not isinstance(variants, list) or not variants or not all(isinstance(each, Mapping) for each in variants):
        raise IVError(f"variants: expected a list, one entry a variant (`- heads: 5`), got {variants!r}")
    check_heard(given)
    if variants == [{}]:
        return _once(_combined(given))
    cells: list[Cell] = []
    for number, variant in enumerate(variants, start=1):
        try:
            check_heard(variant, given)
            cells += _combined(_laid_over(given, variant))
        except IVError as error:
            raise IVError(f"variant {number}: {error}") from error
    return _once(sorted(cells, key=lambda cell: cell.seed))


def overridden(settings: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with what is asked for laid over them: an axis also in place of the setting that it stands for."""
    left = dict(settings)
    for axis in asked.keys() & _ONE.keys():
        outer, _, inner = _ONE[axis].partition(".")
        if not inner:
            left.pop(outer, None)
        elif isinstance(left.get(outer), Mapping):
            left[outer] = {name: value for name, value in left[outer].items() if name != inner}
    return _laid_over(left, asked)


def _combined(given: dict[str, Any]) -> list[Cell]:
    """Every sequence with every combination along the axes."""
    axes = {name: _values(name, given.pop(name)) for name in AXES if given.get(name) is not None}
    for name in ("benchmark", "sequence"):
        if not given.get(name):
            raise IVError(f"a grid needs a {name}")
    bases = [Cell.of({**given, "sequence": sequence}) for sequence in _several(given.pop("sequence"))]
    return [cell for base in bases for cell in grid(base, **axes)]


def check_heard(said: Mapping[str, Any], under: Mapping[str, Any] | None = None) -> None:
    """Refuse a setting that would go unheard: one that an axis stands in place of, in what is said or in what that is laid over.

    Raises:
        IVError: there is one.
    """
    stage, whole = said.get("stage"), {**(under or {}), **said}
    own = {**said, **{f"stage.{name}": value for name, value in (stage if isinstance(stage, Mapping) else {}).items()}}
    if own.get("stage.seed", seed := whole.get("seed", 0)) != seed:
        raise IVError("stage.seed has no effect: a cell has one seed, for everything that is drawn; write seeds")
    for axis, one in _ONE.items():
        if own.get(one) is not None and whole.get(axis) is not None:
            raise IVError(f"{one} has no effect where {axis} is given; write {axis} in its place")


def _laid_over(given: Mapping[str, Any], variant: Mapping[str, Any]) -> dict[str, Any]:
    """`given` with what a variant says otherwise; of settings within settings only what it names."""
    changed = {
        name: _laid_over(given[name], value) if isinstance(value, Mapping) and isinstance(given.get(name), Mapping) else value
        for name, value in variant.items()
    }
    return {**given, **changed}


def _once(cells: Iterable[Cell]) -> list[Cell]:
    """Of cells with one name, which must not differ in anything they use, the first."""
    found: dict[str, Cell] = {}
    for cell in cells:
        first, second = found.setdefault(cell.name, cell).resolved(), cell.resolved()
        unlike = [name for name in first if first[name] != second.get(name) and name not in _PERHAPS_UNUSED]
        if unlike:
            told = f"two cells are called {cell.name} and differ in {', '.join(unlike)}, which is no part of a name"
            raise IVError(f"{told}; run them as two grids, each with an --out of its own")
    return list(found.values())


def _values(name: str, value: Any) -> list[Any]:
    if not _several(value):
        raise IVError(f"{name}: expected at least one value, got none")
    try:
        return [_one(AXES[name], each) for each in _several(value)]
    except (TypeError, ValueError) as error:
        raise IVError(f"{name}: expected {AXES[name].__name__} values, got {value!r}") from error


def _one(kind: type, value: Any) -> Any:
    """YAML reads 1e-3 as a text; nothing is cut off a number."""
    if isinstance(value, bool) or (kind is int and isinstance(value, float) and not value.is_integer()):
        raise ValueError(f"{value!r} is no {kind.__name__}")
    return kind(value)


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
