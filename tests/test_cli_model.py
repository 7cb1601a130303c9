"""Verbs of `iv` that open the model."""

import json
import re
from xml.etree import ElementTree

import pytest
import torch
from click.testing import CliRunner

import instruction_vectors.models.loading
from instruction_vectors import load_task
from instruction_vectors.analysis import kept_effects
from instruction_vectors.cli import main
from instruction_vectors.vectors.extraction import head_effects, told_means
from instruction_vectors.vectors.joint import joint_check


@pytest.fixture
def iv():
    return lambda *arguments: CliRunner().invoke(main, [str(a) for a in arguments])


def test_effects_lists_the_strongest_heads_and_writes_them_all(iv, tmp_path):
    out = tmp_path / "effects.json"
    result = iv(
        "effects", "present-past", "--prompts", "1", "--mean-prompts", "2", "--shots", "1", "--top", "3", "--out", out, "--json"
    )
    assert result.exit_code == 0, result.stderr
    assert "of 1 counterfactual prompts, 135 for their heads" in result.stderr
    kept = json.loads(out.read_text())
    assert len(kept["heads"]) == 270
    assert all(head["low"] <= head["effect"] <= head["high"] for head in kept["heads"])
    assert (kept["task"], kept["chat"], kept["screen"]) == ("present-past", False, None)
    assert kept["rows"] == load_task("present-past").fingerprint
    assert kept["versions"]["torch"] == torch.__version__
    assert len(kept["model_fingerprint"]) == 64
    written = kept["effects"]
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


@pytest.mark.parametrize(
    ("flags", "asked"),
    [
        (["--patch", "add"], {"patch": "add"}),
        (["--corruption", "swap", "--source", "instructions"], {"corruption": "swap", "source": "instructions"}),
        (["--only-right"], {"only_right": True}),
    ],
    ids=str,
)
def test_effects_and_their_check_are_of_what_was_asked_for(iv, real, tmp_path, monkeypatch, flags, asked):
    monkeypatch.setattr(instruction_vectors.models.loading, "load", lambda name, **_: real)
    monkeypatch.setattr(kept_effects, "DRAWS", 1)
    out, sizes = tmp_path / "effects.json", {"prompts": 1, "mean_prompts": 8, "shots": 3}
    sized = ["effects", "present-past", "--prompts", "1", "--mean-prompts", "8", "--shots", "3", "--screen", "4", "--top", "2"]
    result = iv(*sized, *flags, "--check", "--out", out)
    assert result.exit_code == 0, result.stderr
    written, task = json.loads(out.read_text()), load_task("present-past")
    assert asked.items() <= written.items()
    told = {name: value for name, value in asked.items() if name in ("source", "only_right")}
    untold = {name: value for name, value in asked.items() if name not in told}
    means = told_means(*real, task, prompts=8, shots=3, **told)
    effects = head_effects(*real, task, means, prompts=1, shots=3, screen=4, **untold)[0]
    listed = [(head["layer"], head["head"]) for head in written["heads"]]
    assert set(listed) == set(map(tuple, effects.isfinite().nonzero().tolist()))
    assert [head["effect"] for head in written["heads"]] == pytest.approx([effects[head].item() for head in listed], abs=1e-6)
    tried = joint_check(*real, task, listed[:2], draws=1, **sizes, **asked)
    assert written["together"]["sufficiency"] == pytest.approx(tried.sufficiency.summary(), abs=1e-6)
    assert written["together"]["necessity"] == pytest.approx(tried.necessity.summary(), abs=1e-6)
    summary = "sufficiency: {clean:.3f} becomes {patched:.3f} with all of them".format(**written["together"]["sufficiency"])
    assert summary in result.stdout
    assert "to try heads together" in result.stderr


def test_effects_on_whole_own_answers_as_a_picture_and_a_map(iv, tmp_path):
    svg = tmp_path / "effects.svg"
    asked = ["effects", "singular-plural", "--prompts", "1", "--mean-prompts", "2", "--shots", "1", "--screen", "4", "--top", "2"]
    result = iv(*asked, "--measure", "answer", "--own-answers", "--source", "instructions", "--svg", svg)
    assert result.exit_code == 0, result.stderr
    assert re.search(r", [\d,]+ to write its own answers;", result.stderr)
    (counted,) = re.findall(r"counterfactual prompts, (\d+) for their heads", result.stderr)
    assert int(counted) >= 4 // 2
    lines = result.stdout.splitlines()
    assert lines[0] == " layer 0         10        20        "
    assert sum(line.count("·") for line in lines[1:10]) == 270 - 4
    shown = " ".join(" ".join(ElementTree.fromstring(svg.read_text()).itertext()).split())
    assert "the log-probability of the model's own answer" in shown


