"""Weight averaging with the original model."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peft import PeftModel

from instruction_vectors.continual.method import Method
from instruction_vectors.files import write_json
from instruction_vectors.models.adapters import SCALE, scaled


class Averaging(Method):
    """Sequential LoRA measured at `(1 - share) W + share W_0` (WiSE-FT, Wortsman et al. 2109.01903).

    The share 0.2 is that of Jiang et al. 2502.11019.

    An adapter's change of a weight is linear in its scaling, so the average is exact; training goes on from `W`.
    """

    name = "averaging"
    source = "Wortsman et al. 2109.01903"
    settings = ("share",)
    parts = ("share",)
    share = 0.2

    def save(self, folder: Path) -> None:
        """The adapter as it trains on, and beside it the scale at which it is the average."""
        super().save(folder)
        write_json(folder / SCALE, {"scale": 1 - self.share})

    @contextmanager
    def evaluating(self) -> Iterator[PeftModel]:
        """The model with its change scaled down."""
        with scaled(self.model, 1 - self.share):
            yield self.model
