"""Universal heads are those of the largest mean effect over the tasks; each task keeps its own means."""

import pytest
import tiny
import torch

from instruction_vectors import Example, Task, extract
from instruction_vectors.errors import DataError
from instruction_vectors.vectors.choosing import top_heads
from instruction_vectors.vectors.extraction import head_effects, mean_head_outputs
from instruction_vectors.vectors.prompting import demonstrations
from instruction_vectors.vectors.universal import extract_all


def task(name, step) -> Task:
    rows = tuple(Example(f"w{i}", f"w{i + step}") for i in range(2, 14))
    return Task(name=name, instructions=(f"w0 w{step}",), rows=rows)


TASKS = [task("next", 1), task("after", 2)]
SIZES = {"prompts": 4, "shots": 2}


def test_heads_are_those_of_the_mean_over_tasks_and_values_each_tasks_own(tok):
    causal_lm = tiny.shared("llama", "sdpa")
    found = extract_all(causal_lm, tok, TASKS, k=3, effect_prompts=3, layer=1, **SIZES)
    means = {each.name: mean_head_outputs(causal_lm, tok, [text for text, _ in demonstrations(each, **SIZES)]) for each in TASKS}
    effects = [head_effects(causal_lm, tok, each, means[each.name], prompts=3, shots=2).mean(0) for each in TASKS]
    heads = top_heads(torch.stack(effects), 3)
    assert {top_heads(one, 3) for one in effects} != {heads}  # neither task alone would have chosen them for both
    for name, vector in found.items():
        assert vector.heads == heads
        assert torch.equal(vector.values, torch.stack([means[name][head] for head in heads]).float())
        assert vector.metadata["universal"] == ["next", "after"]
        assert vector.metadata["scores"] == pytest.approx([float(torch.stack(effects).mean(0)[head]) for head in heads])
        assert vector.layer == 1
    assert list(found) == ["next", "after"]


def test_of_one_task_it_is_that_tasks_vector(tok):
    causal_lm = tiny.shared("llama", "sdpa")
    (found,) = extract_all(causal_lm, tok, TASKS[:1], k=2, effect_prompts=2, **SIZES).values()
    alone = extract(causal_lm, tok, TASKS[0], k=2, effect_prompts=2, **SIZES)
    assert found.heads == alone.heads
    assert torch.equal(found.values, alone.values)


@pytest.mark.parametrize(("tasks", "told"), [([], "none"), ([TASKS[0], TASKS[0]], "next, next")])
def test_tasks_that_cannot_be_told_apart_are_refused(tasks, told, tok):
    with pytest.raises(DataError, match=f"different names, got: {told}"):
        extract_all(tiny.shared("llama", "sdpa"), tok, tasks)


def test_heads_that_are_known_are_taken_and_each_task_has_the_vector_it_would_have_alone(tok):
    causal_lm, heads = tiny.shared("llama", "sdpa"), [(2, 1), (0, 3)]
    found = extract_all(causal_lm, tok, TASKS, heads=heads, **SIZES)
    for each in TASKS:
        alone = extract(causal_lm, tok, each, heads=heads, **SIZES)
        assert found[each.name].heads == alone.heads == tuple(heads)
        assert torch.equal(found[each.name].values, alone.values)
        assert found[each.name].metadata == alone.metadata
