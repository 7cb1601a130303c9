"""IV-guided training: the task's own vector guides it (Jiang et al. 2406.12227, §5)."""

from instruction_vectors.continual.guide import Guide


class IV(Guide):
    """The vector that the original model has for the task, in the teacher and, ever less, in the student."""

    name = "iv"
    source = "Jiang et al. 2406.12227"
