"""Other task: another task's vector in place of the task's own (a control for Jiang et al. 2406.12227, §5)."""

from collections.abc import Sequence

from instruction_vectors.continual.guide import Guide, Vectors
from instruction_vectors.errors import IVError
from instruction_vectors.vectors.vector import InstructionVector


class OtherTask(Guide):
    """The vector of the sequence's next task (of the first after the last)."""

    name = "other_task"
    source = "control for Jiang et al. 2406.12227"

    def check(self, tasks: Sequence[str]) -> None:
        """Whether there is another task.

        Raises:
            IVError: there is none.
        """
        if len(tasks) < 2:
            raise IVError(f"the guide {self.name!r} needs a sequence of at least two tasks")

    def vector(self, task: str, vectors: Vectors) -> InstructionVector:
        """The next one's."""
        self.check(list(vectors))
        names = list(vectors)
        return vectors[names[(names.index(task) + 1) % len(names)]]
