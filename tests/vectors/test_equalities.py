"""What must make no difference makes none, whatever the family: batches, padding, caches, adapters, rounding, checkpoints."""

from copy import deepcopy
from functools import cache
from inspect import signature

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers.pytorch_utils import Conv1D

from instruction_vectors import InstructionVector, causal_effects, mean_head_outputs
from instruction_vectors.models.anatomy import anatomy_of

HEADS = ((0, 1), (0, 3), (2, 2))
ROWS = [[1, 9, 14, 7, 30, 11, 8, 5], [1, 20, 21], [1, 33, 8, 8, 12, 17]]
FELT = 0.01
"""The least effect that an equality is worth checking with."""

ROUNDED = ("gptj", "gpt-neo", "gemma2", "mpt", "bloom")
"""Families that compute attention or its softmax in float32 whatever the model's type, and know no sdpa without that."""
PADDED_IN_FLOAT32 = ("gemma2", "mpt", "bloom")
"""Of these, those that mask with the lowest number of the model's type: of float64 it is minus infinity to a softmax in float32,
so that a padding token which may look at nothing but padding is NaN, and all that reads its values after it."""


def built(family, **changes):
    return tiny.model(family, attention="eager" if family in tiny.EAGER_ONLY else "sdpa", **changes)


def shared(family):
    return tiny.shared(family, "eager" if family in tiny.EAGER_ONLY else "sdpa")


@cache
def for_padding(family):
    """A model that padding does not turn into NaN."""
    return built(family, dtype=torch.float32) if family in PADDED_IN_FLOAT32 else shared(family)


def near(causal_lm, family) -> float:
    """How far apart values of a few units may lie that are the same but for the order of sums."""
    if anatomy_of(causal_lm).dtype == torch.float32:
        return 1e-4
    return 1e-5 if family in ROUNDED else 1e-9


def vector_for(causal_lm, family) -> InstructionVector:
    return InstructionVector.from_means(causal_lm, tiny.means(family), HEADS, layer=1)


def modes(causal_lm) -> list[str]:
    return ["distributed", "replace", *(["summed"] if anatomy_of(causal_lm).adds_writes else [])]


def gap(found, expected) -> float:
    """Largest difference."""
    assert found.shape == expected.shape
    return float((found - expected).abs().max())


def relative(found, expected) -> float:
    """Largest difference, relative to the largest effect, which must be there to be compared with."""
    assert expected.abs().max() >= FELT
    return gap(found, expected) / float(expected.abs().max())


def measured(causal_lm, family, tok) -> tuple[torch.Tensor, torch.Tensor]:
    """Effects `[prompt, layer, head]` and means `[layer, head, head_dim]`."""
    effects = causal_effects(causal_lm, tok, tiny.PROMPTS, tiny.TARGETS, tiny.means(family), measure="log_probability")
    return effects, mean_head_outputs(causal_lm, tok, tiny.PROMPTS)


