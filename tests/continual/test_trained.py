"""A finished cell's model, taken out of its folder: as it was measured, and in weights of its own."""

import json
from dataclasses import replace
from pathlib import Path
from shutil import copytree, rmtree

import pytest
import tiny
import tiny_world
import torch
from click.testing import CliRunner
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from instruction_vectors.analysis.pair import open_pair
from instruction_vectors.cli import main
from instruction_vectors.continual.cell import Cell
from instruction_vectors.continual.curriculum import Curriculum
from instruction_vectors.continual.methods import method_named
from instruction_vectors.continual.preparation import measure_stage
from instruction_vectors.continual.runner import Runner
from instruction_vectors.continual.trained import as_trained, export_model
from instruction_vectors.errors import DataError, ModelError
from instruction_vectors.files import read_json
from instruction_vectors.models.loading import load, model_fingerprint


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_world.save(tmp_path_factory.mktemp("model"))


def learning(model: str) -> Cell:
    """A cell that learns enough for its answers to change; its last folder of adapters is not the whole of what it learnt."""
    return tiny_world.cell(model, method="osf", probe_rows=12, stage=replace(tiny_world.STAGE, learning_rate=0.05, epochs=4))


@pytest.fixture(scope="module")
def finished(model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out, cell = tmp_path_factory.mktemp("out"), learning(model)
    Runner(out).run(cell)
    return out / "cells" / cell.name


def test_as_trained_is_what_the_cell_measured_last_and_leaves_the_base_as_it_was(model: str, finished: Path) -> None:
    result = read_json(finished / "result.json")
    curriculum = Curriculum.of(learning(model), None)
    base, tokenizer = load(model)
    before = {name: weight.clone() for name, weight in base.state_dict().items()}
    with as_trained(base, finished) as trained:
        found = measure_stage(trained, tokenizer, curriculum, curriculum.lessons, "again")
    assert json.loads(json.dumps(found)) == result["stages"][-1] != result["stages"][0]
    assert all(torch.equal(weight, before[name]) for name, weight in base.state_dict().items())


@pytest.mark.parametrize("name", ["sequential", "averaging", "osf"])
def test_what_a_method_left_is_taken_up_as_it_is_measured_and_given_back(tmp_path: Path, name: str) -> None:
    base, cell = tiny.model("llama", dtype=torch.float32), Cell("shipped", "antonym", method=name)
    ids = torch.tensor([[3, 4, 5]])
    before = base(ids).logits.detach()
    method = method_named(name)(cell.stage)
    method.attach(base)
    method.begin(1, [])
    with torch.no_grad():
        for weight in method.trainable().values():
            weight.add_(0.3)
    method.save(tmp_path / "adapters" / name / "1")
    with method.evaluating() as model, torch.no_grad():
        after = model(ids).logits
    method.detach()
    made = {"cell": cell.resolved(), "tasks": ["antonym"], "model_fingerprint": model_fingerprint(base)}
    (tmp_path / "result.json").write_text(json.dumps(made))
    with as_trained(base, tmp_path) as model, torch.no_grad():
        assert not model.training
        assert torch.allclose(model(ids).logits, after, atol=1e-5)
    assert not torch.allclose(after, before, atol=1e-2)
    assert torch.allclose(base(ids).logits, before, atol=1e-5)


def test_an_exported_model_is_opened_by_transformers_and_answers_as_trained(model: str, finished: Path, tmp_path: Path) -> None:
    base, tokenizer = load(model)
    ids = torch.arange(1, 9)[None]
    with torch.no_grad(), as_trained(base, finished) as trained:
        expected = trained(input_ids=ids).logits
    out = tmp_path / "deep" / "model"
    done = CliRunner().invoke(main, ["export", str(finished), "--to", "model", "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"format": "model", "folder": str(out)}
    opened = AutoModelForCausalLM.from_pretrained(out)
    assert not isinstance(opened, PeftModel)
    with torch.no_grad():
        torch.testing.assert_close(opened(input_ids=ids).logits, expected, rtol=1e-4, atol=1e-5)
    assert AutoTokenizer.from_pretrained(out).get_vocab() == tokenizer.get_vocab()
    assert [path.name for path in out.parent.iterdir()] == ["model"]


def test_what_osf_left_is_refused_as_an_adapter_and_taken_as_a_whole_model(model: str, finished: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="iv export CELL --to model"):
        open_pair(model, finished / "adapters" / "osf" / "2")
    export_model(finished, tmp_path / "whole")
    pair = open_pair(model, tmp_path / "whole")
    with pair.base() as base, pair.tuned() as tuned:
        changed = {n for n, w in tuned.named_parameters() if not torch.equal(w, dict(base.named_parameters())[n])}
    assert changed
    assert all("_proj" in name for name in changed)


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100])


def test_no_cell_no_adapters_another_model_and_a_full_folder_are_refused(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="no finished cell"):
        export_model(tmp_path, tmp_path / "out")
    (tmp_path / "result.json").write_text('{"numbers": []}')
    with pytest.raises(DataError, match=r"not a cell's result\.json"):
        export_model(tmp_path, tmp_path / "out")
    bare = copytree(finished, tmp_path / "bare")
    rmtree(bare / "adapters")
    with pytest.raises(DataError, match=r"has no adapters/osf/2, what its training left; run its cell into another"):
        export_model(bare, tmp_path / "out")
    for number, damage in enumerate((cut_off, Path.unlink)):
        broken = copytree(finished, tmp_path / f"broken-{number}")
        damage(broken / "adapters" / "osf" / "2" / "adapter_model.safetensors")
        with pytest.raises(DataError, match=r"adapters/osf/2 is damaged \("):
            export_model(broken, tmp_path / "out")
    with pytest.raises(DataError, match="the weights differ"), as_trained(tiny.model("llama", dtype=torch.float32), finished):
        pass
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").write_text("mine")
    with pytest.raises(DataError, match="is there already"):
        export_model(finished, tmp_path / "full")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(DataError, match="is there already"):
        export_model(finished, ".")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--to", "model", "--scale", "2"], "--scale would go unheard"),
        (["--to", "gguf", "--model", "x"], "--model would go unheard"),
        (["--to", "gguf"], "a vector goes into a file"),
    ],
)
def test_options_that_do_not_go_together_are_bad_use(tmp_path: Path, given: list[str], said: str) -> None:
    done = CliRunner().invoke(main, ["export", "x", "--out", str(tmp_path), *given])
    assert done.exit_code == 2
    assert said in done.output
