"""The published tables' configs: each names its cells, and runs on a tiny model of the same shape over rows of its format."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_world
import yaml

from instruction_vectors.continual.bench import cells_of
from instruction_vectors.continual.runner import run_sequence
from instruction_vectors.tasks.readers import superni, trace

CONFIGS = sorted((Path(__file__).parents[2] / "examples" / "reproduce").glob("*.yaml"))
WORDS = ("red", "blue", "green", "white")
CHOICES = {"query": "Which colour?", "choices": list(WORDS), "gold": 2}
GENERAL = {
    "hellaswag": CHOICES,
    "commonsense_qa": CHOICES,
    "openbookqa": CHOICES,
    "instructions_alpaca": {"instruction": "Say red.", "input": "", "output": "red"},
    "bbh/object_counting": {"input": "How many?", "target": "4"},
    "nq_open": {"question": "which colour", "answer": ["red"]},
}


def put(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder in the benchmarks' formats, with as few rows as a cell of this test asks for."""
    folder = tmp_path_factory.mktemp("data")
    for place, name in enumerate(trace.SEQUENCES["figure_3"]):
        for side in ("train", "eval", "test"):
            rows = [{"prompt": f"Do {place}.\n{side} thing {i}\nAnswer:", "answer": "ABCD"[i % 3]} for i in range(12)]
            put(folder / "trace" / "500" / name / f"{side}.json", rows)
    for place, name in enumerate(superni.SEQUENCES["G1"]):
        instances = [{"id": f"i{i}", "input": f"thing {i}", "output": [WORDS[(i + place) % 4]]} for i in range(40)]
        put(
            folder / "superni" / f"{name}_colours.json",
            {"Definition": [f"Colour {place}."], "Positive Examples": [], "Instances": instances},
        )
    for name, row in GENERAL.items():
        rows = [row | {key: f"{row[key]} {i}" for key in row if key in ("query", "input", "question")} for i in range(4)]
        put(folder / "eval" / f"{name}.json", {"examples": rows} if name.startswith("bbh/") else rows)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_world.save(tmp_path_factory.mktemp("model"), "llama-mha")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_published_grid_runs_on_a_tiny_model_of_the_same_shape(path, data, model, tmp_path):
    cells = cells_of(yaml.safe_load(path.read_text()))
    assert {cell.seed for cell in cells} == {0, 1, 2}
    assert all(cell.stage.learning_rate == 1e-4 and cell.stage.batch_size == 32 and cell.stage.rank == 8 for cell in cells)
    assert all(cell.model.startswith("meta-llama/Llama-2-7b") for cell in cells)
    guided = next(cell for cell in cells if cell.guide not in ("none", "plain_kl"))
    few = {
        "train_rows": 4,
        "test_rows": 2,
        "probe_rows": 2,
        "general_rows": 2,
        "shots": 1,
        "mean_prompts": 2,
        "effect_prompts": 1,
    }
    small = replace(guided, model=model, heads=2, max_new_tokens=4, stage=replace(guided.stage, epochs=1), **few)
    result = run_sequence(small, tmp_path, data)
    assert len(result["stages"]) == len(result["tasks"]) + 1
    assert set(result["stages"][-1].get("general", {})) == set(small.general)


def test_every_published_grid_is_there():
    assert [path.stem for path in CONFIGS] == ["fvg_table_2_g1", "fvg_table_2_trace", "iv_figure_3"]
