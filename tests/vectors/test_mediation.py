"""The sweep gives what one whole forward a head gives."""

import logging
import weakref
from contextlib import contextmanager

import naive
import pytest
import tiny
import torch
from peft import LoraConfig, get_peft_model
from transformers import DynamicCache

from instruction_vectors import InstructionVector, causal_effects, mean_head_outputs
from instruction_vectors.errors import DataError, HookError, VectorError
from instruction_vectors.models.anatomy import anatomy_of, tolerance
from instruction_vectors.models.prefix import SharedPrefix
from instruction_vectors.vectors.joint import joint_effects
from instruction_vectors.vectors.mediation import all_heads
from instruction_vectors.vectors.mediation_slow import whole_forwards
from instruction_vectors.vectors.screening import estimated_effects
from instruction_vectors.vectors.sweep import Patches, Question, sweep

EXACT = {"falcon", "falcon-alibi", "gpt2", "gpt-oss", "mpt", "bloom"}
"""Families whose eager attention keeps to float64."""
ROUNDED = {"mpt", "bloom"}
"""Of these, those that take the softmax in float32, so that a last bit of float64 may become one of float32."""


def oracle(family, causal_lm, prompts=tiny.PROMPTS, targets=tiny.TARGETS, tokenizer=None, **options):
    o_projs = tiny.o_projs(causal_lm, family)
    return naive.effects(causal_lm, tokenizer or tiny.tokenizer(), o_projs, prompts, targets, tiny.means(family), **options)


def gap(found, expected) -> float:
    """Largest difference, relative to the largest effect, which must be there to be compared with."""
    assert expected.abs().max() >= 0.01
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize(("family", "attention"), tiny.GRID)
def test_effects_are_those_of_one_forward_a_head(family, attention, tok):
    causal_lm = tiny.shared(family, attention)
    expected = oracle(family, causal_lm)
    exact = 1e-9 if attention == "sdpa" or family in EXACT else 1e-5
    means = tiny.means(family)
    assert gap(causal_effects(causal_lm, tok, tiny.PROMPTS, tiny.TARGETS, means), expected) < exact
    assert gap(causal_effects(causal_lm, tok, tiny.PROMPTS, tiny.TARGETS, means, batch_size=1), expected) < exact
    assert gap(oracle(family, causal_lm, shift=1), expected) > 0.1  # a wrong head would be noticed


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2", "bloom"])
@pytest.mark.parametrize(
    ("measure", "patch"),
    [
        ("log_probability", "replace"),
        ("probability", "add"),
        ("log_probability", "add"),
        ("answer", "replace"),
        ("answer", "add"),
    ],
)
def test_other_measures_and_patches_agree_with_the_oracle(family, measure, patch, tok):
    causal_lm = tiny.shared(family)
    expected = oracle(family, causal_lm, measure=measure, patch=patch)
    options = {"measure": measure, "patch": patch}
    assert gap(causal_effects(causal_lm, tok, tiny.PROMPTS, tiny.TARGETS, tiny.means(family), **options), expected) < 1e-5
    other = {"measure": measure, "patch": "add" if patch == "replace" else "replace"}
    assert gap(causal_effects(causal_lm, tok, tiny.PROMPTS, tiny.TARGETS, tiny.means(family), **other), expected) > 1e-2


@pytest.mark.parametrize("family", ["llama", "mistral", "opt", "gpt-neox", "bloom"])
def test_prompts_of_one_token_need_no_prefix(family):
    causal_lm, tokenizer = tiny.shared(family), tiny.tokenizer(bos=False)
    prompts, targets = (tiny.text(3), tiny.text(4, 5, 6)), (" w5", " w6")
    options = {"measure": "log_probability"}
    expected = oracle(family, causal_lm, prompts, targets, tokenizer, **options)
    means = tiny.means(family)
    assert gap(causal_effects(causal_lm, tokenizer, prompts, targets, means, **options), expected) < 1e-5
    assert gap(causal_effects(causal_lm, tokenizer, prompts, targets, means, batch_size=2, **options), expected) < 1e-5
    assert gap(causal_effects(causal_lm, tokenizer, prompts[:1], targets[:1], means, **options), expected[:1]) < 1e-5


