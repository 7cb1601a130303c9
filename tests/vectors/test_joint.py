"""Several heads patched at once, by themselves and beside random sets."""

from dataclasses import replace

import pytest
import tiny
import torch

from instruction_vectors import Example, InstructionVector, Task, causal_effects, load_task, mean_head_outputs
from instruction_vectors.errors import DataError, HookError, VectorError
from instruction_vectors.tasks.prompts import instructed
from instruction_vectors.vectors.joint import Trial, joint_check, joint_effects
from instruction_vectors.vectors.prompting import counterfactuals, demonstrations
from instruction_vectors.vectors.screening import estimated_effects

PAIR = ((0, 1), (2, 3))
NEXT = Task(
    name="next",
    instructions=("w0 w1", "w1 w0 w2"),
    rows=tuple(Example(f"w{i}", f"w{i + 1}") for i in range(2, 20)),
)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "bloom"])
def test_sets_of_one_head_have_its_causal_effect_and_sets_of_several_that_of_the_vector_put_in(family, tok):
    causal_lm, means = tiny.shared(family), tiny.means(family)
    clean, changed = joint_effects(causal_lm, tok, tiny.PROMPTS, tiny.TARGETS, means, [PAIR[:1], PAIR[1:], PAIR])
    single = causal_effects(causal_lm, tok, tiny.PROMPTS, tiny.TARGETS, means)
    for row, (layer, head) in zip(changed, PAIR, strict=False):
        torch.testing.assert_close(row, single[:, layer, head].to(row.dtype), rtol=0, atol=1e-6)
    vector = InstructionVector.from_means(causal_lm, means, PAIR)
    for number, (prompt, target) in enumerate(zip(tiny.PROMPTS, tiny.TARGETS, strict=True)):
        ids = torch.tensor([tok(prompt)["input_ids"]])
        answer = tok(target, add_special_tokens=False)["input_ids"][0]
        where = torch.zeros_like(ids, dtype=torch.bool)
        where[0, -1] = True
        with torch.no_grad():
            as_it_is = causal_lm(input_ids=ids).logits[0, -1].softmax(-1)[answer]
            with vector.applied(causal_lm, mode="replace", positions=where):
                put_in = causal_lm(input_ids=ids).logits[0, -1].softmax(-1)[answer]
        assert clean[number].item() == pytest.approx(as_it_is.item(), abs=1e-6)
        assert changed[2, number].item() == pytest.approx((put_in - as_it_is).item(), abs=1e-6)
    assert (changed[2] - changed[0] - changed[1]).abs().max() > 1e-5  # effects do not add up


def test_sets_that_do_not_fit_into_memory_together_go_in_smaller_parts_and_that_is_said_once(tok, caplog):
    causal_lm, sets = tiny.model("llama"), [PAIR[:1], PAIR[1:], PAIR, [(1, 1)], [(1, 2)]]
    given = (tok, tiny.PROMPTS, tiny.TARGETS, tiny.means("llama"), sets)
    expected = joint_effects(causal_lm, *given)[1]

    def small(module, args, kwargs):
        if args[0].shape[0] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    handle = causal_lm.model.layers[-1].register_forward_pre_hook(small, with_kwargs=True)
    torch.testing.assert_close(joint_effects(causal_lm, *given)[1], expected)
    length = len(tok(tiny.PROMPTS[0])["input_ids"])
    assert [record.getMessage() for record in caplog.records] == [
        f"out of memory with 4096 tokens at once: going on with {length}"
    ]
    handle.remove()


def test_p_is_the_share_of_sets_that_change_as_much_the_same_way():
    random = torch.tensor([[0.1, 0.1], [0.4, 0.4], [0.2, 0.4], [-0.9, -0.9]])
    gained = Trial(torch.tensor([0.2, 0.2]), torch.tensor([0.2, 0.4]), random)
    assert gained.p == pytest.approx((1 + 2) / 5)
    assert gained.summary() == pytest.approx({"clean": 0.2, "patched": 0.5, "random": 0.175, "p": 0.6})
    lost = Trial(torch.tensor([0.9]), torch.tensor([-0.5]), torch.tensor([[-0.1], [-0.6], [0.7]]))
    assert lost.p == pytest.approx((1 + 1) / 4)


def test_the_check_draws_other_heads_and_is_the_same_again(tok):
    model, task = tiny.shared("llama"), load_task("present-past")
    given = {"prompts": 2, "mean_prompts": 3, "shots": 2, "draws": 4}
    first, again = (joint_check(model, tok, task, PAIR, **given) for _ in range(2))
    for side in ("sufficiency", "necessity"):
        one, other = getattr(first, side), getattr(again, side)
        assert one.random.shape == (4, 2)
        assert torch.equal(one.random, other.random)
        assert one.summary() == other.summary()
    elsewhere = joint_check(model, tok, task, PAIR, seed=1, **given)
    assert not torch.equal(elsewhere.sufficiency.random, first.sufficiency.random)


