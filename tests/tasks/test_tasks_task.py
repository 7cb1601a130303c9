"""A task's own rules: what it refuses, how it splits, which options it offers."""

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instruction_vectors.errors import DataError
from instruction_vectors.tasks import Example, Task
from instruction_vectors.tasks.task import check_disjoint


def a_task(count=20, **changes):
    rows = tuple(Example(f"in {i}", f"out {i}") for i in range(count))
    return Task(**{"name": "t", "instructions": ("Do it.",), "rows": rows, **changes})


@given(st.integers(1, 60), st.data())
def test_a_split_is_disjoint_of_the_asked_sizes_and_the_same_for_the_same_seed(count, data):
    task, seed = a_task(count), data.draw(st.integers(0, 5))
    first = data.draw(st.integers(0, count))
    second = data.draw(st.integers(0, count - first))
    parts = task.split(first, second, -1, seed=seed)
    assert [len(part.rows) for part in parts] == [first, second, count - first - second]
    together = [row for part in parts for row in part.rows]
    assert len(set(together)) == len(together)
    assert set(together) == set(task.rows)
    again = task.split(first, second, -1, seed=seed)
    assert [part.rows for part in again] == [part.rows for part in parts]
    assert all(part.instructions == task.instructions for part in parts)


def test_unlike_seeds_split_unlike():
    assert len({a_task().split(10, seed=seed)[0].rows for seed in range(5)}) == 5


def test_a_split_larger_than_the_task_is_refused():
    with pytest.raises(DataError, match="has 20 rows; a split of \\(15, 6\\) needs 21"):
        a_task().split(15, 6)


def test_an_input_on_two_sides_of_a_split_is_found():
    sides = {"train": (Example("a", "1"), Example("b", "2")), "test": (Example("c", "3"), Example("b", "other"))}
    with pytest.raises(DataError, match="task 't', test row 2: the input 'b' is also in train"):
        check_disjoint("t", sides)


def test_the_same_input_twice_on_one_side_is_not_a_leak():
    check_disjoint("t", {"train": (Example("a", "1"), Example("a", "1")), "test": (Example("b", "2"),)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": ()}, "has no rows"),
        ({"instructions": ()}, "needs at least one instruction"),
        ({"instructions": ("Do it.", " ")}, "none of them empty"),
        ({"knowledge": ("The answer is",)}, "lacks {input}"),
        ({"rows": (Example("a", "1"), Example(" ", "2"))}, "row 2: empty input"),
        ({"rows": (Example("a", "\n"),)}, "row 1: empty output"),
        ({"rows": (Example("a", "1"), Example("b", "2"), Example("a", "3"))}, "row 3: the input 'a' is already in row 1"),
        ({"rows": (Example("a", "1"),), "options": ("2", "3")}, "row 1: the output '1' is not among the options"),
        ({"rows": (Example("a", "1"),), "options": ("1", "2", "1")}, "lists an option twice"),
    ],
)
def test_a_malformed_task_is_refused_with_the_row(changes, message):
    with pytest.raises(DataError, match=message):
        a_task(**changes)


@pytest.mark.parametrize("change", ["name", "instructions", "knowledge", "rows", "options"])
def test_the_fingerprint_changes_with_whatever_decides_what_is_asked(change):
    task = a_task(2)
    other = {
        "name": "u",
        "instructions": ("Do it now.",),
        "knowledge": ("{input} is",),
        "rows": task.rows[:1],
        "options": ("out 0", "out 1"),
    }[change]
    changed = dataclasses.replace(task, **{change: other})
    assert changed.fingerprint != task.fingerprint
    assert a_task(2).fingerprint == task.fingerprint


def test_options_are_the_label_set_of_a_classification():
    task = a_task(2, rows=(Example("a", "yes"), Example("b", "no")), options=("yes", "no", "maybe"), kind="classify")
    assert sorted(task.choices(task.rows[0])) == ["maybe", "no", "yes"]


def test_options_of_a_choice_are_the_words_of_the_input():
    task = a_task(rows=(Example("cat, stone, dog", "stone"),), kind="choose")
    assert sorted(task.choices(task.rows[0])) == ["cat", "dog", "stone"]


def test_options_are_fewer_where_there_are_fewer_answers():
    task = a_task(3)
    assert sorted(task.choices(task.rows[0], count=10)) == ["out 0", "out 1", "out 2"]


def test_the_right_option_has_no_preferred_place():
    task = a_task(200)
    places = [task.choices(row).index(row.output) for row in task.rows]
    assert all(25 <= places.count(place) <= 75 for place in range(4))


def test_another_right_answer_is_no_wrong_option():
    rows = (Example("in", "a", references=("a", "b")), *(Example(f"in {k}", k) for k in "abcde"))
    task = a_task(rows=rows)
    for seed in range(9):
        options = task.choices(rows[0], count=4, seed=seed)
        assert sorted(options) == sorted({"a", "c", "d", "e"})


@pytest.mark.parametrize(
    ("kind", "changes", "expected"),
    [
        ("classify", {"options": ("a", "b", "c")}, {"a", "c"}),
        ("classify", {"options": ("a", "b")}, {"a", "b"}),  # nothing would be left to choose from
        ("choose", {}, {"a", "c", "d"}),
    ],
)
def test_another_right_option_is_left_out_where_that_leaves_a_choice(kind, changes, expected):
    row = Example("a, b, c, d", "a", references=("a", "b"))
    task = a_task(rows=(row, Example("a, d", "a")), kind=kind, **changes)
    assert set(task.choices(row)) == expected


def test_words_that_a_choice_repeats_are_one_option_and_the_answer_is_among_them():
    task = a_task(rows=(Example("cat, dog, cat, cat", "cat"),), kind="choose")
    assert sorted(task.choices(task.rows[0])) == ["cat", "dog"]
    with pytest.raises(DataError, match="row 1: the output 'q' is no word of its input"):
        a_task(rows=(Example("x, y", "q"),), kind="choose")
    with pytest.raises(DataError, match="row 1: one word leaves nothing to choose"):
        a_task(rows=(Example("cat, cat", "cat"),), kind="choose")


def test_an_instruction_after_the_input_is_refused():
    with pytest.raises(DataError, match=re.escape("needs {instruction} before {input}")):
        a_task(layout="{input}\n{instruction}\nAnswer:")
