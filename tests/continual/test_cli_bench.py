"""`iv bench` from a YAML file to a report, on a tiny model."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import tiny_world
import yaml
from click.testing import CliRunner, Result

from instruction_vectors.analysis.stages import stages_in
from instruction_vectors.cli import main

CELLS = tuple(f"shipped-{','.join(tiny_world.TASKS)}/{method}-lr0.01-e1-s0" for method in ("sequential", "replay"))


def iv(*arguments: Any) -> Result:
    return CliRunner().invoke(main, ["bench", *map(str, arguments)], env={"COLUMNS": "200"})


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings of two cells that take about a second each."""
    folder = tmp_path_factory.mktemp("bench")
    cell = tiny_world.cell(tiny_world.save(folder / "model"))
    settings = {**json.loads(json.dumps(cell.resolved())), "method": None, "methods": ["sequential", "replay"]}
    (folder / "grid.yaml").write_text(yaml.safe_dump(settings))
    return folder / "grid.yaml"


@pytest.fixture(scope="session")
def grid(config: Path) -> Path:
    """The folder of the grid, run with every stage kept."""
    out = config.parent / "runs"
    result = iv("--config", config, "--out", out, "--keep-stages")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [str(out / "cells" / name / "result.json") for name in CELLS]
    return out


def test_a_yaml_file_names_the_cells_and_flags_go_before_it(config: Path) -> None:
    assert iv("--config", config, "--list-cells").stdout.splitlines() == list(CELLS)
    listed = iv("--config", config, "--methods", "ewc", "--seeds", "3,4", "--list-cells", "--json")
    assert [name.rpartition("/")[2] for name in json.loads(listed.stdout)] == ["ewc-lr0.01-e1-s3", "ewc-lr0.01-e1-s4"]


def test_a_finished_grid_is_read_and_told_as_it_is(config: Path, grid: Path) -> None:
    paths = [grid / "cells" / name / "result.json" for name in CELLS]
    before = [path.stat().st_mtime_ns for path in paths]
    again = iv("--config", config, "--out", grid, "--json")
    assert json.loads(again.stdout) == [json.loads(path.read_text()) for path in paths]
    assert [path.stat().st_mtime_ns for path in paths] == before
    watched = iv("--config", config, "--out", grid, "--watch")
    assert watched.exit_code == 0, watched.stderr
    assert "2 of 2 cells finished" in watched.stdout
    assert watched.stdout.count("5 of 5") == 2
    told = json.loads(iv("--config", config, "--methods", "sequential,ewc", "--out", grid, "--watch", "--json").stdout)
    assert [(cell["state"], cell["steps"], cell["steps_in_all"]) for cell in told] == [("finished", 5, 5), ("waiting", 0, 5)]
    assert told[0]["seconds_left"] == 0
    assert told[1]["seconds_left"] == pytest.approx(told[0]["seconds"], abs=0.05)


def test_one_cell_by_name_runs_alone_and_keeps_its_last_stage_only(config: Path, grid: Path, tmp_path: Path) -> None:
    result = iv("--config", config, "--out", tmp_path, "--cell", CELLS[0])
    assert result.exit_code == 0, result.stderr
    path = tmp_path / "cells" / CELLS[0] / "result.json"
    assert list(tmp_path.glob("cells/*/*/result.json")) == [path]
    assert path.read_bytes() == (grid / "cells" / CELLS[0] / "result.json").read_bytes()
    assert list(stages_in(path.parent / "adapters" / "sequential")) == ["2"]
    assert list(stages_in(grid / "cells" / CELLS[0] / "adapters" / "sequential")) == ["1", "2"]


def test_an_unknown_cell_is_bad_use(config: Path, tmp_path: Path) -> None:
    result = iv("--config", config, "--out", tmp_path, "--cell", "nosuch")
    assert result.exit_code == 2
    assert "no cell 'nosuch'; --list-cells names them" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_replay_exits_with_0_on_the_same_numbers_and_1_on_others(grid: Path, tmp_path: Path) -> None:
    path = grid / "cells" / CELLS[0] / "result.json"
    same = iv("--replay", path, "--out", tmp_path)
    assert (same.exit_code, same.stdout) == (0, "the same numbers\n")
    assert (tmp_path / "replay/cells" / CELLS[0] / "result.json").read_bytes() == path.read_bytes()
    changed = json.loads(path.read_text())
    changed["matrix"][0][0] = 0.123
    (tmp_path / "changed.json").write_text(json.dumps(changed))
    other = iv("--replay", tmp_path / "changed.json", "--out", tmp_path)
    assert (other.exit_code, other.stdout) == (1, "matrix\n")
    assert json.loads(iv("--replay", tmp_path / "changed.json", "--out", tmp_path, "--json").stdout) == {"different": ["matrix"]}
    none = iv("--replay", tmp_path / "nowhere.json", "--out", tmp_path)
    assert (none.exit_code, none.stdout) == (1, "")
    assert "nowhere.json: no such file" in none.stderr


