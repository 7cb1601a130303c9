"""Attention in blocks gives what attention over the whole row gives, and multiplies less."""

import copy
import pickle

import pytest
import tiny
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from packaging.version import Version
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from instruction_vectors.models.anatomy import anatomy_of
from instruction_vectors.models.blockwise import BlockwiseMask, in_blocks
from instruction_vectors.models.tree import TokenTree, skips_what_is_hidden
from instruction_vectors.training.collator import WIDEST, TreeCollator
from instruction_vectors.training.visible import Part

LONG = [[1, *range(2, 60), row, *[9] * (70 + row)] for row in range(60, 66)]
"""Rows that share 59 tokens, each with a branch longer than a block."""
INTERLEAVED = [LONG[0], [5] * 150, [*LONG[0][:80], *[6] * 90], [5] * 120 + [8] * 100]
"""Rows whose branches lie apart in the packed row: the third and fourth go on from the first and second."""
letters = st.integers(0, 1)
sequences = st.lists(st.tuples(st.lists(letters, max_size=4), st.integers(20, 90), letters), min_size=2, max_size=6)


def rows_of(drawn) -> list[list[int]]:
    """Rows that branch anywhere: stretches of letters, then one of another."""
    return [[*(letter for each in head for letter in [each] * 30), *[2 + last] * length] for head, length, last in drawn]


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


def plain(mask):
    return {name: plain(one) for name, one in mask.items()} if isinstance(mask, dict) else mask.as_subclass(torch.Tensor)


def attention(mask, *inputs, **given):
    leaves = [each.clone().requires_grad_() for each in inputs]
    made = F.scaled_dot_product_attention(*leaves, attn_mask=mask, **given)
    return [made.detach(), *torch.autograd.grad(made, leaves, outer(made))]


def outer(made):
    """A gradient to begin with, the same in every precision."""
    return torch.randn(made.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(7)).bfloat16().to(made.dtype)


def drawn(length, dtype=torch.float64, heads=(2, 2), batch=1):
    torch.manual_seed(0)
    return [torch.randn(batch, number, length, 8, dtype=dtype) for number in (heads[0], heads[1], heads[1])]


def assert_alike(ours, dense, atol=1e-11):
    for one, other in zip(ours, dense, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=atol)


@given(drawn_rows=sequences)
def test_values_and_gradients_equal_those_of_the_whole_row(drawn_rows):
    tree = TokenTree.of(rows_of(drawn_rows))
    mask = in_blocks(additive(tree), call=100)
    assume(isinstance(mask, BlockwiseMask))
    inputs = drawn(len(tree))
    assert_alike(attention(mask, *inputs), attention(plain(mask), *inputs))


@given(drawn_rows=sequences, call=st.sampled_from([0, 100, 2048]))
def test_blocks_hold_every_query_once_and_exactly_the_keys_it_may_see(drawn_rows, call):
    tree = TokenTree.of(rows_of(drawn_rows))
    mask, allowed = in_blocks(additive(tree), call=call), tree.ancestors()
    assume(isinstance(mask, BlockwiseMask))
    assert [q for block in mask.plan.blocks for q in range(len(tree))[block.queries]] == list(range(len(tree)))
    for block in mask.plan.blocks:
        keys = [key for run in block.keys for key in range(len(tree))[run]]
        assert keys == allowed[block.queries].any(0).nonzero().flatten().tolist()


def test_without_a_cost_of_calls_no_two_branches_share_a_block():
    tree = TokenTree.of(INTERLEAVED)
    for block in in_blocks(additive(tree), call=0).plan.blocks:
        assert len(range(len(tree))[block.queries]) == 1


def test_short_branches_do_not_run_together_into_one_long_block():
    tree = TokenTree.of([[1] * 40 + [2 + row] * 3 for row in range(300)])
    pairs = sum(
        len(range(len(tree))[block.queries]) * sum(run.stop - run.start for run in block.keys)
        for block in in_blocks(additive(tree)).plan.blocks
    )
    # Blocks of b branches cost, for each of their 3 b tokens, 40 + 3 b keys and 2048 / 3 b of a call: b = 15 is best.
    assert pairs < 2 * 300 * 3 * (40 + 3 * 15)


def test_grouped_heads_and_a_scale_are_passed_on_and_every_tree_of_a_batch_has_its_own_blocks():
    tree, other = TokenTree.of(LONG), TokenTree.of(LONG[::-1])
    mask, inputs = torch.cat([additive(tree), additive(other)]), drawn(len(tree), heads=(4, 2), batch=2)
    given = {"enable_gqa": True, "scale": 0.3}
    ours = in_blocks(mask)
    assert {(block.rows.start, block.rows.stop) for block in ours.plan.blocks} == {(0, 1), (1, 2)}
    assert_alike(attention(ours, *inputs, **given), attention(mask, *inputs, **given))
    wide = drawn(len(tree), batch=3)
    assert_alike(attention(in_blocks(mask[:1]), *wide), attention(mask[:1], *wide))


