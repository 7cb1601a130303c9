"""Mean: one vector for all tasks in place of each one's own (a control for Jiang et al. 2406.12227, §5)."""

from instruction_vectors.continual.guide import Guide, Vectors
from instruction_vectors.vectors.vector import InstructionVector


class Mean(Guide):
    """The mean of all the sequence's vectors."""

    name = "mean"
    source = "control for Jiang et al. 2406.12227"

    def vector(self, task: str, vectors: Vectors) -> InstructionVector:
        """The same for every task."""
        first, *others = vectors.values()
        total = first
        for other in others:
            total = total + other
        return total * (1 / len(vectors))
