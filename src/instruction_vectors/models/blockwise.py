"""A mask that knows which blocks of attention it leaves empty, so that a CPU need not compute them.

In a packed tree a token attends to its ancestors, which are few of the row's tokens; a fused kernel given the mask as a tensor
multiplies all of them all the same. `BlockwiseMask` is that tensor still, and where it meets `scaled_dot_product_attention` (as
it does inside any model whose attention is PyTorch's) the queries go there in blocks, each with the keys it sees.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor
from torch.autograd.function import once_differentiable

CALL = 2048
"""What another call of the kernel costs, in pairs of a query and a key: on one thread of a CPU with AVX-512 and heads 64 wide,
where half or double of it changes little."""


class Block(NamedTuple):
    """Queries of some rows of the batch, and the runs of keys that any of them sees."""

    rows: slice
    queries: slice
    keys: tuple[slice, ...]


@dataclass
class Plan:
    """The blocks of a mask in its state `version`; `calls` counts the attentions that went by them."""

    blocks: tuple[Block, ...]
    version: int
    calls: int = 0


class BlockwiseMask(Tensor):
    """An additive attention mask `[batch, 1, query, key]`, 0 where a query sees a key, that comes with its blocks.

    A mask that was written to since, or meets shapes, dropout or a compiler it was not made for, is an ordinary tensor.
    """

    plan: Plan

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Attention in blocks; any other operation as on a plain tensor, with the blocks kept if the values are the same."""
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():
            if torch.compiler.is_compiling():
                return func(*args, **kwargs)
            if func is F.scaled_dot_product_attention and (made := _attended(*args, **kwargs)) is not None:
                return made
            result = func(*args, **kwargs)
            mask = args[0] if args else None
            if not isinstance(result, Tensor) or not isinstance(mask, cls):
                return result
            plain = result.as_subclass(Tensor)
            return _carrying(plain, mask.plan) if _keeps_values(func, args, plain, mask) else plain

    def __deepcopy__(self, memo: dict[int, Any]) -> "BlockwiseMask":
        copied = self.as_subclass(Tensor).clone()
        memo[id(self)] = _carrying(copied, Plan(self.plan.blocks, copied._version))
        return memo[id(self)]


def in_blocks(mask: Tensor, call: int = CALL) -> Tensor:
    """The same mask, skipping what it hides where that pays: on a CPU, in packed rows that hide much.

    On a GPU one call over everything is faster than many.

    Args:
        mask: `[batch, 1, query, query]`, 0 where a query sees a key and the lowest number elsewhere; each query sees one.
        call: cost of a call in pairs; at 0 no two branches share a block.
    """
    if mask.device.type != "cpu":
        return mask
    rows = [slice(None)] if len(mask) == 1 else [slice(row, row + 1) for row in range(len(mask))]
    blocks = [
        Block(row, queries, keys)
        for row, allowed in zip(rows, (mask == 0)[:, 0], strict=True)
        for queries, keys in _blocks_of(allowed, call)
    ]
    return _carrying(mask, Plan(tuple(blocks), mask._version)) if len(blocks) > len(rows) else mask


def _carrying(mask: Tensor, plan: Plan) -> BlockwiseMask:
    made = mask.as_subclass(BlockwiseMask)
    made.plan = plan
    return made


_SAME_VALUES = {Tensor.to, Tensor.float, Tensor.double, Tensor.bfloat16, Tensor.half, Tensor.type_as, Tensor.cpu}
_SAME_VALUES |= {Tensor.detach, Tensor.clone, Tensor.contiguous, Tensor.__getitem__}


def _keeps_values(func: Any, args: Any, result: Tensor, mask: BlockwiseMask) -> bool:
    """Whether an operation left every value where it was: of its slices those that take all do."""
    if func not in _SAME_VALUES or result.shape != mask.shape or not result.is_floating_point() or result.device.type != "cpu":
        return False
    index = args[1] if func is Tensor.__getitem__ else ()
    return all(isinstance(part, slice) or part is Ellipsis for part in (index if isinstance(index, tuple) else (index,)))


def _attended(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **options: Any,
) -> Tensor | None:
    """Attention in blocks, or None where it is not what the mask's blocks were made for."""
    mask = attn_mask
    if not isinstance(mask, BlockwiseMask) or mask._version != mask.plan.version or dropout_p or is_causal or query.dim() != 4:
        return None
    if mask.shape[-2:] != (query.shape[-2], key.shape[-2]) or len(mask) not in (1, len(query)):
        return None
    mask.plan.calls += 1
    if torch.is_autocast_enabled("cpu"):
        query, key, value = (each.to(torch.get_autocast_dtype("cpu")) for each in (query, key, value))
    made: Tensor = _Attention.apply(query, key, value, mask.as_subclass(Tensor), mask.plan.blocks, options)
    return made


