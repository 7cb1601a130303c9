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

    def check(self, base: nn.Module) -> None:
        """Also that `share` leaves a layer.

        Raises:
            TrainingError: it leaves none.
        """
        super().check(base)
        if not self._upper(base):  # PEFT takes an empty list for all layers
            depth = anatomy_of(base).n_layers
            raise TrainingError(f"a share of {self.share:g} freezes all {depth} layers; take a smaller one")

    def attach(self, base: nn.Module) -> None:
        """An adapter on the upper layers only."""
        self.model = add_adapter(base, self.stage, layers=self._upper(base))

    def _upper(self, base: nn.Module) -> range:
        depth = anatomy_of(base).n_layers
        return range(round(depth * self.share), depth)
