"""Adding an instruction vector to a running model, at the right token.

Modes (METHOD §3), α being `scale`:

- `distributed`: `z_{lj} ← z_{lj} + α h̄_{lj}^c` at each head of S, before `o_proj`;
- `summed`: `h_l ← h_l + α θ_c` in the residual stream after the vector's layer;
- `replace`: `z_{lj} ← h̄_{lj}^c`.

The place is the *last input token*: the last token before the answer.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from instruction_vectors.errors import HookError, VectorError
from instruction_vectors.models.anatomy import anatomy_of, unwrap
from instruction_vectors.models.hooks import edit_heads, edit_stream

if TYPE_CHECKING:
    from instruction_vectors.vectors.vector import InstructionVector

Mode = Literal["distributed", "summed", "replace"]
Positions = Literal["prefill_end", "labels"] | Tensor
"""Which tokens to edit: the end of the prefill (generation; the last real token of each row), the token before each
first label (scoring and training), or a bool tensor `[batch, seq]`."""


@contextmanager
def applied(
    vector: "InstructionVector",
    model: nn.Module,
    *,
    mode: Mode = "distributed",
    scale: float = 1.0,
    positions: Positions = "prefill_end",
) -> Iterator[None]:
    """Intervene on `model` with `vector` for the length of a `with` block.

    Raises:
        VectorError: unknown mode, or `summed` on a vector without a layer.
        HookError: on leaving, if the edit never ran; inside, if the positions cannot be told.
    """
    anatomy = anatomy_of(model)
    with ExitStack() as stack:
        places = stack.enter_context(_tracked(model, positions))
        if mode == "summed":
            if vector.layer is None:
                raise VectorError("a summed intervention needs a layer: set `layer` when extracting, or use mode='distributed'")
            theta = vector.summed.to(anatomy.device, anatomy.dtype) * scale
            stack.enter_context(edit_stream(anatomy, {vector.layer}, lambda _, h: h + places.column(h) * theta))
        elif mode in ("distributed", "replace"):
            table = _by_layer(vector, anatomy.device, anatomy.dtype)

            def edit(layer: int, heads: Tensor) -> Tensor:
                index, value = table[layer]
                where = places.column(heads)[..., None]
                old = heads[:, :, index]
                new = old + scale * value if mode == "distributed" else value.expand_as(old)
                return heads.index_copy(2, index, torch.where(where, new, old))

            stack.enter_context(edit_heads(anatomy, set(table), edit))
        else:
            raise VectorError(f"unknown mode {mode!r}; choose distributed, summed or replace")
        yield


def _by_layer(vector: "InstructionVector", device: torch.device, dtype: torch.dtype) -> dict[int, tuple[Tensor, Tensor]]:
    """For each layer of S, the indices of its heads and their values."""
    table = {}
    for layer in sorted({layer for layer, _ in vector.heads}):
        mine = [i for i, (at, _) in enumerate(vector.heads) if at == layer]
        index = torch.tensor([vector.heads[i][1] for i in mine], device=device)
        table[layer] = index, vector.values[mine].to(device, dtype)
    return table


class _Places:
    """The tokens to edit in the forward that is running."""

    def __init__(self) -> None:
        self.where: Bool[Tensor, "batch seq"] | None = None

    def column(self, activations: Tensor) -> Bool[Tensor, "batch seq 1"]:
        """The places as a mask that broadcasts over features."""
        if self.where is None:
            raise HookError("cannot tell which tokens to edit: call the model itself, not a module inside it, or pass positions")
        where = self.where.to(activations.device)
        if where.shape != activations.shape[:2]:
            if where.shape[0] == 1 or where.shape[1] != activations.shape[1]:
                raise HookError(
                    f"positions are for a batch of shape {tuple(where.shape)}, the model runs {tuple(activations.shape[:2])}"
                )
            raise HookError(f"positions are for {where.shape[0]} rows, the model runs {activations.shape[0]}")
        return where[..., None]


@contextmanager
def _tracked(model: nn.Module, positions: Positions) -> Iterator[_Places]:
    places = _Places()
    if isinstance(positions, Tensor):
        if positions.dtype != torch.bool or positions.dim() != 2:
            raise VectorError("positions must be a bool tensor of shape [batch, seq], True where the vector goes in")
        places.where = positions
        yield places
        return
    if positions not in ("prefill_end", "labels"):
        raise VectorError(f"unknown positions {positions!r}; choose 'prefill_end', 'labels', or pass a bool tensor")

    def watch(module: nn.Module, args: tuple, kwargs: dict) -> None:
        found = label_starts(kwargs["labels"]) if positions == "labels" and kwargs.get("labels") is not None else None
        if positions == "prefill_end":
            found = _prefill_end(args, kwargs)
        places.where = places.where if found is None else found

    causal_lm = unwrap(model)
    # Labels reach the outer model; the backbone is called by every path, PEFT's and generation's included.
    modules = {id(m): m for m in ((model, causal_lm) if positions == "labels" else (anatomy_of(model).backbone,))}
    handles = [m.register_forward_pre_hook(watch, with_kwargs=True) for m in modules.values()]
    try:
        yield places
    finally:
        for handle in handles:
            handle.remove()


def label_starts(labels: Tensor) -> Bool[Tensor, "batch seq"]:
    """True at each token that is followed by the first label of a run: the last input token of every answer."""
    labelled = labels != -100
    starts = labelled[:, 1:] & ~labelled[:, :-1]
    return torch.cat([starts, torch.zeros_like(starts[:, :1])], dim=1)


def _prefill_end(args: tuple, kwargs: dict) -> Bool[Tensor, "batch seq"]:
    """True at the last real token of each row of a prefill; nowhere in a decoding step."""
    tokens = kwargs.get("input_ids") if kwargs.get("input_ids") is not None else kwargs.get("inputs_embeds")
    tokens = args[0] if tokens is None else tokens
    batch, seq = tokens.shape[:2]
    where = torch.zeros(batch, seq, dtype=torch.bool, device=tokens.device)
    cache = kwargs.get("past_key_values")
    if cache is not None and cache.get_seq_length() > 0:
        return where
    mask = kwargs.get("attention_mask")
    if mask is None:
        last = torch.full((batch,), seq - 1, device=tokens.device)
    elif isinstance(mask, Tensor) and mask.dim() == 2:
        last = (mask[:, :seq].long() * torch.arange(1, seq + 1, device=mask.device)).argmax(dim=1)
    else:
        raise HookError("with a 4-D attention mask the last token is not known: pass positions as a bool tensor")
    where[torch.arange(batch, device=tokens.device), last] = True
    return where
