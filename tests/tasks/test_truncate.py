"""Cutting inputs in their middle: the budget holds, instruction, shots and cue stay, and what was cut is counted."""

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from instruction_vectors.errors import DataError
from instruction_vectors.tasks import Example, Task
from instruction_vectors.tasks.layout import template_of
from instruction_vectors.tasks.truncate import MARK, fit, fit_all

TOKENIZER = tiny.tokenizer()
LONG = tiny.text(*range(30))
TASK = Task("t", ("w1 w2",), (Example(LONG, "w3"), Example("w5", "w3")), layout="{instruction} {input} w9")
TEMPLATE = template_of(TASK)


def count(text: str) -> int:
    return len(TOKENIZER(text)["input_ids"])


def test_a_short_input_is_left_alone() -> None:
    fitted = fit(TASK, TASK.rows[1], TOKENIZER, 100, template=TEMPLATE)
    assert fitted.prompt.text == "w1 w2 w5 w9"
    assert fitted.cut == 0
    assert fitted.tokens == count(fitted.prompt.text)


def test_the_middle_goes_and_both_ends_stay() -> None:
    fitted = fit(TASK, TASK.rows[0], TOKENIZER, 15, template=TEMPLATE)
    assert fitted.tokens <= 15
    head, tail = fitted.prompt.text.split(MARK)
    assert head.startswith("w1 w2 w0 w1")
    assert tail.endswith("w29 w9")
    assert fitted.cut == len(LONG) - (len(fitted.prompt.text) - len("w1 w2 " + MARK + " w9"))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 35), min_size=1, max_size=60), st.integers(3, 40), st.integers(0, 2))
def test_the_budget_holds_and_is_used(numbers: list[int], budget: int, shots: int) -> None:
    row = Example(tiny.text(*numbers), "w3")
    shown = (Example("w7", "w8"),) * shots
    try:
        fitted = fit(TASK, row, TOKENIZER, budget, shots=shown, template=TEMPLATE)
    except DataError:
        assert count(TEMPLATE(TASK.instruction, shown, MARK)) > budget
        return
    text = fitted.prompt.text
    assert count(text) == fitted.tokens <= budget
    assert text.startswith("w1 w2 ")
    assert text.endswith(" w9")
    assert text.count("w7 w9 w8") >= shots
    assert fitted.prompt.target == " w3"
    if fitted.cut:
        assert count(TEMPLATE(TASK.instruction, shown, row.input)) > budget
        assert fitted.tokens >= budget - 3  # no more than a word or two is cut in vain
        kept = len(row.input) - fitted.cut
        assert row.input[: kept - kept // 2] in text
        assert row.input[len(row.input) - kept // 2 :] in text


def test_what_cannot_fit_is_refused() -> None:
    with pytest.raises(DataError, match=r"take \d+ tokens, more than the 4 there are"):
        fit(TASK, TASK.rows[0], TOKENIZER, 4, template=TEMPLATE)


def test_what_was_cut_is_counted() -> None:
    prompts, truncation = fit_all(TASK, TASK.rows, TOKENIZER, 15, template=TEMPLATE)
    assert len(prompts) == truncation.prompts == 2
    assert truncation.cut_prompts == 1
    assert truncation.cut_characters > 0
    assert str(truncation).startswith("1 of 2 inputs cut in their middle")
