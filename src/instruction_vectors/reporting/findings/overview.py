"""The report in a few lines: what was trained, what moved, and the findings in one list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..contents import arms_named, arms_of, stages_of
from ..values import estimate, mapping, sequence, show, show_full, show_interval
from .courses import courses, over_sequential
from .training import SCORES, knowledge
from .vectors import hypothesis, steering
from .wording import against, capital


def subject(results: Mapping[str, Any]) -> str:
    """One sentence on what was trained so far."""
    cells, diagnosed = (len(found) for found in (sequence(mapping(results.get("grid")).get("cells")), tasks_diagnosed(results)))
    if cells:
        return f"{cells} finished cell{'s' if cells > 1 else ''}: methods that learn task after task, and what each keeps."
    if diagnosed:
        return f"What a fine-tune did to {diagnosed} task{'s' if diagnosed > 1 else ''}, and what brings them back."
    name = str(mapping(results.get("config")).get("model") or "A model")
    order = max((stages_of(arm)[1:] for arm in arms_of(results, "forgetting").values()), key=len, default=[])
    if not order:
        return f"{name}: where it keeps its instructions, and what its instruction vectors do."
    path = ", then ".join(order[:6]) + (", and so on" if len(order) > 6 else "")
    return f"{name} was fine-tuned on {path}. This page shows what that did to tasks it was never trained on."


def tasks_diagnosed(results: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tasks of a diagnosis; none where there is no diagnosis."""
    return mapping(mapping(results.get("diagnosis")).get("tasks"))


def cards(results: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """For each metric its change from M0 to the last stage: (metric, [(arm, change, interval)])."""
    labels = {
        "in_context": "Untouched tasks, 5-shot",
        "zero_shot": "Untouched tasks, zero-shot",
        "instruction": "Following the instruction",
        "knowledge": "Knowing the answer",
        "trained": "The tasks being trained",
    }
    out = []
    for metric, label in labels.items():
        rows = [
            (arm, show(course.gap.value, plus=True), show_interval(course.gap, plus=True))
            for arm, course in courses(results, metric).items()
        ]
        if rows:
            out.append((label, rows))
    return out


def headline(results: Mapping[str, Any]) -> list[str]:
    """One short statement a question, in the order in which a reader needs them."""
    out = []
    for metric in ("in_context", "trained"):
        if arms := courses(results, metric):
            before = show(next(iter(arms.values())).first.value)
            after = " and ".join(f"{show(course.last.value)} after {arms_named(arm)}" for arm, course in arms.items())
            told = [f"{capital(SCORES[metric])}: {before} before training, {after}."]
            for arm, gap in over_sequential(results, metric).items():
                told.append(capital(against(arms_named(arm), arms_named("sequential"), gap)) + ".")
            out.append(" ".join(told))
    if forms := knowledge(results):
        out.append(next(iter(forms.values())))
    plain, chat = steering(results), steering(results, "steering_chat")
    if chat:
        plain, chat = [f"Plain template: {said}" for said in plain], [f"Chat template: {said}" for said in chat]
    return out + plain + chat + hypothesis(results)


def summary_value(value: object) -> str:
    """An entry of ``summary``: a number, ``[number, low, high]``, or anything else as text."""
    triple = isinstance(value, list | tuple) and len(value) == 3
    e = estimate(value[0], value[1:]) if triple else estimate(value)  # type: ignore[index]
    if e is None:
        return str(value)
    if not e.bounded and e.value.is_integer():
        return f"{e.value:,.0f}"
    return show_full(e, 3 if abs(e.value) < 1 else 2 if abs(e.value) < 10 else 1)
