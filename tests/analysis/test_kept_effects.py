"""Effects prompt by prompt in a ledger are those measured at once, and go on where they were stopped."""

import math

import pytest
import tiny
import torch

from instruction_vectors import Example, Task, mean_head_outputs
from instruction_vectors.analysis.kept_effects import kept_effects
from instruction_vectors.analysis.own_answers import own_answers
from instruction_vectors.continual.ledger import Ledger
from instruction_vectors.errors import DataError
from instruction_vectors.tasks.prompts import draw_shots, instructed
from instruction_vectors.vectors.extraction import head_effects
from instruction_vectors.vectors.prompting import demonstrations

TASK = Task(
    name="next",
    instructions=("w0 w1", "w1 w0 w2"),
    rows=tuple(Example(f"w{i}", f"w{i + 1}") for i in range(2, 20)),
)
SIZES = {"prompts": 3, "mean_prompts": 4, "shots": 2}


def measured(folder, causal_lm, tok, **options):
    with Ledger(folder, {}) as ledger:
        return kept_effects(ledger, causal_lm, tok, TASK, **SIZES, block=1, **options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"measure": "answer"},
        {"source": "instructions", "corruption": "zero_shot"},
        {"screen": 4, "measure": "log_probability"},
    ],
)
def test_kept_effects_are_those_measured_at_once(options, tmp_path, tok):
    causal_lm = tiny.shared("llama", "sdpa")
    found = measured(tmp_path, causal_lm, tok, **options)
    asked = dict(options)
    told = demonstrations(TASK, prompts=4, shots=2, source=asked.pop("source", "demonstrations"))
    means = mean_head_outputs(causal_lm, tok, [text for text, _ in told])
    expected = head_effects(causal_lm, tok, TASK, means, prompts=3, shots=2, **asked)
    assert expected.nan_to_num().abs().max() > 1e-3
    torch.testing.assert_close(found, expected.to(found.dtype), atol=1e-6, rtol=0, equal_nan=True)
    if options:
        plain = measured(tmp_path / "plain", causal_lm, tok)
        assert not torch.allclose(plain, found, atol=1e-4)


def test_a_stopped_run_goes_on_with_the_prompt_it_stood_at(tmp_path, tok):
    causal_lm, seen = tiny.model("llama"), []

    def stop(done):
        seen.append(done)
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path, causal_lm, tok, progress=stop)
    forwards = []
    causal_lm.model.register_forward_pre_hook(lambda *_: forwards.append(1))
    found = measured(tmp_path, causal_lm, tok, progress=seen.append)
    again = len(forwards)
    assert seen == [1, 2, 1, 2, 3]
    assert torch.equal(found, measured(tmp_path / "at once", causal_lm, tok))
    assert again < (len(forwards) - again) / 2


def test_own_answers_are_what_greedy_decoding_writes_when_told(tok):
    causal_lm = tiny.shared("llama", "sdpa")
    found = own_answers(causal_lm, tok, TASK, prompts=2, shots=1, seed=1)
    for number, (query, answer) in enumerate(zip(draw_shots(TASK, 2, seed="effects/1"), found, strict=True)):
        shots = draw_shots(TASK, 1, exclude=query, seed=f"effects/1/{number}")
        ids = torch.tensor([tok(instructed(TASK, query, shots=shots).text)["input_ids"]])
        with torch.no_grad():
            likeliest = int(causal_lm(input_ids=ids).logits[0, -1].argmax())
        assert tok(answer, add_special_tokens=False)["input_ids"][0] == likeliest


def test_a_model_that_answers_nothing_has_no_answers_to_measure_on(tok):
    with pytest.raises(DataError, match="the model answers nothing to 'w18'"):
        own_answers(tiny.shared("llama", "sdpa"), tok, TASK, prompts=2, shots=1)


def test_effects_on_own_answers_are_those_on_them_as_targets(tmp_path, tok):
    causal_lm = tiny.shared("llama", "sdpa")
    found = measured(tmp_path, causal_lm, tok, target="own")
    means = mean_head_outputs(causal_lm, tok, [text for text, _ in demonstrations(TASK, prompts=4, shots=2)])
    own = own_answers(causal_lm, tok, TASK, prompts=3, shots=2)
    expected = head_effects(causal_lm, tok, TASK, means, prompts=3, shots=2, answers=own)
    torch.testing.assert_close(found, expected.to(found.dtype), atol=1e-6, rtol=0)
    other = head_effects(causal_lm, tok, TASK, means, prompts=3, shots=2)
    assert not torch.allclose(found, other.to(found.dtype), atol=1e-4)
    assert not math.isnan(float(found.sum()))
