"""A mask that knows which blocks of attention it leaves empty, so that a CPU need not compute them.

In a packed tree a token attends to its ancestors, which are few of the row's tokens; a fused kernel given the mask as a tensor
multiplies all of them all the same. `BlockMask` is that tensor still, and where it meets `scaled_dot_product_attention` (as
it does inside any model whose attention is PyTorch's) the queries go there in blocks, each with the keys it sees.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor

from instruction_vectors.models.anatomy import Anatomy, text_config

CALL = 2048
"""What another call of the kernel costs, in pairs of a query and a key (heads 64 wide; half or double changes little)."""
RUN = 64
"""Longest block of queries that see each other: beyond it more is lost above the diagonal than calls cost."""

Block = tuple[slice, tuple[slice, ...]]
"""Queries, and the runs of keys that some of them see."""

_SAME_VALUES = {Tensor.to, Tensor.detach, Tensor.clone, Tensor.contiguous, Tensor.__getitem__}


class BlockMask(Tensor):
    """An additive attention mask `[batch, 1, query, key]`, 0 where a query sees a key, that comes with its blocks."""

    blocks: list[Block]

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        """Attention in blocks; any other operation as on a plain tensor, with the blocks kept if the values are the same."""
        given = dict(kwargs or {})
        if func is F.scaled_dot_product_attention and isinstance(given.get("attn_mask"), cls) and not given.get("dropout_p"):
            mask = given.pop("attn_mask")
            return _Attention.apply(*args, mask, given)
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **given)
            mask = args[0] if args else None
            if not isinstance(result, Tensor) or not isinstance(mask, cls):
                return result
            plain = result.as_subclass(Tensor)
            same = func in _SAME_VALUES and result.shape == mask.shape and result.device == mask.device
            return _with(plain, mask.blocks) if same else plain


def in_blocks(mask: Tensor) -> Tensor:
    """The same mask, skipping what it hides where that pays: on a CPU, in a packed row (as many keys as queries) that hides much.

    On a GPU one call over everything is faster than many.
    """
    packed = mask.shape[-1] == mask.shape[-2]
    if not packed or mask.device.type != "cpu" or len(blocks := _blocks_of((mask == 0).any(0)[0])) < 2:
        return mask
    return _with(mask, blocks)


def skips_what_is_hidden(anatomy: Anatomy) -> bool:
    """Whether attention costs the model no more than the pairs that a mask shows: on a CPU, through PyTorch's function."""
    return anatomy.device.type == "cpu" and text_config(anatomy.causal_lm)._attn_implementation == "sdpa"


def _with(mask: Tensor, blocks: list[Block]) -> BlockMask:
    made = mask.as_subclass(BlockMask)
    made.blocks = blocks
    return made


class _Attention(torch.autograd.Function):
    """Attention, a block of queries at a time, in at least 32 bits: a CPU's kernel is faster so than in half precision.

    A block's keys are gathered for it and not kept: backward runs it again, so that no more is remembered than query, key and
    value, and adds its gradients where they belong.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: BlockMask, given: dict[str, Any]) -> Tensor:
        ctx.save_for_backward(query, key, value)
        ctx.mask, ctx.given = mask, given
        made = query.new_empty(*query.shape[:-1], value.shape[-1])
        for queries, _, inputs, seen in _in_blocks(mask, *_precise(query, key, value)):
            made[..., queries, :] = F.scaled_dot_product_attention(*inputs, attn_mask=seen, **given)
        return made

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        tensors = _precise(*ctx.saved_tensors)
        (grad,) = _precise(*outer)
        inner = [torch.zeros_like(each) for each in tensors]
        for queries, runs, inputs, seen in _in_blocks(ctx.mask, *tensors):
            leaves = [each.detach().requires_grad_() for each in inputs]
            with torch.enable_grad():
                made = F.scaled_dot_product_attention(*leaves, attn_mask=seen, **ctx.given)
            parts = torch.autograd.grad(made, leaves, grad[..., queries, :])
            for whole, part, places in zip(inner, parts, ((queries,), runs, runs), strict=True):
                for place, piece in zip(places, part.split([p.stop - p.start for p in places], dim=-2), strict=True):
                    whole[..., place, :] += piece
        return *(whole.to(each.dtype) for whole, each in zip(inner, ctx.saved_tensors, strict=True)), None, None


def _precise(*tensors: Tensor) -> list[Tensor]:
    return [each.to(torch.promote_types(each.dtype, torch.float32)) for each in tensors]


def _in_blocks(mask: BlockMask, query: Tensor, key: Tensor, value: Tensor) -> Iterator[Any]:
    """Each block with its part of query, key and value, and of the mask."""
    (plain,) = _precise(mask.as_subclass(Tensor))
    for queries, runs in mask.blocks:
        inputs = query[..., queries, :], _joined(key, runs, -2), _joined(value, runs, -2)
        yield queries, runs, inputs, _joined(plain[..., queries, :], runs, -1).to(query.dtype)


def _joined(tensor: Tensor, runs: tuple[slice, ...], dim: int) -> Tensor:
    parts = [tensor.narrow(dim, run.start, run.stop - run.start) for run in runs]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)


def _blocks_of(allowed: Bool[Tensor, "query key"]) -> list[Block]:
    """Neighbouring queries together, as long as what they hide from each other costs less than another call."""
    blocks: list[tuple[slice, Tensor]] = []
    for queries in _runs_of_queries(allowed):
        seen = allowed[queries].any(0)
        if blocks:
            before, also = blocks[-1]
            both = slice(before.start, queries.stop), also | seen
            if _cost(*both) <= _cost(before, also) + _cost(queries, seen):
                blocks[-1] = both
                continue
        blocks.append((queries, seen))
    return [(queries, tuple(_runs(seen))) for queries, seen in blocks]


def _cost(queries: slice, seen: Tensor) -> int:
    return CALL + (queries.stop - queries.start) * int(seen.sum())


def _runs_of_queries(allowed: Bool[Tensor, "query key"]) -> Iterator[slice]:
    """Queries each of which sees the one before, cut to a length."""
    follows = torch.cat([torch.tensor([False]), allowed.diagonal(-1)]) if len(allowed) > 1 else torch.tensor([False])
    begins = [*(~follows).nonzero().flatten().tolist(), len(allowed)]
    for start, stop in pairwise(begins):
        for first in range(start, stop, RUN):
            yield slice(first, min(first + RUN, stop))


def _runs(seen: Bool[Tensor, " key"]) -> Iterator[slice]:
    """Stretches of True."""
    places = seen.nonzero().flatten()
    for run in torch.tensor_split(places, ((places.diff() != 1).nonzero().flatten() + 1).tolist()):
        yield slice(int(run[0]), int(run[-1]) + 1)
