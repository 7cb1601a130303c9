"""Other task: another task's vector in place of the task's own (a control for Jiang et al. 2406.12227, §5)."""

from instruction_vectors.continual.guide import Guide, Vectors
from instruction_vectors.errors import IVError
from instruction_vectors.vectors.vector import InstructionVector


class OtherTask(Guide):
    """The vector of the sequence's next task (of the first after the last)."""

    name = "other_task"
    source = "control for Jiang et al. 2406.12227"

    def vector(self, task: str, vectors: Vectors) -> InstructionVector:
        """The next one's.

        Raises:
            IVError: a sequence of one task has no other.
        """
        if len(vectors) < 2:
            raise IVError(f"the guide {self.name!r} needs a sequence of at least two tasks")
        names = list(vectors)
        return vectors[names[(names.index(task) + 1) % len(names)]]
