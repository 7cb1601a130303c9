"""Bottom layers frozen: only the upper half of the layers has an adapter."""

from torch import nn

from instruction_vectors.continual.method import Method
from instruction_vectors.continual.stage import add_adapter
from instruction_vectors.models.anatomy import anatomy_of


class FrozenBottom(Method):
    """Sequential LoRA on the upper `1 - share` of the layers; what lies below stays as it was (controls)."""

    name = "frozen_bottom"
    source = "control of IV-guided training"
    share = 0.5

    def attach(self, base: nn.Module) -> None:
        """An adapter on the upper layers only."""
        depth = anatomy_of(base).n_layers
        self.model = add_adapter(base, self.stage, layers=range(round(depth * self.share), depth))