@pytest.mark.parametrize("family", ["llama", "mistral", "gpt2", "gemma3", "starcoder2"])
@torch.no_grad()
def test_the_sweep_itself_equals_whole_forwards_row_by_row(family, tok):
    causal_lm = tiny.shared(family)
    anatomy = anatomy_of(causal_lm)
    ids = [tok(prompt)["input_ids"] for prompt in tiny.PROMPTS]
    heads = all_heads(anatomy)
    sets = [(), *((head,) for head in heads)]
    for answers in ([[9], [10], [11]], [[9, 4, 5], [10], [11, 12]]):
        questions = [Question(*each) for each in zip(ids, answers, strict=True)]
        patches = Patches(heads, tiny.means(family), "replace")
        swept = sweep(anatomy, questions, patches, tokens_at_once=1000)
        in_parts = sweep(anatomy, questions, patches, tokens_at_once=45)
        torch.testing.assert_close(in_parts, swept, atol=1e-5, rtol=1e-5)
        for number, answer in enumerate(answers):
            whole = whole_forwards(anatomy, ids[number], answer, tiny.means(family), "replace", sets, tokens_at_once=20)
            torch.testing.assert_close(swept[number], whole, atol=1e-5, rtol=1e-5)


LONG_TARGETS = (" w5 w9 w2", " w6", " w7 w8")


@pytest.mark.parametrize(("family", "attention"), tiny.GRID)
def test_effects_on_whole_answers_are_those_of_one_forward_a_head(family, attention, tok):
    causal_lm, means = tiny.shared(family, attention), tiny.means(family)
    expected = oracle(family, causal_lm, targets=LONG_TARGETS, measure="answer")
    exact = 1e-9 if attention == "sdpa" or family in EXACT - ROUNDED else 1e-5
    for batch in (1, None):
        found = causal_effects(causal_lm, tok, tiny.PROMPTS, LONG_TARGETS, means, measure="answer", batch_size=batch)
        assert gap(found, expected) < exact
    first = oracle(family, causal_lm, targets=LONG_TARGETS, measure="log_probability")
    assert gap(first, expected) > 0.01  # the first token alone is another measure
    assert gap(first[1], expected[1]) < exact  # but not of an answer of one token


