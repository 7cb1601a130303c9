"""General ability on multiple-choice sets, against forwards of each question alone."""

import json

import pytest
import tiny
import torch

from instruction_vectors.errors import DataError
from instruction_vectors.evaluation.general import GeneralSet, after
from instruction_vectors.evaluation.multiple_choice import LAYOUTS, Question, plain

QUESTIONS = [{"query": f"w{i} w{i + 1}", "choices": [f"w{i + 20}", f"w{i + 21}", "w3 w4"], "gold": i % 3} for i in range(6)]


@pytest.fixture
def data(tmp_path):
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "openbookqa.json").write_text(json.dumps(QUESTIONS))
    return tmp_path


@torch.no_grad()
def logprob(model, tokenizer, context, choice):
    before, whole = (tokenizer(text)["input_ids"] for text in (context, f"{context} {choice}"))
    logprobs = model(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
    return sum(float(logprobs[i - 1, whole[i]]) for i in range(len(before), len(whole)))


def test_both_forms_rank_the_choices_and_are_corrected_for_chance(data):
    model, tokenizer = tiny.model("gpt2"), tiny.tokenizer()
    measured = GeneralSet.read("openbookqa", data, rows=4, shots=2).measure(model, tokenizer)
    solved = "".join(f"{q['query']} {q['choices'][q['gold']]}\n\n" for q in QUESTIONS[4:6])
    for form, before in (("zero_shot", ""), ("in_context", solved)):
        expected = []
        for question in QUESTIONS[:4]:
            scores = [logprob(model, tokenizer, before + question["query"], choice) for choice in question["choices"]]
            expected.append(1.0 if scores.index(max(scores)) == question["gold"] else -0.5)
        assert measured[form] == pytest.approx(expected)


def test_shots_stand_solved_before_the_question():
    shot, asked = Question("a", ("b", "c"), 1), Question("d", ("e", "f"), 0)
    assert after([shot], plain)(asked) == ("a c\n\nd", ("e", "f"))
    context, letters = after([shot], LAYOUTS["commonsense_qa"])(asked)
    assert context.startswith("Question: a\nA. b\nB. c\nAnswer: B\n\nQuestion: d\n")
    assert letters == ["A", "B"]


def test_an_unknown_set_and_a_small_one_are_refused(data):
    with pytest.raises(DataError, match="unknown general set 'magic'; there are hellaswag"):
        GeneralSet.read("magic", data, 2)
    with pytest.raises(DataError, match=r"openbookqa\.json: 6 questions, fewer than 4 and 5 shots"):
        GeneralSet.read("openbookqa", data, 4)