class _Attention(torch.autograd.Function):
    """Attention, a block of queries at a time, in at least 32 bits: a CPU's kernel is faster so than in half precision.

    A block's keys are gathered for it and not kept: backward runs it again, so that no more is remembered than query, key and
    value, and adds its gradients where they belong.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, blocks: tuple[Block, ...], options: dict[str, Any]
    ) -> Tensor:
        ctx.save_for_backward(query, key, value)
        ctx.mask, ctx.blocks, ctx.options = mask, blocks, options
        made = query.new_empty(*query.shape[:-1], value.shape[-1])
        for block, inputs, seen in _parts(blocks, mask, *_precise(query, key, value)):
            made[block.rows, :, block.queries] = _attention(inputs, seen, options)
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> Any:
        saved = ctx.saved_tensors
        query, key, value = _precise(*saved)
        (grad,) = _precise(*outer)
        inner = [torch.zeros_like(each) for each in (query, key, value)]
        for block, inputs, seen in _parts(ctx.blocks, ctx.mask, query, key, value):
            leaves = [each.detach().requires_grad_() for each in inputs]
            with torch.enable_grad():
                made = _attention(leaves, seen, ctx.options)
            parts = torch.autograd.grad(made, leaves, grad[block.rows, :, block.queries])
            for whole, part, places in zip(inner, parts, ((block.queries,), block.keys, block.keys), strict=True):
                for place, piece in zip(places, part.split([p.stop - p.start for p in places], dim=-2), strict=True):
                    whole[block.rows, :, place] += piece
        return *(whole.to(each.dtype) for whole, each in zip(inner, saved, strict=True)), None, None, None


def _attention(inputs: Sequence[Tensor], seen: Tensor, options: dict[str, Any]) -> Tensor:
    query, key, value = inputs
    with torch.autocast("cpu", enabled=False):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=seen, **options)


def _precise(*tensors: Tensor) -> list[Tensor]:
    return [each.to(torch.promote_types(each.dtype, torch.float32)) for each in tensors]


def _parts(
    blocks: tuple[Block, ...], mask: Tensor, query: Tensor, key: Tensor, value: Tensor
) -> Iterator[tuple[Block, tuple[Tensor, ...], Tensor]]:
    """Each block with its part of query, key and value, and of the mask."""
    for block in blocks:
        keys, values = (_joined(each[block.rows], block.keys, -2) for each in (key, value))
        seen = _joined(mask[block.rows, :, block.queries], block.keys, -1)
        yield block, (query[block.rows, :, block.queries], keys, values), seen.to(query.dtype)


def _joined(tensor: Tensor, runs: tuple[slice, ...], dim: int) -> Tensor:
    parts = [tensor.narrow(dim, run.start, run.stop - run.start) for run in runs]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)


def _blocks_of(allowed: Bool[Tensor, "query key"], call: int) -> list[tuple[slice, tuple[slice, ...]]]:
    """Neighbouring queries together, as long as what they hide from each other costs less than another call.

    Nor may a query cost more together than before: many short branches, each worth less than a call, would make one long block.
    """
    blocks: list[tuple[slice, Tensor]] = []
    for queries in _chains(allowed, max(1, math.isqrt(2 * call))):
        seen = allowed[queries].any(0)
        if blocks:
            before, known = blocks[-1]
            both, union = slice(before.start, queries.stop), known | seen
            alone, together = _cost(before, known, call), _cost(both, union, call)
            if together <= alone + _cost(queries, seen, call) and together * _length(before) <= alone * _length(both):
                blocks[-1] = both, union
                continue
        blocks.append((queries, seen))
    return [(queries, tuple(_runs(seen))) for queries, seen in blocks]


def _cost(queries: slice, seen: Tensor, call: int) -> int:
    return call + _length(queries) * int(seen.sum())


def _length(run: slice) -> int:
    return int(run.stop - run.start)


def _chains(allowed: Bool[Tensor, "query key"], longest: int) -> Iterator[slice]:
    """Queries each of which sees the one before, cut where more would be lost above the diagonal than another call costs."""
    follows = torch.cat([torch.tensor([False]), allowed.diagonal(-1)])
    begins = [*(~follows).nonzero().flatten().tolist(), len(allowed)]
    for start, stop in pairwise(begins):
        for first in range(start, stop, longest):
            yield slice(first, min(first + longest, stop))


def _runs(seen: Bool[Tensor, " key"]) -> Iterator[slice]:
    """Stretches of True."""
    places = seen.nonzero().flatten()
    for run in torch.tensor_split(places, ((places.diff() != 1).nonzero().flatten() + 1).tolist()):
        yield slice(int(run[0]), int(run[-1]) + 1)
