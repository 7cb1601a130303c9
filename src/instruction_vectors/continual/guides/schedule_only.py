"""Schedule only: the vector of IV-guided training without its KL term (a control for Jiang et al. 2406.12227, §5)."""

from dataclasses import replace

from instruction_vectors.continual.guide import Guide
from instruction_vectors.training.config import IVGuidanceConfig


class ScheduleOnly(Guide):
    """The progressively withdrawn vector in the student; no teacher."""

    name = "schedule_only"
    source = "control for Jiang et al. 2406.12227"

    def guidance(self, given: IVGuidanceConfig) -> IVGuidanceConfig:
        """The vector stays, the KL term goes."""
        return replace(given, kl_weight=0.0)
