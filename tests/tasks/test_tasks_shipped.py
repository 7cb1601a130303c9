"""What every shipped task keeps to."""

import pytest

from instruction_vectors.errors import DataError
from instruction_vectors.tasks import load_task, task_names
from instruction_vectors.tasks.task import check_disjoint

NAMES = task_names()


def test_there_are_enough_tasks_in_both_forms():
    assert len(NAMES) >= 14
    assert sum(bool(load_task(name).knowledge) for name in NAMES) >= 8
    assert {load_task(name).kind for name in NAMES} >= {"generate", "choose", "classify"}


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_task_is_well_made(name):
    task = load_task(name)
    assert task.name == name
    assert len(task.rows) >= 50
    assert len(set(task.instructions)) == len(task.instructions) >= 3
    assert len({row.input for row in task.rows}) == len(task.rows)
    assert task.sources
    for text in (*task.instructions, *task.knowledge, *(t for row in task.rows for t in (row.input, row.output))):
        assert text == text.strip()
        assert text
    assert all("{input}" in wording and wording.count("{") == 1 for wording in task.knowledge)


@pytest.mark.parametrize("name", NAMES)
def test_the_answer_stands_once_among_the_options_of_every_row(name):
    task = load_task(name)
    places = set()
    for row in task.rows:
        options = task.choices(row)
        assert options.count(row.output) == 1
        assert len(set(options)) == len(options) >= 2
        assert options == task.choices(row)
        places.add(options.index(row.output))
    assert len(places) >= 2


def test_options_are_drawn_by_seed():
    task = load_task("country-capital")
    drawn = {task.choices(task.rows[0], seed=seed) for seed in range(5)}
    assert len(drawn) > 1
    assert all(len(options) == 4 for options in drawn)


@pytest.mark.parametrize("name", NAMES)
def test_the_parts_of_a_split_share_no_input(name):
    parts = load_task(name).split(10, 5, -1)
    check_disjoint(name, {str(i): part.rows for i, part in enumerate(parts)})


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(DataError, match=r"unknown task 'capitals'; shipped tasks: .*country-capital"):
        load_task("capitals")


def test_fingerprints_differ_between_tasks():
    assert len({load_task(name).fingerprint for name in NAMES}) == len(NAMES)
