"""Anchors on a task's inputs: other instructions, their vectors, and what the original model answers."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.continual.cell import Cell
from instruction_vectors.continual.curriculum import Lesson, plain_name
from instruction_vectors.evaluation.generation import PrefillEdit, generate
from instruction_vectors.tasks import load_task, task_names
from instruction_vectors.tasks.prompts import PLAIN, Prompt, draw_shots, instructed
from instruction_vectors.tasks.task import Example, Task
from instruction_vectors.training.collator import rows_of
from instruction_vectors.vectors.vector import InstructionVector

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
    share: float, shots: int, seed: int, vectors: Mapping[str, InstructionVector] | None = None,
) -> list[Anchor]:  # fmt: skip
    """Anchors on inputs of the lesson's training rows, drawn by seed; each instruction as often as the others.

    An empty answer makes no anchor. `model` is the original one; with `vectors` it answers under each instruction's own.
    """
    generator = random.Random(f"anchors/{lesson.name}/{seed}")
    rows = generator.sample(lesson.train.rows, min(max(1, round(share * len(lesson.train.rows))), len(lesson.train.rows)))
    asked = []
    for number, row in enumerate(rows):
        name = list(tasks)[number % len(tasks)]
        context = draw_shots(tasks[name], shots, seed=f"anchors/{seed}/{number // len(tasks) % _CONTEXTS}")
        query = Example(" ".join(row.input.split()[:_LONGEST_INPUT]), row.output)
        asked.append((instructed(tasks[name], query, shots=context, template=PLAIN).text, name))
    return [
        Anchor(text, answer.rstrip(), name)
        for (text, name), answer in zip(asked, _answers(model, tokenizer, asked, vectors), strict=True)
        if answer.strip()
    ]


def _answers(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    asked: Sequence[tuple[str, str]],
    vectors: Mapping[str, InstructionVector] | None,
) -> list[str]:
    """One line to each prompt; those of one instruction together where its vector goes in."""

    def written(prompts: Sequence[str], edit: PrefillEdit | None = None) -> list[str]:
        return generate(model, tokenizer, prompts, max_new_tokens=ANSWER_TOKENS, stop=["\n"], batch_size=32, edit=edit)

    if vectors is None:
        return written([text for text, _ in asked])
    answers = [""] * len(asked)
    for name, vector in vectors.items():
        mine = [number for number, (_, other) in enumerate(asked) if other == name]
        under = partial(vector.applied, model, "distributed", 1.0)
        for number, answer in zip(mine, written([asked[number][0] for number in mine], under), strict=True):
            answers[number] = answer
    return answers


def anchor_rows(tokenizer: PreTrainedTokenizerBase, anchors: Sequence[Anchor]) -> list[dict[str, Any]]:
    """Anchors as the trainer takes them, each under its instruction's vector."""
    return [row for each in anchors for row in rows_of(tokenizer, [Prompt(each.prompt, each.answer)], vector=each.instruction)]
