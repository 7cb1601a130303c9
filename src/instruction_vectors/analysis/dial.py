"""A fine-tune turned down: its adapter scaled, or its weights mixed with the base's; undone afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from peft import PeftModel
from torch import nn

from instruction_vectors.analysis.pair import Pair
from instruction_vectors.models.adapters import only_scaled, scaled
from instruction_vectors.models.anatomy import unwrap


def can_turn(pair: Pair) -> bool:
    """Whether the fine-tune can be turned down: whole weights can, and adapters that only scale what they add (LoRA)."""
    return not isinstance(pair.tuned_model, PeftModel) or only_scaled(pair.tuned_model)


@contextmanager
def turned_down(pair: Pair, keep: float) -> Iterator[nn.Module]:
    """The tuned model with `keep` of its fine-tune: 1 leaves it as it is, 0 is the base.

    An adapter's output is scaled (W + keep · BA). Whole weights are mixed, `base + keep · (tuned - base)`, which takes
    a second copy of the tuned weights meanwhile.
    """
    if isinstance(pair.tuned_model, PeftModel):
        with scaled(pair.tuned_model, keep):
            yield pair.tuned_model
        return
    assert pair.base_model is not None
    with _mixed(pair.base_model, pair.tuned_model, keep):
        yield pair.tuned_model


@contextmanager
@torch.no_grad()
def _mixed(base: nn.Module, tuned: nn.Module, keep: float) -> Iterator[None]:
    weights = dict(unwrap(tuned).named_parameters())
    saved = {name: weight.detach().clone() for name, weight in weights.items()}
    start = dict(unwrap(base).named_parameters())
    try:
        for name, weight in weights.items():
            weight.copy_(torch.lerp(start[name].to(weight.device, weight.dtype), weight, keep))
        yield
    finally:
        for name, weight in weights.items():
            weight.copy_(saved[name])
