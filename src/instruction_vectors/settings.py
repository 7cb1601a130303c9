"""Settings as users write them, made into the dataclass they are for."""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from instruction_vectors.errors import IVError

T = TypeVar("T")


def settings_of(kind: type[T], given: Any, name: str = "") -> T:
    """A dataclass from settings by name, each in the type its field declares; a nested one from settings of its own.

    YAML reads `3e-4` as a text and a list for a tuple; both are taken. A setting that is empty (None) stays at its default.
    What a value may be beyond its type is for the dataclass to say.

    Args:
        kind: the dataclass.
        given: settings by name, or one of its instances, which comes back as it is.
        name: what a complaint calls the settings, if they are those of a part.

    Raises:
        IVError: not settings by name, an unknown one, a missing one, or a value of another type.
    """
    if isinstance(given, kind):
        return given
    if not isinstance(given, Mapping):
        raise IVError(f"{name + ': ' if name else ''}expected settings by name, got {given!r}")
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    within = f" under {name}" if name else ""
    if unknown := sorted(str(key) for key in given if key not in known):
        told = ", ".join(name + _meant(name, known) for name in unknown)
        raise IVError(f"unknown settings{within}: {told}; there are {', '.join(known)}")
    written = {key: value for key, value in given.items() if value is not None}
    needed = [key for key, field in known.items() if field.default is MISSING and field.default_factory is MISSING]
    if missing := [key for key in needed if key not in written]:
        raise IVError(f"missing settings{within}: {', '.join(missing)}")
    hints = get_type_hints(kind)
    return kind(**{key: _typed(hints[key], value, f"{name}.{key}" if name else key) for key, value in written.items()})


def one_of(kind: Any, value: Any, name: str, error: type[IVError] = IVError) -> None:
    """Nothing, where the value is one of those a `Literal` allows; else an error that names them.

    Raises:
        IVError: any other value, as `error`.
    """
    if value not in (allowed := get_args(kind)):
        raise error(f"{name} must be {' or '.join(map(repr, allowed))}, got {value!r}")


def _meant(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _typed(kind: Any, value: Any, name: str) -> Any:
    """The value as `kind`; one of several literals is left to the dataclass, which names them."""
    if is_dataclass(kind):
        return settings_of(kind, value, name)  # type: ignore[arg-type]
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        return tuple(_typed(get_args(kind)[0], one, name) for one in value)
    if kind is float and isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass
    if (isinstance(kind, type) and type(value) is not kind) or get_origin(kind) is tuple:
        wanted = kind.__name__ if isinstance(kind, type) else f"a list of {get_args(kind)[0].__name__}"
        raise IVError(f"{name}: expected {wanted}, got {value!r}")
    return value
