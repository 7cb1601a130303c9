"""The exact text a model reads."""

from dataclasses import replace

import pytest

from instruction_vectors.tasks import Example, Task, load_task
from instruction_vectors.tasks.prompts import (
    PLAIN,
    ChatTemplate,
    PlainTemplate,
    Prompt,
    bare,
    cloze,
    counterfactual,
    draw_shots,
    instructed,
)
from instruction_vectors.vectors.prompting import demonstrations

TASK = Task(
    "past",
    ("Give the past tense.", "Put the verb into the past."),
    tuple(Example(f"verb{i}", f"past{i}") for i in range(12)),
    knowledge=("Today I {input}, yesterday I", "{input}, {input}:"),
)
ROW, SHOTS = TASK.rows[0], TASK.rows[1:3]


def test_the_plain_template_is_instruction_input_and_output_on_lines_of_their_own():
    assert instructed(TASK, ROW) == Prompt("Give the past tense.\nInput: verb0\nOutput:", " past0")


def test_shots_come_first_one_block_each_under_one_instruction():
    expected = "Give the past tense.\nInput: verb1\nOutput: past1\n\nInput: verb2\nOutput: past2\n\nInput: verb0\nOutput:"
    assert instructed(TASK, ROW, shots=SHOTS).text == expected


def test_the_instruction_can_stand_over_every_block():
    expected = (
        "Give the past tense.\nInput: verb1\nOutput: past1\n\nGive the past tense.\nInput: verb2\nOutput: past2\n\n"
        "Give the past tense.\nInput: verb0\nOutput:"
    )
    assert instructed(TASK, ROW, shots=SHOTS, template=PlainTemplate(repeat_instruction=True)).text == expected


def test_without_the_instruction_only_the_input_is_left():
    assert bare(ROW) == Prompt("Input: verb0\nOutput:", " past0")
    assert bare(ROW, shots=SHOTS[:1]).text == "Input: verb1\nOutput: past1\n\nInput: verb0\nOutput:"


def test_other_wordings_are_taken_in_turn():
    assert instructed(TASK, ROW, wording=1).text.startswith("Put the verb into the past.\n")
    assert instructed(TASK, ROW, wording=2) == instructed(TASK, ROW)


def test_the_cloze_is_the_fact_without_an_instruction():
    assert cloze(TASK, ROW) == Prompt("Today I verb0, yesterday I", " past0")
    assert cloze(TASK, ROW, 1).text == "verb0, verb0:"
    assert cloze(TASK, ROW, 2) == cloze(TASK, ROW)


def test_a_cloze_may_hold_other_braces_and_an_input_any():
    task = Task("code", ("Do it.",), (Example("f{0}", "b"),), knowledge=("In set {a} the input {input} gives {",))
    assert cloze(task, task.rows[0]).text == "In set {a} the input f{0} gives {"


def test_the_counterfactual_shuffles_answers_and_drops_the_instruction():
    shots = TASK.rows[1:9]
    prompt = counterfactual(TASK, ROW, shots=shots)
    assert prompt.target == " past0"
    assert prompt.text.endswith("\n\nInput: verb0\nOutput:")
    blocks = prompt.text.split("\n\n")[:-1]
    inputs = [block.split("\n")[0].removeprefix("Input: ") for block in blocks]
    outputs = [block.split("\n")[1].removeprefix("Output: ") for block in blocks]
    assert TASK.instruction not in prompt.text
    assert inputs == [shot.input for shot in shots]
    assert sorted(outputs) == sorted(shot.output for shot in shots)
    assert outputs != [shot.output for shot in shots]


def test_each_corruption_does_its_own_part():
    shots = TASK.rows[1:9]
    right = bare(ROW, shots=shots).text
    assert counterfactual(TASK, ROW, shots=shots, corruption="drop").text == right
    assert counterfactual(TASK, ROW, shots=shots, corruption="zero_shot") == bare(ROW)
    shuffled = counterfactual(TASK, ROW, shots=shots, corruption="shuffle").text
    assert shuffled.startswith(f"{TASK.instruction}\n")
    assert shuffled.removeprefix(f"{TASK.instruction}\n") == counterfactual(TASK, ROW, shots=shots).text != right


def test_the_counterfactual_is_drawn_by_seed():
    drawn = {counterfactual(TASK, ROW, shots=TASK.rows[1:9], seed=seed).text for seed in range(4)}
    assert len(drawn) == 4
    assert counterfactual(TASK, ROW, shots=SHOTS, seed=2) == counterfactual(TASK, ROW, shots=SHOTS, seed=2)


def test_shots_are_drawn_by_seed_and_never_hold_the_query():
    for seed in range(20):
        shots = draw_shots(TASK, 11, exclude=ROW, seed=seed)
        assert len(set(shots)) == 11
        assert ROW not in shots
    assert draw_shots(TASK, 3, seed=1) == draw_shots(TASK, 3, seed=1)
    assert len({draw_shots(TASK, 3, seed=seed) for seed in range(5)}) > 1


def test_shots_of_a_task_that_repeats_inputs_show_none_twice_and_never_the_query_s():
    rows = tuple(Example(f"x{number % 4}", f"y{number}") for number in range(8))
    task = replace(TASK, rows=rows, repeats=True, options=None)
    for seed in range(20):
        shots = draw_shots(task, 8, exclude=rows[5], seed=seed)
        assert sorted(shot.input for shot in shots) == ["x0", "x2", "x3"]
        for text, _ in demonstrations(task, prompts=4, shots=3, contexts=1, seed=seed):
            inputs = [line for line in text.splitlines() if line.startswith("Input:")]
            assert len(inputs) == len(set(inputs)) == 4


def test_more_shots_than_rows_are_all_the_rows():
    assert sorted(draw_shots(TASK, 50, exclude=ROW), key=lambda r: r.input) == sorted(TASK.rows[1:], key=lambda r: r.input)


class Chat:
    """The one thing the chat template asks of a tokenizer, written out plainly."""

    def apply_chat_template(self, messages, tokenize, add_generation_prompt):
        assert not tokenize
        return "".join(f"<{m['role']}>{m['content']}" for m in messages) + "<assistant>" * add_generation_prompt


def test_the_chat_template_puts_instruction_and_input_into_the_users_turn():
    template = ChatTemplate(Chat())
    prompt = instructed(TASK, ROW, shots=SHOTS[:1], template=template)
    head = "Give the past tense.\n"
    assert prompt == Prompt(f"<user>{head}verb1<assistant>past1<user>{head}verb0<assistant>", "past0")
    assert bare(ROW, template=template).text == "<user>verb0<assistant>"


@pytest.mark.parametrize("name", ["country-capital", "present-past", "animal-or-object"])
def test_shipped_clozes_read_as_text_with_the_input_in_place(name):
    task = load_task(name)
    for wording in range(len(task.knowledge)):
        text = cloze(task, task.rows[0], wording).text
        assert task.rows[0].input in text
        assert "{" not in text
    assert PLAIN.name == "plain"
