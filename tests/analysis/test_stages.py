"""A folder of stages: found in order, measured one by one over the same base, told apart by what was trained."""

import copy
import json
import shutil

import pandas
import pytest
import tiny
import tiny_training
from tiny_diagnosis import PLAN, TASKS, task

from instruction_vectors.analysis import examination
from instruction_vectors.analysis.diagnosis import diagnose
from instruction_vectors.analysis.frames import write_frames
from instruction_vectors.analysis.pair import open_pair
from instruction_vectors.analysis.stages import START, stages_in
from instruction_vectors.analysis.summary import markdown
from instruction_vectors.errors import ModelError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three adapters, each further from the base, under names that do not sort as numbers do."""
    folder = tmp_path_factory.mktemp("adapters")
    for number, seed in ((9, 1), (10, 2), (11, 0)):
        tiny_training.adapted(seed=seed).save_pretrained(folder / f"checkpoint-{number}")
    (folder / "notes-12").mkdir()
    return folder


@pytest.fixture(scope="module")
def found(folder):
    return diagnose(
        tiny.model("llama"), folder, TASKS[:2], tokenizer=tiny.tokenizer(), trained=[task("new", 17), TASKS[1]], plan=PLAN
    )


def test_stages_come_in_order_of_their_numbers(folder, tmp_path):
    assert list(stages_in(folder)) == ["checkpoint-9", "checkpoint-10", "checkpoint-11"]
    assert list(stages_in(folder, ["a", "b", "c"])) == ["a", "b", "c"]
    assert list(stages_in(folder, ["a", "b"])) == list(stages_in(folder, ["a", "b", "a", "c"])) == list(stages_in(folder))
    assert stages_in(folder / "checkpoint-9") == stages_in(tmp_path) == stages_in("no-such/hub-id") == stages_in(None) == {}


def test_every_stage_has_every_task_and_the_last_is_the_one_diagnosed(found):
    stages = [START, "checkpoint-9", "checkpoint-10", "checkpoint-11"]
    assert [(s.stage, s.task) for s in found.stages] == [(stage, name) for stage in stages for name in ("one", "two", "new")]
    assert {s.task for s in found.stages if s.trained} == {"two", "new"}
    for score in found.stages:
        change = found.tasks[score.task].changes["instruction"]
        if score.stage == START:
            assert score.forms["instruction"] == change.base
            assert score.cosine == pytest.approx(1)
        if score.stage == stages[-1]:
            assert score.forms["instruction"] == change.tuned
            assert score.cosine == found.tasks[score.task].trace.cosine


def test_a_stage_in_between_equals_its_own_diagnosis(found, folder):
    tasks = [TASKS[0], TASKS[1], task("new", 17)]
    alone = diagnose(tiny.model("llama"), folder / "checkpoint-10", tasks, tokenizer=tiny.tokenizer(), plan=PLAN)
    for score in (s for s in found.stages if s.stage == "checkpoint-10"):
        changes = alone.tasks[score.task].changes
        assert {form: e.value for form, e in score.forms.items()} == {form: c.tuned.value for form, c in changes.items()}
        assert score.cosine == pytest.approx(alone.tasks[score.task].trace.cosine, rel=1e-6)


def test_whole_weights_can_be_stages(tmp_path):
    base = tiny.model("llama")
    other = copy.deepcopy(base)
    other.save_pretrained(tmp_path / "1")
    tiny.model("llama", seed=1).save_pretrained(tmp_path / "2")
    found = diagnose(base, tmp_path, TASKS[:2], tokenizer=tiny.tokenizer(), plan=PLAN)
    cosines = {(s.stage, s.task): s.cosine for s in found.stages}
    assert cosines["1", "one"] == pytest.approx(1, abs=1e-5)
    assert abs(cosines["2", "one"]) < 0.9


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"base_model_name_or_path": "elsewhere/other"}, "trained over 'elsewhere/other'"), (None, "cannot be opened as a model")],
)
def test_a_stage_that_does_not_belong_is_refused_before_anything_is_measured(folder, tmp_path, monkeypatch, settings, message):
    stages = shutil.copytree(folder, tmp_path / "stages")
    first = stages / "checkpoint-9" / "adapter_config.json"
    first.write_text("{" if settings is None else json.dumps(json.loads(first.read_text()) | settings))
    monkeypatch.setattr(examination, "forms_of", lambda *_: pytest.fail("something was measured"))
    base = tiny.model("llama")
    base.config._name_or_path = "mine"
    with pytest.raises(ModelError, match=message):
        diagnose(base, stages, TASKS[:2], tokenizer=tiny.tokenizer(), plan=PLAN)


def test_an_adapter_may_be_a_stage_before_whole_weights(folder, tmp_path):
    stages = shutil.copytree(folder, tmp_path / "stages")
    config = stages / "checkpoint-9" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": "mine"}))
    shutil.rmtree(stages / "checkpoint-10")
    shutil.rmtree(stages / "checkpoint-11")
    tiny.model("llama", seed=1).save_pretrained(stages / "checkpoint-11")
    base = tiny.model("llama")
    base.config._name_or_path = "mine"
    found = diagnose(base, stages, TASKS[:2], tokenizer=tiny.tokenizer(), plan=PLAN)
    assert {score.stage for score in found.stages} == {START, "checkpoint-9", "checkpoint-11"}


def test_stages_are_written_as_table_and_words(found, tmp_path):
    frame = pandas.read_parquet(next(p for p in write_frames(found, tmp_path) if p.stem == "stages"))
    assert len(frame) == len(found.stages)
    assert frame["instruction"].tolist() == [s.forms["instruction"].value for s in found.stages]
    text = markdown(found)
    assert "| task |  | measure | M0 | checkpoint-9 | checkpoint-10 | checkpoint-11 |" in text
    assert "| two | trained | cosine of vectors | 1.00 |" in text
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_pair_let_go_of_leaves_the_base_alone(tok, folder):
    base = tiny.model("llama")
    pair = open_pair(base, folder / "checkpoint-9", tokenizer=tok)
    assert pair.released() is base
    assert not any("lora_" in name for name, _ in base.named_parameters())
