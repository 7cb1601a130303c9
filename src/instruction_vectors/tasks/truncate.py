"""Making long inputs fit: cut in their middle, so that the instruction, the shots and the answer cue always stay."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from instruction_vectors.errors import DataError
from instruction_vectors.tasks.prompts import PLAIN, Prompt, Template, instructed
from instruction_vectors.tasks.task import Example, Task

MARK = " … "
"""Stands where the middle was."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A prompt within its budget: its tokens, how many characters of its input were cut (0 for most), and the row so cut."""

    prompt: Prompt
    tokens: int
    cut: int
    row: Example


@dataclass(frozen=True, slots=True)
class Truncation:
    """How much was cut from a set of prompts: how many prompts, how many of them cut, how many characters in all."""

    prompts: int
    cut_prompts: int
    cut_characters: int

    def __str__(self) -> str:
        return f"{self.cut_prompts} of {self.prompts} inputs cut in their middle, {self.cut_characters:,} characters in all"


def fit(
    task: Task,
    row: Example,
    tokenizer: PreTrainedTokenizerBase,
    budget: int,
    *,
    shots: Sequence[Example] = (),
    template: Template = PLAIN,
    wording: int = 0,
) -> Fitted:
    """The prompt `x + c` in at most `budget` tokens, special ones included; only the row's input is ever cut.

    As much of the input's beginning and end is kept as fits, in equal parts, with `MARK` between. Leave room in the
    budget for the answer.

    Raises:
        DataError: the instruction, shots and answer cue alone are longer than the budget.
    """

    def shortened(characters: int) -> Example:
        if characters >= len(row.input):
            return row
        return replace(
            row, input=row.input[: characters - characters // 2] + MARK + row.input[len(row.input) - characters // 2 :]
        )

    def kept(characters: int) -> tuple[Prompt, int]:
        prompt = instructed(task, shortened(characters), shots=shots, template=template, wording=wording)
        return prompt, len(tokenizer(prompt.text)["input_ids"])

    whole = len(row.input)
    prompt, tokens = kept(whole)
    if tokens <= budget:
        return Fitted(prompt, tokens, 0, row)
    low, high = 0, whole  # `low` characters fit, `high` do not
    prompt, tokens = kept(0)
    if tokens > budget:
        raise DataError(
            f"task {task.name!r}: instruction, {len(shots)} shots and answer cue alone take {tokens} tokens, "
            f"more than the {budget} there are; take fewer shots or a larger budget"
        )
    while high - low > 1:
        middle = (low + high) // 2
        candidate, count = kept(middle)
        if count <= budget:
            low, prompt, tokens = middle, candidate, count
        else:
            high = middle
    return Fitted(prompt, tokens, whole - low, shortened(low))


def fit_all(
    task: Task,
    rows: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    budget: int,
    *,
    shots: Sequence[Example] = (),
    template: Template = PLAIN,
    wording: int = 0,
) -> tuple[tuple[Prompt, ...], Truncation]:
    """`fit` for many rows under the same shots, and what was cut.

    Raises:
        DataError: see `fit`.
    """
    fitted = [fit(task, row, tokenizer, budget, shots=shots, template=template, wording=wording) for row in rows]
    cut = [one.cut for one in fitted if one.cut]
    return tuple(one.prompt for one in fitted), Truncation(len(fitted), len(cut), sum(cut))
