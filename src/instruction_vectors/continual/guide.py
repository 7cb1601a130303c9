"""What guides a task's training: which instruction vector, and how."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from instruction_vectors.training.config import IVGuidanceConfig
from instruction_vectors.vectors.vector import InstructionVector

Vectors = Mapping[str, InstructionVector]
"""The vector of every task of the sequence, in its order."""


class Guide:
    """Base of every guide, and by itself the task's own vector, which guides as the cell says.

    A guide is one file in `continual/guides` with one subclass; it is found by its `name`. It says otherwise which vector guides
    a task (`vector`) or how (`guidance`), and keeps nothing between tasks.

    Attributes:
        name: what users call it.
        source: the publication it follows.
        anchors_only: whether it guides anchors alone, for methods that make them: the task's own rows train plainly.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    anchors_only: ClassVar[bool] = False

    def __call__(
        self, task: str, vectors: Vectors, guidance: IVGuidanceConfig
    ) -> tuple[InstructionVector | None, IVGuidanceConfig]:
        """The vector that guides `task`, None for plain training, and how it does."""
        return self.vector(task, vectors), self.guidance(guidance)

    def check(self, tasks: Sequence[str]) -> None:
        """Refuse a sequence that it cannot guide, before anything is computed."""

    def vector(self, task: str, vectors: Vectors) -> InstructionVector | None:
        """Which vector guides `task`."""
        return vectors[task]

    def guidance(self, given: IVGuidanceConfig) -> IVGuidanceConfig:
        """How it guides, where `given` is what the cell says."""
        return given
