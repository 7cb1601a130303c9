"""What brings a fallen ability back: with the base's vector, with control vectors, with less of the fine-tune."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..contents import tasks_of
from ..palette import Paint
from ..svg import Drawing
from ..values import Estimate, estimate_of, mapping, part_of, sequence, show
from .lanes import MOST_LANES, Lane, Mark, lanes

_KEY = (
    ("before", "ring", "base"),
    ("after", "dot", "sequential"),
    ("after, with the base's vector", "square", "vector"),
    ("with a control vector", "cross", "muted"),
    ("with part of the fine-tune", "tick", "other"),
)
_REPAIR = "+iv(base)"
_PART = "of the fine-tune"
_AXIS = "accuracy (of ranked options: 0 is guessing)"
_FORMS = (("in_context", "written_rungs", "five-shot"), ("instruction", "rungs", "instruction"))


def repairs(results: Mapping[str, Any], paint: Paint, width: float) -> Drawing | None:
    """A lane a task and form that got worse and was tried with the base's vector."""
    tasks = tasks_of(mapping(results.get("diagnosis")), "tasks")
    every = [lane for name, task in tasks.items() for lane in _lanes(name, task)]
    rows = every[:MOST_LANES]
    axis = f"{_AXIS}{part_of(MOST_LANES, len(every), 'rows')}"
    return lanes("What brings it back", _KEY, rows, paint, width=width, axis=axis, track_height=13) if rows else None


def _lanes(name: str, task: Mapping[str, Any]) -> Iterator[Lane]:
    for form, rungs, called in _FORMS:
        change = mapping(mapping(task.get("changes")).get(form))
        before, after = (estimate_of(change.get(when)) for when in ("base", "tuned"))
        tried = {str(rung.get("name")): rung for rung in map(mapping, sequence(task.get(rungs)))}
        repair = next((rung for key, rung in tried.items() if key.endswith(_REPAIR)), {})
        repaired = estimate_of(repair.get("accuracy"))
        if before and after and repaired and change.get("worse") is not False:
            fell = [Mark("before", before, "ring", "base"), Mark("after", after, "dot", "sequential")]
            tracks = [
                fell,
                [Mark("with the base's vector", repaired, "square", "vector")],
                _controls(repair, repaired),
                _parts(tried),
            ]
            course = " \N{RIGHTWARDS ARROW} ".join(show(each.value) for each in (before, after, repaired))
            yield Lane(f"{name}, {called}", [t for t in tracks if t], [4.0 * (t is fell) for t in tracks if t], course)


def _controls(repair: Mapping[str, Any], repaired: Estimate) -> list[Mark]:
    """A repair's control vectors, placed by how far it is above each."""
    over = {key: estimate_of(raw) for key, raw in mapping(repair.get("over")).items()}
    return [Mark(str(key), Estimate(repaired.value - each.value), "cross", "muted") for key, each in over.items() if each]


def _parts(tried: Mapping[str, Mapping[str, Any]]) -> list[Mark]:
    """What is left where the fine-tune is turned down."""
    found = {key: estimate_of(rung.get("accuracy")) for key, rung in tried.items() if key.endswith(_PART)}
    return [Mark(key, accuracy, "tick", "other") for key, accuracy in found.items() if accuracy]
