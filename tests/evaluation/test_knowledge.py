"""Knowledge and instruction probability, and the split of a drop, worked out by hand."""

import pytest

from instruction_vectors.errors import DataError
from instruction_vectors.evaluation.knowledge import linked, split_drop


def rows(knowledge, instruction):
    return {"knowledge": [float(x) for x in knowledge], "instruction": [float(x) for x in instruction]}


BEFORE = {
    "a": rows([1] * 8 + [0] * 2, [1] * 6 + [0] * 4),  # K .8, I .6
    "b": rows([1] * 10, [1] * 10),  # K 1, I 1
    "copying": {"zero_shot": [1.0]},
}
# K = .9, I = .8 before: F_0 = 8/9.


def test_probabilities_average_tasks_and_leave_out_those_without_a_knowledge_form():
    got = linked(BEFORE)
    assert (got.knowledge.value, got.instruction.value) == pytest.approx((0.9, 0.8))
    assert got.tasks == ("a", "b")
    assert got.rows == 20
    low, high = got.instruction.interval
    assert low < 0.8 <= high


def test_following_lost_with_all_knowledge_kept():
    after = {"a": rows([1] * 8 + [0] * 2, [0] * 10), "b": rows([1] * 10, [1] * 5 + [0] * 5)}
    split = split_drop(BEFORE, after)
    assert split.instruction_drop.value == pytest.approx(0.8 - 0.25)
    assert split.knowledge_drop.value == pytest.approx(0)
    assert split.knowledge_part.value == pytest.approx(0)
    assert split.instruction_part.value == pytest.approx(0.55)
    assert split.instruction_part.interval[0] > 0


def test_knowledge_lost_and_following_kept():
    # K .9 to .45 and I .8 to .4: F stays 8/9, so all of the drop is knowledge.
    after = {"a": rows([1] * 4 + [0] * 6, [1] * 3 + [0] * 7), "b": rows([1] * 5 + [0] * 5, [1] * 5 + [0] * 5)}
    split = split_drop(BEFORE, after)
    assert split.knowledge_part.value == pytest.approx(0.4)
    assert split.instruction_part.value == pytest.approx(0, abs=1e-12)


def test_both_lost_by_the_formula_and_parts_add_up():
    # K .9 to .6, I .8 to .1: knowledge part .8 * .3 / .9, following part .8 * .6 / .9 - .1.
    after = {"a": rows([1] * 4 + [0] * 6, [0] * 10), "b": rows([1] * 8 + [0] * 2, [1] * 2 + [0] * 8)}
    split = split_drop(BEFORE, after)
    assert split.knowledge_part.value == pytest.approx(0.8 * 0.3 / 0.9)
    assert split.instruction_part.value == pytest.approx(0.8 * 0.6 / 0.9 - 0.1)
    assert split.knowledge_part.value + split.instruction_part.value == pytest.approx(split.instruction_drop.value)


def test_no_change_splits_into_nothing_with_an_interval_of_width_zero():
    split = split_drop(BEFORE, BEFORE)
    for part in (split.knowledge_drop, split.instruction_drop, split.knowledge_part, split.instruction_part):
        assert part.value == 0
        assert part.interval == (0, 0)


def test_a_split_over_knowledge_that_may_be_zero_is_refused():
    guessing = {"a": rows([1, -1 / 3, -1 / 3, -1 / 3] * 5, [1] * 20)}
    split = split_drop(guessing, guessing)
    assert split.knowledge_part is None
    assert split.instruction_part is None
    assert "knowledge before is the denominator" in split.reason
    assert split.instruction_drop.value == 0


def test_rows_that_are_not_the_same_cannot_be_linked():
    with pytest.raises(DataError, match="no task has a knowledge form"):
        linked({"copying": {"zero_shot": [1.0]}})
    with pytest.raises(DataError, match="'a'"):
        split_drop({"a": rows([1, 1], [1, 1])}, {"a": rows([1], [1])})
    with pytest.raises(DataError, match="'a'"):
        linked({"a": {"knowledge": [1.0]}})


def test_a_split_over_knowledge_below_chance_is_refused():
    worse_than_chance = {"a": rows([-1 / 3] * 40, [1] * 40)}
    split = split_drop(worse_than_chance, {"a": rows([1] * 40, [1] * 40)})
    assert (split.knowledge_part, split.instruction_part) == (None, None)
    assert "below chance" in split.reason
