"""Anchors: what the original model says to inputs that are trained on under other instructions, each under its vector.

What fine-tuning breaks lies outside the rows trained on, so holding the model on those rows alone does not reach it. An anchor
asks something else about one of their inputs; learnt and guided beside the rows, it holds the paths of other instructions where
training changes the model most. No earlier task's data are needed. Answers of the model's own are as in self-synthesised
rehearsal (Huang et al. 2403.01244), vectors as in Jiang et al. 2406.12227.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from torch import nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.errors import TrainingError
from instruction_vectors.evaluation.generation import PrefillEdit, generate
from instruction_vectors.tasks import load_task, task_names
from instruction_vectors.tasks.prompts import PLAIN, Prompt, draw_shots, instructed
from instruction_vectors.tasks.task import Example, Task
from instruction_vectors.training import automatic
from instruction_vectors.training.collator import rows_of
from instruction_vectors.training.rows import Row
from instruction_vectors.vectors.universal import extract_all
from instruction_vectors.vectors.vector import InstructionVector

T = TypeVar("T")

ANSWER_TOKENS = 8
"""Answers under the shipped instructions are a word or two."""
_CONTEXTS = 4
"""Different sets of solved examples an instruction: prompts that share one are computed together."""
_LONGEST_INPUT = 40
"""Words, and a tenth of the characters (for text without spaces); what follows is left out of an anchor's input."""
_MEAN_PROMPTS, _SHOTS, _MEAN_CONTEXTS = 25, 5, 5
"""Of the shipped instructions' vectors."""


@dataclass(frozen=True)
class Anchor:
    """A prompt under another instruction, what the original model answers, and that instruction's name.

    The answer is a line with its newline, or what there is of it where the model wrote none: cut off after `ANSWER_TOKENS`, or
    ended by the model's end token, which is not taught.
    """

    prompt: str
    answer: str
    instruction: str


def drawn_share(items: Sequence[T], share: float, *, seed: str) -> list[T]:
    """That share of the items, at least one, drawn by seed."""
    return random.Random(seed).sample(items, min(max(1, round(share * len(items))), len(items)))


def anchors_on(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, inputs: Sequence[str], tasks: Mapping[str, Task], *,
    shots: int, seed: int, vectors: Mapping[str, InstructionVector] | None = None,
) -> list[Anchor]:  # fmt: skip
    """An anchor on each input, the instructions of `tasks` in turn; an empty line makes none.

    Args:
        model: the original one.
        tokenizer: its tokenizer.
        inputs: texts that are trained on.
        tasks: other tasks, by name; solved examples are drawn from their rows.
        shots: solved examples before each.
        seed: of that draw.
        vectors: each instruction's own, under which the model answers; without them it answers as it is.
    """
    asked = []
    for number, text in enumerate(inputs):
        name = list(tasks)[number % len(tasks)]
        context = draw_shots(tasks[name], shots, seed=f"anchors/{seed}/{number // len(tasks) % _CONTEXTS}")
        query = Example(" ".join(text.split()[:_LONGEST_INPUT])[: 10 * _LONGEST_INPUT], "")
        asked.append((instructed(tasks[name], query, shots=context, template=PLAIN).text, name))
    return [
        Anchor(text, answer, name)
        for (text, name), answer in zip(asked, _answers(model, tokenizer, asked, vectors), strict=True)
        if answer.strip()
    ]


def anchor_rows(tokenizer: PreTrainedTokenizerBase, anchors: Sequence[Anchor]) -> list[dict[str, Any]]:
    """Anchors as the trainer takes them, each under its instruction's vector; an answer cut off is not taught to end there."""
    made = [rows_of(tokenizer, [Prompt(each.prompt, each.answer)], end="", vector=each.instruction) for each in anchors]
    return [row for rows in made for row in rows]


def steered_anchors(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], share: float, seed: int
) -> tuple[list[dict[str, Any]], dict[str, InstructionVector]]:
    """Anchors on a user's rows under the shipped instructions, and the vectors they were answered under, by name.

    Args:
        model: the original one.
        tokenizer: its tokenizer.
        rows: as `rows.read_rows` gives them, without their places.
        share: anchors, as a share of the rows.
        seed: which rows are asked about.

    Returns:
        Rows and vectors, to train with beside rows of one's own that train plainly:
        `train_dataset=[*({**row, "vector": ""} for row in own), *made]`, `vector={"": None, **vectors}`.

    Raises:
        TrainingError: no row has an input.
    """
    tasks = {name: load_task(name) for name in task_names()}
    heads = automatic.universal_heads(model, tokenizer)
    how: dict[str, Any] = {"prompts": _MEAN_PROMPTS, "shots": _SHOTS, "contexts": _MEAN_CONTEXTS, "seed": seed}
    vectors = extract_all(model, tokenizer, list(tasks.values()), heads=heads, **how)
    asked_about = [text for text in map(input_of, rows) if text]
    if not asked_about:
        raise TrainingError("anchors ask about the rows' inputs, and no row has one beside its instruction; take vector 'auto'")
    inputs = drawn_share(asked_about, share, seed=f"anchors/{seed}")
    made = anchors_on(model, tokenizer, inputs, tasks, shots=0, seed=seed, vectors=vectors)
    return anchor_rows(tokenizer, made), vectors


def input_of(row: Row) -> str:
    """What a row asks about: the user's last turn, or the prompt without its instruction and labels (`Input:`, `Output:`)."""
    if "messages" in row:
        return next((turn["content"] for turn in reversed(row["messages"]) if turn["role"] == "user"), "")
    text = str(row["prompt"]).removeprefix(row.get("instruction", "")).strip()
    return re.sub(r"^\w+:\s+|\s+\w+:$", "", text)


def _answers(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    asked: Sequence[tuple[str, str]],
    vectors: Mapping[str, InstructionVector] | None,
) -> list[str]:
    """One line to each prompt, with its newline; those of one instruction together where its vector goes in."""

    def written(prompts: Sequence[str], edit: PrefillEdit | None = None) -> list[str]:
        texts = generate(model, tokenizer, prompts, max_new_tokens=ANSWER_TOKENS, batch_size=32, edit=edit)
        return ["".join(text.partition("\n")[:2]) for text in texts]

    if vectors is None:
        return written([text for text, _ in asked])
    answers = [""] * len(asked)
    for name, vector in vectors.items():
        mine = [number for number, (_, other) in enumerate(asked) if other == name]
        under = partial(vector.applied, model, "distributed", 1.0)
        for number, answer in zip(mine, written([asked[number][0] for number in mine], under), strict=True):
            answers[number] = answer
    return answers
