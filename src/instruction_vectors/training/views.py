"""A model as it was: without its adapters, or with the weights it had."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from instruction_vectors.errors import TrainingError
from instruction_vectors.models.adapters import base_weights, rewritten_by
from instruction_vectors.models.anatomy import unwrap
from instruction_vectors.training.sharding import gathered

View = Callable[[], AbstractContextManager[Any]]


@contextmanager
def original(model: Any) -> Iterator[None]:
    """A PEFT model without its adapters, for the length of a `with` block.

    PEFT unfreezes every active adapter on the way back; earlier ones stay as they were.

    Raises:
        TrainingError: PEFT changed the weights under an adapter when it made it.
    """
    _refuse_rewritten(model)
    trained = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        with gathered(model), model.disable_adapter():
            yield
    finally:
        for parameter, flag in trained:
            parameter.requires_grad_(flag)


def snapshot(model: nn.Module) -> View:
    """Keep a copy of the weights that train; the view puts it in their place for the length of a `with` block."""
    kept = [(parameter, parameter.detach().clone()) for parameter in model.parameters() if parameter.requires_grad]

    @contextmanager
    def view() -> Iterator[None]:
        now = [parameter.data for parameter, _ in kept]
        try:
            for parameter, before in kept:
                parameter.data = before.to(parameter.device)
            # Autocast remembers a weight's copy in half precision by the weight's identity, not its value.
            torch.clear_autocast_cache()
            yield
        finally:
            for (parameter, _), data in zip(kept, now, strict=True):
                parameter.data = data
            torch.clear_autocast_cache()

    return view


def frozen(model: nn.Module, reference: nn.Module | None, which: Literal["original", "previous"]) -> tuple[nn.Module, View]:
    """The model that teaches, and a context in which it is the frozen one.

    Raises:
        TrainingError: the original is asked for, and is neither given nor whole under an adapter; or the model itself is given.
    """
    from peft import PeftModel

    if which == "previous":
        return model, snapshot(model)
    if reference is not None:
        if unwrap(reference) is unwrap(model):
            raise TrainingError(
                "`reference` is the model that trains: PEFT puts an adapter into the model it is given. Leave `reference` out "
                "(adapter off = original), or pass a copy that was loaded apart"
            )
        return reference, nullcontext
    if not isinstance(model, PeftModel):
        raise TrainingError(
            "guidance needs the original model: train a PEFT adapter (adapter off = original), or pass a frozen "
            "copy as `reference`"
        )
    if trained := [name for name, weight in base_weights(unwrap(model)) if weight.requires_grad]:
        raise TrainingError(
            f"weights of the original model train beside the adapter ({trained[0]}{' and others' * (len(trained) > 1)}), and "
            "turning the adapter off does not bring them back: pass a frozen copy as `reference`, or take teacher='previous'"
        )
    _refuse_rewritten(model)
    return model, partial(original, model)


def _refuse_rewritten(model: nn.Module) -> None:
    if start := rewritten_by(model):
        raise TrainingError(
            f"the adapter was begun with init_lora_weights={start!r}, for which PEFT changes the model's own weights, and "
            "turning the adapter off does not bring them back: begin it otherwise, or for guidance pass a frozen copy as "
            "`reference` or take teacher='previous'"
        )
