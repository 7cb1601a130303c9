"""Trees side by side give what separate forwards give, for as few operations as the parting finds."""

import pytest
import tiny
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from instruction_vectors.models.anatomy import anatomy_of
from instruction_vectors.models.forest import Forest

sequences = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=6)
TWO_KINDS = [[1, 9, 14, 7, 30], [1, 9, 14, 7, 31, 32], [2, 5, 6, 8, 10, 11], [2, 5, 6, 8, 12]]


def grown(sequences, price):
    return Forest.of(sequences, [(-1, None)] * len(sequences), lambda width: 1 + price * width)


@torch.no_grad()
def worst(causal_lm, forest, sequences):
    """Largest difference of a logit, relative to the largest logit."""
    anatomy = anatomy_of(causal_lm)
    logits = anatomy.logits(anatomy.backbone(**forest.model_inputs(anatomy))[0])
    apart = [causal_lm(input_ids=torch.tensor([s])).logits[0] for s in sequences]
    gaps = [(logits[row, list(path)] - one).abs().max() for (row, path), one in zip(forest.places, apart, strict=True)]
    return float(max(gaps) / max(one.abs().max() for one in apart))


@pytest.mark.parametrize("family", ["llama", "mistral", "gpt2", "gemma3"])
@pytest.mark.parametrize("price", [0.0, 0.3, 100.0])
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sequences=sequences)
def test_any_parting_gives_the_logits_of_separate_forwards(family, price, sequences):
    assert worst(tiny.shared(family, "sdpa"), grown(sequences, price), sequences) < 1e-9


@given(sequences=sequences, price=st.floats(0, 10))
def test_every_sequence_has_its_own_path_and_no_parting_costs_more_than_one_tree_or_padding(sequences, price):
    forest = grown(sequences, price)
    for (row, path), sequence in zip(forest.places, sequences, strict=True):
        assert forest.trees[row].tokens[list(path)].tolist() == sequence

    def cost(rows, width):
        return rows * width * (1 + price * width)

    # One tree holds every prefix once.
    tree = len({tuple(s[: i + 1]) for s in sequences for i in range(len(s))})
    padded = cost(len(sequences), max(map(len, sequences)))
    assert cost(len(forest.trees), forest.width) <= min(cost(1, tree), padded) + 1e-9


def test_sequences_that_begin_alike_go_into_one_tree():
    forest = grown(TWO_KINDS, 1.0)
    assert [row for row, _ in forest.places] in ([0, 0, 1, 1], [1, 1, 0, 0])
    assert [len(tree) for tree in forest.trees] == [7, 7]


def test_free_attention_makes_one_tree_and_dear_attention_a_row_a_sequence():
    assert len(grown(TWO_KINDS, 0.0).trees) == 1
    assert len(grown([[1, 2, 3], [1, 4, 5], [1, 6, 7]], 100.0).trees) == 3  # 3 * 3^2 against 7^2 and 2 * 5^2


def test_what_owners_keep_apart_is_not_counted_as_shared():
    same = [5, 6, 7, 8]
    forest = Forest.of([same, same], [(2, "a"), (2, "b")], lambda width: 1)
    ((_, first), (_, second)) = forest.places
    assert first[:2] == second[:2]
    assert not {*first[2:]} & {*second[2:]}
    assert forest.width == 6


def test_rows_without_branches_are_an_ordinary_padded_batch():
    inputs = grown([[1, 2, 3, 4], [5, 6]], 100.0).model_inputs(anatomy_of(tiny.shared("llama")))
    assert inputs["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert "position_ids" not in inputs