def test_half_precision_is_nearer_to_the_truth_than_the_whole_row():
    tree = TokenTree.of(LONG)
    inputs = [each.bfloat16() for each in drawn(len(tree))]
    mask = additive(tree, torch.bfloat16)
    truth = attention(additive(tree), *(each.double() for each in inputs))
    ours, dense = attention(in_blocks(mask), *inputs), attention(mask, *inputs)
    assert {each.dtype for each in ours} == {torch.bfloat16}
    for one, other, true in zip(ours[1:], dense[1:], truth[1:], strict=True):
        assert (one.double() - true).norm() < (other.double() - true).norm()
    assert (ours[0].double() - truth[0]).norm() < 0.01 * truth[0].norm()


def test_under_autocast_the_result_is_what_it_would_be_without_blocks():
    tree = TokenTree.of(LONG)
    mask, inputs = additive(tree, torch.float32), drawn(len(tree), torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours, dense = attention(in_blocks(mask), *inputs), attention(mask, *inputs)
    assert [each.dtype for each in ours] == [each.dtype for each in dense]
    for one, other in zip(ours, dense, strict=True):
        assert (one - other).norm() < 0.02 * other.norm()


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3"])
def test_a_model_multiplies_less_and_says_the_same(family):
    anatomy = anatomy_of(tiny.shared(family, "sdpa"))
    tree = TokenTree.of([[token % 30 for token in row] for row in LONG])
    inputs = tree.model_inputs(anatomy)
    with torch.no_grad(), Pairs() as ours:
        found = anatomy.backbone(**inputs)[0]
    with torch.no_grad(), Pairs() as dense:
        wanted = anatomy.backbone(**inputs | {"attention_mask": plain(inputs["attention_mask"])})[0]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9)
    assert dense.counted == len(tree) ** 2 * anatomy.n_layers
    assert 0 < ours.counted < dense.counted / 2


@pytest.mark.parametrize("reentrant", [None, False, True], ids=["plain", "checkpointed", "checkpointed, reentrant"])
def test_gradients_through_a_model_equal_those_of_the_whole_row(reentrant):
    causal_lm = tiny.model("llama", attention="sdpa")
    anatomy = anatomy_of(causal_lm)
    tree = TokenTree.of([[token % 30 for token in row] for row in INTERLEAVED])
    inputs = tree.model_inputs(anatomy)
    assert isinstance(inputs["attention_mask"], BlockwiseMask)
    if reentrant is not None:
        causal_lm.gradient_checkpointing_enable({"use_reentrant": reentrant})
        causal_lm.enable_input_require_grads()
    causal_lm.train()

    def gradients(mask):
        causal_lm.zero_grad()
        anatomy.backbone(**inputs | {"attention_mask": mask})[0].square().sum().backward()
        return [weight.grad.clone() for weight in causal_lm.parameters() if weight.grad is not None]

    ours, dense = gradients(inputs["attention_mask"]), gradients(plain(inputs["attention_mask"]))
    largest = max(float(each.abs().max()) for each in dense)
    assert_alike(ours, dense, atol=1e-9 * largest)


def test_gradient_checkpoints_of_attention_alone():
    tree = TokenTree.of(LONG)
    mask, inputs = in_blocks(additive(tree)), [each.requires_grad_() for each in drawn(len(tree))]
    made = checkpoint(lambda *given: F.scaled_dot_product_attention(*given, attn_mask=mask), *inputs, use_reentrant=False)
    found = torch.autograd.grad(made, inputs, outer(made))
    assert_alike(found, attention(plain(mask), *(each.detach() for each in inputs))[1:])


def test_rows_that_share_nothing_go_into_one_tree_only_where_its_mask_stays_small():
    causal_lm = tiny.shared("llama", "sdpa")
    collate = TreeCollator(causal_lm)

    def shape(count, length):
        rows = [[1, 2 + row] + [3] * (length - 2) for row in range(count)]
        batch = collate([{"input_ids": row, "labels": [-100] * (length - 1) + row[-1:]} for row in rows])
        return tuple(batch["input_ids"].shape)

    assert shape(4, 200) == (1, 4 * 198 + 1)
    # The narrowest of rows as wide as the widest tree may be, and not one of them all.
    assert shape(30, 200)[1] <= WIDEST


