"""Learning without forgetting: the model before this task teaches on this task's inputs (Li and Hoiem 1606.09282)."""

from dataclasses import replace

from instruction_vectors.continual.guide import Guide
from instruction_vectors.training.config import IVGuidanceConfig


class LwF(Guide):
    """Their weight 1 and temperature 2, KL(teacher‖student) at every answer token; no vector anywhere."""

    name = "lwf"
    source = "Li and Hoiem 1606.09282"

    def guidance(self, given: IVGuidanceConfig) -> IVGuidanceConfig:
        """The authors' settings in place of the cell's."""
        told = replace(given, teacher="previous", teacher_scale=0.0, sign=0, kl_weight=1.0, temperature=2.0)
        return replace(told, kl_positions="answer", kl_direction="teacher_student")
