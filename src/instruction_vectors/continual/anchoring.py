"""Anchors on a task's inputs: other instructions, their vectors, and what the original model answers."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.continual.cell import Cell
from instruction_vectors.continual.curriculum import Lesson, plain_name
from instruction_vectors.evaluation.generation import generate
from instruction_vectors.tasks import load_task, task_names
from instruction_vectors.tasks.prompts import PLAIN, Prompt, draw_shots, instructed
from instruction_vectors.tasks.task import Example, Task
from instruction_vectors.training.collator import rows_of

ANSWER_TOKENS = 8
"""Answers under the shipped instructions are a word or two."""
_CONTEXTS = 4
"""Different sets of solved examples an instruction: prompts that share one are computed together."""
_LONGEST_INPUT = 40
"""Words; what follows is left out of an anchor's input, which need not be the whole text."""


@dataclass(frozen=True)
class Anchor:
    """A prompt under another instruction, what the original model answers, and that instruction's name."""

    prompt: str
    answer: str
    instruction: str


def instructions_for(cell: Cell, lessons: Sequence[Lesson]) -> dict[str, Task]:
    """The shipped tasks that are neither trained on nor measured, by name."""
    taken = {plain_name(name) for name in (*cell.probes, *(lesson.name for lesson in lessons))}
    return {name: load_task(name) for name in task_names() if plain_name(name) not in taken}


def make_anchors(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, lesson: Lesson, tasks: Mapping[str, Task], *,
    share: float, shots: int, seed: int,
) -> list[Anchor]:  # fmt: skip
    """Anchors on inputs of the lesson's training rows, drawn by seed; each instruction as often as the others.

    An empty answer makes no anchor. `model` is the original one.
    """
    generator = random.Random(f"anchors/{lesson.name}/{seed}")
    rows = generator.sample(lesson.train.rows, min(max(1, round(share * len(lesson.train.rows))), len(lesson.train.rows)))
    asked = []
    for number, row in enumerate(rows):
        name = list(tasks)[number % len(tasks)]
        context = draw_shots(tasks[name], shots, seed=f"anchors/{seed}/{number // len(tasks) % _CONTEXTS}")
        query = Example(" ".join(row.input.split()[:_LONGEST_INPUT]), row.output)
        asked.append((instructed(tasks[name], query, shots=context, template=PLAIN).text, name))
    written = generate(model, tokenizer, [text for text, _ in asked], max_new_tokens=ANSWER_TOKENS, stop=["\n"], batch_size=32)
    return [Anchor(text, answer.rstrip(), name) for (text, name), answer in zip(asked, written, strict=True) if answer.strip()]


def anchor_rows(tokenizer: PreTrainedTokenizerBase, anchors: Sequence[Anchor]) -> list[dict[str, Any]]:
    """Anchors as the trainer takes them, each under its instruction's vector."""
    return [row for each in anchors for row in rows_of(tokenizer, [Prompt(each.prompt, each.answer)], vector=each.instruction)]
