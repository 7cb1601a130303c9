"""A grid's folder as a report."""

from pathlib import Path

import pytest
import tiny_world

from instruction_vectors.continual.gather import gather
from instruction_vectors.continual.runner import run_sequence
from instruction_vectors.errors import DataError
from instruction_vectors.reporting import write_markdown, write_report


def test_finished_cells_are_rows_of_the_report_and_unfinished_ones_are_not(tmp_path: Path) -> None:
    model = tiny_world.save(tmp_path / "model")
    with pytest.raises(DataError, match="no finished cell yet"):
        gather(tmp_path / "grid")
    result = run_sequence(tiny_world.cell(model, method="replay"), tmp_path / "grid")
    (tmp_path / "grid/cells/shipped-x/ewc-lr1-e1-s0").mkdir(parents=True)
    (entry,) = gather(tmp_path / "grid")["grid"]["cells"]
    assert (entry["method"], entry["guide"], entry["learning_rate"]) == ("replay", "none", 1e-2)
    assert entry["ap"]["value"] == result["ap"]["mean"]
    assert entry["in_context_change"]["value"] == result["forms"]["in_context"][-1]["change"]["mean"]
    assert [stage["after"] for stage in entry["stages"]] == ["M0", *tiny_world.TASKS]
    page = write_report(gather(tmp_path / "grid"), tmp_path / "report.html").read_text()
    assert "Methods over task sequences" in page
    assert "replay" in page
    assert "not run yet" not in page
    assert "| replay |" in write_markdown(gather(tmp_path / "grid"))


def test_a_control_is_set_beside_plain_training(tmp_path: Path) -> None:
    model = tiny_world.save(tmp_path / "model")
    for method in ("sequential", "replay"):
        run_sequence(tiny_world.cell(model, method=method), tmp_path / "grid")
    results = gather(tmp_path / "grid")
    assert results["grid"]["headline"]["controls"].keys() == {"replay"}
    assert "| replay |" in write_markdown(results).split("Against plain training")[1].split("###")[0]


def test_a_result_of_something_else_is_named(tmp_path: Path) -> None:
    strange = tmp_path / "cells/shipped-x/mine/result.json"
    strange.parent.mkdir(parents=True)
    strange.write_text('{"accuracy": 1}')
    with pytest.raises(DataError, match=r"mine/result\.json: not a cell's"):
        gather(tmp_path)
