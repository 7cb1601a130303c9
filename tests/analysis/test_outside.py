"""lm-eval tasks in a diagnosis: their rows paired, unusable metrics told."""

import pytest
import tiny
import tiny_training
from tiny_diagnosis import PLAN, TASKS
from tiny_lm_eval import CHOICE, COMMON

from instruction_vectors.analysis.diagnosis import diagnose
from instruction_vectors.analysis.frames import TABLES, frames
from instruction_vectors.analysis.outside import LmEval, outside_changes
from instruction_vectors.analysis.summary import markdown
from instruction_vectors.analysis.verdict import Rules
from instruction_vectors.analysis.words import sentences
from instruction_vectors.errors import DataError

bridge = pytest.importorskip("instruction_vectors.evaluation.lm_eval_bridge")


def test_both_models_are_measured_and_shown(lm_eval_tasks):
    adapted, tokenizer = tiny_training.adapted(), tiny.tokenizer()
    adapted.get_base_model().set_attn_implementation("sdpa")  # batches are padded on the left
    asked = LmEval(("tiny_choice", "tiny_written"), lm_eval_tasks)
    found = diagnose(None, adapted, TASKS[:2], tokenizer=tokenizer, lm_eval=asked, plan=PLAN)
    assert set(found.lm_eval) == {"tiny_choice, acc", "tiny_written, exact_match"}
    after = bridge.run_lm_eval(adapted, tokenizer, ["tiny_choice"], include_path=lm_eval_tasks)
    with adapted.disable_adapter():
        before = bridge.run_lm_eval(adapted, tokenizer, ["tiny_choice"], include_path=lm_eval_tasks)
    change = found.lm_eval["tiny_choice, acc"]
    assert change.base.value == pytest.approx(before.results["results"]["tiny_choice"]["acc,none"])
    assert change.tuned.value == pytest.approx(after.results["results"]["tiny_choice"]["acc,none"])
    assert f"| tiny_choice, acc | lm-eval | {change.base.value:.2f} | {change.tuned.value:.2f} |" in markdown(found)
    assert frames(found).keys() <= set(TABLES)
    assert list(frames(found)["lm_eval"]["task"]) == list(found.lm_eval)


def test_a_drop_by_hand():
    (change,) = outside_changes({"t, acc": [1.0] * 20}, {"t, acc": [1.0] * 5 + [0.0] * 15}, Rules()).values()
    assert (change.base.value, change.tuned.value, change.drop.value) == (1, 0.25, 0.75)
    assert change.worse
    (same,) = outside_changes({"t, acc": [1.0, 0.0]}, {"t, acc": [0.0, 1.0]}, Rules()).values()
    assert not same.worse


def test_limits_and_unusable_tasks(lm_eval_tasks, tok):
    model = tiny.shared("llama")
    assert len(LmEval(("tiny_choice",), lm_eval_tasks, limit=2).rows(model, tok)["tiny_choice, acc"]) == 2
    data = lm_eval_tasks.parent / "rows.jsonl"
    lower = CHOICE.replace("tiny_choice", "tiny_lower").replace("true", "false") + COMMON.format(data=data)
    (lm_eval_tasks / "lower.yaml").write_text(lower)
    with pytest.raises(DataError, match="'tiny_lower' has no metric between 0 and 1"):
        LmEval(("tiny_lower",), lm_eval_tasks).rows(model, tok)


def test_a_diagnosis_without_them_says_nothing_of_them(tok):
    found = diagnose(None, tiny_training.adapted(), TASKS[:2], tokenizer=tok, plan=PLAN)
    assert found.lm_eval == {}
    assert "lm_eval" not in frames(found)
    assert "lm-eval" not in " ".join(sentences(found))
