"""Adapters over a model: the weights that are not theirs, and what they add turned down."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

_WRAPPERS = {"base_layer", "original_module", "token_adapter", "parametrizations", "original"}
"""What PEFT, or a parametrisation, puts into the name of a weight that it wraps."""


def base_weights(model: nn.Module, more: Iterable[tuple[str, Tensor]] = ()) -> Iterator[tuple[str, Tensor]]:
    """The parameters that are no adapter's (and `more` tensors by name), named as they are without adapters."""
    tuners = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    adapters = {"modules_to_save", *(name for tuner in tuners for name in tuner.adapter_layer_names)}
    for name, tensor in (*model.named_parameters(), *more):
        parts = name.split(".")
        if adapters.isdisjoint(parts):
            yield ".".join(part for part in parts if part not in _WRAPPERS), tensor


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
