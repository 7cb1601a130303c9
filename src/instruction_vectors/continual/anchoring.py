"""Anchors on a lesson's inputs (`training.anchors`): which instructions, and which rows."""

from collections.abc import Mapping, Sequence

from torch import nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.continual.cell import Cell
from instruction_vectors.continual.curriculum import Lesson, plain_name
from instruction_vectors.errors import IVError
from instruction_vectors.tasks import load_task, task_names
from instruction_vectors.tasks.task import Task
from instruction_vectors.training.anchors import Anchor, anchors_on, drawn_share
from instruction_vectors.vectors.vector import InstructionVector


def instructions_for(cell: Cell, lessons: Sequence[Lesson]) -> dict[str, Task]:
    """The shipped tasks that are neither trained on nor measured, by name.

    Raises:
        IVError: there are none.
    """
    taken = {plain_name(name) for name in (*cell.probes, *(lesson.name for lesson in lessons))}
    left = [name for name in task_names() if plain_name(name) not in taken]
    if not left:
        raise IVError(f"method {cell.method!r} asks about shipped tasks that are no probe and not trained on: there is none left")
    return {name: load_task(name) for name in left}


def make_anchors(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, lesson: Lesson, tasks: Mapping[str, Task], *,
    share: float, shots: int, seed: int, vectors: Mapping[str, InstructionVector] | None = None,
) -> list[Anchor]:  # fmt: skip
    """Anchors on inputs of the lesson's training rows, drawn by seed; each instruction as often as the others."""
    rows = drawn_share(lesson.train.rows, share, seed=f"anchors/{lesson.name}/{seed}")
    return anchors_on(model, tokenizer, [row.input for row in rows], tasks, shots=shots, seed=seed, vectors=vectors)
