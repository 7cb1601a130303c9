"""Guides: which vector, and how."""

import json
import sys
from pathlib import Path

import pytest
import tiny
import tiny_training as kit
import tiny_world
import torch

from instruction_vectors.continual import course
from instruction_vectors.continual import guides as folder_of_guides
from instruction_vectors.continual.cell import Cell
from instruction_vectors.continual.course import Course
from instruction_vectors.continual.guides import guide_named, guides
from instruction_vectors.continual.runner import Runner
from instruction_vectors.continual.stage import train_stage
from instruction_vectors.errors import IVError
from instruction_vectors.training.config import IVGuidanceConfig

CONFIG = IVGuidanceConfig(kl_weight=0.7)


@pytest.fixture(scope="module")
def vectors():
    model = tiny.model("llama")
    return {"a": kit.vector(model, 0), "b": kit.vector(model, 1), "c": kit.vector(model, 2)}


def test_none_trains_plainly(vectors):
    assert guide_named("none")("a", {}, CONFIG) == (None, CONFIG)


def test_iv_is_the_tasks_own_vector(vectors):
    assert guide_named("iv")("b", vectors, CONFIG) == (vectors["b"], CONFIG)


def test_plain_kl_keeps_the_weight_and_puts_no_vector_anywhere(vectors):
    _, config = guide_named("plain_kl")("b", vectors, CONFIG)
    assert (config.kl_weight, config.teacher_scale, config.sign) == (0.7, 0.0, 0)


def test_schedule_only_has_no_kl_term(vectors):
    vector, config = guide_named("schedule_only")("b", vectors, CONFIG)
    assert vector == vectors["b"]
    assert (config.kl_weight, config.sign) == (0.0, 1)


def test_the_other_task_is_the_next_one_around_the_sequence(vectors):
    other = guide_named("other_task")
    assert [other(name, vectors, CONFIG)[0] for name in "abc"] == [vectors["b"], vectors["c"], vectors["a"]]
    with pytest.raises(IVError, match="'other_task' needs a sequence of at least two tasks"):
        other.check(["a"])


def test_random_has_the_same_norm_on_every_head_and_is_drawn_a_task(vectors):
    vector, _ = guide_named("random")("a", vectors, CONFIG)
    assert vector.heads == vectors["a"].heads
    torch.testing.assert_close(vector.values.norm(dim=1), vectors["a"].values.norm(dim=1))
    assert abs(torch.cosine_similarity(vector.values.flatten(), vectors["a"].values.flatten(), dim=0)) < 0.9
    again, _ = guide_named("random")("a", vectors, CONFIG)
    torch.testing.assert_close(vector.values, again.values, rtol=0, atol=0)


def test_mean_is_the_mean_of_all(vectors):
    vector, _ = guide_named("mean")("a", vectors, CONFIG)
    torch.testing.assert_close(vector.summed, sum(v.summed for v in vectors.values()) / 3)


def test_lwf_is_taught_by_the_previous_model_without_a_vector_anywhere(vectors):
    _, config = guide_named("lwf")("a", vectors, CONFIG)
    assert (config.teacher, config.teacher_scale, config.sign, config.kl_weight) == ("previous", 0.0, 0, 1.0)
    assert (config.kl_positions, config.kl_direction, config.temperature) == ("answer", "teacher_student", 2.0)


def test_fvg_has_its_papers_weights_and_steers_the_previous_model_only(vectors):
    vector, config = guide_named("fvg")("a", vectors, CONFIG)
    assert vector == vectors["a"]
    assert (config.teacher, config.teacher_scale, config.sign) == ("previous", 1.0, 0)
    assert (config.kl_weight, config.consistency_weight) == (0.08, 1.0)


@pytest.mark.parametrize(("name", "same"), [("anchors_iv", "iv"), ("anchors_kl", "plain_kl")])
def test_guides_of_anchors_are_the_same_on_anchors_alone(vectors, name, same):
    assert guide_named(name)("b", vectors, CONFIG) == guide_named(same)("b", vectors, CONFIG)
    assert guide_named(name).anchors_only
    assert not guide_named(same).anchors_only


