"""The cost told beforehand counts the tokens that go through the model."""

import pytest
import tiny

from instruction_vectors import Example, Task
from instruction_vectors.models.anatomy import anatomy_of
from instruction_vectors.vectors.cost import Cost

TASK = Task(name="next", instructions=("w0 w1",), rows=tuple(Example(f"w{i}", f"w{i} w{i + 1}") for i in range(2, 20)))


class Words:
    """Instruction, shots and input one after another: with `<s>` before and answers of two words, easy to count."""

    name = "words"

    def __call__(self, instruction, shots, input):
        return " ".join([*([instruction] if instruction else []), *(f"{s.input} {s.output}" for s in shots), input])

    def answer(self, output):
        return f" {output}"


# <s>, two words of instruction, three words a shot, the input; without the instruction two fewer.
TOLD, ASKED, ANSWER, HEADS = 1 + 2 + 3 * 3 + 1, 1 + 3 * 3 + 1, 2, 12
PLAIN = Cost(prompts=2, means=5 * TOLD, own=2 * ASKED, heads=HEADS * 2 // 2)


@pytest.fixture
def cost(tok):
    def counted(**options):
        sizes = {"prompts": 2, "mean_prompts": 5, "shots": 3, "template": Words()}
        return Cost.of_task(tok, anatomy_of(tiny.shared("llama")), TASK, **sizes, **options)

    return counted


def test_tokens_of_all_prompts_and_half_a_token_a_head_are_counted(cost):
    assert cost() == PLAIN
    assert str(cost()) == (
        "cost: about 99 tokens through the model: 65 to average over, 22 of 2 counterfactual prompts, 12 for their heads (half a "
        "token a head); many more where a family does not fit the sweep"
    )


def test_prompts_are_counted_as_they_are_asked_for(cost):
    assert cost(source="instructions").means == 5 * (1 + 2 + 1)
    assert cost(corruption="zero_shot").own == 2 * (1 + 1)


def test_whole_answers_cost_a_head_every_token_and_a_shortlist_two_more_passes(cost):
    assert cost(measure="answer").heads == HEADS * 2 * ANSWER // 2
    shortlist = cost(screen=4, measure="log_probability")
    assert (shortlist.heads, shortlist.own) == (4 * 2 // 2, 3 * 2 * ASKED)


def test_own_answers_are_written_after_the_prompts_under_the_instruction(cost):
    own = cost(own_answers=True, corruption="zero_shot")
    assert own.written == 2 * (TOLD + ANSWER)
    assert f", {own.written} to write its own answers;" in str(own)


def test_the_check_forwards_every_prompt_of_both_sides_once_clean_once_chosen_and_once_a_draw(cost):
    checked = cost(draws=20)
    assert checked.together == 22 * 2 * (TOLD + ASKED) + 5 * (TOLD + ASKED)
    assert f", {checked.together:,} to try heads together;" in str(checked)
    assert cost(draws=20, corruption="zero_shot").together == (22 * 2 + 5) * (TOLD + 2)


def test_choosing_among_numbers_of_heads_reads_each_row_once_and_its_end_for_every_number(cost):
    held_out, _ = TASK.split(4, -1)
    chosen = cost(validation=held_out, tried=3)
    assert chosen.choosing == 4 * (1 + 2 + 1 - 1 + 3 * ANSWER)
    assert str(chosen).startswith(f"cost: about {99 + chosen.choosing} tokens through the model: ")
