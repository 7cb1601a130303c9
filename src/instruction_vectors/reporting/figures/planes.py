"""What is learnt against what is kept, and knowledge against instruction, for a run, a grid or a diagnosis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..contents import arm_name, arms_of, order_names, order_of, stages_of, tasks_of
from ..palette import Paint, arm_colours
from ..svg import Drawing
from ..values import estimate_of, mapping, part_of, sequence, series
from .scatter import Point, Trail, scatter, unbeaten

_MOST_POINTS = 250
"""Points a figure; a page with more would grow large and could not be read."""
_FORMS = ("accuracy, knowledge form", "accuracy, instruction form")
_GUIDES = {
    "none": ("dot", "sequential"),
    "iv": ("square", "guided"),
    "plain_kl": ("diamond", "vector"),
    "schedule_only": ("diamond", "extra"),
    "random": ("cross", "against"),
    "other_task": ("cross", "other"),
    "mean": ("cross", "extra"),
    "anchors_iv": ("square", "extra"),
    "anchors_kl": ("diamond", "other"),
    "lwf": ("dot", "other"),
    "fvg": ("square", "other"),
}


def fronts(results: Mapping[str, Any], paint: Paint) -> dict[str, Drawing]:
    """For each sequence of a grid AP against IP at the end, a point a cell, and the front of those that no other beats."""
    out = {}
    for name, cells in _by_sequence(results).items():
        places = [
            (cell, Point(_named(cell), ap, ip))
            for cell in cells
            if (ap := estimate_of(cell.get("ap"))) and (ip := estimate_of(cell.get("in_context")))
        ]
        best = unbeaten([point for _, point in places])
        # Where not all can be shown, those that the front is made of come first.
        shown = sorted(places, key=lambda place: place[1] not in best)[:_MOST_POINTS]
        looks = [_look(cell) for cell, _ in shown]
        key = [(f"guide: {_guide(cell)}", *look) for (cell, _), look in zip(shown, looks, strict=True)]
        trails = [Trail([point], *look) for (_, point), look in zip(shown, looks, strict=True)]
        if trails:
            axes = (f"AP, learnt{part_of(_MOST_POINTS, len(places), 'cells')}", "IP at the end, kept")
            out[name] = scatter(f"AP against IP, {name}", axes, trails, list(dict.fromkeys(key)), paint, front=True)
    return out


def forms(results: Mapping[str, Any], paint: Paint) -> Drawing | None:
    """Knowledge against instruction: each arm, cell or diagnosed task from before (ring) to after."""
    every = [*_of_arms(results), *_of_cells(results), *_of_tasks(results)]
    found = every[:_MOST_POINTS]
    if not found:
        return None
    trails, key = [trail for trail, _ in found], [("before", "ring", "base")]
    key += dict.fromkeys((label, trail.shape, trail.colour) for trail, label in found)
    axes = (f"{_FORMS[0]}{part_of(_MOST_POINTS, len(every), 'courses')}", _FORMS[1])
    return scatter("Knowledge against instruction", axes, trails, key, paint, even=True)


def _of_arms(results: Mapping[str, Any]) -> list[tuple[Trail, str]]:
    arms = arms_of(results, "forgetting")
    colours = arm_colours(list(arms))
    found = []
    for arm, data in arms.items():
        stages = stages_of(data)
        pairs = zip(series(data, "knowledge"), series(data, "instruction"), stages, strict=False)
        points = [Point(f"{arm_name(arm)}, {stage}", known, told) for known, told, stage in pairs if known and told]
        if points:
            shape = "dot" if colours[arm] == "sequential" else "square"
            found.append((Trail(points, shape, colours[arm]), f"{arm_name(arm)} training"))
    return found


def _of_cells(results: Mapping[str, Any]) -> list[tuple[Trail, str]]:
    found = []
    for cells in _by_sequence(results).values():
        for cell in cells:
            pairs = [
                (s, estimate_of(s.get("knowledge")), estimate_of(s.get("instruction")))
                for s in map(mapping, sequence(cell.get("stages")))
            ]
            points = [Point(f"{_named(cell)}, {s.get('after')}", known, told) for s, known, told in pairs if known and told]
            if points:
                shape, colour = _look(cell)
                found.append((Trail(points[:1] + points[1:][-1:], shape, colour), f"guide: {cell.get('guide')}"))
    return found


def _of_tasks(results: Mapping[str, Any]) -> list[tuple[Trail, str]]:
    found = []
    for name, task in tasks_of(mapping(results.get("diagnosis")), "tasks").items():
        told, known = (mapping(mapping(task.get("changes")).get(form)) for form in ("instruction", "knowledge"))
        pairs = [(when, estimate_of(known.get(when)), estimate_of(told.get(when))) for when in ("base", "tuned")]
        points = [Point(f"{name}, {when}", x, y) for when, x, y in pairs if x and y]
        if points:
            verdict = str(mapping(task.get("verdict")).get("name") or "no verdict")
            bad = verdict in ("suppressed", "lost")
            found.append(
                (
                    Trail(points, "square" if bad else "dot", "sequential" if bad else "guided"),
                    "suppressed or lost" if bad else "other",
                )
            )
    return found


def _by_sequence(results: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    out: dict[str, list[Mapping[str, Any]]] = {}
    cells = list(map(mapping, sequence(mapping(results.get("grid")).get("cells"))))
    called = order_names(cells)
    for cell in cells:
        out.setdefault(called[order_of(cell)], []).append(cell)
    return out


def _look(cell: Mapping[str, Any]) -> tuple[str, str]:
    return _GUIDES.get(_guide(cell), ("tick", "base"))


def _guide(cell: Mapping[str, Any]) -> str:
    """Its name, whatever settings it has; those stand beside each point."""
    return str(cell.get("guide")).split(" ")[0]


def _named(cell: Mapping[str, Any]) -> str:
    return ", ".join(str(cell.get(part)) for part in ("method", "guide", "learning_rate", "epochs", "seed"))
