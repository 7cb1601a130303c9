"""The examples run as they stand, for two steps on a tiny model."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import tiny_world
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file

from instruction_vectors import InstructionVector
from instruction_vectors.models.anatomy import anatomy_of
from instruction_vectors.tasks import load_task
from instruction_vectors.training.forgetting import TASKS
from instruction_vectors.training.recipe import Recipe
from instruction_vectors.training.rows import read_rows

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


def run(folder, *command, family="llama", vector=()):
    model = tiny_world.save(folder / "model", family)
    return subprocess.run(
        [sys.executable, *command, model, *vector, "2"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("name", ["trainer", pytest.param("sft", marks=pytest.mark.slow)])
def test_an_example_trains_and_saves_an_adapter(tmp_path, name):
    done = run(tmp_path, str(EXAMPLES / f"{name}.py"))
    assert done.returncode == 0, done.stderr
    assert "'loss'" in done.stdout
    assert (tmp_path / "runs" / name / "adapter" / "adapter_model.safetensors").exists()


@pytest.mark.slow
def test_the_distributed_example_runs_on_two_processes_and_refuses_one(tmp_path):
    script = str(EXAMPLES / "distributed.py")
    alone = run(tmp_path, script)
    assert alone.returncode == 1
    assert "one process only" in alone.stderr
    done = run(tmp_path, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", script)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "distributed" / "adapter" / "adapter_model.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_the_large_example_runs_on_two_processes_with_models_of_the_same_shape(tmp_path, family):
    causal_lm = tiny.model(family)
    means = torch.randn(tiny.LAYERS, tiny.HEADS, anatomy_of(causal_lm).head_dim)
    told = {"instruction": load_task("present-past").instruction}
    InstructionVector.from_means(causal_lm, means, ((0, 1), (2, 2)), metadata=told).save_pretrained(tmp_path / "vector")
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(EXAMPLES / "large.py")]
    done = run(tmp_path, *command, family=family, vector=[str(tmp_path / "vector")])
    assert done.returncode == 0, done.stderr
    assert "'loss'" in done.stdout
    assert (tmp_path / "runs" / "large" / "adapter" / "adapter_model.safetensors").exists()


@pytest.mark.parametrize("name", ["distributed", "fsdp2", "zero2", "zero3"])
def test_accelerate_reads_the_configs(name):
    path = EXAMPLES / f"{name}.yaml"
    config = load_config_from_file(str(path))  # refuses names it does not know
    assert config.distributed_type == {"distributed": "MULTI_GPU", "fsdp2": "FSDP"}.get(name, "DEEPSPEED")
    assert config.fsdp_config.get("fsdp_version", 2) == 2
    assert config.deepspeed_config.get("zero_stage", 2) == (3 if name == "zero3" else 2)
    assert f"`{path.name}`" in (EXAMPLES / "README.md").read_text()


def test_scripts_are_short_and_settings_and_rows_are_good():
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text().splitlines()) <= 40, path.name
        assert f"| `{path.name}` |" in (EXAMPLES / "README.md").read_text()
    recipe = Recipe.of(yaml.safe_load((EXAMPLES / "train.yaml").read_text()))
    rows = [row for _, row in read_rows(ROOT / recipe.data)]
    assert len(rows) == 48
    # What is watched for forgetting is not trained on.
    assert {row["instruction"] for row in rows} == {load_task(name).instruction for name in ("present-past", "antonym")}
    assert "present-past" not in TASKS
    assert "antonym" not in TASKS
