"""The evidence page's pooled diagnoses, on files made by hand."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from evidence.fallen import as_diagnosis, covered, fallen
from evidence.forms import forms
from evidence.glance import glance


def task(base, tuned, repaired, control, *, fell=True, named="inconclusive"):
    """A task whose few-shot answers fell, with the vector and with four controls alike; the base has 0.1 less with it."""
    controls = ("other task", "mean of all tasks", "random", "shuffled heads")
    ahead = {"value": repaired - control, "interval": [repaired - control - 0.15, 1]}
    rungs = [
        {
            "name": "few-shot+iv(base)",
            "accuracy": {"value": repaired},
            "of_base": None,
            "beyond": {"value": repaired - tuned + 0.1},
            "over": {f"few-shot+iv({name})": ahead for name in controls},
        },
        {"name": "few-shot, 0.5 of the fine-tune", "accuracy": {"value": control}, "over": {}},
    ]
    return {
        "changes": {"in_context": {"base": {"value": base}, "tuned": {"value": tuned}, "worse": fell}},
        "written_rungs": rungs if fell else [],
        "written": {"name": named},
    }


@pytest.fixture
def paths(tmp_path):
    seeds = (
        {"a": task(0.8, 0.2, 0.6, 0.1, named="suppressed"), "b": task(0.6, 0.1, 0.2, 0.1)},
        {"a": task(0.8, 0.4, 0.4, 0.3), "b": task(0.6, 0.7, 0.6, 0.6, fell=False)},
    )
    out = []
    for seed, tasks in enumerate(seeds):
        out.append(tmp_path / f"func-A-s{seed}.json")
        out[-1].write_text(json.dumps({"tasks": tasks}))
    return out


def cells_of(table):
    return {line.split(" | ")[0].strip("| "): line.split(" | ")[1].split(" [")[0].strip("| ") for line in table.splitlines()}


def test_means_are_over_tasks_of_the_seeds_at_which_each_fell(paths):
    rows = cells_of(covered(fallen(paths)))
    assert (rows["tasks that fell, at one seed or more"], rows["seeds"]) == ("2", "2")
    # Task a at both seeds, b at the first alone: (mean(.2, .4) + .1) / 2.
    assert rows["before training"] == "0.70"
    assert rows["before training, with θ"] == "0.60"
    assert rows["after plain training"] == "0.20"
    assert rows["after, with the θ of before"] == "0.35"
    assert rows["gain by θ"] == "0.15"
    assert rows["after, with a random one"] == "0.15"
    assert rows["θ clearly above all four controls"] == "1 of 3"
    assert rows["called covered by `iv diagnose`"] == "1 of 3"
    assert rows["called gone"] == "0 of 3"


def test_intervals_are_over_tasks_and_over_seeds(paths):
    (line,) = (line for line in covered(fallen(paths)).splitlines() if "after plain" in line)
    # From task b at the first seed alone (.1) to task a at the second alone (.4).
    assert line.endswith("0.20 [0.10, 0.40] |")


def test_the_picture_is_of_the_same_means(paths):
    (name,) = (found := as_diagnosis(fallen(paths))["diagnosis"]["tasks"])
    assert name == "A (2 seeds)"
    repair, half = found[name]["written_rungs"]
    assert repair["accuracy"]["value"] == pytest.approx(0.35)
    assert [value["value"] for value in repair["over"].values()] == pytest.approx([0.2] * 4)
    assert half["name"] == "few-shot, 0.5 of the fine-tune"


def cell(sequence, ap, end, *, seed=0, lr=1e-3, method="sequential", guide="none"):
    stages = [{"probes": {"p": {form: [value, value] for form in FORMS}}} for value in (0.5, end)]
    settings = {"benchmark": "func", "sequence": sequence, "method": method, "guide": guide, "seed": seed}
    return {
        "cell": settings | {"stage": {"learning_rate": lr, "epochs": 3}},
        "ap": {"mean": ap},
        "fp": {"mean": ap / 2},
        "stages": stages,
    }


FORMS = ("in_context", "zero_shot", "instruction", "knowledge")


def test_each_sequence_has_a_best_rate_of_its_own():
    # Over both sequences together the lower rate would be best: it was run on the easy one alone.
    cells = [cell("A", 0.3, 0.1), cell("A", 0.3, 0.2, seed=1), cell("A", 0.3, 0.4, method="steered_anchors", guide="anchors_iv")]
    cells += [cell("B", 0.8, 0.0), cell("B", 0.9, 0.3, lr=3e-4)]
    shown = [line.split(" | ")[:4] for line in forms(cells).splitlines()[2:]]
    assert shown == [
        ["| A", "plain", "2", "0.50 → 0.15 [−0.40, −0.30]"],
        ["| A", "steered anchors", "1", "0.50 → 0.40 [−0.10, −0.10]"],
        ["| B", "plain", "1", "0.50 → 0.30 [−0.20, −0.20]"],
    ]


def test_every_way_of_training_is_a_line_of_means_in_percent():
    anchored = cell("B", 0.8, 0.7, method="steered_anchors", guide="anchors_iv")
    cells = [cell("A", 0.2, 0.1), cell("A", 0.4, 0.2, seed=1), cell("A", 0.3, 0.4, lr=3e-4), cell("B", 0.8, 0.0)]
    cells = [cell("A", 0.3, 0.6, method="replay"), anchored, cell("A", 0.3, 0.4, guide="plain_kl"), *cells]
    shown = [line.strip("| ").split(" | ") for line in glance(cells).splitlines()[2:]]
    assert shown == [
        ["none", "–", "–", "50 · 50", "50 · 50", "–"],
        ["`sequential`, lr 0.001", "30 · 80", "15 · 40", "15 · 0", "15 · 0", "2 · 1"],
        ["`sequential`, lr 0.0003", "30 · –", "15 · –", "40 · –", "40 · –", "1 · –"],
        ["`sequential`, `plain_kl`, lr 0.001", "30 · –", "15 · –", "40 · –", "40 · –", "1 · –"],
        ["`steered_anchors`, `anchors_iv`, lr 0.001", "– · 80", "– · 40", "– · 70", "– · 70", "– · 1"],
        ["`replay`, lr 0.001", "30 · –", "15 · –", "60 · –", "60 · –", "1 · –"],
    ]
