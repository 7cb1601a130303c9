"""Counterfactual prompts that ask for another task."""

import pytest

from instruction_vectors import load_task
from instruction_vectors.errors import DataError
from instruction_vectors.tasks import task_names
from instruction_vectors.tasks.prompts import counterfactual
from instruction_vectors.vectors.prompting import counterfactuals, demonstrations


def test_a_swapped_prompt_has_another_tasks_instruction_over_the_same_solved_examples():
    task = load_task("present-past")
    others = {load_task(name).instruction for name in task_names() if name != task.name}
    dropped = counterfactuals(task, prompts=6, shots=3, corruption="drop")
    swapped = counterfactuals(task, prompts=6, shots=3, corruption="swap")
    seen = set()
    for (bare, answer), (text, same) in zip(dropped, swapped, strict=True):
        instruction, rest = text.split("\n", 1)
        assert instruction in others
        assert instruction not in task.instructions
        assert (rest, same) == (bare, answer)
        seen.add(instruction)
    assert len(seen) > 1
    assert swapped == counterfactuals(task, prompts=6, shots=3, corruption="swap")


def test_a_swap_needs_an_instruction_to_give():
    task = load_task("present-past")
    with pytest.raises(DataError, match="another task's instruction"):
        counterfactual(task, task.rows[0], shots=(), corruption="swap")


def test_another_source_or_corruption_is_refused_with_those_there_are():
    task = load_task("antonym")
    with pytest.raises(DataError, match="source must be 'demonstrations' or 'instructions', got 'instruction'"):
        demonstrations(task, prompts=2, shots=2, source="instruction")
    with pytest.raises(DataError, match=r"corruption must be 'shuffle_and_drop' or .*, got 'zeroshot'"):
        counterfactuals(task, prompts=2, shots=2, corruption="zeroshot")
