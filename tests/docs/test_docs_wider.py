"""More tasks asked of kept models: which ones, of which model, and the tables of them."""

import json
from types import SimpleNamespace

import pytest
import tiny
import torch
from evidence.wider import wider
from wider_probes import answered, asked, named, untouched

from instruction_vectors.continual.gather import finished
from instruction_vectors.errors import DataError
from instruction_vectors.evaluation.abilities import Probe
from instruction_vectors.files import sha256_of
from instruction_vectors.tasks import load_task
from instruction_vectors.tasks.task import Example, Task


def task(name):
    return Task(name, ("Do.",), tuple(Example(f"{name} {number}", "yes") for number in range(40)))


def test_only_tasks_are_asked_about_that_are_not_trained_on_and_no_anchor_shows():
    # capitalize is shipped, colour_5 is trained on with another number of choices.
    names = ("ag_news", "capitalize", "colour_3", "colour_5", "prev_item", "synonym", "word_length")
    sides = {name: SimpleNamespace(train=task(name), test=None) for name in names}
    func = SimpleNamespace(tasks=sides)
    probes = untouched(func, ["colour_5", "word_length"], 5)
    assert [probe.task.name for probe in probes] == ["ag_news", "prev_item", "synonym"]
    assert {len(probe.queries) for probe in probes} == {5}
    assert [probe.task.name for probe in untouched(func, ["colour_5", "word_length", "synonym"], 5)] == ["ag_news", "prev_item"]


def test_what_is_kept_of_a_probe_is_right_or_wrong_row_by_row():
    found = asked(tiny.model("llama", dtype=torch.float32), tiny.tokenizer(), [Probe.of(load_task("antonym"), 3)])
    assert {form: len(hits) for form, hits in found["probes"]["antonym"].items()} == {"in_context": 3, "zero_shot": 3}
    assert {type(hit) for hits in found["probes"]["antonym"].values() for hit in hits} == {int}


def hits(count):
    return [1] * count + [0] * (20 - count)


def cell(method, guide, ap, end, lr=1e-3):
    stages = [{"matrix": {"t": hits(count)}, "probes": {"p": asked_(own)}} for count, own in ((0, 18), (ap, end))]
    settings = {"benchmark": "func", "sequence": "A", "method": method, "guide": guide, "seed": 0}
    settings["stage"] = {"learning_rate": lr, "epochs": 3}
    made = {"cell": settings, "name": f"func-A/{method}-{guide}-{lr}", "ap": {"mean": ap / 20}}
    return made | {"data": {"p/probe": "1"}, "tasks": ["t"], "stages": stages}


def asked_(in_context, zero_shot=0):
    return {"in_context": hits(in_context), "zero_shot": hits(zero_shot)}


@pytest.fixture
def grid(tmp_path):
    cells = [
        cell("sequential", "none", 16, 2),
        cell("sequential", "none", 14, 8, lr=3e-4),
        cell("steered_anchors", "anchors_iv", 16, 14),
        cell("osf", "none", 20, 20),
        cell("osf+steered_anchors", "anchors_iv", 16, 20),
    ]
    plain, low, guided, _, other = [each["name"] for each in cells]
    kept = {each["name"]: write(tmp_path / "grid" / "cells" / each["name"] / "result.json", each) for each in cells}
    # Of q and the floor; osf was not asked.
    more = {"M0": (16, 8, 0), plain: (4, 4, 0), low: (12, 4, 0), guided: (12, 12, 0), other: (16, 4, 0)}
    for name, (q, q_zero, floor) in more.items():
        probes = {"q": asked_(q, q_zero), "floor": asked_(floor)}
        write(
            tmp_path / f"{name}.json",
            {"cell": sha256_of(kept[name]) if name in kept else None, "data": {"q": "1"}, "probes": probes},
        )
    return tmp_path / "grid"


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_the_tables_stand_on_the_cells_own_tasks_on_the_others_and_on_both(grid):
    shown = [
        [value.split(" [")[0] for value in line.strip("| ").split(" | ")]
        for line in wider(finished(grid), grid, grid.parent).splitlines()
        if line.startswith("| A")
    ]
    # Of p plain training takes 16 of 20 and guided training gives 12 back; of q 12 and 8, and without examples 4 and 8.
    assert ["A", "their own", "1", "0.80", "+0.60", "0.75", "0", "–", "–"] in shown
    assert ["A", "the others", "1", "0.60", "+0.40", "0.67", "1", "0.20", "+0.40"] in shown
    assert ["A", "all", "2", "0.70", "+0.50", "0.71", "1", "0.20", "+0.40"] in shown
    assert ["A", "sequential", "+0.60", "+0.40", "+0.50", "+0.40"] in shown
    assert ["A", "sequential, lr 0.0003", "+0.30", "0.00", "+0.15", "+0.40"] in shown
    # At guided training's AP plain training stands for the front, for the lower rate learns less.
    assert ["A", "the front", "+0.60", "+0.40", "+0.50", "–"] in shown
    assert ["A", "osf+steered anchors + anchors iv", "+0.75", "–"] in shown
    assert not [line for line in shown if line[1] == "osf"]
    # Over q and the task at its floor, of which no headline speaks.
    assert ["A", "steered anchors iv, lr 0.001", "0.30", "0.30", "1"] in shown
    assert ["A", "sequential, lr 0.0003", "0.30", "0.10", "1"] in shown


def test_answers_of_another_run_of_a_cell_are_not_shown_as_its_own(grid):
    (path,) = (grid / "cells" / "func-A").glob("sequential-none-0.001/result.json")
    path.write_text(path.read_text() + " ")
    with pytest.raises(DataError, match="of another run than"):
        wider(finished(grid), grid, grid.parent)


def test_a_file_counts_as_answered_for_the_very_run_rows_and_tasks(tmp_path):
    path = write(tmp_path / "a.json", {"cell": "1", "rows": 5, "data": {"q": "2"}, "probes": {}})
    assert answered(path, "1", 5, {"q": "2"})
    assert not answered(path, "2", 5, {"q": "2"})
    assert not answered(path, "1", 6, {"q": "2"})
    assert not answered(path, "1", 5, {"q": "3"})
    assert not answered(tmp_path / "b.json", "1", 5, {"q": "2"})


def test_two_runs_of_one_cell_are_not_taken_for_one(tmp_path):
    folders = [write(tmp_path / run / "result.json", {"name": "func-A/x"}).parent for run in ("one", "two")]
    assert named(folders[:1]) == {"func-A/x": folders[0]}
    with pytest.raises(DataError, match="runs of one cell"):
        named(folders)
