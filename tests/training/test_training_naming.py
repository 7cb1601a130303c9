"""Rows that name no task are grouped by what instructs them."""

import datasets
import pytest
import tiny_training as kit
import torch

from instruction_vectors.errors import DataError, TrainingError
from instruction_vectors.training.collator import KeepsNames, TreeCollator
from instruction_vectors.training.naming import vector_names
from instruction_vectors.training.targets import Targets, samples_of


def chat(system, column="messages", role="role", content="content"):
    turns = [{role: "user", content: "hello"}]
    return {column: [{role: "system", content: system}, *turns] if system else turns}


def test_rows_are_grouped_by_their_instruction_column():
    rows = [{"instruction": "Translate."}] * 3 + [{"instruction": " Translate. \n"}] + [{"instruction": "Sum."}] * 4
    assert vector_names(rows, min_rows=4) == ["Translate."] * 4 + ["Sum."] * 4


def test_small_groups_and_rows_without_an_instruction_are_universal():
    rows = [{"instruction": "Translate."}] * 3 + [{"text": "no instruction"}] * 9 + [{"instruction": ""}] * 9
    assert vector_names(rows, min_rows=3) == ["Translate."] * 3 + [""] * 18
    assert vector_names(rows, min_rows=4) == [""] * 21


@pytest.mark.parametrize(
    ("column", "role", "content"),
    [("messages", "role", "content"), ("prompt", "role", "content"), ("conversations", "from", "value")],
)
def test_chats_are_grouped_by_their_system_prompt(column, role, content):
    rows = [chat(system, column, role, content) for system in ("Be brief.", "Be brief.", None, "Rhyme.")]
    assert vector_names(rows, min_rows=1) == ["Be brief.", "Be brief.", "", "Rhyme."]


def test_a_named_column_decides_and_must_be_there():
    rows = [{"task": "sst2", "instruction": "Is it good?"}, {"task": "rte", "instruction": "Is it good?"}]
    assert vector_names(rows, column="task", min_rows=1) == ["sst2", "rte"]
    with pytest.raises(DataError, match="row 2 has no column 'task'; it has 'text'"):
        vector_names([rows[0], {"text": "x"}], column="task")


def test_a_plain_text_prompt_instructs_nobody_else():
    assert vector_names([{"prompt": "Say hi.", "completion": "hi"}] * 30) == [""] * 30


def where(batch):
    return {name: starts.nonzero().tolist() for name, starts in Targets.of(batch).starts.items()}


def test_a_padded_batch_tells_apart_where_each_named_vector_goes_in():
    rows = [kit.row([1, 4, 5], [6, 7], "a"), kit.row([1, 9], [10], "b"), kit.row([1, 4], [5], "a")]
    batch = KeepsNames(kit.padded)(rows)
    assert where(batch) == {"a": [[0, 2], [2, 1]], "b": [[1, 1]]}


def test_rows_without_names_stay_as_they_were():
    rows = [{name: value for name, value in kit.row([1, 4], [5]).items() if name != "vector"}]
    batch = KeepsNames(kit.padded)(rows)
    assert "vector" not in batch
    assert where(batch) == {"": [[0, 1]]}


def test_collators_that_cannot_pad_text_are_not_shown_the_names():
    seen = []

    def strict(rows):
        seen.extend(key for row in rows for key in row)
        return kit.padded(rows)

    KeepsNames(strict)([kit.row([1, 4], [5], "a")])
    assert "vector" not in seen


def test_the_columns_a_trainer_keeps_include_the_name(tmp_path):
    model = kit.adapted()
    vectors = {"a": kit.vector(model, 1), "b": kit.vector(model, 2)}
    rows = [kit.row([1, 4, 5], [6], "a"), kit.row([1, 7, 8], [9], "b")]
    trainer = kit.trainer(model, tmp_path, [], vector=vectors, remove_unused_columns=True)
    trainer.train_dataset = datasets.Dataset.from_list([{**row, "note": "x"} for row in rows])
    batch = next(iter(trainer.get_train_dataloader()))
    assert sorted(batch["vector"]) == ["a", "b"]
    tree = TreeCollator(model)(rows)
    assert trainer.compute_loss(model, batch).item() == pytest.approx(trainer.compute_loss(model, tree).item(), abs=1e-6)


def test_a_padded_row_that_asks_for_a_vector_nobody_gave_is_refused(tmp_path):
    model = kit.adapted()
    trainer = kit.trainer(model, tmp_path, [], vector={"a": kit.vector(model)})
    with pytest.raises(TrainingError, match="asks for the vector 'b'; there are \\['a'\\]"):
        trainer.compute_loss(model, trainer.data_collator([kit.row([1, 4], [5], "b")]))


def test_samples_are_rows_or_runs_of_positions():
    padded = {"input_ids": torch.zeros(2, 3), "attention_mask": torch.ones(2, 3), "position_ids": torch.tensor([[0, 0, 1]] * 2)}
    assert samples_of(padded).tolist() == [[0] * 3, [1] * 3]
    flat = {"input_ids": torch.zeros(1, 7), "position_ids": torch.tensor([[0, 1, 2, 0, 0, 1, 2]])}
    assert samples_of(flat).tolist() == [[0, 0, 0, 1, 2, 2, 2]]


TURNS = [
    {"input_ids": [1, 4, 5, 6, 7, 8, 9], "labels": [-100, -100, 5, 6, -100, 8, 9]},
    {"input_ids": [1, 10, 11], "labels": [-100, -100, 11]},
    {"input_ids": [1, 12, 13, 14], "labels": [-100, -100, 13, 14]},
    {"input_ids": [1, 15, 16, 17, 18, 19], "labels": [-100, 15, -100, 17, -100, 19]},
]


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_rows_of_unlike_many_turns_weigh_the_same_however_a_window_is_cut(tmp_path, packed):
    weights = []
    for size in (4, 2, 1):
        model = kit.adapted()
        settings = {"optim": "sgd", "learning_rate": 1.0, "lr_scheduler_type": "constant", "max_grad_norm": 0.0}
        settings |= {"per_device_train_batch_size": size, "gradient_accumulation_steps": 4 // size}
        collator = {"data_collator": TreeCollator(model)} if packed else {}
        before = kit.adapter_weights(model)
        kit.trainer(model, tmp_path, TURNS, vector=kit.vector(model), **collator, **settings).train()
        weights.append({name: before[name] - weight for name, weight in kit.adapter_weights(model).items()})
    assert max(float(w.abs().max()) for w in weights[0].values()) > 1e-2
    for other in weights[1:]:
        for name, want in weights[0].items():
            torch.testing.assert_close(other[name], want, rtol=0, atol=1e-5)
