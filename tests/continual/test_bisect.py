"""Which task broke what, on results made by hand."""

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from instruction_vectors.analysis.stages import START, StageScore
from instruction_vectors.continual.bisect import bisect, read_breaks
from instruction_vectors.errors import DataError
from instruction_vectors.evaluation.knowledge import Estimate

GOOD, BAD = [1.0] * 20, [0.0] * 20


def result(in_context: list[list[float]], first_task: list[list[float]]) -> dict:
    stages = [
        {"matrix": {"t1": first, "t2": GOOD, "t3": GOOD}, "probes": {"p": {"in_context": rows}}}
        for rows, first in zip(in_context, first_task, strict=True)
    ]
    return {"tasks": ["t1", "t2", "t3"], "stages": stages}


def found(*args) -> dict:
    return {each.ability: each for each in bisect(result(*args))}


def test_the_first_stage_after_which_an_ability_stays_below_is_named():
    breaks = found([GOOD, GOOD, BAD, BAD], [BAD, GOOD, GOOD, BAD])
    assert breaks["p/in_context"].after == breaks["all/in_context"].after == "t2"
    assert breaks["p/in_context"].drop == breaks["p/in_context"].high == -1.0
    assert breaks["t1"].after == "t3"


def test_what_came_back_is_not_broken():
    assert found([GOOD, BAD, GOOD, GOOD], [BAD, GOOD, BAD, GOOD])["p/in_context"].after is None


def test_a_drop_within_chance_is_not_broken():
    slightly = [0.0, *GOOD[1:]]
    one = found([GOOD, GOOD, GOOD, slightly], [BAD, GOOD, GOOD, GOOD])["p/in_context"]
    assert one.after is None
    assert one.drop == -0.05


def test_what_broke_comes_first():
    order = [each.after is not None for each in bisect(result([GOOD, GOOD, BAD, BAD], [BAD, GOOD, GOOD, GOOD]))]
    assert order == sorted(order, reverse=True)
    assert any(order)
    assert not all(order)


def test_general_sets_are_looked_at_as_probes_are():
    made = result([GOOD] * 4, [BAD, GOOD, GOOD, GOOD])
    for stage, easy, hard in zip(made["stages"], (GOOD, GOOD, GOOD, BAD), (GOOD, GOOD, BAD, BAD), strict=True):
        stage["general"] = {"easy": {"zero_shot": easy, "in_context": GOOD}, "hard": {"zero_shot": hard}}
    breaks = {each.ability: each for each in bisect(made)}
    assert {name: each.after for name, each in breaks.items() if each.after} == {
        "easy/zero_shot": "t3", "hard/zero_shot": "t2", "general/zero_shot": "t3"
    }  # fmt: skip
    assert breaks["general/zero_shot"].drop == -1.0
    assert breaks["easy/in_context"].after is breaks["all/in_context"].after is None


def written(folder: Path, value: Any) -> Path:
    (folder / "some.json").write_text(value if isinstance(value, str) else json.dumps(value))
    return folder / "some.json"


