"""Hooks on attention heads and the residual stream: context managers that always come off and know if they fired."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from instruction_vectors.errors import HookError
from instruction_vectors.models.anatomy import Anatomy

HeadEdit = Callable[[int, Float[Tensor, "batch seq heads head_dim"]], Float[Tensor, "batch seq heads head_dim"]]
StreamEdit = Callable[[int, Float[Tensor, "batch seq hidden"]], Float[Tensor, "batch seq hidden"]]


_ends_edited: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
"""Models in which something goes in where a prompt ends, taken to be the last token of whatever is read, and how often over."""


@contextmanager
def ends_edited(anatomy: Anatomy) -> Iterator[None]:
    """Mark a model as edited at the last token of whatever it reads, for the length of a `with` block."""
    model = anatomy.causal_lm
    _ends_edited[model] = _ends_edited.get(model, 0) + 1
    try:
        yield
    finally:
        _ends_edited[model] -= 1


def refuse_ends_edited(anatomy: Anatomy, advice: str) -> None:
    """What reads beyond a prompt must not run where the last token read is taken for the prompt's end.

    Raises:
        HookError: it would.
    """
    if _ends_edited.get(anatomy.causal_lm):
        raise HookError(f"a vector is to go in at the last token read, which is not always the prompt's here: {advice}")


class Firings:
    """How often each layer's hook ran inside a `with` block."""

    def __init__(self) -> None:
        self.count: dict[int, int] = {}

    def add(self, layer: int) -> None:
        """Count one run of the hook at `layer`."""
        self.count[layer] = self.count.get(layer, 0) + 1


@contextmanager
def edit_heads(anatomy: Anatomy, layers: Mapping[int, object] | range | set[int], edit: HeadEdit) -> Iterator[Firings]:
    """Replace what `o_proj` reads at the given layers by `edit(layer, heads)`, heads `[batch, seq, head, head_dim]`.

    Raises:
        HookError: on leaving, if any of the layers never ran (an edit that silently did nothing).
    """

    def hook_at(layer: int, firings: Firings) -> Callable:
        def hook(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
            firings.add(layer)
            name = "" if args else next(iter(kwargs))
            value = args[0] if args else kwargs[name]
            heads = value.unflatten(-1, (anatomy.n_heads, anatomy.head_dim))
            edited = edit(layer, heads).flatten(-2)
            return ((edited, *args[1:]), kwargs) if args else (args, {**kwargs, name: edited})

        return hook

    where = {layer: (anatomy.o_projs[layer].register_forward_pre_hook, {"with_kwargs": True}) for layer in layers}
    with _registered(anatomy, where, hook_at) as firings:
        yield firings


@contextmanager
def edit_stream(anatomy: Anatomy, layers: Mapping[int, object] | range | set[int], edit: StreamEdit) -> Iterator[Firings]:
    """Replace the residual stream after the given layers by `edit(layer, hidden)`, hidden `[batch, seq, hidden]`."""

    def hook_at(layer: int, firings: Firings) -> Callable:
        def hook(module: nn.Module, args: tuple, output: Tensor | tuple) -> Tensor | tuple:
            firings.add(layer)
            # Most decoder layers return the stream itself, older families a tuple that starts with it.
            if isinstance(output, tuple):
                return (edit(layer, output[0]), *output[1:])
            return edit(layer, output)

        return hook

    where: dict[int, tuple] = {layer: (anatomy.layers[layer].register_forward_hook, {}) for layer in layers}
    with _registered(anatomy, where, hook_at) as firings:
        yield firings


@contextmanager
def _registered(anatomy: Anatomy, where: Mapping[int, tuple], hook_at: Callable) -> Iterator[Firings]:
    firings = Firings()
    hooks = [(register, hook_at(layer, firings), kwargs) for layer, (register, kwargs) in where.items()]
    attached = False

    @contextmanager
    def attach() -> Iterator[None]:
        nonlocal attached
        if attached:
            yield
            return
        with ExitStack() as stack:
            for register, hook, kwargs in hooks:
                stack.callback(register(hook, **kwargs).remove)
            attached = True
            try:
                yield
            finally:
                attached = False

    with attach(), _recomputed_alike(anatomy, attach):
        yield firings
    silent = [layer for layer in where if layer not in firings.count]
    if silent:
        raise HookError(
            f"the edit at layer(s) {silent} never ran; run the model it was applied to inside the `with` block "
            "(a compiled, exported or copied model does not pass through the hooks)"
        )


@contextmanager
def _recomputed_alike(anatomy: Anatomy, attach: Callable) -> Iterator[None]:
    """Let activation checkpointing recompute a layer with the hooks it ran with, though they have come off by then."""

    def with_hooks(checkpoint: Callable) -> Callable:
        def checkpointed(function: Callable, *args: Any, **kwargs: Any) -> Any:
            def run(*inputs: Any, **named: Any) -> Any:
                with attach():
                    return function(*inputs, **named)

            return checkpoint(run, *args, **kwargs)

        return checkpointed

    originals = list(_checkpointing(anatomy.backbone))
    for module, name, original in originals:
        setattr(module, name, with_hooks(original))
    try:
        yield
    finally:
        for module, name, original in originals:
            setattr(module, name, original)


def _checkpointing(backbone: nn.Module) -> Iterator[tuple[nn.Module, str, Callable]]:
    """What checkpoints: as transformers does it, and as torch wraps layers (`fsdp_activation_checkpointing`)."""
    name, wrapped = "_gradient_checkpointing_func", "checkpoint_fn"
    for module in backbone.modules():
        if wrapped in vars(module):
            yield module, wrapped, vars(module)[wrapped]
        elif getattr(module, "gradient_checkpointing", False) and hasattr(module, name):
            yield module, name, getattr(module, name)


def pick(heads: Float[Tensor, "batch seq heads head_dim"], where: Tensor) -> Float[Tensor, "row heads head_dim"]:
    """The rows of `heads` at the True places of `where` (bool `[batch, seq]`), in reading order."""
    return heads[where.to(heads.device)]


@contextmanager
def capture_heads(anatomy: Anatomy, where: Tensor) -> Iterator[list[Tensor]]:
    """Collect head outputs at the True places of `where` (bool `[batch, seq]`).

    Yields a list that holds, after one forward, a tensor `[row, head, head_dim]` for each layer.
    """
    captured: list[Tensor] = [torch.empty(0)] * anatomy.n_layers

    def keep(layer: int, heads: Tensor) -> Tensor:
        captured[layer] = pick(heads, where).detach()
        return heads

    with edit_heads(anatomy, range(anatomy.n_layers), keep):
        yield captured


@contextmanager
def head_at(
    anatomy: Anatomy, places: Bool[Tensor, "batch seq"], beside: Float[Tensor, "other hidden"] | None = None
) -> Iterator[None]:
    """Let only the True places through the head, and final states of another run after them.

    Logits come out `[1, place + other, vocabulary]`. One pass through the head costs less than two: few rows take as long as
    it takes to read its weights.
    """

    def keep(module: nn.Module, args: tuple, output: Any) -> Any:
        hidden = output[0]
        kept = hidden[places.to(hidden.device)]
        if beside is not None:
            kept = torch.cat([kept, beside.to(kept)])
        if isinstance(output, tuple):
            return (kept[None], *output[1:])
        output.last_hidden_state = kept[None]
        return output

    handle = anatomy.backbone.register_forward_hook(keep)
    try:
        yield
    finally:
        handle.remove()
