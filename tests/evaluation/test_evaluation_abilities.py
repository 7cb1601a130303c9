"""Abilities row by row, against forwards of each prompt alone."""

import dataclasses

import pytest
import tiny
import tiny_training as kit
import torch

from instruction_vectors.evaluation.abilities import FORMS, Probe, measure
from instruction_vectors.tasks import Example, Task
from instruction_vectors.tasks.prompts import draw_shots

# Inputs w0..w11, answers w12..w23: every word of every prompt is one token.
ROWS = tuple(Example(f"w{i}", f"w{i + 12}") for i in range(12))
TASK = Task("shift", ("w30 w31",), ROWS, knowledge=("w32 {input} w33",))


@pytest.fixture(scope="module")
def model():
    return tiny.model("gpt2")


@pytest.fixture(scope="module")
def tokenizer():
    return tiny.tokenizer()


@torch.no_grad()
def next_token(model, tokenizer, text, vector=None):
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    if vector is None:
        return model(input_ids=ids).logits[0, -1].log_softmax(-1)
    where = torch.zeros_like(ids, dtype=torch.bool)
    where[0, -1] = True
    with vector.applied(model, positions=where):
        return model(input_ids=ids).logits[0, -1].log_softmax(-1)


def text_of(form, row, shots=()):
    if form == "knowledge":
        return f"w32 {row.input} w33"
    blocks = [f"Input: {shot.input}\nOutput: {shot.output}" for shot in shots] + [f"Input: {row.input}\nOutput:"]
    return "w30 w31\n" + "\n\n".join(blocks)


@pytest.mark.parametrize("edited", [False, True])
@pytest.mark.parametrize("form", ["knowledge", "instruction"])
def test_both_forms_are_rank_classifications_over_the_same_options_corrected_for_chance(model, tokenizer, form, edited):
    probe = Probe.of(TASK, 8, reserve=3)
    vector = kit.vector(model) if edited else None
    edit = (lambda where: vector.applied(model, positions=where)) if edited else None
    measured = measure(model, tokenizer, probe, [form], edit=edit)[form]
    expected = []
    for row in probe.queries:
        logprobs = next_token(model, tokenizer, text_of(form, row), vector)
        best = max(TASK.choices(row), key=lambda option: logprobs[tokenizer.convert_tokens_to_ids(option)])
        expected.append(1.0 if best == row.output else -1 / 3)
    assert measured == pytest.approx(expected, abs=1e-12)


def test_forms_measured_together_equal_forms_measured_apart(model, tokenizer):
    probe = Probe.of(TASK, 8, reserve=4)
    together = measure(model, tokenizer, probe)
    assert together == {form: measure(model, tokenizer, probe, [form])[form] for form in FORMS}


def test_the_forms_can_disagree_and_both_outcomes_occur(model, tokenizer):
    probe = Probe.of(TASK, 12, reserve=0)
    measured = measure(model, tokenizer, probe, ["knowledge", "instruction"])
    assert measured["knowledge"] != measured["instruction"]
    assert len({round(v, 6) for values in measured.values() for v in values}) == 2


@pytest.mark.parametrize("form", ["zero_shot", "in_context"])
def test_zero_shot_and_in_context_are_whole_answers_of_greedy_decoding(model, tokenizer, form):
    # Answers are what the model writes for half of the rows, so that both outcomes occur.
    probe = Probe.of(TASK, 6, reserve=5)
    probe = dataclasses.replace(probe, shots=2)
    contexts = [draw_shots(probe.demonstrations, 2, seed=f"probe/{k}") for k in range(2)]
    queries = []
    for i, row in enumerate(probe.queries):
        shots = contexts[i % 2] if form == "in_context" else ()
        best = int(next_token(model, tokenizer, text_of(form, row, shots)).argmax())
        written = tokenizer.convert_ids_to_tokens(best)
        queries.append(Example(row.input, written if i % 2 else ("w35" if written != "w35" else "w34")))
    measured = measure(model, tokenizer, dataclasses.replace(probe, queries=tuple(queries)), [form])
    assert measured == {form: [0.0, 1.0] * 3}


def test_all_forms_are_measured_row_by_row(model, tokenizer):
    measured = measure(model, tokenizer, Probe.of(TASK, 4, reserve=6))
    assert tuple(measured) == FORMS
    assert {len(values) for values in measured.values()} == {4}


def test_a_task_without_a_cloze_is_left_out_of_the_comparison_of_forms(model, tokenizer):
    copying = dataclasses.replace(TASK, knowledge=())
    assert tuple(measure(model, tokenizer, Probe.of(copying, 4, reserve=6))) == ("in_context", "zero_shot")


def test_no_shot_is_ever_a_query():
    probe = Probe.of(TASK, 5, reserve=4, seed=3)
    assert len(probe.queries) == 5
    assert len(probe.demonstrations.rows) == 4
    assert not set(probe.queries) & set(probe.demonstrations.rows)


def test_any_of_several_right_answers_is_right(model, tokenizer):
    likeliest = []
    for row in ROWS:
        found = next_token(model, tokenizer, text_of("zero_shot", row)).argmax()
        likeliest.append(tokenizer.convert_ids_to_tokens(int(found)))
    hit = measure(model, tokenizer, Probe.of(TASK, 8, reserve=3), ["zero_shot"])["zero_shot"]
    assert 0.0 in hit
    rows = tuple(Example(row.input, row.output, references=(row.output, word)) for row, word in zip(ROWS, likeliest, strict=True))
    task = dataclasses.replace(TASK, rows=rows)
    both = measure(model, tokenizer, Probe.of(task, 8, reserve=3), ["zero_shot"])["zero_shot"]
    assert both == [1.0] * 8