def test_what_some_places_see_has_blocks_of_its_own():
    anatomy = anatomy_of(tiny.shared("llama", "sdpa"))
    tree = TokenTree.of([[token % 30 for token in row] for row in LONG])
    places = torch.zeros(1, len(tree), dtype=torch.bool)
    places[0, [path[100] for path in tree.paths]] = True
    inputs = tree.model_inputs(anatomy)
    part = Part.seen_by(inputs, places)
    assert isinstance(part.inputs["attention_mask"], BlockwiseMask)
    with torch.no_grad():
        whole, alone = anatomy.backbone(**inputs)[0], anatomy.backbone(**part.inputs)[0]
    torch.testing.assert_close(alone[part.of(places)], whole[places], rtol=0, atol=1e-9)
    own = inputs | {"attention_mask": plain(inputs["attention_mask"])}
    assert type(Part.seen_by(own, places).inputs["attention_mask"]) is torch.Tensor


def test_what_keeps_the_values_keeps_the_blocks():
    mask = in_blocks(additive(TokenTree.of(LONG)))
    kept = [
        mask.to("cpu"),
        mask[:, :, :, : mask.shape[-1]],
        mask[...],
        mask.detach(),
        mask.clone(),
        mask.contiguous(),
        mask.float(),
    ]
    for same in [*kept, copy.deepcopy(mask), copy.copy(mask), pickle.loads(pickle.dumps(mask))]:
        assert isinstance(same, BlockwiseMask)
        assert same.plan.blocks == mask.plan.blocks


def test_what_changes_the_values_is_a_plain_tensor():
    mask = in_blocks(additive(TokenTree.of(LONG)))
    order = torch.randperm(mask.shape[-1])
    changed = [mask + 1, mask[..., :5], mask.bool(), mask.to(torch.bool), mask[..., order], mask.masked_fill(mask == 0, 3.0)]
    for other in [*changed, mask.expand(2, -1, -1, -1)]:
        assert not isinstance(other, BlockwiseMask)


def test_a_mask_written_to_since_is_followed():
    tree = TokenTree.of(LONG)
    mask, inputs = in_blocks(additive(tree)), drawn(len(tree))
    mask[..., :300] = 0
    assert_alike(attention(mask, *inputs), attention(plain(mask), *inputs))


def test_calls_that_the_blocks_were_not_made_for_go_the_ordinary_way():
    tree = TokenTree.of(LONG)
    mask, inputs = in_blocks(additive(tree)), drawn(len(tree))
    query, key, value = inputs
    dense = attention(plain(mask), *inputs)[0]
    torch.testing.assert_close(F.scaled_dot_product_attention(query=query, key=key, value=value, attn_mask=mask), dense)
    torch.testing.assert_close(F.scaled_dot_product_attention(query, key, value, mask), dense)
    assert mask.plan.calls == 2
    torch.manual_seed(1)
    ours = F.scaled_dot_product_attention(*inputs, attn_mask=mask, dropout_p=0.5)
    torch.manual_seed(1)
    torch.testing.assert_close(ours, F.scaled_dot_product_attention(*inputs, attn_mask=plain(mask), dropout_p=0.5))
    longer = torch.cat([key, key], dim=-2), torch.cat([value, value], dim=-2)
    with pytest.raises(RuntimeError):
        F.scaled_dot_product_attention(query, *longer, attn_mask=mask)
    assert mask.plan.calls == 2


@pytest.mark.skipif(Version(torch.__version__) < Version("2.13"), reason="torch 2.11 compiles no subclass that is a view")
def test_a_compiled_function_takes_the_mask_for_a_tensor():
    tree = TokenTree.of(LONG)
    mask, inputs = in_blocks(additive(tree)), drawn(len(tree))
    compiled = torch.compile(lambda *given: F.scaled_dot_product_attention(*given, attn_mask=mask[..., :]), backend="eager")
    torch.testing.assert_close(compiled(*inputs), attention(plain(mask), *inputs)[0])


def test_what_pays_nothing_stays_a_plain_tensor():
    assert type(in_blocks(additive(TokenTree.of([[1, 2, 3], [1, 4]])))) is torch.Tensor


def test_which_models_skip():
    assert skips_what_is_hidden(anatomy_of(tiny.shared("llama", "sdpa")))
    assert skips_what_is_hidden(anatomy_of(tiny.shared("gemma3", "sdpa")))
    assert not skips_what_is_hidden(anatomy_of(tiny.shared("llama", "eager")))


def test_a_model_with_attention_dropout_skips_nothing_and_keeps_its_mode_and_random_numbers():
    causal_lm = tiny.model("llama", attention="sdpa")
    for layer in causal_lm.model.layers:
        layer.self_attn.attention_dropout = 0.1
    causal_lm.model.layers[0].train()
    torch.manual_seed(3)
    state = torch.get_rng_state()
    anatomy = anatomy_of(causal_lm)
    assert not skips_what_is_hidden(anatomy)
    assert torch.equal(torch.get_rng_state(), state)
    assert [layer.training for layer in causal_lm.model.layers] == [True] + [False] * (len(causal_lm.model.layers) - 1)
    assert (
        type(TokenTree.of([[token % 30 for token in row] for row in LONG]).model_inputs(anatomy)["attention_mask"])
        is torch.Tensor
    )
