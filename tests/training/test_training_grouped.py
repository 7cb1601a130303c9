"""Vectors of groups of rows, against mean head outputs of the prompts one would write down oneself."""

import pytest
import tiny
import tiny_training as kit
import torch

from instruction_vectors.errors import DataError
from instruction_vectors.training.grouped import vectors_by_name
from instruction_vectors.vectors.extraction import mean_head_outputs
from instruction_vectors.vectors.vector import InstructionVector

TEMPLATE = "{% for m in messages %}{{ 'w31' if m.role == 'user' else 'w32' }} {{ m.content }} {% endfor %}w30"


def chat(*texts):
    return [{"role": "assistant" if i % 2 else "user", "content": text} for i, text in enumerate(texts)]


def by_hand(model, tokenizer, texts):
    return InstructionVector.from_means(model, mean_head_outputs(model, tokenizer, texts), kit.HEADS)


def check(got, want):
    torch.testing.assert_close(got.values, want.values)
    torch.testing.assert_close(got.summed, want.summed)
    assert got.heads == kit.HEADS


def test_each_group_has_the_mean_of_its_prompts_and_one_serves_all():
    model, tokenizer = tiny.shared("llama"), tiny.tokenizer()
    prompts = [tiny.text(5, i, 9) for i in range(5)]
    rows = [{"prompt": text, "completion": " w1"} for text in prompts]
    found = vectors_by_name(model, tokenizer, rows, ["a", "b", "a", "", "b"], kit.HEADS)
    assert set(found) == {"", "a", "b"}
    check(found["a"], by_hand(model, tokenizer, [prompts[0], prompts[2]]))
    check(found["b"], by_hand(model, tokenizer, [prompts[1], prompts[4]]))
    check(found[""], by_hand(model, tokenizer, prompts))
    assert found["a"].cosine(found["b"]) < 0.999


def test_a_chat_is_read_up_to_its_last_answer():
    model, tokenizer = tiny.shared("llama"), tiny.tokenizer()
    tokenizer.chat_template = TEMPLATE
    rows = [{"messages": chat("w1 w2", "w3", "w4", "w5")}, {"prompt": chat("w6"), "completion": chat("w7")}]
    found = vectors_by_name(model, tokenizer, rows, ["a", "b"], kit.HEADS)
    check(found["a"], by_hand(model, tokenizer, ["w31 w1 w2 w32 w3 w31 w4 w30"]))
    check(found["b"], by_hand(model, tokenizer, ["w31 w6 w30"]))


def test_of_a_large_group_rows_at_equal_distances_are_taken():
    model, tokenizer = tiny.shared("llama"), tiny.tokenizer()
    rows = [{"prompt": tiny.text(i, 9)} for i in range(10)]
    found = vectors_by_name(model, tokenizer, rows, ["a"] * 10, kit.HEADS, max_rows=4)
    check(found["a"], by_hand(model, tokenizer, [rows[i]["prompt"] for i in (0, 3, 6, 9)]))


@pytest.mark.parametrize("row", [{"text": "w1"}, {"messages": chat("w1")[:1]}, {"prompt": None}])
def test_a_row_without_a_prompt_is_refused(row):
    with pytest.raises(DataError, match="row 1 has neither a `prompt` nor `messages`"):
        vectors_by_name(tiny.shared("llama"), tiny.tokenizer(), [row], ["a"], kit.HEADS)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_no_part_of_a_prompt(side):
    model, tokenizer = tiny.shared("llama"), tiny.tokenizer()
    plain = [kit.row([1, 5, 9 + i], [7]) for i in range(4)]
    pad = {"input_ids": [0, 0], "labels": [-100, -100], "attention_mask": [0, 0]}
    rows = [
        {
            name: pad[name] + own if side == "left" else own + pad[name]
            for name, own in (row | {"attention_mask": [1] * 4}).items()
            if name in pad
        }
        for row in plain
    ]
    padded = vectors_by_name(model, tokenizer, rows, [""] * 4, kit.HEADS)[""]
    check(padded, vectors_by_name(model, tokenizer, plain, [""] * 4, kit.HEADS)[""])
