"""Random: any vector of the same size in place of the task's own (a control for Jiang et al. 2406.12227, §5)."""

from instruction_vectors.continual.guide import Guide, Vectors
from instruction_vectors.vectors.vector import InstructionVector


class Random(Guide):
    """A random vector on the same heads, with the same norm on each; another one for every task and seed."""

    name = "random"
    source = "control for Jiang et al. 2406.12227"

    def vector(self, task: str, vectors: Vectors) -> InstructionVector:
        """Drawn from the task's name and its vector's seed."""
        return vectors[task].random_like(f"{task}/{vectors[task].metadata.get('seed')}")
