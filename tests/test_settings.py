"""Settings as users write them become the dataclass they are for, or are refused by name."""

import json
from dataclasses import asdict, dataclass, field

import pytest
import yaml
from click.testing import CliRunner

from instruction_vectors.cli import main
from instruction_vectors.continual.cell import Cell
from instruction_vectors.errors import IVError
from instruction_vectors.settings import settings_of
from instruction_vectors.training.config import IVGuidanceConfig
from instruction_vectors.training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Part:
    rate: float = 0.5
    names: tuple[str, ...] = ("a",)


@dataclass(frozen=True, slots=True)
class Whole:
    path: str
    count: int = 1
    fast: bool = False
    part: Part = field(default_factory=Part)


def test_what_yaml_reads_otherwise_than_meant_is_taken_as_meant():
    written = yaml.safe_load("{path: x, fast: true, part: {rate: 3e-4, names: [b, c]}}")
    assert isinstance(written["part"]["rate"], str)  # else this test would say nothing
    assert settings_of(Whole, written) == Whole("x", fast=True, part=Part(3e-4, ("b", "c")))
    made = settings_of(Whole, {"path": "x", "part": {"rate": 2}})
    assert made.part.rate == 2.0
    assert isinstance(made.part.rate, float)


def test_an_empty_setting_stays_at_its_default_and_an_instance_as_it_is():
    part = Part(rate=9.0)
    assert settings_of(Whole, {"path": "x", "part": None, "count": None}) == Whole("x")
    assert settings_of(Whole, {"path": "x", "part": part}).part is part


def test_settings_come_back_from_json():
    whole = Whole("x", 2, True, Part(0.25, ()))
    assert settings_of(Whole, json.loads(json.dumps(asdict(whole)))) == whole


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "missing settings: path"),
        ({"path": None}, "missing settings: path"),
        (3, "expected settings by name, got 3"),
        ({"path": "x", "part": [1]}, "part: expected settings by name, got"),
        ({"path": "x", "part": {"rat": 1}}, r"unknown settings under part: rat \(did you mean rate\?\); there are rate, names"),
        ({"path": "x", 4: 1}, "unknown settings: 4; there are path, count"),
        ({"path": 5}, "path: expected str, got 5"),
        ({"path": "x", "count": 1.5}, "count: expected int, got 1.5"),
        ({"path": "x", "count": True}, "count: expected int, got True"),
        ({"path": "x", "fast": "yes"}, "fast: expected bool, got 'yes'"),
        ({"path": "x", "part": {"rate": "many"}}, "part.rate: expected float, got 'many'"),
        ({"path": "x", "part": {"rate": True}}, "part.rate: expected float, got True"),
        ({"path": "x", "part": {"names": "b"}}, "part.names: expected a list of str, got 'b'"),
        ({"path": "x", "part": {"names": [1]}}, "part.names: expected str, got 1"),
    ],
    ids=str,
)
def test_what_means_nothing_is_refused_by_name(given, message):
    with pytest.raises(IVError, match=message):
        settings_of(Whole, given)


def test_cells_recipes_and_guidance_read_numbers_alike():
    guidance = {"kl_weight": "2e-1"}
    cell = Cell.of({"benchmark": "shipped", "sequence": "capitalize", "stage": {"learning_rate": "3e-4"}, "guidance": guidance})
    recipe = Recipe.of({"data": "x", "learning_rate": "3e-4", "guidance": guidance})
    assert cell.stage.learning_rate == recipe.learning_rate == 3e-4
    assert cell.guidance == recipe.guidance == IVGuidanceConfig(kl_weight=0.2)


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        ("stage: {learning_rate: 3e-4}", 0, "sequential-lr0.0003-e2-s0"),
        ("train_rows: many", 1, "train_rows: expected int, got 'many'"),
        ("stage: 3", 1, "stage: expected settings by name, got 3"),
        ("stage: {epochs: 0}", 1, "epochs must be above 0, got 0"),
    ],
)
def test_a_grid_file_is_read_or_refused_in_one_sentence(tmp_path, text, status, said):
    path = tmp_path / "grid.yaml"
    path.write_text(f"benchmark: shipped\nsequence: capitalize,antonym\n{text}\n")
    result = CliRunner().invoke(main, ["bench", "--config", str(path), "--batch-size", "4", "--list-cells"])
    assert (result.exit_code, said in result.output) == (status, True), result.output
