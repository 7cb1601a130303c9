"""Estimates are the slopes of the exact effects, and a shortlist of them leaves what is measured as it is."""

import pytest
import tiny
import torch

from instruction_vectors import causal_effects, extract, load_task, mean_head_outputs
from instruction_vectors.errors import HookError, VectorError
from instruction_vectors.vectors.choosing import top_heads
from instruction_vectors.vectors.screening import estimated_effects, recall

STEP = 1e-4
TARGETS = (" w5 w9 w2", " w6", " w7 w8")


def of(function, family, tok, means, **options):
    return function(tiny.shared(family), tok, tiny.PROMPTS, TARGETS, means, **options)


@pytest.mark.parametrize("measure", ["probability", "log_probability", "answer"])
@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2", "gemma3", "gpt2", "gpt-neox", "gptj", "mixtral", "bloom"])
def test_of_a_small_change_the_estimate_is_the_effect(family, measure, tok):
    means = STEP * tiny.means(family).double()
    exact = of(causal_effects, family, tok, means, patch="add", measure=measure)
    estimate = of(estimated_effects, family, tok, means, patch="add", measure=measure)
    assert exact.abs().max() > 1e-7
    # Some families normalise in float32, so that differences of 1e-4 keep two digits.
    torch.testing.assert_close(estimate, exact, rtol=0, atol=0.03 * float(exact.abs().max()))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_replacing_is_adding_the_difference_to_what_the_head_says(family, tok):
    prompt, target, means = tiny.PROMPTS[:1], tiny.TARGETS[:1], tiny.means(family).double()
    own = mean_head_outputs(tiny.shared(family), tok, prompt)
    replaced = estimated_effects(tiny.shared(family), tok, prompt, target, means)
    added = estimated_effects(tiny.shared(family), tok, prompt, target, means - own, patch="add")
    assert replaced.abs().max() > 1e-3
    torch.testing.assert_close(replaced, added, rtol=0, atol=1e-12)
    assert estimated_effects(tiny.shared(family), tok, prompt, target, own).abs().max() < 1e-12


def test_weights_are_left_without_gradients_and_as_they_were(tok):
    causal_lm = tiny.model("llama")
    before = [weight.clone() for weight in causal_lm.parameters()]
    with torch.no_grad():
        estimated_effects(causal_lm, tok, tiny.PROMPTS, tiny.TARGETS, tiny.means("llama"))
    assert all(
        weight.grad is None and torch.equal(weight, was) for weight, was in zip(causal_lm.parameters(), before, strict=True)
    )


def test_recall_counts_the_largest_effects_among_the_largest_estimates():
    exact = torch.tensor([[[0.9, 0.8], [0.1, 0.0]]])
    estimate = torch.tensor([[[0.5, 0.1], [0.4, 0.3]]])
    assert recall(exact, estimate, k=2, shortlist=2) == 0.5
    assert recall(exact, estimate, k=2, shortlist=4) == 1.0
    assert recall(exact, estimate, k=1, shortlist=1) == 1.0


def test_heads_that_were_not_measured_come_last():
    effects = torch.tensor([[[float("nan"), -0.8], [-0.1, float("nan")]]])
    assert top_heads(effects, 2) == ((1, 0), (0, 1))


def test_a_vector_from_a_shortlist_of_all_heads_is_the_vector(tok):
    model, task = tiny.shared("llama"), load_task("present-past")
    given = {"prompts": 3, "shots": 2, "effect_prompts": 2, "k": 3}
    whole, short = extract(model, tok, task, **given), extract(model, tok, task, screen=tiny.LAYERS * tiny.HEADS, **given)
    assert short.heads == whole.heads
    assert torch.equal(short.values, whole.values)
    narrow = extract(model, tok, task, screen=3, **given)
    assert len(narrow.heads) == 3


@pytest.mark.parametrize(("screen", "message"), [(2, "cannot hold the 3"), (99, "99 heads were asked for")])
def test_a_shortlist_that_cannot_be_is_refused_before_anything_runs(tok, screen, message):
    with pytest.raises(VectorError, match=message):
        extract(tiny.shared("llama"), tok, load_task("present-past"), k=3, screen=screen)


def test_a_model_that_overflows_has_no_estimates(tok):
    with pytest.raises(HookError, match="not finite"):
        of(estimated_effects, "llama", tok, tiny.means("llama") * float("nan"))
