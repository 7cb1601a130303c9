"""Verbs of `iv` that open the model."""

import json

import pytest
from click.testing import CliRunner

from instruction_vectors.cli import main


@pytest.fixture
def iv():
    return lambda *arguments: CliRunner().invoke(main, [str(a) for a in arguments])


def test_effects_lists_the_strongest_heads_and_writes_them_all(iv, tmp_path):
    out = tmp_path / "effects.json"
    result = iv(
        "effects", "present-past", "--prompts", "1", "--mean-prompts", "2", "--shots", "1", "--top", "3", "--out", out, "--json"
    )
    assert result.exit_code == 0, result.stderr
    assert "1 prompts, each its own tokens and about 135 more" in result.stderr
    written = json.loads(out.read_text())["effects"]
    assert (len(written), len(written[0]), len(written[0][0])) == (1, 30, 9)
    heads = json.loads(result.stdout)
    assert len(heads) == 3
    assert heads[0]["effect"] == pytest.approx(max(map(max, written[0])))
    assert heads[0]["effect"] == pytest.approx(written[0][heads[0]["layer"]][heads[0]["head"]])


def test_effects_of_a_shortlist_and_of_its_heads_together(iv, tmp_path):
    out = tmp_path / "effects.json"
    asked = ["effects", "present-past", "--prompts", "1", "--mean-prompts", "2", "--shots", "1", "--screen", "5"]
    result = iv(*asked, "--top", "3", "--check", "--out", out, "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    effects = json.loads(out.read_text())["effects"][0]
    measured = [(layer, head) for layer, row in enumerate(effects) for head, effect in enumerate(row) if effect is not None]
    assert len(measured) == 5
    assert len(told["heads"]) == 3
    assert {(head["layer"], head["head"]) for head in told["heads"]} <= set(measured)
    assert set(told["together"]) == {"sufficiency", "necessity"}
    assert 0 < told["together"]["necessity"]["p"] <= 1
    refused = iv(*asked, "--top", "6")
    assert refused.exit_code == 2
    assert "--screen 5 measures fewer heads than --top 6 lists" in refused.stderr


def test_eval_measures_every_form_a_task_has(iv):
    result = iv("eval", "capitalize", "country-capital", "--rows", "2", "--json")
    assert result.exit_code == 0, result.stderr
    measured = json.loads(result.stdout)
    assert set(measured["capitalize"]) == {"in_context", "zero_shot"}
    assert set(measured["country-capital"]) == {"in_context", "zero_shot", "knowledge", "instruction"}
    assert all(len(values) == 2 for forms in measured.values() for values in forms.values())