def means_over(model, tok, built, *, right=False):
    answers = [answer for _, answer in built] if right else None
    return mean_head_outputs(model, tok, [text for text, _ in built], answers=answers)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"patch": "add"},
        {"source": "instructions"},
        {"corruption": "zero_shot"},
        {"corruption": "swap"},
        {"patch": "add", "source": "instructions", "corruption": "drop"},
    ],
    ids=str,
)
def test_the_check_is_of_the_prompts_and_the_patch_asked_for(tok, options):
    model, given = tiny.shared("llama"), {"prompts": 2, "mean_prompts": 3, "shots": 2}
    tried = joint_check(model, tok, NEXT, PAIR, draws=1, **given, **options)
    drawn = {"prompts": 5, "shots": 2, "seed": 1}
    told = demonstrations(NEXT, source=options.get("source", "demonstrations"), **drawn)
    untold = counterfactuals(NEXT, corruption=options.get("corruption", "shuffle_and_drop"), **drawn)
    # Adding the means without an instruction would take nothing away: this side is always replaced.
    sides = {"sufficiency": (untold, told, options.get("patch", "replace")), "necessity": (told, untold, "replace")}
    for side, (asked, instead, patch) in sides.items():
        texts, answers = zip(*asked[:2], strict=True)
        means = means_over(model, tok, instead[2:])
        clean, changed = joint_effects(model, tok, texts, answers, means, [PAIR], patch=patch)
        torch.testing.assert_close(getattr(tried, side).clean, clean)
        torch.testing.assert_close(getattr(tried, side).chosen, changed[0])
    if options:
        plain = joint_check(model, tok, NEXT, PAIR, draws=1, **given)
        assert not torch.allclose(plain.sufficiency.chosen, tried.sufficiency.chosen, atol=1e-5)


def test_more_than_half_of_the_heads_have_no_random_sets_beside_them(tok):
    heads = [(layer, head) for layer in range(tiny.LAYERS) for head in range(tiny.HEADS)]
    half = len(heads) // 2
    assert (
        joint_check(
            tiny.shared("llama"), tok, NEXT, heads[:half], prompts=2, mean_prompts=2, shots=2, draws=2
        ).necessity.random.shape[0]
        == 2
    )
    with pytest.raises(VectorError, match=f"{half + 1} of {len(heads)} heads are chosen"):
        joint_check(tiny.shared("llama"), tok, NEXT, heads[: half + 1], prompts=2, mean_prompts=2, shots=2, draws=2)


def test_the_check_averages_only_over_prompts_answered_right_where_that_is_asked_for(tok):
    model, given = tiny.shared("llama"), {"prompts": 2, "mean_prompts": 8, "shots": 2, "source": "instructions"}
    rows = []
    for number, row in enumerate(NEXT.rows):
        ids = torch.tensor([tok(instructed(NEXT, row).text)["input_ids"]])
        with torch.no_grad():
            own = tok.decode(model(input_ids=ids).logits[0, -1].argmax())
        rows.append(Example(row.input, own if number % 2 else row.output))
    task = Task(name="half right", instructions=NEXT.instructions[:1], rows=tuple(rows))
    tried, plain = (joint_check(model, tok, task, PAIR, draws=1, only_right=right, **given) for right in (True, False))
    told = demonstrations(task, prompts=10, shots=2, source="instructions", seed=1)
    untold = counterfactuals(task, prompts=10, shots=2, seed=1)
    texts, answers = zip(*untold[:2], strict=True)
    means = means_over(model, tok, told[2:], right=True)
    torch.testing.assert_close(
        tried.sufficiency.chosen, joint_effects(model, tok, texts, answers, means, [PAIR])[1][0], rtol=0, atol=1e-9
    )
    assert not torch.allclose(tried.sufficiency.chosen, plain.sufficiency.chosen, atol=1e-6)
    assert torch.equal(tried.necessity.chosen, plain.necessity.chosen)  # means without the instruction know no right answers


def test_prompts_without_answers_and_too_few_to_average_over_are_refused(tok):
    model = tiny.shared("llama")
    for ask in (estimated_effects, joint_effects):
        rest = (tiny.means("llama"), [[(0, 0)]]) if ask is joint_effects else (tiny.means("llama"),)
        for targets in ([], [" w1"]):
            with pytest.raises(DataError, match="need as many targets as prompts, and at least one"):
                ask(model, tok, [tiny.PROMPTS[0]] * 2 if targets else [], targets, *rest)
    few = replace(load_task("present-past"), rows=load_task("present-past").rows[:8])
    with pytest.raises(DataError, match="present-past gives 8 prompts: all of them are tried and none is left"):
        joint_check(model, tok, few, [(0, 0)])


@pytest.mark.parametrize("heads", [[(3, 0)], []])
def test_heads_that_do_not_exist_are_refused(tok, heads):
    with pytest.raises(VectorError):
        joint_check(tiny.shared("llama"), tok, load_task("present-past"), heads)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_activations_that_are_not_finite_are_refused_and_never_significant(value, tok):
    causal_lm = tiny.model("llama")
    means = tiny.means("llama")
    with pytest.raises(HookError, match="effects are not finite: the model produced NaN or infinite activations"):
        joint_effects(causal_lm, tok, tiny.PROMPTS, tiny.TARGETS, means * value, [PAIR])
    with torch.no_grad():
        causal_lm.get_input_embeddings().weight[tok(tiny.PROMPTS[1])["input_ids"][-1]] = value
    with pytest.raises(HookError, match="effects are not finite"):
        joint_effects(causal_lm, tok, tiny.PROMPTS, tiny.TARGETS, means, [PAIR])