@torch.no_grad()
def at_the_ends(causal_lm, rows, vector=None, mode="distributed", positions="prefill_end", starts=None, width=None):
    """Logits at each row's last token in a batch whose row r begins at `starts[r]`; the rest is padding."""
    starts = starts or [0] * len(rows)
    answer = [5] if positions == "labels" else []
    width = width or max(map(len, rows)) + len(answer)
    ids, labels = torch.zeros(len(rows), width, dtype=torch.long), torch.full((len(rows), width), -100)
    mask, where = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
    for number, (row, start) in enumerate(zip(rows, starts, strict=True)):
        end = start + len(row)
        ids[number, start : end + len(answer)], mask[number, start : end + len(answer)] = torch.tensor(row + answer), 1
        where[number, end - 1] = True
        labels[number, end : end + 1] = 5
    inputs = {"input_ids": ids, "attention_mask": mask}
    if "position_ids" in signature(causal_lm.forward).parameters:
        inputs["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
    if positions == "labels":
        inputs["labels"] = labels
    if vector is None:
        return causal_lm(**inputs).logits[where]
    with vector.applied(causal_lm, mode, positions=where if positions == "explicit" else positions):
        return causal_lm(**inputs).logits[where]


def alone(causal_lm, rows, *args) -> torch.Tensor:
    return torch.cat([at_the_ends(causal_lm, [row], *args) for row in rows])


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_logits_are_those_of_the_row_alone_wherever_padding_stands_and_however_the_place_is_told(family):
    causal_lm = for_padding(family)
    vector, width = vector_for(causal_lm, family), max(map(len, ROWS)) + 3
    left, right, both = [width - len(row) - 1 for row in ROWS], [0, 0, 0], [1, 4, 0]
    clean = alone(causal_lm, ROWS)
    for mode in modes(causal_lm):
        expected = alone(causal_lm, ROWS, vector, mode)
        assert (expected - clean).abs().amax(-1).min() >= FELT
        for positions in ("prefill_end", "labels", "explicit"):
            for starts in (left, right, both):
                found = at_the_ends(causal_lm, ROWS, vector, mode, positions, starts, width)
                assert gap(found, expected) < near(causal_lm, family)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_families_padded_in_float32_are_those_that_padding_turns_into_nan_in_float64(family):
    longest = max(map(len, ROWS))
    logits = at_the_ends(shared(family), ROWS, starts=[longest - len(row) for row in ROWS])
    assert bool(logits.isnan().any()) == (family in PADDED_IN_FLOAT32)


padded_rows = st.tuples(
    st.lists(st.integers(3, tiny.VOCABULARY - 1), min_size=1, max_size=9), st.integers(0, 4), st.integers(0, 4)
)


@pytest.mark.parametrize("family", tiny.FAMILIES)
@settings(max_examples=6, deadline=None)  # the first is always the smallest: one row of one token
@given(batch=st.lists(padded_rows, min_size=1, max_size=4), positions=st.sampled_from(["prefill_end", "explicit"]))
def test_rows_of_any_length_with_any_padding_are_read_as_they_are_alone(family, batch, positions):
    causal_lm = for_padding(family)
    vector, rows = vector_for(causal_lm, family), [row for row, _, _ in batch]
    expected = alone(causal_lm, rows, vector)
    assert (expected - alone(causal_lm, rows)).abs().amax(-1).min() >= FELT
    width = max(before + len(row) + after for row, before, after in batch)
    found = at_the_ends(causal_lm, rows, vector, "distributed", positions, [before for _, before, _ in batch], width)
    assert gap(found, expected) < near(causal_lm, family)


@torch.no_grad()
def written(causal_lm, rows, vector=None, **options) -> tuple[list[list[int]], torch.Tensor]:
    """What is generated, and the logits `[row, beam, step, vocabulary]` it was chosen by."""
    width, beams = max(map(len, rows)), options.get("num_beams", 1)
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    settings = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None, "pad_token_id": 0, "num_return_sequences": beams}
    settings |= {"attention_mask": (ids != 0).long(), "return_dict_in_generate": True, "output_logits": True, **options}
    if vector is None:
        output = causal_lm.generate(ids, **settings)
    else:
        with vector.applied(causal_lm):
            output = causal_lm.generate(ids, **settings)
    return output.sequences[:, width:].tolist(), torch.stack(output.logits, 1).unflatten(0, (len(rows), beams))


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_generation_is_the_same_with_a_cache_and_without_alone_and_in_a_batch(family, beams):
    causal_lm = for_padding(family)
    vector = vector_for(causal_lm, family)
    each = [written(causal_lm, [row], vector, num_beams=beams, use_cache=False) for row in ROWS]
    tokens, logits = [row for one, _ in each for row in one], torch.cat([one for _, one in each])
    for use_cache in (True, False):
        found, by = written(causal_lm, ROWS, vector, num_beams=beams, use_cache=use_cache)
        assert found == tokens
        assert gap(by, logits) < near(causal_lm, family)
    for number, row in enumerate(ROWS):
        found, by = written(causal_lm, [row], vector, num_beams=beams, use_cache=True)
        assert found == tokens[number * beams : (number + 1) * beams]
        assert gap(by[0], logits[number]) < near(causal_lm, family)
    _, clean = written(causal_lm, ROWS, num_beams=beams)
    assert (logits - clean)[:, :, 0].abs().amax(-1).min() >= FELT


