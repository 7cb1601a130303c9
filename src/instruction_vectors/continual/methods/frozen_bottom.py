"""Bottom layers frozen: only the upper half of the layers has an adapter."""

from torch import nn

from instruction_vectors.continual.method import Method
from instruction_vectors.continual.stage import add_adapter
from instruction_vectors.errors import TrainingError
from instruction_vectors.models.anatomy import anatomy_of


class FrozenBottom(Method):
    """Sequential LoRA on the upper `1 - share` of the layers; what lies below stays as it was (controls)."""

    name = "frozen_bottom"
    source = "control of IV-guided training"
    settings = ("share",)
    parts = ("share",)
    share = 0.5

    def attach(self, base: nn.Module) -> None:
        """An adapter on the upper layers only.

        Raises:
            TrainingError: `share` leaves none.
        """
        depth = anatomy_of(base).n_layers
        upper = range(round(depth * self.share), depth)
        if not upper:  # PEFT takes an empty list for all layers
            raise TrainingError(f"a share of {self.share:g} freezes all {depth} layers; take a smaller one")
        self.model = add_adapter(base, self.stage, layers=upper)