PLACES = {
    "prefill": lambda hidden, cache: type(cache) is DynamicCache and hidden.shape[0] > 1,
    "sweep": lambda hidden, cache: type(cache) is SharedPrefix and hidden.shape[1] > 6,
    "comparison": lambda hidden, cache: cache is None and hidden.shape[0] > 1,
}
LONGEST = max(len(prompt.split()) + 1 for prompt in tiny.PROMPTS)
SETTLED = {"prefill": (2048, 3 * 13 // 2), "sweep": (2048, 13 // 2), "comparison": (2048, LONGEST)}
ERRORS = {
    "gpu": lambda: torch.OutOfMemoryError("CUDA out of memory"),
    "cpu": lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
}


@contextmanager
def little_memory(causal_lm, too_much, error):
    """Fail wherever `too_much` says so of a layer's input and its cache; nothing of a failed attempt may stay."""
    anatomy_of(causal_lm)
    failed = []

    def hook(module, args, kwargs):
        hidden = args[0]
        assert not any(one() is not None for one in failed)
        if too_much(hidden, kwargs["past_key_values"]):
            failed.append(weakref.ref(hidden))
            raise error()

    handle = causal_lm.model.layers[-1].register_forward_pre_hook(hook, with_kwargs=True)
    yield failed
    handle.remove()


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("place", PLACES)
def test_what_does_not_fit_into_memory_goes_on_in_smaller_parts_and_says_so_once(place, error, tok, caplog):
    causal_lm = tiny.model("llama")
    with caplog.at_level(logging.WARNING, "instruction_vectors"), little_memory(causal_lm, PLACES[place], error) as failed:
        found = causal_effects(causal_lm, tok, tiny.PROMPTS, tiny.TARGETS, tiny.means("llama"))
        tries = len(failed)
        again = causal_effects(causal_lm, tok, tiny.PROMPTS, tiny.TARGETS, tiny.means("llama"))
    assert gap(found, oracle("llama", tiny.shared("llama"))) < 1e-5
    assert torch.equal(found, again)
    assert len(failed) == tries > 0  # what fits is remembered
    wanted, settled = SETTLED[place]
    assert [record.getMessage() for record in caplog.records] == [
        f"out of memory with {wanted} tokens at once: going on with {settled}"
    ]


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize(
    "place",
    [
        lambda hidden, cache: type(cache) is DynamicCache,
        lambda hidden, cache: type(cache) is SharedPrefix,
        lambda hidden, cache: cache is None,
    ],
    ids=PLACES,
)
def test_a_model_that_never_fits_says_so_and_is_swept_once_there_is_room(place, error, tok, caplog):
    causal_lm = tiny.model("llama")
    given = (causal_lm, tok, tiny.PROMPTS, tiny.TARGETS, tiny.means("llama"))
    with caplog.at_level(logging.WARNING, "instruction_vectors"):
        with pytest.raises(RuntimeError, match="memory"), little_memory(causal_lm, place, error):
            causal_effects(*given)
        for layer in causal_lm.model.layers:
            layer._forward_pre_hooks.clear()
        assert gap(causal_effects(*given), oracle("llama", tiny.shared("llama"))) < 1e-5
    assert not caplog.records


def test_whole_forwards_that_do_not_fit_into_memory_go_on_in_smaller_parts(tok, caplog):
    causal_lm = tiny.model("bloom")

    def small(module, args, kwargs):
        if args[0].shape[0] > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")

    causal_lm.transformer.h[-1].register_forward_pre_hook(small, with_kwargs=True)
    with caplog.at_level(logging.WARNING, "instruction_vectors"):
        found = causal_effects(causal_lm, tok, tiny.PROMPTS, tiny.TARGETS, tiny.means("bloom"))
    assert gap(found, oracle("bloom", tiny.shared("bloom"))) < 1e-5
    slower, smaller = (record.getMessage() for record in caplog.records)
    assert "slower" in slower
    assert smaller.startswith("out of memory with 2048 tokens at once: going on with ")


@pytest.mark.parametrize("family", ["llama", "bloom"])
@pytest.mark.parametrize("tokens_at_once", [20, 25])
def test_no_forward_holds_more_tokens_than_allowed_on_either_route(tokens_at_once, family, tok):
    causal_lm, sizes = tiny.model(family), []
    given = (causal_lm, tok, tiny.PROMPTS, tiny.TARGETS, tiny.means(family))
    expected = causal_effects(*given)
    last = anatomy_of(causal_lm).layers[-1]
    last.register_forward_pre_hook(lambda module, args: sizes.append(args[0].shape[:2].numel()))
    causal_effects(*given)
    assert max(sizes) > tokens_at_once
    sizes.clear()
    assert gap(causal_effects(*given, tokens_at_once=tokens_at_once), expected) < 1e-5
    assert max(sizes) <= tokens_at_once


@pytest.mark.parametrize("batch_size", [0, -1])
@pytest.mark.parametrize("family", ["llama", "bloom"])
def test_a_batch_holds_at_least_one_prompt(family, batch_size, tok):
    with pytest.raises(DataError, match=f"batch_size must be at least 1, got {batch_size}"):
        causal_effects(tiny.shared(family), tok, tiny.PROMPTS, tiny.TARGETS, tiny.means(family), batch_size=batch_size)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_whole_forwards_are_run_where_the_sweep_does_not_fit_and_only_there(family, tok, caplog):
    causal_lm = tiny.model(family)
    with caplog.at_level(logging.WARNING, "instruction_vectors"):
        for _ in range(2):
            causal_effects(causal_lm, tok, tiny.PROMPTS, tiny.TARGETS, tiny.means(family))
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == (family in tiny.WHOLE_FORWARDS)
    assert all(type(causal_lm).__name__ in message and "slower" in message for message in warnings)


def test_a_sweep_that_goes_wrong_only_on_longer_prompts_is_found_out(tok, caplog):
    causal_lm = tiny.model("mistral")
    means, short, long = tiny.means("mistral"), (tiny.text(3, 4),), tiny.PROMPTS[:1]
    expected = oracle("mistral", causal_lm, long, tiny.TARGETS[:1])
    # The masks then know of no window, the layers go on to use theirs.
    for layer in causal_lm.model.layers:
        layer.self_attn.register_forward_pre_hook(_narrowed, with_kwargs=True)
    with caplog.at_level(logging.WARNING, "instruction_vectors"):
        causal_effects(causal_lm, tok, short, tiny.TARGETS[:1], means)
        assert not caplog.records
        causal_lm.config.sliding_window = None
        found = causal_effects(causal_lm, tok, long, tiny.TARGETS[:1], means)
    assert "nats" in caplog.text
    assert gap(found, expected) < 1e-5


def _narrowed(module, args, kwargs):
    mask = kwargs["attention_mask"]
    if mask is None or mask.shape[-1] != mask.shape[-2]:
        return None
    query = torch.arange(mask.shape[-1])
    blocked = query[:, None] - query[None, :] >= tiny.WINDOW
    return args, {**kwargs, "attention_mask": mask.masked_fill(blocked, torch.finfo(mask.dtype).min)}


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["o_proj"]])
def test_an_adapter_takes_part_in_the_effects_and_merging_it_changes_none(targets, tok):
    causal_lm = tiny.model("llama", attention="sdpa")
    wrapped = get_peft_model(causal_lm, LoraConfig(r=4, target_modules=targets, init_lora_weights=False)).eval()
    expected = oracle("llama", causal_lm)
    means = tiny.means("llama")
    found = causal_effects(wrapped, tok, tiny.PROMPTS, tiny.TARGETS, means)
    assert gap(found, expected) < 1e-6
    assert gap(oracle("llama", tiny.shared("llama", "sdpa")), expected) > 0.1
    merged = wrapped.merge_and_unload()
    assert gap(causal_effects(merged, tok, tiny.PROMPTS, tiny.TARGETS, means), expected) < 1e-6


