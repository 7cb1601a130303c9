"""Prompts that a vector is made from: with the instruction, and with what tells the task taken away."""

import random
from typing import Literal

from instruction_vectors.errors import DataError
from instruction_vectors.settings import one_of
from instruction_vectors.tasks import load_task, task_names
from instruction_vectors.tasks.prompts import PLAIN, Corruption, Template, counterfactual, draw_shots, instructed
from instruction_vectors.tasks.task import Task

Source = Literal["demonstrations", "instructions"]
"""Solved examples under the instruction, or the instruction alone in each of its wordings."""


def demonstrations(
    task: Task,
    *,
    prompts: int,
    shots: int,
    contexts: int | None = None,
    source: Source = "demonstrations",
    template: Template = PLAIN,
    seed: int = 0,
) -> list[tuple[str, str]]:
    """Few-shot prompts under the instruction, with their answers' text: `[(x_1, c, y_1) ... x_i, c]`.

    Args:
        task: rows to draw shots and queries from (training rows only).
        prompts: how many, N.
        shots: shots a prompt, n.
        contexts: how many different sets of shots; queries share them in turn, which costs less. Default: one a prompt.
        source: from the instruction alone there are no shots, and the instruction's wordings take turns.
        template: the layout.
        seed: what the draw depends on.

    Raises:
        DataError: another source.
    """
    one_of(Source, source, "source", DataError)
    queries = draw_shots(task, prompts, seed=f"queries/{seed}")
    if source == "instructions":
        told = [instructed(task, query, template=template, wording=number) for number, query in enumerate(queries)]
        return [(prompt.text, prompt.target) for prompt in told]
    contexts = min(contexts or prompts, len(queries))
    built = []
    for number, query in enumerate(queries):
        drawn = draw_shots(task, shots + 1, seed=f"shots/{seed}/{number % contexts}")
        context = [row for row in drawn if row.input != query.input][:shots]
        prompt = instructed(task, query, shots=context, template=template)
        built.append((prompt.text, prompt.target))
    return built


def counterfactuals(
    task: Task,
    *,
    prompts: int,
    shots: int,
    corruption: Corruption = "shuffle_and_drop",
    template: Template = PLAIN,
    seed: int = 0,
) -> list[tuple[str, str]]:
    """Prompts that no longer say what to do, with the right answers' text.

    By default their shots have shuffled answers and no instruction (Todd et al. 2310.15213); see `tasks.prompts.counterfactual`.
    Under `swap` each has the instruction of a shipped task drawn by seed, never the task's own.
    """
    others = [load_task(name).instruction for name in task_names() if name != task.name] if corruption == "swap" else []
    others = [instruction for instruction in others if instruction not in task.instructions]
    built = []
    for number, query in enumerate(draw_shots(task, prompts, seed=f"effects/{seed}")):
        context = draw_shots(task, shots, exclude=query, seed=f"effects/{seed}/{number}")
        instead = random.Random(f"swap/{task.name}/{seed}/{number}").choice(others) if others else None
        prompt = counterfactual(task, query, shots=context, corruption=corruption, instead=instead, template=template, seed=seed)
        built.append((prompt.text, prompt.target))
    return built
