"""The evidence page's pooled diagnoses, on files made by hand."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from evidence.fallen import as_diagnosis, covered


def task(base, tuned, repaired, random, *, fell=True):
    value = {"value": random}
    over = {
        f"few-shot+iv({name})": {"value": repaired - random}
        for name in ("other task", "mean of all tasks", "random", "shuffled heads")
    }
    rungs = [
        {"name": "few-shot+iv(base)", "accuracy": {"value": repaired}, "of_base": 0.5, "over": over},
        {"name": "few-shot, 0.5 of the fine-tune", "accuracy": value, "over": {}},
    ]
    return {
        "changes": {"in_context": {"base": {"value": base}, "tuned": {"value": tuned}}},
        "written_rungs": rungs if fell else [],
        "trace": {"effect_before": 0.01, "effect_after": 0.0, "cosine": 0.5},
    }


@pytest.fixture
def paths(tmp_path):
    seeds = (
        {"a": task(0.8, 0.2, 0.6, 0.1), "b": task(0.6, 0.1, 0.2, 0.1)},
        {"a": task(0.8, 0.4, 0.4, 0.3), "b": task(0.6, 0.7, 0.6, 0.6, fell=False)},
    )
    out = []
    for seed, tasks in enumerate(seeds):
        out.append(tmp_path / f"func-A-s{seed}.json")
        out[-1].write_text(json.dumps({"tasks": tasks}))
    return out


def test_means_are_over_tasks_of_the_seeds_at_which_each_fell(paths):
    rows = {
        line.split(" | ")[0].strip("| "): line.split(" | ")[1].split(" [")[0].strip("| ") for line in covered(paths).splitlines()
    }
    assert (rows["tasks that fell"], rows["seeds"]) == ("2", "2")
    # Task a at both seeds, b at the first alone: (mean(.2, .4) + .1) / 2.
    assert rows["before training"] == "0.70"
    assert rows["after plain training"] == "0.20"
    assert rows["after, with the θ of before"] == "0.35"
    assert rows["after, with a random one"] == "0.15"
    assert rows["before training, with θ"] == "0.70"  # what is repaired is half of what the base has with the vector
    assert rows["causal effect of the ten heads, before"] == "0.0100"


def test_the_picture_is_of_the_same_means(paths):
    (name,) = (found := as_diagnosis(paths)["diagnosis"]["tasks"])
    assert name == "A (2 seeds)"
    repair, half = found[name]["written_rungs"]
    assert repair["accuracy"]["value"] == pytest.approx(0.35)
    assert [value["value"] for value in repair["over"].values()] == pytest.approx([0.2] * 4)
    assert half["name"] == "few-shot, 0.5 of the fine-tune"