def test_results_come_in_the_models_precision_and_progress_is_told(tok):
    means, done = tiny.means("llama"), []
    double = causal_effects(tiny.shared("llama"), tok, tiny.PROMPTS, tiny.TARGETS, means, batch_size=2, progress=done.append)
    assert double.dtype == torch.float64
    assert done == [2, 3]
    for dtype in (torch.float32, torch.bfloat16):
        found = causal_effects(tiny.model("llama", dtype=dtype), tok, tiny.PROMPTS, tiny.TARGETS, means)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), double, atol=1e-5 if dtype == torch.float32 else 1e-2, rtol=0)


def test_a_model_in_training_mode_is_measured_in_evaluation_mode_and_given_back(tok):
    causal_lm = tiny.model("llama", attention_dropout=0.5)
    for layer in causal_lm.model.layers:
        layer.self_attn.attention_dropout = 0.5
    causal_lm.train()
    causal_lm.model.layers[1].eval()
    found = causal_effects(causal_lm, tok, tiny.PROMPTS, tiny.TARGETS, tiny.means("llama"))
    assert gap(found, oracle("llama", tiny.shared("llama"))) < 1e-5
    assert causal_lm.training
    assert causal_lm.model.layers[0].training
    assert not causal_lm.model.layers[1].training


@pytest.mark.parametrize("family", ["llama", "bloom"])
def test_activations_that_are_not_finite_are_refused(family, tok):
    means = tiny.means(family)
    means[1, 2] = float("nan")
    with pytest.raises(HookError, match="not finite"):
        causal_effects(tiny.shared(family), tok, tiny.PROMPTS, tiny.TARGETS, means)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("family", ["llama", "bloom"])
