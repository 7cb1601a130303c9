"""Function-vector guidance: heads held to the previous model's, which steered is also the teacher (Jiang et al. 2502.11019)."""

from dataclasses import replace

from instruction_vectors.continual.guide import Guide
from instruction_vectors.training.config import IVGuidanceConfig


class FVG(Guide):
    """Its paper's weights: 1 for the consistency of the vector's heads, 0.08 for the KL term."""

    name = "fvg"
    source = "Jiang et al. 2502.11019"

    def guidance(self, given: IVGuidanceConfig) -> IVGuidanceConfig:
        """The paper's settings in place of the cell's; the vector is in the teacher only."""
        return replace(given, teacher="previous", sign=0, kl_weight=0.08, consistency_weight=1.0)
