"""Reading numbers out of a results mapping that may be unfinished, and doing arithmetic with their intervals."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DASH, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
# Control characters, surrogates, non-characters (none may stand in XML) and marks that reorder the text around them.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")

# Student's t, two-sided 95%, for 1 to 30 degrees of freedom.
_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True)
class Estimate:
    """A measured number with its interval; ``low`` and ``high`` are both given or both None."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def sure(self) -> bool:
        """True if there is an interval and it does not hold 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    @property
    def bounded(self) -> bool:
        """True if there is an interval."""
        return self.low is not None and self.high is not None

    def __neg__(self) -> Estimate:
        """The same distance in the other direction."""
        return combine([(-1.0, self)])

    def __sub__(self, other: Estimate) -> Estimate:
        """The difference, its interval as in :func:`combine`."""
        return combine([(1.0, self), (-1.0, other)])


def combine(terms: Iterable[tuple[float, Estimate]]) -> Estimate:
    """Sum of weight times estimate, intervals put together by square-and-add.

    With limits l, u around each estimate e, the sum's limits are sum(w·e) ∓ sqrt(sum((w·d)²)), where d is the
    distance from e to the limit that lies on the relevant side (Newcombe 1998; Zou & Donner 2008). It treats the
    estimates as independent. Without an interval in every term the sum has none.
    """
    terms = list(terms)
    value = sum(weight * e.value for weight, e in terms)
    below = above = 0.0
    for weight, e in terms:
        if e.low is None or e.high is None:
            return Estimate(value)
        down, up = max(0.0, e.value - e.low), max(0.0, e.high - e.value)
        if weight < 0:
            down, up = up, down
        below += (weight * down) ** 2
        above += (weight * up) ** 2
    return Estimate(value, value - math.sqrt(below), value + math.sqrt(above))


def mean(estimates: Sequence[Estimate]) -> Estimate:
    """Mean of estimates over a fixed set of tasks."""
    return combine([(1.0 / len(estimates), e) for e in estimates])


def paired(differences: Sequence[float]) -> Estimate:
    """Mean of differences taken task by task, with Student's 95% interval over tasks."""
    count = len(differences)
    centre = sum(differences) / count
    spread = math.sqrt(sum((d - centre) ** 2 for d in differences) / (count - 1))
    free = count - 1
    half = (_T95[free - 1] if free <= len(_T95) else 1.96 + 2.4 / free) * spread / math.sqrt(count)
    return Estimate(centre, centre - half, centre + half)


def number(value: object) -> float | None:
    """The value as a finite float, or None if it is not one."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def estimate(value: object, interval: object = None) -> Estimate | None:
    """An :class:`Estimate` from a raw number and a raw ``[low, high]``; None where there is no number."""
    centre = number(value)
    if centre is None:
        return None
    if isinstance(interval, Sequence) and not isinstance(interval, str) and len(interval) == 2:
        low, high = number(interval[0]), number(interval[1])
        if low is not None and high is not None and low <= high:
            return Estimate(centre, low, high)
    return Estimate(centre)


def estimate_of(raw: object) -> Estimate | None:
    """An :class:`Estimate` from a raw ``{"value", "interval"}``, as results hold them."""
    return estimate(mapping(raw).get("value"), mapping(raw).get("interval"))


def mapping(value: object) -> Mapping[str, Any]:
    """The value if it is a mapping, otherwise an empty one."""
    return value if isinstance(value, Mapping) else {}


def sequence(value: object) -> Sequence[Any]:
    """The value if it is a list or tuple, otherwise an empty one."""
    return value if isinstance(value, list | tuple) else ()


def series(arm: Mapping[str, Any], metric: str) -> list[Estimate | None]:
    """One estimate a stage for a metric of ``forgetting[arm]``; empty if the metric was not measured."""
    intervals = sequence(mapping(arm.get("intervals")).get(metric))
    values = sequence(arm.get(metric))
    found = [estimate(v, intervals[i] if i < len(intervals) else None) for i, v in enumerate(values)]
    return found if any(found) else []


def show(value: float, digits: int = 2, *, plus: bool = False) -> str:
    """A number as text: a true minus sign, no minus zero, a leading + on request."""
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return (MINUS if value < 0 else "+" if plus else "") + text


def show_interval(e: Estimate, digits: int = 2, *, plus: bool = False) -> str:
    """The interval as ``[low, high]``; empty without one."""
    if e.low is None or e.high is None:
        return ""
    return f"[{show(e.low, digits, plus=plus)}, {show(e.high, digits, plus=plus)}]"


def show_full(e: Estimate, digits: int = 2, *, plus: bool = False) -> str:
    """Value and interval, ``0.41 [0.33, 0.49]``."""
    return f"{show(e.value, digits, plus=plus)} {show_interval(e, digits, plus=plus)}".strip()


def printable(value: Any) -> Any:
    """A copy of the results in which every string, keys included, can stand in XML and keeps its reading order."""
    if isinstance(value, str):
        return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, Mapping):
        return {printable(str(key)): printable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [printable(item) for item in value]
    return value


def part_of(most: int, every: int, what: str) -> str:
    """What is said after a heading or an axis' name where at most so many are shown; nothing where all are."""
    return f" ({most} of {every} {what} shown)" if most < every else ""
