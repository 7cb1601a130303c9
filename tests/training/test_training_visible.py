"""The part of a batch that places see says the same at those places as the whole, and holds no token after them."""

import pytest
import tiny
import tiny_training as kit
import torch

from instruction_vectors.models.anatomy import anatomy_of
from instruction_vectors.training.collator import TreeCollator
from instruction_vectors.training.targets import Targets, model_inputs
from instruction_vectors.training.visible import Part, visible

ROUNDING = {"rtol": 0, "atol": 2e-6}
"""Norms and rotations of these families are computed in float32, whatever the weights are."""


def states(model, inputs):
    with torch.no_grad():
        return anatomy_of(model).backbone(**inputs)[0]


def starts(batch):
    """Where the answers begin."""
    (where,) = Targets.of(batch).starts.values()
    return where


@pytest.mark.parametrize("family", ["llama", "gemma3", "mistral", "gpt2"])
def test_a_tree_without_its_answers_says_the_same_where_they_begin(family):
    model = tiny.model(family)
    shared = [1, 2, 3, 10, 11, 12, 13]  # longer than the tiny models' sliding window
    rows = [kit.row([*shared, 4 + i % 3], [9 + i, 8, 7]) for i in range(6)]
    batch = TreeCollator(model)(rows)
    where = starts(batch)
    part = Part.seen_by(batch, where)
    # What all share, then a prompt of its own for each of three kinds; no answer's token.
    assert part.inputs["input_ids"].flatten().tolist() == [*shared, 4, 5, 6]
    whole = states(model, model_inputs(batch))[where]
    torch.testing.assert_close(states(model, part.inputs)[part.of(where)], whole, **ROUNDING)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_of_padded_rows_only_the_common_end_goes(family):
    model = tiny.model(family)
    batch = kit.padded([kit.row([1, 2, 3, 4, 5], [6, 7]), kit.row([1, 9], [8, 6, 5, 4])])
    where = starts(batch)
    part = Part.seen_by(batch, where)
    assert part.columns.tolist() == [0, 1, 2, 3, 4]  # the longest prompt
    whole = states(model, model_inputs(batch))[where]
    torch.testing.assert_close(states(model, part.inputs)[part.of(where)], whole, **ROUNDING)


def test_a_second_turn_keeps_the_first():
    row = {"input_ids": [1, 2, 3, 4, 5, 6], "labels": [-100, -100, 3, -100, -100, 6]}
    batch = kit.padded([row])
    assert Part.seen_by(batch, starts(batch)).columns.tolist() == [0, 1, 2, 3, 4]


def test_a_batch_with_fields_that_are_not_columns_is_left_whole():
    batch = kit.padded([kit.row([1, 2], [3, 4])]) | {"cu_seq_lens_q": torch.tensor([0, 4])}
    part = Part.seen_by(batch, starts(batch))
    assert part.columns.tolist() == [0, 1, 2, 3]
    assert part.inputs["cu_seq_lens_q"].tolist() == [0, 4]


def test_under_a_sliding_window_a_state_depends_on_tokens_outside_it():
    model = tiny.model("mistral")
    batch = TreeCollator(model)([kit.row([*range(1, 12), 4 + i], [9, 8]) for i in range(2)])
    column = int(starts(batch)[0].nonzero()[0])
    assert visible(batch)(0, column).nonzero().flatten().tolist() == [*range(12)]
