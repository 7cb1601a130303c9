"""A benchmark's own prompt as a template: its published text comes back letter for letter from instruction and input."""

from collections.abc import Sequence
from dataclasses import dataclass

from instruction_vectors.tasks.prompts import PLAIN, Template
from instruction_vectors.tasks.task import Example, Task


@dataclass(frozen=True)
class LayoutTemplate:
    """A `layout` such as `{instruction}\\nText:\\n{input}\\nStance:`; see `Task.layout`.

    Without an instruction, what stands before it and the white space after it go too. The instruction stands once, in
    the first block; the blocks of shots are parted by an empty line.
    """

    layout: str
    name: str = "layout"

    def __call__(self, instruction: str | None, shots: Sequence[Example], input: str) -> str:
        """The prompt up to where the answer begins."""
        before, after = self.layout.split("{input}")
        bare = before.partition("{instruction}")[2].lstrip() if "{instruction}" in before else before
        head = before.replace("{instruction}", instruction) if instruction else bare
        blocks = [shot.input + after + self.answer(shot.output) for shot in shots] + [input + after]
        return head + f"\n\n{bare}".join(blocks)

    def answer(self, output: str) -> str:
        """The answer after one space."""
        return f" {output}"


def template_of(task: Task) -> Template:
    """The template of the task's own benchmark; the plain one where it has none."""
    return LayoutTemplate(task.layout) if task.layout is not None else PLAIN
