"""What cells of one folder share, whatever their method."""

import json
from dataclasses import replace
from pathlib import Path

import tiny_world

from instruction_vectors.continual.curriculum import Curriculum
from instruction_vectors.continual.preparation import Preparation
from instruction_vectors.continual.runner import Runner
from instruction_vectors.continual.stage import StageConfig


def test_a_method_that_mixes_in_instructions_shares_a_folder_with_one_that_does_not(tmp_path: Path) -> None:
    (tmp_path / "eval").mkdir()
    rows = [{"instruction": f"Say {i}", "output": str(i)} for i in range(70)]
    (tmp_path / "eval" / "instructions_alpaca.json").write_text(json.dumps(rows))
    plain = tiny_world.cell(tiny_world.save(tmp_path / "model"), sequence=tiny_world.TASKS[0])
    mixed = replace(plain, method="mix_in")
    first, second = (Curriculum.of(cell, tmp_path) for cell in (plain, mixed))
    assert "instructions_alpaca/instructions" in second.fingerprints()
    config = {"shared by cells like": replace(plain, stage=StageConfig()).resolved(), "data": first.fingerprints()}
    # In every byte, so that a run begun before there was such a method goes on.
    assert json.dumps(Preparation.config(first)) == json.dumps(Preparation.config(second)) == json.dumps(config)
    runner = Runner(tmp_path / "grid", tmp_path)
    one, two = runner.run(plain), runner.run(mixed)
    assert one["stages"][0] == two["stages"][0]  # M0
    assert len(list((tmp_path / "grid" / "shared").iterdir())) == 1
