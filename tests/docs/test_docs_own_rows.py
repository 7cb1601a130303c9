"""What `iv train` keeps of rows of one's own: the rows as it reads them, and the table."""

import json

import pytest
from evidence.own_rows import own_rows
from own_rows import own_rows as lines

from instruction_vectors.errors import DataError
from instruction_vectors.tasks import load_task
from instruction_vectors.training.rows import read_rows


def hits(count, of=20):
    return [1] * count + [0] * (of - count)


def run(folder, vector, seed, learnt, end, data="1"):
    recipe = {"vector": vector, "seed": seed, "learning_rate": 3e-4}
    probes = {"p": {"in_context": hits(end), "zero_shot": hits(2)}}
    found = {"task": "t", "recipe": recipe, "run": {"seconds": 90}, "learnt": hits(learnt), "data": {"p": data}, "probes": probes}
    (folder / f"t-{vector}-s{seed}.json").write_text(json.dumps(found))


@pytest.fixture
def folder(tmp_path):
    start = {"learnt": {"t": hits(1)}, "data": {"p": "1"}, "probes": {"p": {"in_context": hits(18), "zero_shot": hits(0)}}}
    (tmp_path / "M0.json").write_text(json.dumps(start))
    for seed, ends in enumerate((4, 6)):
        run(tmp_path, "none", seed, 16, ends)
        run(tmp_path, "anchors", seed, 15, ends + 9)
    run(tmp_path, "auto", 0, 16, 4)
    run(tmp_path, "auto", 7, 16, 4)  # without its plain run
    return tmp_path


def test_every_kind_of_vector_is_set_against_plain_training_on_the_same_seeds(folder):
    # Plain training takes 14 and 12 of 20 rows; anchors give 9 back at each seed, and cost one row in twenty of what is learnt.
    shown = [[cell.split(" [")[0] for cell in line.strip("| ").split(" | ")] for line in own_rows(folder).splitlines()[2:]]
    assert shown == [
        ["t", "0.0003", "none", "0.05 → 0.80", "–", "0.90 → 0.25", "–", "–", "–", "1.5", "2"],
        ["t", "0.0003", "anchors", "0.05 → 0.75", "−0.05", "0.90 → 0.70", "+0.45", "69 %", "–", "1.5", "2"],
        ["t", "0.0003", "auto", "0.05 → 0.80", "0.00", "0.90 → 0.20", "0.00", "0 %", "–", "1.5", "1"],
    ]


def test_a_run_that_was_asked_about_other_tasks_is_not_shown(folder):
    run(folder, "auto", 1, 16, 4, data="2")
    with pytest.raises(DataError, match="other tasks than"):
        own_rows(folder)


def test_the_rows_are_what_iv_train_reads(tmp_path):
    task = load_task("country-capital")
    written = lines(task, 12, seed=0)
    (tmp_path / "rows.jsonl").write_text("".join(written))
    assert len(read_rows(tmp_path / "rows.jsonl")) == 12
    first = json.loads(written[0])
    row = next(row for row in task.rows if f"Input: {row.input}\n" in first["prompt"])
    assert first == {
        "instruction": task.instruction,
        "prompt": f"{task.instruction}\nInput: {row.input}\nOutput:",
        "completion": f" {row.output}",
    }
    assert written != lines(task, 12, seed=1)
