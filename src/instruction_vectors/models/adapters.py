"""Adapters turned down: what they add to the model scaled, and put back afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn


def scaled_layers(model: nn.Module) -> list[BaseTunerLayer]:
    """The adapted layers that scale what they add (LoRA)."""
    return [m for m in model.modules() if isinstance(m, BaseTunerLayer) and isinstance(getattr(m, "scaling", None), dict)]


@contextmanager
def scaled(model: nn.Module, keep: float) -> Iterator[None]:
    """`W + keep · BA` for the length of a `with` block; linear, so exact."""
    before = [(layer, dict(layer.scaling)) for layer in scaled_layers(model)]
    for layer, scaling in before:
        layer.scaling.update({name: value * keep for name, value in scaling.items()})
    try:
        yield
    finally:
        for layer, scaling in before:
            layer.scaling.update(scaling)
