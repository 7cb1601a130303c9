"""What a teacher said is shared by runs: a second one asks nothing and has the same losses."""

import logging

import pytest
import tiny_training as kit
import torch
from transformers import TrainerCallback

from instruction_vectors.training.config import IVGuidanceConfig
from instruction_vectors.training.memory import Memory

ROWS = kit.distinct_rows(8)
CONFIG = IVGuidanceConfig(kl_positions="answer", consistency_weight=0.5)


def run(folder, shelf, rows=ROWS, seed=0, callbacks=(), **options):
    model = kit.adapted()
    made = kit.trainer(
        model,
        folder,
        rows,
        vector=kit.vector(model, seed),
        guidance=CONFIG,
        teacher_cache=shelf,
        callbacks=list(callbacks),
        **options,
    )
    made.train()
    return made


def files(shelf):
    return sorted(shelf.rglob("*.safetensors"))


def test_a_second_run_asks_the_teacher_nothing_and_has_the_same_losses(tmp_path):
    shelf = tmp_path / "shelf"
    first, second = (run(tmp_path / name, shelf, num_train_epochs=2) for name in ("a", "b"))
    assert (first.teacher.forwards, second.teacher.forwards) == (4, 0)  # two batches, states and heads
    assert kit.losses(second) == kit.losses(first)
    assert len(kit.losses(first)) == 4
    weights = kit.adapter_weights(second.model)
    assert all(torch.equal(weights[name], weight) for name, weight in kit.adapter_weights(first.model).items())
    assert len(files(shelf)) == 1


def test_a_run_over_more_rows_adds_only_what_is_new(tmp_path):
    shelf = tmp_path / "shelf"
    few = run(tmp_path / "few", shelf, ROWS[:4])
    more = run(tmp_path / "more", shelf)
    assert (few.teacher.forwards, more.teacher.forwards) == (2, 4)  # rows are shuffled: known ones stand in both batches
    kept = []
    for path in files(shelf):
        (memory := Memory()).load(path, more.teacher.fingerprint)
        kept.append(memory.keys())
    assert len(kept) == 2
    assert not kept[0] & kept[1]
    assert kept[0] | kept[1] == more.teacher.keys()


def test_a_resumed_run_writes_nothing_twice(tmp_path):
    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = state.global_step == 1

    shelf, saved = tmp_path / "shelf", {"save_strategy": "steps", "save_steps": 1}
    run(tmp_path / "run", shelf, callbacks=[Stop()], **saved)
    model = kit.adapted()
    again = kit.trainer(model, tmp_path / "run", ROWS, vector=kit.vector(model), guidance=CONFIG, teacher_cache=shelf, **saved)
    again.train(resume_from_checkpoint=True)
    assert again.teacher.forwards == 2
    sizes = []
    for path in files(shelf):
        (memory := Memory()).load(path, again.teacher.fingerprint)
        sizes.append(len(memory))
    assert len(sizes) == 2
    assert sum(sizes) == len(again.teacher)


def test_another_vector_has_a_shelf_of_its_own_and_a_damaged_file_is_passed_over(tmp_path, caplog):
    shelf = tmp_path / "shelf"
    first = run(tmp_path / "a", shelf)
    other = run(tmp_path / "b", shelf, seed=1)
    assert other.teacher.forwards == first.teacher.forwards
    assert len({path.parent for path in files(shelf)}) == 2
    for path in files(shelf):
        path.write_bytes(b"no tensors")
    with caplog.at_level(logging.WARNING):
        again = run(tmp_path / "c", shelf)
    assert again.teacher.forwards == first.teacher.forwards
    assert kit.losses(again) == kit.losses(first)
    assert "cannot be read" in caplog.text


def test_another_precision_has_a_shelf_of_its_own(tmp_path):
    shelf = tmp_path / "shelf"
    whole, mixed = run(tmp_path / "whole", shelf), run(tmp_path / "mixed", shelf, bf16=True)
    assert whole.teacher.forwards == mixed.teacher.forwards > 0
    assert whole.teacher.fingerprint != mixed.teacher.fingerprint


def test_without_a_folder_nothing_is_written(tmp_path):
    run(tmp_path / "run", None)
    assert not files(tmp_path)


@pytest.mark.parametrize("vector", [None])
def test_plain_training_needs_no_shelf(tmp_path, vector):
    kit.trainer(kit.adapted(), tmp_path / "run", ROWS, vector=vector, teacher_cache=tmp_path / "shelf").train()
    assert not files(tmp_path)
