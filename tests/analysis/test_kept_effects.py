"""Effects prompt by prompt in a ledger are those measured at once, and go on where they were stopped."""

import math

import pytest
import tiny
import torch

from instruction_vectors import Example, Task, analysis, causal_effects, mean_head_outputs
from instruction_vectors.analysis.heads import strongest
from instruction_vectors.analysis.kept_effects import DRAWS, FoundHeads, kept_check, kept_effects
from instruction_vectors.analysis.own_answers import own_answers
from instruction_vectors.continual.ledger import Ledger
from instruction_vectors.errors import DataError
from instruction_vectors.tasks.prompts import draw_shots, instructed
from instruction_vectors.vectors.extraction import head_effects
from instruction_vectors.vectors.joint import joint_check
from instruction_vectors.vectors.prompting import demonstrations

TASK = Task(
    name="next",
    instructions=("w0 w1", "w1 w0 w2"),
    rows=tuple(Example(f"w{i}", f"w{i + 1}") for i in range(2, 20)),
)
SIZES = {"prompts": 3, "mean_prompts": 4, "shots": 2}


def measured(folder, causal_lm, tok, *, block=1, **options):
    with Ledger(folder, {}) as ledger:
        return kept_effects(ledger, causal_lm, tok, TASK, **SIZES, block=block, **options)


@pytest.mark.parametrize("block", [1, 2])  # the last block of two is ragged
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"measure": "answer"},
        {"source": "instructions", "corruption": "zero_shot"},
        {"screen": 4, "measure": "log_probability"},
        {"patch": "add"},
        {"corruption": "swap"},
    ],
    ids=str,
)
def test_kept_effects_are_those_measured_at_once(options, block, tmp_path, tok):
    causal_lm = tiny.shared("llama", "sdpa")
    found = measured(tmp_path, causal_lm, tok, block=block, **options)
    asked = dict(options)
    told = demonstrations(TASK, prompts=4, shots=2, source=asked.pop("source", "demonstrations"))
    means = mean_head_outputs(causal_lm, tok, [text for text, _ in told])
    expected = head_effects(causal_lm, tok, TASK, means, prompts=3, shots=2, **asked)
    assert expected.nan_to_num().abs().max() > 1e-3
    torch.testing.assert_close(found, expected.to(found.dtype), atol=1e-6, rtol=0, equal_nan=True)
    if options:
        plain = measured(tmp_path / "plain", causal_lm, tok)
        assert not torch.allclose(plain, found, atol=1e-4)


@pytest.mark.parametrize(("block", "stopped_at", "told"), [(1, 2, [1, 2, 1, 2, 3]), (2, 2, [2, 2, 3])])
def test_a_stopped_run_goes_on_with_the_block_it_stood_at(block, stopped_at, told, tmp_path, tok):
    causal_lm, seen = tiny.model("llama"), []

    def stop(done):
        seen.append(done)
        if done == stopped_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path, causal_lm, tok, block=block, progress=stop)
    forwards = []
    causal_lm.model.register_forward_pre_hook(lambda *_: forwards.append(1))
    found = measured(tmp_path, causal_lm, tok, block=block, progress=seen.append)
    again = len(forwards)
    assert seen == told
    assert torch.equal(found, measured(tmp_path / "at once", causal_lm, tok, block=block))
    assert again < len(forwards) - again


def test_a_block_that_was_cut_off_inside_is_measured_anew_and_only_that(tmp_path, tok, monkeypatch):
    causal_lm, asked = tiny.shared("llama", "sdpa"), []

    def cut_off(*args, **how):
        asked.append(len(args[2]))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return causal_effects(*args, **how)

    monkeypatch.setattr(analysis.kept_effects, "causal_effects", cut_off)
    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path, causal_lm, tok, block=2)
    found = measured(tmp_path, causal_lm, tok, block=2)
    assert asked == [2, 1, 1]
    assert torch.equal(found, measured(tmp_path / "at once", causal_lm, tok, block=2))


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


def test_heads_tried_together_are_kept_like_any_step(tmp_path, tok, monkeypatch):
    causal_lm, heads = tiny.shared("llama", "sdpa"), [{"layer": 0, "head": 1}, {"layer": 2, "head": 3}]
    options = {"patch": "add", "corruption": "zero_shot", "source": "instructions", "seed": 2}

    def tried():
        with Ledger(tmp_path, {}) as ledger:
            return kept_check(ledger, causal_lm, tok, TASK, heads=heads, **SIZES, **options)

    found = tried()
    expected = joint_check(causal_lm, tok, TASK, [(0, 1), (2, 3)], draws=DRAWS, **SIZES, **options)
    assert found == {side: getattr(expected, side).summary() for side in ("sufficiency", "necessity")}
    monkeypatch.setattr(analysis.kept_effects, "joint_check", None)
    assert tried() == found


def test_what_was_not_measured_is_none_in_the_record_and_the_map():
    effects = torch.tensor([[[0.25, math.nan], [0.5, -0.5]], [[0.75, math.nan], [1.0, -0.5]]])
    found = FoundHeads(effects, strongest([effects], 1), {})
    assert found.mean() == [[0.5, None], [0.75, -0.5]]
    record = found.record()
    assert record["effects"] == [[[0.25, None], [0.5, -0.5]], [[0.75, None], [1.0, -0.5]]]
    assert [(head["layer"], head["head"]) for head in record["heads"]] == [(1, 0), (0, 0), (1, 1)]
    assert "together" not in record
    assert FoundHeads(effects, [], {"necessity": {"p": 0.5}}).record()["together"] == {"necessity": {"p": 0.5}}
    shown = found.figure(TASK, "log_probability", own=True)["effects"]
    assert (shown["map"], shown["prompts"], shown["tasks"]) == (found.mean(), 2, ["next"])
    assert shown["measured"] == "the log-probability of the model's own answer's first token"
    assert found.figure(TASK)["effects"]["measured"] == "the probability of the right answer's first token"
