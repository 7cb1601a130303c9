"""Attention in blocks gives what attention over the whole row gives, and multiplies less."""

import pytest
import tiny
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from instruction_vectors.models.anatomy import anatomy_of
from instruction_vectors.models.block_mask import RUN, BlockMask, in_blocks, skips_what_is_hidden
from instruction_vectors.models.tree import TokenTree

LONG = [[1, *range(2, 60), row, *[9] * (70 + row)] for row in range(60, 66)]
"""Rows that share 59 tokens, each with a branch longer than a block."""
shapes = st.tuples(st.integers(1, 4), st.integers(0, 90), st.integers(1, 90), st.integers(0, 2**16))


class Pairs(TorchDispatchMode):
    """Counts pairs of a query and a key that the fused kernel multiplies forward."""

    def __init__(self):
        super().__init__()
        self.counted = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default:
            self.counted += args[0].shape[-2] * args[1].shape[-2]
        return func(*args, **(kwargs or {}))


def additive(tree: TokenTree, dtype=torch.float64) -> torch.Tensor:
    hidden = ~tree.ancestors()[None, None]
    return torch.zeros(hidden.shape, dtype=dtype).masked_fill_(hidden, torch.finfo(dtype).min)


def rows(number: int, shared: int, own: int) -> list[list[int]]:
    return [[1] * shared + [2 + row] * (own + 7 * row) for row in range(number)]


def attention(mask, *inputs, **given):
    leaves = [each.clone().requires_grad_() for each in inputs]
    made = F.scaled_dot_product_attention(*leaves, attn_mask=mask, **given)
    torch.manual_seed(7)
    return [made.detach(), *torch.autograd.grad(made, leaves, torch.randn_like(made))]


def drawn(tree, dtype=torch.float64, heads=(2, 2), batch=1, seed=0):
    torch.manual_seed(seed)
    return [torch.randn(batch, number, len(tree), 8, dtype=dtype) for number in (heads[0], heads[1], heads[1])]


@given(shape=shapes)
def test_values_and_gradients_equal_those_of_the_whole_row(shape):
    *counts, seed = shape
    tree = TokenTree.of(rows(*counts))
    mask, inputs = additive(tree), drawn(tree, seed=seed)
    for ours, dense in zip(attention(in_blocks(mask), *inputs), attention(mask, *inputs), strict=True):
        torch.testing.assert_close(ours, dense, rtol=0, atol=1e-11)


def test_grouped_heads_a_scale_and_several_trees_are_passed_on():
    tree, other = TokenTree.of(LONG), TokenTree.of(LONG[::-1])
    mask, inputs = torch.cat([additive(tree), additive(other)]), drawn(tree, heads=(4, 2), batch=2)
    given = {"enable_gqa": True, "scale": 0.3}
    assert isinstance(in_blocks(mask), BlockMask)
    for ours, dense in zip(attention(in_blocks(mask), *inputs, **given), attention(mask, *inputs, **given), strict=True):
        torch.testing.assert_close(ours, dense, rtol=0, atol=1e-11)


def test_half_precision_is_no_farther_from_the_truth_than_the_whole_row():
    tree = TokenTree.of(LONG)
    inputs = [each.bfloat16() for each in drawn(tree)]
    mask = additive(tree, torch.bfloat16)
    truth = attention(additive(tree), *(each.double() for each in inputs))
    ours, dense = attention(in_blocks(mask), *inputs), attention(mask, *inputs)
    assert {each.dtype for each in ours} == {torch.bfloat16}
    for one, other, true in zip(ours[1:], dense[1:], truth[1:], strict=True):
        assert (one.double() - true).norm() <= 1.5 * (other.double() - true).norm()


@given(shape=shapes)
def test_blocks_hold_every_query_once_and_exactly_the_keys_it_may_see(shape):
    tree = TokenTree.of(rows(*shape[:3]))
    mask = in_blocks(additive(tree))
    if not isinstance(mask, BlockMask):
        return
    places, seen = [], torch.zeros(len(tree), len(tree), dtype=torch.bool)
    for queries, runs in mask.blocks:
        places += range(queries.start, queries.stop)
        for run in runs:
            seen[queries, run] = True
    assert places == list(range(len(tree)))
    assert not (tree.ancestors() & ~seen).any()


def test_a_block_sees_no_other_branch():
    tree = TokenTree.of(LONG)
    mask = in_blocks(additive(tree))
    pairs = sum((queries.stop - queries.start) * sum(run.stop - run.start for run in runs) for queries, runs in mask.blocks)
    # Of what is multiplied, only what lies above the diagonal of a block is hidden.
    assert pairs <= int(tree.ancestors().sum()) + len(tree) * RUN


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3"])
def test_a_model_multiplies_less_and_says_the_same(family):
    anatomy = anatomy_of(tiny.shared(family, "sdpa"))
    tree = TokenTree.of([[token % 30 for token in row] for row in LONG])
    inputs = tree.model_inputs(anatomy)

    def plain(mask):
        return {name: plain(one) for name, one in mask.items()} if isinstance(mask, dict) else mask.as_subclass(torch.Tensor)

    with torch.no_grad(), Pairs() as ours:
        found = anatomy.backbone(**inputs)[0]
    with torch.no_grad(), Pairs() as dense:
        wanted = anatomy.backbone(**inputs | {"attention_mask": plain(inputs["attention_mask"])})[0]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9)
    assert dense.counted == len(tree) ** 2 * anatomy.n_layers
    assert 0 < ours.counted < dense.counted / 2


def test_what_keeps_the_values_keeps_the_blocks_and_nothing_else_does():
    mask = in_blocks(additive(TokenTree.of(LONG)))
    for same in (mask.to("cpu"), mask[:, :, :, : mask.shape[-1]], mask.detach(), mask.clone(), mask.contiguous()):
        assert isinstance(same, BlockMask)
        assert same.blocks == mask.blocks
    for other in (mask + 1, mask[..., :5], mask.bool(), mask.masked_fill(mask == 0, 3.0), mask.expand(2, -1, -1, -1)):
        assert not isinstance(other, BlockMask)


def test_what_pays_nothing_stays_a_plain_tensor():
    short, path = TokenTree.of([[1, 2, 3], [1, 4]]), torch.zeros(1, 1, 3, 400)
    assert type(in_blocks(additive(short))) is torch.Tensor
    assert type(in_blocks(path)) is torch.Tensor


def test_dropout_goes_the_ordinary_way():
    tree = TokenTree.of(LONG)
    mask, inputs = additive(tree), drawn(tree)
    torch.manual_seed(1)
    ours = F.scaled_dot_product_attention(*inputs, attn_mask=in_blocks(mask), dropout_p=0.5)
    torch.manual_seed(1)
    torch.testing.assert_close(ours, F.scaled_dot_product_attention(*inputs, attn_mask=mask, dropout_p=0.5))


def test_which_models_skip():
    assert skips_what_is_hidden(anatomy_of(tiny.shared("llama", "sdpa")))
    assert not skips_what_is_hidden(anatomy_of(tiny.shared("llama", "eager")))
