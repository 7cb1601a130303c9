"""What training did to the scores, arm by arm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..contents import arms_named
from ..values import show, show_full
from .courses import courses, over_sequential, weigh
from .wording import against, capital, change, plural

_NEAR_FLOOR = 0.1
SCORES = {
    "in_context": "five-shot accuracy on the tasks never trained",
    "zero_shot": "zero-shot accuracy on the tasks never trained",
    "trained": "mean accuracy on the tasks being trained",
}


def curve(results: Mapping[str, Any], metric: str) -> str:
    """What each arm did to ``in_context``, ``zero_shot`` or ``trained``, and each arm against sequential training."""
    arms = courses(results, metric)
    out: list[str] = []
    for arm, course in arms.items():
        if out:
            out.append(f"With {arms_named(arm)} {change('it', course)}.")
        else:
            over = f"Over {course.stage} task{plural(course.stage)} of {arms_named(arm)}"
            out.append(f"{over}, {change(SCORES[metric], course)}.")
    lost = -arms["sequential"].gap if "sequential" in arms else None
    for arm, gap in over_sequential(results, metric).items():
        told = capital(against(arms_named(arm), arms_named("sequential"), gap))
        if gap.sure and gap.value > 0 and lost and lost.sure and lost.value > 0:
            told += f", {gap.value / lost.value:.0%} of what sequential training lost"
        out.append(told + ".")
    if metric != "trained" and len(arms) > 1 and lost and lost.bounded and not (lost.sure and lost.value > 0):
        out.append("Sequential training lost nothing clear here, so there was nothing clear to save.")
    start = next((course.first for course in arms.values()), None)
    if metric != "trained" and start and start.value < _NEAR_FLOOR:
        out.append(f"It stood at only {show(start.value)} before training: little could be lost.")
    return " ".join(out)


def knowledge(results: Mapping[str, Any]) -> dict[str, str]:
    """For each arm the instruction form of the questions against their knowledge form."""
    told, known = courses(results, "instruction"), courses(results, "knowledge")
    out = {}
    for arm in (arm for arm in told if arm in known):
        first = f"With {arms_named(arm)}, {change('accuracy in the instruction form', told[arm])}"
        sentence = f"{first}; {change('the knowledge form of the same questions', known[arm])}."
        of = {"instruction": told[arm].stage, "knowledge": known[arm].stage}
        signs = (
            (1, "instruction", of["instruction"]),
            (-1, "instruction", 0),
            (-1, "knowledge", of["knowledge"]),
            (1, "knowledge", 0),
        )
        apart = weigh(results, [(sign, (arm, metric, stage)) for sign, metric, stage in signs])
        if apart and apart.bounded and not apart.sure:
            sentence += f" The two changes cannot be told apart (difference {show_full(apart, plus=True)})."
        elif apart:
            lost = told[arm].gap.value < 0
            word = "more" if (apart.value < 0) == lost else "less"
            size = show_full(apart if apart.value > 0 else -apart)
            sentence += f" The instruction form {'lost' if lost else 'gained'} {size} {word} than the knowledge form."
        start = told[arm].first
        if start.low is not None and start.low <= 0:
            sentence += " The instruction form was not clearly above chance before training: little could be lost."
        out[arm] = sentence
    return out