@pytest.mark.parametrize(
    "settings", [{"guide": "lwf"}, {"guide": "iv", "guidance": IVGuidanceConfig(kl_positions="answer")}], ids=["lwf", "answer"]
)
def test_rows_of_no_task_are_not_compared_token_by_token(settings):
    with pytest.raises(IVError, match="'mix_in' trains on rows that no vector is of"):
        Cell("shipped", "antonym", method="mix_in", **settings)
    Cell("shipped", "antonym", method="mix_in", guide="none", guidance=IVGuidanceConfig(kl_positions="answer"))
    Cell("shipped", "antonym", method="mix_in", guide="iv")


def test_rows_kept_of_an_earlier_task_are_under_that_tasks_vector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    monkeypatch.setattr(course, "train_stage", lambda *a, **k: given.append((a[1], k["vector"])) or train_stage(*a, **k))
    model = tiny_world.save(tmp_path / "model")
    Runner(tmp_path).run(tiny_world.cell(model, method="replay", guide="iv"))
    first, second = tiny_world.TASKS
    (_, before), (rows, vectors) = given
    assert {row["vector"] for row in rows} == {first, second} == set(vectors)
    assert set(before) == {first}
    assert vectors[first] == before[first]
    assert not torch.equal(vectors[first].values, vectors[second].values)


def test_general_instructions_that_are_mixed_in_train_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    monkeypatch.setattr(course, "train_stage", lambda *a, **k: given.append((a[1], k["vector"])) or train_stage(*a, **k))
    (tmp_path / "eval").mkdir()
    told = [{"instruction": f"Say {i}", "output": str(i) * (12 - i)} for i in range(9)]
    (tmp_path / "eval" / "instructions_alpaca.json").write_text(json.dumps(told))
    cell = tiny_world.cell(
        tiny_world.save(tmp_path / "model"), method="mix_in", method_settings={"mix_in": {"share": 1.0}}, guide="iv",
        sequence=tiny_world.TASKS[0], general_rows=1,
    )  # fmt: skip
    Runner(tmp_path, tmp_path).run(cell)
    ((rows, vectors),) = given
    assert vectors[""] is None
    assert vectors[tiny_world.TASKS[0]] is not None
    mixed = [row["input_ids"] for row in rows if not row["vector"]]
    # A character a token; the end stands after those answers alone that were not cut (to eight).
    assert sorted({row[-1] == 1 for row in mixed}) == [False, True]


def test_an_unknown_guide_is_refused():
    with pytest.raises(IVError, match="unknown guide 'magic'; there are anchors_iv, anchors_kl, fvg, iv, lwf, mean, none, "):
        guide_named("magic")


def test_a_guide_is_one_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "guides").mkdir()
    (tmp_path / "guides" / "doubled.py").write_text(
        "from instruction_vectors.continual.guide import Guide\n\n\n"
        "class Doubled(Guide):\n"
        "    name = 'doubled'\n"
        "    source = 'a test'\n\n"
        "    def vector(self, task, vectors):\n"
        "        return vectors[task] * 2\n"
    )
    monkeypatch.setattr(folder_of_guides, "__path__", [*folder_of_guides.__path__, str(tmp_path / "guides")])
    given = []
    train = Course.train
    monkeypatch.setattr(Course, "train", lambda self, *a, **k: given.append(k) or train(self, *a, **k))
    guides.cache_clear()
    try:
        assert guide_named("doubled").source == "a test"
        model = tiny_world.save(tmp_path / "model")
        for guide in ("iv", "doubled"):
            Runner(tmp_path).run(tiny_world.cell(model, guide=guide, sequence=tiny_world.TASKS[0]))
        own, doubled = given
        (own_vector, doubled_vector) = (each["vector"][tiny_world.TASKS[0]] for each in (own, doubled))
        torch.testing.assert_close(doubled_vector.values, 2 * own_vector.values)
        assert doubled["guidance"] == own["guidance"]
    finally:
        monkeypatch.undo()
        guides.cache_clear()
        sys.modules.pop("instruction_vectors.continual.guides.doubled", None)