def test_what_broke_is_told_in_a_line_each(grid: Path, tmp_path: Path) -> None:
    result = json.loads((grid / "cells" / CELLS[0] / "result.json").read_text())
    last = result["stages"][-1]
    for stage in result["stages"]:
        stage["probes"]["capitalize"]["in_context"] = [0.0 if stage is last else 1.0] * 4
    (tmp_path / "result.json").write_text(json.dumps(result))
    told = iv("--bisect", tmp_path / "result.json")
    assert told.exit_code == 0, told.stderr
    assert f"capitalize/in_context: -1.00 [-1.00, -1.00], broken by {tiny_world.TASKS[1]}" in told.stdout.splitlines()
    assert any(line.startswith(f"{tiny_world.TASKS[0]}: ") for line in told.stdout.splitlines())
    first = json.loads(iv("--bisect", tmp_path / "result.json", "--json").stdout)[0]
    assert (first["ability"], first["after"], first["high"]) == ("capitalize/in_context", tiny_world.TASKS[1], -1.0)


def test_what_cannot_be_bisected_is_told_in_one_line(grid: Path, tmp_path: Path) -> None:
    path = grid / "cells" / CELLS[0] / "run.json"
    result = iv("--bisect", path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"iv: {path}: neither a cell's result.json nor a diagnosis [data]\n"


def test_the_kept_stages_are_diagnosed_and_the_diagnosis_bisected(config: Path, grid: Path, tmp_path: Path) -> None:
    stages = grid / "cells" / CELLS[0] / "adapters" / "sequential"
    tasks = [part for name in ("capitalize", "present-past") for part in ("--task", name)]
    asked = ["--base", config.parent / "model", "--adapter", stages, *tasks, "--rows", 8, "--out", tmp_path]
    diagnosed = CliRunner().invoke(main, ["diagnose", *map(str, asked)])
    assert diagnosed.exit_code in (0, 3), diagnosed.stderr
    for name in ("diagnosis.json", "results.json"):
        told = json.loads(iv("--bisect", tmp_path / name, "--json").stdout)
        assert {"capitalize/instruction", "present-past/knowledge", "all/instruction"} <= {each["ability"] for each in told}
        assert {each["after"] for each in told} <= {None, "1", "2"}


def test_a_grid_s_folder_is_rendered_as_a_report(grid: Path) -> None:
    result = CliRunner().invoke(main, ["report", str(grid), "--markdown", "--json"])
    assert result.exit_code == 0, result.stderr
    written = json.loads(result.stdout)
    assert written == {"html": str(grid / "report.html"), "md": str(grid / "report.md")}
    page = (grid / "report.html").read_text()
    assert "Methods over task sequences" in page
    assert all(f"cells/{quote(name)}/result.json" in page for name in CELLS)
    assert "| replay |" in (grid / "report.md").read_text()


def test_cells_are_chosen_by_a_pattern_and_flags_do_not_speak_over_variants(config: Path, tmp_path: Path) -> None:
    settings = yaml.safe_load(config.read_text())
    varied = tmp_path / "varied.yaml"
    varied.write_text(yaml.safe_dump({**settings, "variants": [{}, {"guides": ["iv"]}]}))
    listed = iv("--config", varied, "--list-cells").stdout.splitlines()
    assert listed == [*CELLS, *(name.replace("-lr", "+iv-heads=2-lr") for name in CELLS)]
    assert iv("--config", varied, "--list-cells", "--cell", "*/*+iv-*").stdout.splitlines() == listed[2:]
    assert iv("--config", varied, "--list-cells", "--seeds", "3").stdout.count("-s3\n") == 4
    chosen = iv("--config", varied, "--out", tmp_path / "out", "--watch", "--json", "--cell", "*/*+iv-*")
    assert [each["cell"] for each in json.loads(chosen.stdout)] == listed[2:]
    twice = iv("--config", config, "--list-cells", "--guided", "yes", "--guides", "none")
    assert twice.exit_code == 2
    assert "give one of them" in twice.stderr
    for flag, value in (("--guides", "plain_kl"), ("--guided", "no")):
        refused = iv("--config", varied, "--list-cells", flag, value)
        assert refused.exit_code == 2
        assert "have guides of their own: change them there, or choose cells with --cell" in refused.stderr
