"""Models whose weights are spread over processes: FSDP2 (torch's `fully_shard`) and DeepSpeed ZeRO-3."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule

from instruction_vectors.environment import default_device
from instruction_vectors.errors import TrainingError
from instruction_vectors.models.loading import weights_are_here

_BEGUN: "weakref.WeakSet[nn.Module]" = weakref.WeakSet()


def sharded(model: nn.Module) -> bool:
    """Whether each process holds a part of the weights only, so that all must run the model together."""
    # FSDP2 changes the class of what it shards; ZeRO-3 marks every weight with its number.
    return any(isinstance(module, FSDPModule) for module in model.modules()) or any(
        hasattr(weight, "ds_id") for weight in model.parameters()
    )


def refuse_parts(model: nn.Module, asks: str) -> None:
    """Raise if this process does not hold all weights, which `asks` needs.

    Raises:
        TrainingError: weights are elsewhere.
    """
    if not weights_are_here(model):
        raise TrainingError(
            f"{asks} needs whole weights, which are sharded here; load the model before the TrainingArguments are made, with "
            "fsdp_cpu_ram_efficient_loading: false, or make vectors beforehand (vectors_by_name)"
        )


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Have the weights that FSDP2 gathers at the root (embeddings, head, last norm) at hand, so that parts run by themselves.

    Layers gather their own. A model that is not FSDP2's root is left alone.
    """
    if not isinstance(model, FSDPModule):
        yield
        return
    if model not in _BEGUN:
        # The first of FSDP2's modules to run takes itself for the root, which must not be a layer.
        with torch.no_grad():
            model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=default_device()))
        _BEGUN.add(model)
    model.unshard()
    try:
        yield
    finally:
        model.reshard()
