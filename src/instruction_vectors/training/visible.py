"""What of a batch certain places see: tokens after them, such as the rest of an answer, need not be computed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from instruction_vectors.models.blockwise import BlockwiseMask, in_blocks
from instruction_vectors.training.targets import model_inputs, samples_of

_CUT = {"input_ids", "attention_mask", "position_ids", "use_cache"}
"""Fields that can be cut by columns; a batch with others (lengths of packed samples, ...) is left whole."""


@dataclass(frozen=True)
class Part:
    """Some columns of a batch.

    Attributes:
        inputs: what goes to the model.
        columns: their numbers in the batch, ascending.
    """

    inputs: dict[str, Any]
    columns: Int[Tensor, " kept"]

    @classmethod
    def seen_by(cls, batch: Mapping[str, Any], places: Bool[Tensor, "batch seq"]) -> Self:
        """All that the places see, themselves included; the model's values there are those of the whole batch.

        No places see nothing; then the first column is kept, for a model that has to run beside other processes' parts of it.
        """
        if not places.any():
            places = torch.zeros_like(places).index_fill_(1, torch.tensor(0, device=places.device), True)
        inputs = model_inputs(batch)
        mask = _full(inputs.get("attention_mask"))
        if not set(inputs) <= _CUT:
            return cls(inputs, torch.arange(places.shape[1], device=places.device))
        if mask is not None and mask.dim() == 4:
            reached = [_reached(_allowed(one[0]), where) for one, where in zip(mask, places, strict=True)]
            kept = torch.stack(reached).any(0).nonzero()[:, 0]
        else:
            # Places count from the first column, so only the end can go.
            kept = torch.arange(int(places.any(0).nonzero().max()) + 1)
        kept = kept.to(places.device)
        return cls({name: _columns(value, kept) for name, value in inputs.items()}, kept)

    def of(self, places: Bool[Tensor, "batch seq"]) -> Bool[Tensor, "batch kept"]:
        """Places of the batch as places of this part."""
        return places[:, self.columns]


def visible(batch: Mapping[str, Any]) -> Callable[[int, int], Bool[Tensor, " seq"]]:
    """Which tokens of a row what is computed at a column depends on, asked by row and column."""
    mask = _full(batch.get("attention_mask"))
    if mask is not None and mask.dim() == 4:
        columns, allowed = torch.arange(mask.shape[-1]), cache(lambda row: _allowed(mask[row, 0]))
        return lambda row, column: _reached(allowed(row), columns == column)
    samples, real = samples_of(batch).cpu(), None if mask is None else mask.bool().cpu()
    columns = torch.arange(samples.shape[1])

    def seen(row: int, column: int) -> Tensor:
        earlier = (columns <= column) & (samples[row] == samples[row, column])
        return earlier if real is None else earlier & real[row]

    return seen


def _allowed(mask: Float[Tensor, "seq seq"]) -> Bool[Tensor, "seq seq"]:
    return mask.cpu() == 0


def _reached(allowed: Bool[Tensor, "seq seq"], places: Bool[Tensor, " seq"]) -> Bool[Tensor, " seq"]:
    """What the places attend to, and what that attends to: under a sliding window a state is made of more than its window."""
    reached = places.cpu()
    while not torch.equal(more := reached | allowed[reached].any(0), reached):
        reached = more
    return reached


def _full(mask: Any) -> Tensor | None:
    """Of masks by layer type, the one without a window, which hides the least."""
    return mask["full_attention"] if isinstance(mask, dict) else mask


def _columns(value: Any, kept: Tensor) -> Any:
    if isinstance(value, dict):
        return {name: _columns(one, kept) for name, one in value.items()}
    if not isinstance(value, Tensor):
        return value
    if value.dim() != 4:
        return value[:, kept]
    cut = value[:, :, kept][..., kept]
    return in_blocks(cut) if isinstance(value, BlockwiseMask) else cut
