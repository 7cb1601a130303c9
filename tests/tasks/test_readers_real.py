"""The real benchmarks, where `IV_DATA_DIR` names a folder with them: counts as published, prompts letter for letter."""

import json
import os
import random
from functools import cache
from pathlib import Path

import pytest

from instruction_vectors.continual.curriculum import plain_name
from instruction_vectors.files import sha256_of
from instruction_vectors.tasks import Benchmark, load_benchmark, task_names
from instruction_vectors.tasks.fetch import originals
from instruction_vectors.tasks.layout import template_of
from instruction_vectors.tasks.validate import overlaps, validate

DATA = Path(os.environ.get("IV_DATA_DIR", ""))
pytestmark = pytest.mark.skipif("IV_DATA_DIR" not in os.environ, reason="IV_DATA_DIR is not set")


@cache
def read(name: str) -> Benchmark:
    return load_benchmark(name, DATA)


def rows(benchmark: Benchmark) -> int:
    return sum(len(task.rows) for sides in benchmark.tasks.values() for _, task in sides.items())


def test_func() -> None:
    benchmark = read("func")
    assert len(benchmark.tasks) == 47
    merged = {name: int(note.split()[0]) for name, sides in benchmark.tasks.items() for note in sides.train.notes}
    published = sum(len(json.loads(path.read_text())) for path in (DATA / "func").glob("*/*.json"))
    assert rows(benchmark) + sum(merged.values()) == published == 76_452
    assert merged == {
        "conll2003_location": 578,
        "conll2003_organization": 360,
        "conll2003_person": 67,
        "landmark-country": 1,
        "next_item": 8,
        "park-country": 1,
        "person-instrument": 5,
        "prev_item": 8,
        "product-company": 28,
    }
    assert not any(overlaps(sides) for sides in benchmark.tasks.values())
    for sides in benchmark.tasks.values():
        assert len(sides.train.instructions) >= 4
        for _, task in sides.items():
            if task.kind == "choose":
                assert all(row.output in task.choices(row) for row in task.rows)


def test_func_sequence_c_is_what_was_drawn() -> None:
    benchmark = read("func")
    own = {name for order in ("A", "B", "tuning") for name in benchmark.sequences[order]}
    known = {plain_name(name) for name in (*own, *task_names(), "ag_news", "commonsense_qa")}
    left = {
        plain_name(name): name  # of two numbers of choices the larger, which the alphabet has last
        for name, sides in sorted(benchmark.tasks.items())
        if len(sides.test.rows) >= 200 and plain_name(name) not in known
    }
    assert benchmark.sequences["C"] == tuple(random.Random(0).sample(sorted(left.values()), 5))


def test_long() -> None:
    benchmark = read("long")
    assert len(benchmark.tasks) == 15
    assert rows(benchmark) == 49_241
    assert not any(overlaps(sides) for sides in benchmark.tasks.values())
    repeated = {task.name: side.repeated for task in validate(benchmark).tasks for side in task.sides.values() if side.repeated}
    assert repeated == {"rte": 2}


def test_trace() -> None:
    benchmark = read("trace")
    assert len(benchmark.tasks) == 8
    assert rows(benchmark) == 5_600
    seen = {name: {(o.first, o.second): (o.inputs, o.rows) for o in overlaps(sides)} for name, sides in benchmark.tasks.items()}
    assert {name: found for name, found in seen.items() if found} == {
        "FOMC": {("train", "test"): (1, 1), ("eval", "test"): (16, 16)},
        "Py150": {("train", "eval"): (2, 2), ("train", "test"): (3, 5)},
        "NumGLUE-ds": {("train", "eval"): (6, 6), ("train", "test"): (6, 6)},
    }
    for name, sides in benchmark.tasks.items():
        for side, task in sides.items():
            published = [row["prompt"] for row in json.loads((DATA / "trace/500" / name / f"{side}.json").read_text())]
            ours = [template_of(task)(task.instruction, (), row.input) for row in task.rows]
            left_out = {int(note.split()[1]) for note in task.notes}
            assert ours == [prompt for number, prompt in enumerate(published, start=1) if number not in left_out]


@pytest.mark.parametrize("name", ["func", "trace"])
def test_the_pinned_checksums(name: str) -> None:
    for file in originals(name):
        path = DATA / file.path
        assert (path.stat().st_size, sha256_of(path)) == (file.size, file.sha256), file.path
