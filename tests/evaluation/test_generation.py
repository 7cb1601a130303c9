"""Batched greedy generation equals one prompt at a time, with and without a vector, and stops where it should."""

import pytest
import torch
from tests import tiny

from instruction_vectors import load
from instruction_vectors.errors import DataError, ModelError
from instruction_vectors.evaluation.generation import generate
from instruction_vectors.vectors.vector import InstructionVector

PROMPTS = [*tiny.PROMPTS, tiny.text(5), tiny.text(*range(12))]


def by_hand(model, tokenizer, prompt, new, vector=None):
    """Greedy decoding by whole forwards, the vector at the prompt's last token."""
    ids = tokenizer(prompt)["input_ids"]
    length, written = len(ids), []
    while len(written) < new:
        where = torch.zeros(1, len(ids), dtype=torch.bool)
        where[0, length - 1] = True
        if vector is None:
            logits = model(torch.tensor([ids])).logits
        else:
            with vector.applied(model, positions=where):
                logits = model(torch.tensor([ids])).logits
        token = int(logits[0, -1].argmax())
        if token == tokenizer.eos_token_id:
            break
        written.append(token)
        ids = [*ids, token]
    return tokenizer.decode(written, skip_special_tokens=True)


def vector_of(model):
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(tiny.LAYERS, tiny.HEADS, model.config.hidden_size // tiny.HEADS, generator=generator) * 5
    return InstructionVector.from_means(model, means, ((0, 1), (2, 3)))


@torch.no_grad()
@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral"])
@pytest.mark.parametrize("edited", [False, True])
def test_batched_equals_whole_forwards(family, edited):
    model, tokenizer = tiny.model(family, attention="sdpa"), tiny.tokenizer(bos=False)
    vector = vector_of(model) if edited else None
    expected = [by_hand(model, tokenizer, prompt, 6, vector) for prompt in PROMPTS]
    edit = (lambda where: vector.applied(model, positions=where)) if edited else None
    for size in (1, 3, 8):
        assert generate(model, tokenizer, PROMPTS, max_new_tokens=6, batch_size=size, edit=edit) == expected
    assert len(set(expected)) > 1


def test_the_vector_changes_what_is_written():
    model, tokenizer = tiny.model("llama", attention="sdpa"), tiny.tokenizer(bos=False)
    vector = vector_of(model)
    plain = generate(model, tokenizer, PROMPTS, max_new_tokens=6)
    assert plain != generate(
        model, tokenizer, PROMPTS, max_new_tokens=6, edit=lambda where: vector.applied(model, positions=where)
    )
    assert plain == generate(model, tokenizer, PROMPTS, max_new_tokens=6)


def test_an_answer_is_cut_before_its_stop_string_and_the_others_go_on():
    model, tokenizer = tiny.model("llama", attention="sdpa"), tiny.tokenizer(bos=False)
    whole = generate(model, tokenizer, PROMPTS, max_new_tokens=6)
    stop = whole[0].split()[2]
    expected = [text.split(stop)[0] for text in whole]
    assert generate(model, tokenizer, PROMPTS, max_new_tokens=6, stop=[stop, ""]) == expected
    assert any(text == cut for text, cut in zip(whole, expected, strict=True)) or len(set(whole)) == 1


def test_sampling_settings_of_the_model_are_set_aside_and_its_mode_is_kept():
    model, tokenizer = tiny.model("llama", attention="sdpa"), tiny.tokenizer(bos=False)
    expected = generate(model, tokenizer, PROMPTS, max_new_tokens=6)
    model.generation_config.update(do_sample=True, temperature=5.0, top_k=3, repetition_penalty=9.0)
    model.train()
    assert generate(model, tokenizer, PROMPTS, max_new_tokens=6) == expected
    assert model.training


def test_no_prompts_and_prompts_that_do_not_fit():
    model, tokenizer = tiny.model("llama", attention="sdpa"), tiny.tokenizer(bos=False)
    assert generate(model, tokenizer, []) == []
    with pytest.raises(DataError, match=r"prompt 2 has 3 tokens.*exceeds the model's 128"):
        generate(model, tokenizer, [tiny.text(1), tiny.text(1, 2, 3)], max_new_tokens=126)


def test_logits_that_are_not_numbers_are_noticed():
    model, tokenizer = tiny.model("llama", attention="sdpa"), tiny.tokenizer(bos=False)
    model.lm_head.weight.data[3] = float("nan")
    with pytest.raises(ModelError, match="not numbers"):
        generate(model, tokenizer, PROMPTS, max_new_tokens=2)


def test_batched_equals_single_on_the_real_model():
    model, tokenizer = load()
    prompts = ["The capital of France is", "One, two, three, four,", "Input: cat\nOutput:", "Q: Sky?\nA:"]
    batched = generate(model, tokenizer, prompts, max_new_tokens=4, stop=["\n"])
    assert batched == [generate(model, tokenizer, [prompt], max_new_tokens=4, stop=["\n"])[0] for prompt in prompts]
    assert batched[0].startswith(" Paris")
    assert not any("\n" in text for text in batched)
