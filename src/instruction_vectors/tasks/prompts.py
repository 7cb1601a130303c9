"""From rows to the text a model reads: x, x + c, shots, the counterfactual, and the knowledge form."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from transformers import PreTrainedTokenizerBase

from instruction_vectors.errors import DataError
from instruction_vectors.models.tokens import encode_pair
from instruction_vectors.settings import one_of
from instruction_vectors.tasks.task import Example, Task


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model reads, and the answer that should follow it (`target` brings its own leading space if any)."""

    text: str
    target: str


class Template(Protocol):
    """How an instruction, shots and an input are laid out as text."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def __call__(self, instruction: str | None, shots: Sequence[Example], input: str) -> str:
        """The prompt up to where the answer begins."""
        ...

    def answer(self, output: str) -> str:
        """The answer as it follows the prompt."""
        ...


@dataclass(frozen=True)
class PlainTemplate:
    """`c` newline `Input: x` newline `Output:`, one block a shot.

    `repeat_instruction` gives every shot the instruction (`[(x_1, c, y_1) ... x_n, c]`); else it stands once.
    """

    repeat_instruction: bool = False
    name: str = "plain"

    def __call__(self, instruction: str | None, shots: Sequence[Example], input: str) -> str:
        """The prompt up to and including the last `Output:`."""
        head = f"{instruction}\n" if instruction else ""
        blocks = [f"Input: {shot.input}\nOutput: {shot.output}" for shot in shots] + [f"Input: {input}\nOutput:"]
        if self.repeat_instruction:
            return "\n\n".join(head + block for block in blocks)
        return head + "\n\n".join(blocks)

    def answer(self, output: str) -> str:
        """The answer after one space."""
        return f" {output}"


@dataclass(frozen=True)
class ChatTemplate:
    """The tokenizer's own chat format: the instruction and input as the user's turn, answers as the assistant's."""

    tokenizer: PreTrainedTokenizerBase
    name: str = "chat"

    def __call__(self, instruction: str | None, shots: Sequence[Example], input: str) -> str:
        """The conversation up to the start of the assistant's answer."""
        head = f"{instruction}\n" if instruction else ""
        messages = []
        for shot in shots:
            messages += [
                {"role": "user", "content": f"{head}{shot.input}"},
                {"role": "assistant", "content": shot.output},
            ]
        messages.append({"role": "user", "content": f"{head}{input}"})
        return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    def answer(self, output: str) -> str:
        """The answer as the assistant writes it."""
        return output


PLAIN = PlainTemplate()


def draw_shots(task: Task, count: int, *, exclude: Example | None = None, seed: int | str = 0) -> tuple[Example, ...]:
    """`count` rows drawn by seed, no two of one input and none of the query's."""
    rows = list({row.input: row for row in reversed(task.rows) if exclude is None or row.input != exclude.input}.values())[::-1]
    return tuple(random.Random(f"{task.name}/{seed}").sample(rows, min(count, len(rows))))


def instructed(
    task: Task, row: Example, *, shots: Sequence[Example] = (), template: Template = PLAIN, wording: int = 0
) -> Prompt:
    """`x + c`, after `shots` if any."""
    instruction = task.instructions[wording % len(task.instructions)]
    return Prompt(template(instruction, shots, row.input), template.answer(row.output))


def bare(row: Example, *, shots: Sequence[Example] = (), template: Template = PLAIN) -> Prompt:
    """`x` without the instruction."""
    return Prompt(template(None, shots, row.input), template.answer(row.output))


Corruption = Literal["shuffle_and_drop", "shuffle", "drop", "swap", "zero_shot"]


def counterfactual(
    task: Task,
    row: Example,
    *,
    shots: Sequence[Example],
    corruption: Corruption = "shuffle_and_drop",
    instead: str | None = None,
    template: Template = PLAIN,
    seed: int | str = 0,
) -> Prompt:
    """The prompt `p̂` that no longer says what to do.

    `shuffle_and_drop` shuffles the shots' answers and drops the instruction (the papers'); `shuffle` and `drop` do one
    of the two; `swap` keeps the shots and gives the instruction `instead`, another task's; `zero_shot` is the bare input.

    Raises:
        DataError: another corruption, or `swap` without an instruction to give.
    """
    one_of(Corruption, corruption, "corruption", DataError)
    if corruption == "zero_shot":
        return bare(row, template=template)
    if corruption == "swap":
        if instead is None:
            raise DataError("corruption='swap' needs another task's instruction")
        return Prompt(template(instead, shots, row.input), template.answer(row.output))
    if corruption != "drop":
        outputs = [shot.output for shot in shots]
        random.Random(f"{task.name}/{row.input}/{seed}").shuffle(outputs)
        shots = [Example(shot.input, output) for shot, output in zip(shots, outputs, strict=True)]
    if corruption == "shuffle":
        return instructed(task, row, shots=shots, template=template)
    return bare(row, shots=shots, template=template)


def cloze(task: Task, row: Example, wording: int = 0) -> Prompt:
    """The knowledge form of a row: no instruction, the answer is simply the next words."""
    return Prompt(task.knowledge[wording % len(task.knowledge)].replace("{input}", row.input), f" {row.output}")


def check_answers(tokenizer: PreTrainedTokenizerBase, task: Task, template: Template = PLAIN) -> None:
    """Raise DataError, with task, source and row, if an answer tokenises to nothing."""
    for number, row in enumerate(task.rows, start=1):
        prompt = instructed(task, row, template=template)
        try:
            encode_pair(tokenizer, prompt.text, prompt.target)
        except DataError as error:
            raise DataError(f"task {task.name!r} ({', '.join(task.sources) or 'made in code'}), row {number}: {error}") from error