@pytest.mark.parametrize("effects", [causal_effects, estimated_effects])
@pytest.mark.parametrize("number", [0, 1], ids=["longest", "another"])
def test_weights_that_are_not_numbers_are_named_as_the_cause(number, effects, family, value, tok, caplog):
    causal_lm = tiny.model(family)
    word = tok(tiny.PROMPTS[number])["input_ids"][-1]
    with torch.no_grad():
        causal_lm.get_input_embeddings().weight[word] = value
    with pytest.raises(HookError, match="effects are not finite: the model produced NaN or infinite activations"):
        effects(causal_lm, tok, tiny.PROMPTS, tiny.TARGETS, tiny.means(family))
    assert ("slower" in caplog.text) == (effects is causal_effects and family in tiny.WHOLE_FORWARDS)


def test_a_sweep_that_alone_gives_no_numbers_gives_way_to_whole_forwards(tok, caplog):
    causal_lm = tiny.model("llama")

    def spoil(module, args, kwargs, output):
        return output * float("nan") if isinstance(kwargs["past_key_values"], SharedPrefix) else output

    causal_lm.model.layers[1].register_forward_hook(spoil, with_kwargs=True)
    found = causal_effects(causal_lm, tok, tiny.PROMPTS, tiny.TARGETS, tiny.means("llama"))
    assert gap(found, oracle("llama", tiny.shared("llama"))) < 1e-5
    assert "slower" in caplog.text


def test_means_of_another_shape_are_refused_with_both_shapes(tok):
    with pytest.raises(DataError, match=r"\(3, 4, 7\).*\(3, 4, 8\)"):
        causal_effects(tiny.shared("llama"), tok, tiny.PROMPTS, tiny.TARGETS, torch.zeros(3, 4, 7))


@pytest.mark.parametrize(
    ("prompts", "targets", "reason"),
    [(["w1"], [""], "nothing"), (["w1", "w2"], [" w3"], "as many"), ([], [], "at least one")],
)
def test_targets_that_say_nothing_are_refused(prompts, targets, reason, tok):
    with pytest.raises(DataError, match=reason):
        causal_effects(tiny.shared("llama"), tok, prompts, targets, tiny.means("llama"))


def test_hooks_are_gone_afterwards_even_after_a_failure(tok):
    causal_lm = tiny.model("llama")
    causal_effects(causal_lm, tok, tiny.PROMPTS, tiny.TARGETS, tiny.means("llama"))
    with pytest.raises(HookError):
        causal_effects(causal_lm, tok, tiny.PROMPTS, tiny.TARGETS, tiny.means("llama") * float("nan"))
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in causal_lm.modules())
    assert "forward" not in causal_lm.model.__dict__


