"""Anchors are the original model's own answers under other instructions on the task's inputs, each under its vector."""

import json
from pathlib import Path

import pytest
import tiny
import tiny_world
import torch

from instruction_vectors import InstructionVector, load
from instruction_vectors.continual.anchoring import instructions_for, make_anchors
from instruction_vectors.continual.course import Course
from instruction_vectors.continual.curriculum import Curriculum
from instruction_vectors.continual.runner import Runner
from instruction_vectors.errors import IVError
from instruction_vectors.evaluation.generation import generate
from instruction_vectors.tasks import load_task
from instruction_vectors.training.anchors import Anchor, anchor_rows
from instruction_vectors.training.config import IVGuidanceConfig


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_world.save(tmp_path_factory.mktemp("model"))


def test_anchors_ask_other_instructions_about_the_task_s_inputs_and_keep_what_the_original_model_says(model: str) -> None:
    cell = tiny_world.cell(model)
    curriculum = Curriculum.of(cell, None)
    lesson = curriculum.lessons[0]
    tasks = instructions_for(cell, curriculum.lessons)
    trained = {each.name for each in curriculum.lessons}
    assert len(tasks) > 5
    assert not {*tasks} & {*trained, *cell.probes}
    opened, tokenizer = load(model)
    made = make_anchors(opened, tokenizer, lesson, tasks, share=0.75, shots=2, seed=0)
    assert 1 <= len(made) <= 6  # of eight rows
    inputs = {row.input for row in lesson.train.rows}
    for anchor in made:
        assert anchor.prompt.startswith(load_task(anchor.instruction).instruction)
        assert anchor.prompt.count("Input:") == 3
        assert anchor.prompt.rsplit("Input: ", 1)[1].removesuffix("\nOutput:") in inputs
        (said,) = generate(opened, tokenizer, [anchor.prompt], max_new_tokens=8)
        assert anchor.answer == said.split("\n")[0] + "\n" * ("\n" in said)
    assert made == make_anchors(opened, tokenizer, lesson, tasks, share=0.75, shots=2, seed=0)
    assert made != make_anchors(opened, tokenizer, lesson, tasks, share=0.75, shots=2, seed=1)
    for anchor, row in zip(made, anchor_rows(tokenizer, made), strict=True):
        labelled = [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label != -100]
        assert tokenizer.decode(labelled) == anchor.answer
        assert row["vector"] == anchor.instruction


def test_steered_anchors_are_asked_without_examples_and_answered_under_their_own_vectors(model: str) -> None:
    cell = tiny_world.cell(model)
    lesson = Curriculum.of(cell, None).lessons[0]
    tasks = {name: load_task(name) for name in ("antonym", "next-item")}
    opened, tokenizer = load(model)
    generator = torch.Generator().manual_seed(3)
    means = [4 * torch.randn(tiny.LAYERS, tiny.HEADS, tiny.HEAD_DIM, generator=generator) for _ in tasks]
    heads = ((0, 1), (1, 2), (2, 0))
    vectors = {name: InstructionVector.from_means(opened, mean, heads) for name, mean in zip(tasks, means, strict=True)}
    made = make_anchors(opened, tokenizer, lesson, tasks, share=1.0, shots=0, seed=0, vectors=vectors)
    plain = make_anchors(opened, tokenizer, lesson, tasks, share=1.0, shots=0, seed=0)
    assert {anchor.instruction for anchor in made} == set(tasks)
    for anchor in made:
        assert anchor.prompt.count("Input:") == 1
        edit = lambda where, name=anchor.instruction: vectors[name].applied(opened, positions=where)  # noqa: E731
        (said,) = generate(opened, tokenizer, [anchor.prompt], max_new_tokens=8, edit=edit)
        assert anchor.answer == said.split("\n")[0] + "\n" * ("\n" in said)
    assert {(anchor.prompt, anchor.answer) for anchor in made} != {(anchor.prompt, anchor.answer) for anchor in plain}


@pytest.mark.parametrize(
    ("guide", "method"), [("none", "steered_anchors"), ("anchors_iv", "steered_anchors"), ("anchors_iv", "olora+steered_anchors")]
)
def test_a_cell_of_steered_anchors_keeps_them_apart_from_plain_ones_and_can_leave_the_task_alone(
    model: str, tmp_path: Path, guide: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    train = Course.train
    monkeypatch.setattr(Course, "train", lambda self, *a, **k: given.append(k["vector"]) or train(self, *a, **k))
    cell = tiny_world.cell(model, method=method, guide=guide, sequence=tiny_world.TASKS[0])
    Runner(tmp_path).run(cell)
    (path,) = tmp_path.glob("shared/*/steps/*anchors_0*.json")
    assert path.name.startswith("steered")
    named = {anchor["instruction"] for anchor in json.loads(path.read_text())["value"]}
    (vector,) = given
    assert (vector is None) == (guide == "none")
    if vector is not None:
        assert vector[tiny_world.TASKS[0]] is None
        assert named <= {name for name, each in vector.items() if each is not None}


def test_a_guide_of_anchors_needs_a_method_that_makes_them(model: str) -> None:
    with pytest.raises(IVError, match="guide 'anchors_kl' guides anchors, which method 'sequential' does not make"):
        tiny_world.cell(model, guide="anchors_kl")
    with pytest.raises(
        IVError, match="guide 'anchors_iv' leaves the tasks' own rows alone, so kl_positions must be 'last_input'"
    ):
        tiny_world.cell(model, method="anchors", guide="anchors_iv", guidance=IVGuidanceConfig(kl_positions="answer"))


@pytest.mark.parametrize("guide", ["none", "iv"])
def test_a_cell_trains_on_a_quarter_more_rows_and_each_instruction_has_its_vector(model: str, tmp_path: Path, guide: str) -> None:
    cell = tiny_world.cell(model, method="anchors", guide=guide, sequence=tiny_world.TASKS[0])
    Runner(tmp_path).run(cell)
    (anchors,) = (json.loads(p.read_text())["value"] for p in tmp_path.glob("shared/*/steps/anchors*.json"))
    (step,) = (json.loads(p.read_text())["value"] for p in tmp_path.glob("cells/*/*/steps/train*.json"))
    assert step["rows"] == 8 + len(anchors)
    kept = {path.name for path in tmp_path.glob("shared/*/vectors/*")}
    named = {anchor["instruction"] for anchor in anchors}
    assert (named <= kept) == (guide == "iv")


def test_an_answer_is_taught_to_end_where_the_model_ended_it_and_not_where_it_was_cut_off(model: str) -> None:
    _, tokenizer = load(model)
    made = [Anchor("Say it.\nInput: a\nOutput:", said, "antonym") for said in (" short\n", " the coin is a coin of the")]
    taught = [
        [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label != -100]
        for row in anchor_rows(tokenizer, made)
    ]
    assert [tokenizer.decode(tokens) for tokens in taught] == [" short\n", " the coin is a coin of the"]
