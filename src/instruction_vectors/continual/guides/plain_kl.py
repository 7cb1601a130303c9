"""Plain KL: the KL term of IV-guided training without the vector (a control for Jiang et al. 2406.12227, §5)."""

from dataclasses import replace

from instruction_vectors.continual.guide import Guide
from instruction_vectors.training.config import IVGuidanceConfig


class PlainKL(Guide):
    """The same KL term towards the original model without any vector, in teacher or student."""

    name = "plain_kl"
    source = "control for Jiang et al. 2406.12227"

    def guidance(self, given: IVGuidanceConfig) -> IVGuidanceConfig:
        """The weight stays, the vector goes."""
        return replace(given, teacher_scale=0.0, sign=0)