def test_the_real_models_effects_are_those_of_one_forward_a_head(real):
    causal_lm, tokenizer = real
    shots = "Input: big\nOutput: small\n\nInput: hot\nOutput: cold\n\nInput: {}\nOutput:"
    means = mean_head_outputs(causal_lm, tokenizer, [shots.format(word) for word in ("up", "day", "fast", "early")])
    prompts = ["Input: big\nOutput: cold\n\nInput: hot\nOutput: small\n\nInput: left\nOutput:", "Input: open\nOutput:"]
    targets = [" right", " closed"]
    found = causal_effects(causal_lm, tokenizer, prompts, targets, means, batch_size=2)
    top = found.mean(0).flatten().abs().topk(4).indices.tolist()
    spread = range(4, found[0].numel(), 35)
    heads = [divmod(index, found.shape[2]) for index in {*top, *spread}]
    o_projs = [layer.self_attn.o_proj for layer in causal_lm.model.layers]
    expected = naive.effects(causal_lm, tokenizer, o_projs, prompts, targets, means, heads=heads)
    measured = expected.isfinite()
    assert measured.sum() >= 2 * 11
    assert expected[measured].abs().max() > 1e-3
    torch.testing.assert_close(found[measured].double(), expected[measured], atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2", "mixtral", "bloom"])
def test_a_few_heads_have_the_effects_they_have_among_all(family, tok):
    causal_lm, means = tiny.shared(family), tiny.means(family)
    measure = {"measure": "log_probability"}
    everything = causal_effects(causal_lm, tok, tiny.PROMPTS, tiny.TARGETS, means, **measure)
    few = [(2, 3), (0, 1), (2, 0), (0, 1)]
    for options in ({}, {"batch_size": 3}):
        found = causal_effects(causal_lm, tok, tiny.PROMPTS, tiny.TARGETS, means, heads=few, **measure, **options)
        measured = ~found.isnan()
        assert [tuple(head) for head in measured[0].nonzero().tolist()] == sorted(set(few))
        assert gap(found[measured], everything[measured]) < 1e-5


def test_heads_that_do_not_exist_are_not_measured(tok):
    with pytest.raises(VectorError, match=r"head \(3, 0\) does not exist"):
        causal_effects(tiny.shared("llama"), tok, tiny.PROMPTS, tiny.TARGETS, tiny.means("llama"), heads=[(3, 0)])


@pytest.mark.parametrize(
    ("option", "message"), [({"measure": "prob"}, "measure must be 'probability' or"), ({"patch": "adding"}, "patch must be")]
)
def test_another_word_for_an_option_is_refused_with_those_there_are(option, message, tok):
    causal_lm, means = tiny.shared("llama"), tiny.means("llama")
    for measure in (causal_effects, estimated_effects):
        with pytest.raises(VectorError, match=message):
            measure(causal_lm, tok, tiny.PROMPTS, tiny.TARGETS, means, **option)
    if "patch" in option:
        with pytest.raises(VectorError, match=message):
            joint_effects(causal_lm, tok, tiny.PROMPTS, tiny.TARGETS, means, [[(0, 1)]], **option)


@pytest.mark.parametrize("measured", [causal_effects, estimated_effects])
def test_effects_are_not_measured_while_a_vector_goes_in(measured):
    causal_lm = tiny.model("llama")
    vector = InstructionVector.from_means(causal_lm, tiny.means("llama"), ((2, 0),))
    given = (tiny.tokenizer(), tiny.PROMPTS, tiny.TARGETS, tiny.means("llama"))
    with pytest.raises(HookError, match="measure effects outside of the `with` block"), vector.applied(causal_lm):
        measured(causal_lm, *given)
    with pytest.raises(HookError, match="measure effects outside of the `with` block"), vector.applied(causal_lm):
        joint_effects(causal_lm, *given, [[(2, 0)]])


def test_heads_may_come_as_lists_and_prompts_not_as_a_text():
    causal_lm, tok = tiny.shared("llama"), tiny.tokenizer()
    pairs = causal_effects(causal_lm, tok, tiny.PROMPTS, tiny.TARGETS, tiny.means("llama"), heads=[(1, 2)])
    lists = causal_effects(causal_lm, tok, tiny.PROMPTS, tiny.TARGETS, tiny.means("llama"), heads=[[1, 2]])
    torch.testing.assert_close(pairs, lists, equal_nan=True)
    with pytest.raises(DataError, match="as many targets as prompts"):
        causal_effects(causal_lm, tok, "one", "two", tiny.means("llama"))
    with pytest.raises(DataError, match="a list of at least one prompt"):
        mean_head_outputs(causal_lm, tok, "one text")
    with pytest.raises(DataError, match="prompt 2 has no tokens"):
        mean_head_outputs(causal_lm, tok, [[1, 2], []])


def test_a_sweep_in_tf32_is_allowed_what_tf32_rounds():
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    strict, before = tolerance(torch.float32, cuda), torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        assert tolerance(torch.float32, cuda) > strict
        assert tolerance(torch.float32, cpu) == strict
        assert tolerance(torch.float64, cuda) < strict
    finally:
        torch.set_float32_matmul_precision(before)
    assert tolerance(torch.float32, cuda) == strict