@cache
def wrapped_and_merged(family):
    """A model with a random adapter on every linear map of its attention, and the same model with it merged."""
    causal_lm = built(family)
    attention = anatomy_of(causal_lm).o_proj_path.rpartition(".")[0]
    maps = [n for n, m in causal_lm.named_modules() if isinstance(m, torch.nn.Linear | Conv1D) and f".{attention}." in n]
    assert len(maps) >= 2 * tiny.LAYERS  # at least a fused query, key and value, and the output
    torch.manual_seed(1)
    wrapped = get_peft_model(causal_lm, LoraConfig(r=4, target_modules=maps, init_lora_weights=False)).eval()
    return wrapped, deepcopy(wrapped).merge_and_unload()


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_means_and_effects_under_an_adapter_are_those_of_the_merged_model(family, tok):
    wrapped, merged = wrapped_and_merged(family)

    for found, expected, bare in zip(*(measured(model, family, tok) for model in (wrapped, merged, shared(family))), strict=True):
        assert relative(found, expected) < near(merged, family)
        assert relative(bare, expected) > 0.1  # the adapter takes part


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_vector_acts_under_an_adapter_as_on_the_merged_model(family):
    wrapped, merged = wrapped_and_merged(family)
    vector = vector_for(shared(family), family)
    clean = at_the_ends(merged, ROWS[:1])
    for mode in modes(merged):
        for positions in ("prefill_end", "labels", "explicit"):
            expected = at_the_ends(merged, ROWS[:1], vector, mode, positions)
            assert gap(expected, clean) >= FELT
            assert gap(at_the_ends(wrapped, ROWS[:1], vector, mode, positions), expected) < near(merged, family)
    assert gap(at_the_ends(shared(family), ROWS[:1], vector), at_the_ends(merged, ROWS[:1], vector)) > 0.1
    (found, by), (tokens, logits) = (written(model, ROWS[:1], vector) for model in (wrapped, merged))
    assert found == tokens
    assert gap(by, logits) < near(merged, family)


COARSE = 32 * 2**-8
"""bfloat16 keeps 8 bits, and a value goes through about ten roundings in each of the three layers and a few after them."""


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_means_and_effects_in_bfloat16_lie_near_those_in_float32_and_far_from_another_heads(family, tok):
    coarse = built(family, dtype=torch.bfloat16)
    fine = deepcopy(coarse).float()
    for found, expected, heads in zip(measured(coarse, family, tok), measured(fine, family, tok), (2, 1), strict=True):
        assert relative(found, expected) < COARSE
        assert relative(found.roll(1, heads), expected) > 2 * COARSE
    vector = vector_for(fine, family)
    found, expected = (alone(model, ROWS, vector).float() - alone(model, ROWS).float() for model in (coarse, fine))
    assert relative(found, expected) < COARSE
    other = InstructionVector.from_means(fine, tiny.means(family).roll(1, 1), HEADS, layer=1)
    assert relative(alone(coarse, ROWS, other).float() - alone(coarse, ROWS).float(), expected) > 4 * COARSE


@pytest.mark.filterwarnings("ignore:.*activation_checkpointing:FutureWarning")  # a new name for the old calls
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_activation_checkpointing_changes_neither_loss_nor_gradient(family):
    causal_lm, runs = built(family).train(), []
    vector = vector_for(causal_lm, family)
    anatomy_of(causal_lm).o_projs[2].register_forward_hook(lambda *_: runs.append(1))
    labels = torch.tensor([[-100, -100, -100, *ROWS[0][3:]]])

    def step(mode, scale=1.0) -> tuple[torch.Tensor, dict[str, torch.Tensor], int]:
        causal_lm.zero_grad()
        runs.clear()
        with vector.applied(causal_lm, mode, scale, positions="labels"):
            loss = causal_lm(input_ids=torch.tensor(ROWS[:1]), labels=labels, use_cache=False).loss
        # Backward runs after the block, as in a trainer: what is recomputed then must be steered as well.
        loss.backward()
        return loss.detach(), {name: p.grad for name, p in causal_lm.named_parameters() if p.grad is not None}, len(runs)

    chosen = [mode for mode in modes(causal_lm) if mode != "replace"]
    plain, (_, unsteered, _) = {mode: step(mode) for mode in chosen}, step("distributed", 0.0)
    for reentrant in (True, False):
        causal_lm.gradient_checkpointing_enable({"use_reentrant": reentrant})
        causal_lm.enable_input_require_grads()
        for mode, (loss, gradients, once) in plain.items():
            again, recomputed, often = step(mode)
            assert (once, often) == (1, 2)
            torch.testing.assert_close(again, loss)
            torch.testing.assert_close(recomputed, gradients)
            assert max(gap(unsteered[name], gradient) for name, gradient in gradients.items()) >= FELT
        causal_lm.disable_input_require_grads()
        causal_lm.gradient_checkpointing_disable()
