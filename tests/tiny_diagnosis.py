"""Tasks and a plan small enough for the diagnosis of a tiny model."""

import tiny

from instruction_vectors.analysis.plan import Plan
from instruction_vectors.tasks.task import Example, Task

PLAN = Plan(rows=6, validation_rows=2, shots=2, heads=3, mean_prompts=3, effect_prompts=2, dials=(0.5,), scales=(1.0, 2.0))


def task(name, shift, knowledge=True):
    words = tiny.WORDS
    rows = tuple(Example(words[i], words[(i * 7 + shift) % 36]) for i in range(18))
    return Task(name, (f"{words[30]} {words[shift]}",), rows, knowledge=(f"{{input}} {words[20]}",) if knowledge else ())


TASKS = [task("one", 1), task("two", 5), task("three", 11, knowledge=False)]
