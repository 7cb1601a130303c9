"""The setting that is best on validation rows, found as one would by trying each by hand."""

import pytest
import tiny
import torch

from instruction_vectors import Example, InstructionVector, Task
from instruction_vectors.analysis.sweep import sweep
from instruction_vectors.errors import DataError, VectorError
from instruction_vectors.tasks.prompts import instructed

ROWS = tuple(Example(f"w{i}", f"w{i + 1}") for i in range(2, 14))
TASK = Task(name="next", instructions=("w0 w1",), rows=ROWS)
HEADS = ((0, 1), (2, 3), (1, 0))


def vector(causal_lm, family="llama") -> InstructionVector:
    return InstructionVector.from_means(causal_lm, 3 * tiny.means(family), HEADS)


@torch.no_grad()
def by_hand(causal_lm, tok, vector, mode, scale) -> float:
    hits = 0
    for row in ROWS:
        prompt = instructed(TASK, row)
        ids = torch.tensor([tok(prompt.text)["input_ids"]])
        where = torch.zeros_like(ids, dtype=torch.bool)
        where[0, -1] = True
        with vector.applied(causal_lm, mode=mode, scale=scale, positions=where):
            likeliest = int(causal_lm(input_ids=ids).logits[0, -1].argmax())
        hits += likeliest == tok(prompt.target, add_special_tokens=False)["input_ids"][0]
    return hits / len(ROWS)


def test_every_setting_has_the_accuracy_it_has_alone_and_the_best_comes_first(tok):
    causal_lm = tiny.shared("llama", "sdpa")
    whole = vector(causal_lm)
    found = sweep(causal_lm, tok, TASK, ROWS, whole, ks=(1, 3), scales=(0.5, -4.0), layers=(1,))
    assert len(found) == 2 * 2 * 2
    for setting in found:
        put = InstructionVector.from_means(causal_lm, 3 * tiny.means("llama"), HEADS[: setting.k], layer=setting.layer)
        assert setting.accuracy == by_hand(causal_lm, tok, put, setting.mode, setting.scale)
    accuracies = [setting.accuracy for setting in found]
    assert accuracies == sorted(accuracies, reverse=True)
    equal = [(s.k, abs(s.scale)) for s in found if s.accuracy == accuracies[-1]]
    assert equal == sorted(equal)  # fewer heads first, then the weaker


def test_the_first_heads_make_the_vector_that_their_means_make(tok):
    causal_lm = tiny.shared("gpt2")
    first = vector(causal_lm, "gpt2").first(causal_lm, 2)
    made = InstructionVector.from_means(causal_lm, 3 * tiny.means("gpt2"), HEADS[:2])
    assert first.heads == made.heads
    assert torch.equal(first.values, made.values)
    assert torch.equal(first.summed, made.summed)
    for k in (0, 4):
        with pytest.raises(VectorError, match=f"has 3 heads, so not the first {k}"):
            vector(causal_lm, "gpt2").first(causal_lm, k)


def test_nothing_to_try_on_is_refused(tok):
    causal_lm = tiny.shared("llama", "sdpa")
    with pytest.raises(DataError, match="0 validation rows"):
        sweep(causal_lm, tok, TASK, (), vector(causal_lm))