CELL = {"cell": {}, **result([GOOD] * 4, [BAD, GOOD, GOOD, BAD])}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ([1, 2], "neither a cell's result.json nor a diagnosis"),
        ({"schema": 1, "grid": {}}, "neither a cell's result.json nor a diagnosis"),
        ({"cell": {}, "stages": 3}, "neither a cell's result.json nor a diagnosis"),
        ({"cell": {}, "stages": []}, "no tasks, so no whole result"),
        ({**CELL, "tasks": [["t1"]]}, "no tasks, so no whole result"),
        ({**CELL, "stages": CELL["stages"][:3]}, "not one stage before all tasks and one after each"),
        ({**CELL, "stages": [{}, *CELL["stages"][1:]]}, "probes: not by name and form"),
        ({**CELL, "stages": [{"probes": {"p": 1}}, *CELL["stages"][1:]]}, "probes: not by name and form"),
        ({**CELL, "stages": [*CELL["stages"][:3], {}]}, "probes/p/in_context: no rows at one of the stages"),
        ({**CELL, "stages": [*CELL["stages"][:3], None]}, "probes/p/in_context: no rows at one of the stages"),
        ({**CELL, "tasks": ["t1", "t9", "t3"]}, "matrix/t9: no rows at one of the stages"),
        ({"cell": {}, **result([GOOD, GOOD, ["1"], GOOD], [GOOD] * 4)}, "probes/p/in_context: no rows at one"),
        ({"cell": {}, **result([GOOD, GOOD, [float("nan")], GOOD], [GOOD] * 4)}, "probes/p/in_context: no rows at one"),
        ({"cell": {}, **result([GOOD, GOOD, [1.0], GOOD], [GOOD] * 4)}, "20 rows at first, 1 at a later stage"),
        ({"tasks": {}, "stages": []}, "the diagnosis of a single model"),
        ({"tasks": {}, "stages": [7]}, "stages, entry 1: not a task's scores at a stage"),
        ({"stages": [{"stage": "M0", "task": "p", "trained": False, "forms": {"x": {"value": 1}}}]}, "stages, entry 1"),
        ({"stages": [{"stage": "M0", "task": "p", "trained": False, "forms": {}}]}, "not the same tasks at two stages or more"),
    ],
)
def test_what_is_no_cell_or_damaged_is_told_with_its_file(tmp_path, content, message):
    path = written(tmp_path, content)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read_breaks(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_whole_file_is_read_as_what_it_holds(tmp_path):
    assert read_breaks(written(tmp_path, CELL)) == bisect(CELL)


WHOLE, HALF, NONE = Estimate(0.9, (0.8, 0.95)), Estimate(0.5, (0.4, 0.6)), Estimate(0.2, (0.1, 0.3))


def diagnosed(stages: list[str], **scores: list[Estimate]) -> dict:
    """A diagnosis' JSON; what is called `learnt` was trained on."""
    curve = [
        asdict(StageScore(stage, name, name.startswith("learnt"), {"instruction": estimates[number]}, 1.0))
        for number, stage in enumerate(stages)
        for name, estimates in scores.items()
    ]
    return {"tasks": {name: {} for name in scores}, "stages": curve}


CHECKPOINTS = [START, "checkpoint-50", "checkpoint-100", "checkpoint-150"]


def test_the_checkpoint_that_broke_an_ability_is_named(tmp_path):
    found = diagnosed(CHECKPOINTS, p=[WHOLE, HALF, WHOLE, HALF], q=[WHOLE, WHOLE, HALF, NONE], r=[WHOLE, NONE, NONE, WHOLE])
    breaks = {each.ability: each for each in read_breaks(written(tmp_path, found))}
    assert breaks["p/instruction"].after == "checkpoint-150"
    assert breaks["q/instruction"].after == "checkpoint-100"
    assert breaks["r/instruction"].after is None
    # By hand: 0.5 - 0.9, below it the roots of 0.1² + 0.05², above it of 0.1² + 0.1².
    one = breaks["p/instruction"]
    assert (one.drop, one.low, one.high) == pytest.approx((-0.4, -0.4 - 0.0125**0.5, -0.4 + 0.02**0.5))
    # The mean of -0.4, -0.7 and 0: arms of all six intervals, over 3. Down: 0.1 thrice, 0.05 thrice; up: 0.1 five times, 0.05.
    mean = breaks["all/instruction"]
    assert (mean.drop, mean.low, mean.high) == pytest.approx((-1.1 / 3, (-1.1 - 0.0375**0.5) / 3, (-1.1 + 0.0525**0.5) / 3))
    assert read_breaks(written(tmp_path, {"schema": 1, "diagnosis": found})) == [*breaks.values()]


def test_a_trained_task_is_held_against_what_it_was_once_learnt(tmp_path):
    stages = [START, "learnt_1", "learnt_2"]
    found = diagnosed(stages, p=[WHOLE] * 3, learnt_1=[NONE, WHOLE, HALF], learnt_2=[HALF, HALF, WHOLE])
    breaks = {each.ability: each.after for each in read_breaks(written(tmp_path, found))}
    # Nothing comes after the last task; the mean is over what is not trained on.
    assert breaks == {"learnt_1/instruction": "learnt_2", "p/instruction": None, "all/instruction": None}
    unnamed = diagnosed(CHECKPOINTS, learnt=[WHOLE, HALF, HALF, HALF])
    assert [(each.ability, each.after) for each in read_breaks(written(tmp_path, unnamed))] == [
        ("learnt/instruction", "checkpoint-50")
    ]