def test_effects_that_were_stopped_go_on_and_other_settings_are_refused_meanwhile(iv, tmp_path):
    out = tmp_path / "effects.json"
    asked = ["effects", "present-past", "--mean-prompts", "2", "--shots", "1", "--screen", "3", "--top", "2", "--out", out]
    parts = tmp_path / "effects.json.parts"
    assert iv(*asked, "--prompts", "1").exit_code == 0
    assert not parts.exists()
    whole = json.loads(out.read_text())
    (parts / "steps").mkdir(parents=True)
    (parts / "config.json").write_text(json.dumps({"task": "present-past"}))
    refused = iv(*asked, "--prompts", "1")
    assert refused.exit_code == 1
    assert "effects.json.parts" in refused.stderr
    assert json.loads(out.read_text()) == whole


def test_extract_chooses_the_number_of_heads_on_rows_set_apart(iv, tmp_path):
    asked = ["extract", "present-past", "--prompts", "3", "--shots", "2", "--effect-prompts", "1"]
    result = iv(*asked, "--heads", "3,1", "--validation-rows", "4", "--out", tmp_path / "best", "--json")
    assert result.exit_code == 0, result.stderr
    assert re.search(r", [\d,]+ to choose how many;", result.stderr)
    config = json.loads(result.stdout)
    chosen = config["validation"]
    assert len(config["heads"]) == chosen["k"]
    assert chosen["k"] in (1, 3)
    assert chosen["rows"] == 4
    assert 0 <= chosen["accuracy"] <= 1
    both = iv(*asked, "singular-plural", "--heads", "2", "--chat", "--out", tmp_path / "both", "--json")
    assert both.exit_code == 0, both.stderr
    configs = [json.loads((tmp_path / "both" / name / "config.json").read_text()) for name in ("present-past", "singular-plural")]
    assert json.loads(both.stdout) == configs
    assert configs[0]["heads"] == configs[1]["heads"]
    assert {config["template"] for config in configs} == {"chat"}
    refused = iv(*asked, "singular-plural", "--heads", "3,1", "--out", tmp_path / "none")
    assert "needs one task" in refused.stderr
    refused = iv(*asked, "--heads", "3,0", "--out", tmp_path / "none")
    assert refused.exit_code == 2
    assert "is no number of heads; give one (10), or several to choose among (5,10,20)" in refused.stderr


def test_eval_measures_every_form_a_task_has(iv):
    result = iv("eval", "capitalize", "country-capital", "--rows", "2", "--json")
    assert result.exit_code == 0, result.stderr
    measured = json.loads(result.stdout)
    assert set(measured["capitalize"]) == {"in_context", "zero_shot"}
    assert set(measured["country-capital"]) == {"in_context", "zero_shot", "knowledge", "instruction"}
    assert all(len(values) == 2 for forms in measured.values() for values in forms.values())
    told = iv("eval", "capitalize", "--rows", "2").stdout.splitlines()
    for line in told:
        low, high = map(float, line.split("[")[1].split("]")[0].split(", "))
        assert high - low > 0.5  # two rows tell little, also where they agree


def test_generate_writes_with_and_without_a_vector_side_by_side(iv, tmp_path):
    folder = tmp_path / "vector"
    made = iv("extract", "present-past", "--prompts", "10", "--effect-prompts", "1", "--out", folder)
    assert made.exit_code == 0, made.stderr
    asked = ["generate", "Give the past tense of the verb.\\nInput: bring\\nOutput:", "--tokens", "3"]
    alone = iv(*asked)
    assert alone.exit_code == 0, alone.stderr
    result = iv(*asked, "--vector", folder, "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["plain"] == alone.stdout.removesuffix("\n")
    assert told["steered"] != told["plain"]
    assert all(0 < ratio < 2 for ratio in told["dose"].values())
    shown = iv(*asked, "--vector", folder).stdout
    assert shown.startswith(f"plain:   {told['plain']}\nsteered: {told['steered']}\ndose:    0.")


def test_extract_tells_its_cost_and_refuses_layers_that_are_not_there(iv, tmp_path):
    asked = ["extract", "present-past", "--prompts", "2", "--shots", "1", "--effect-prompts", "1"]
    refused = iv(*asked, "--layer", "30", "--out", tmp_path / "vector")
    assert refused.exit_code == 2
    assert "layers with attention are 0 to 29" in refused.stderr
    made = iv(*asked, "--layer", "29", "--out", tmp_path / "vector")
    assert made.exit_code == 0, made.stderr
    assert re.search(r"present-past: cost: about [\d,]+ tokens .* 135 for their heads", made.stderr)
