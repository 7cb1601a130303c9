"""Exported vectors do in their readers' hands what the summed vector does here, at every token."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import tiny
import tiny_world
import torch
from click.testing import CliRunner

from instruction_vectors import InstructionVector, load
from instruction_vectors.cli import main
from instruction_vectors.errors import VectorError
from instruction_vectors.models.anatomy import anatomy_of
from instruction_vectors.vectors.exports import export_gguf, export_lm_eval

HEADS = ((0, 1), (2, 2))


def vector_for(model, **more):
    means = 3 * torch.randn(tiny.LAYERS, tiny.HEADS, anatomy_of(model).head_dim, generator=torch.Generator().manual_seed(0))
    return InstructionVector.from_means(model, means, HEADS, **more)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt-neox", "opt"])
def test_lm_eval_s_steered_model_says_what_the_model_says_with_the_vector_at_every_token(tmp_path, family):
    steered = pytest.importorskip("lm_eval.models.hf_steered")
    folder = tiny_world.save(tmp_path / "model", family)
    model, _ = load(folder)
    vector = vector_for(model, layer=1)
    export_lm_eval(vector, model, tmp_path / "vector.pt", scale=-0.5)
    reader = steered.SteeredModel(pretrained=folder, steer_path=str(tmp_path / "vector.pt"), device="cpu", dtype="float32")
    ids = torch.tensor([[5, 9, 14, 7, 30, 11]])
    everywhere = torch.ones_like(ids, dtype=torch.bool)
    with torch.no_grad():
        plain = model(input_ids=ids).logits
        with vector.applied(model, mode="summed", scale=-0.5, positions=everywhere):
            expected = model(input_ids=ids).logits
        found = reader._model_call(ids)
    assert (expected - plain).abs().max() > 1e-3
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_a_gguf_control_vector_has_the_names_and_values_that_llama_cpp_reads(tmp_path):
    gguf = pytest.importorskip("gguf")
    vector = vector_for(tiny.model("llama"), metadata={"architecture": "LlamaForCausalLM"})
    export_gguf(vector, tmp_path / "deep" / "vector.gguf", layer=2, scale=2.0)
    read = gguf.GGUFReader(tmp_path / "deep" / "vector.gguf")
    assert read.fields["general.architecture"].contents() == "controlvector"
    assert read.fields["controlvector.model_hint"].contents() == "llama"
    assert read.fields["controlvector.layer_count"].contents() == 1
    (tensor,) = read.tensors
    assert (tensor.name, tensor.tensor_type.name, list(tensor.shape)) == ("direction.2", "F32", [tiny.HIDDEN])
    assert np.array_equal(tensor.data, 2 * vector.summed.numpy())
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["vector.gguf"]


def test_what_cannot_be_exported_is_refused(tmp_path):
    model = tiny.model("llama")
    vector = vector_for(model)
    with pytest.raises(VectorError, match="none was chosen: pass `layer`"):
        export_gguf(vector, tmp_path / "v.gguf")
    with pytest.raises(VectorError, match="no direction for layer 0"):
        export_gguf(replace(vector, layer=0), tmp_path / "v.gguf")
    with pytest.raises(VectorError, match=r"ends in \.pt, not 'v\.bin'"):
        export_lm_eval(vector, model, tmp_path / "v.bin", layer=1)
    with pytest.raises(VectorError, match="the model has 3 layers"):
        export_lm_eval(vector, model, tmp_path / "v.pt", layer=3)
    with pytest.raises(VectorError, match="no plain sum to export"):
        export_lm_eval(vector_for(tiny.model("gemma2")), tiny.model("gemma2"), tmp_path / "v.pt", layer=1)
    with pytest.raises(VectorError, match="Gemma2ForCausalLM normalises what heads write, so there is no plain sum to export"):
        export_gguf(
            vector_for(tiny.model("gemma2"), metadata={"architecture": "Gemma2ForCausalLM"}), tmp_path / "v.gguf", layer=1
        )
    with pytest.raises(VectorError, match="added after layer 3; its model has 3 layers"):
        export_gguf(vector_for(model, metadata={"shape": {"n_layers": 3}}), tmp_path / "v.gguf", layer=3)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("family", tiny.NORMALISING)
def test_a_vector_that_cannot_be_summed_still_knows_it_after_its_folder(tmp_path, family):
    vector_for(tiny.shared(family)).save_pretrained(tmp_path / "vector")
    with pytest.raises(VectorError, match="no plain sum to export"):
        export_gguf(InstructionVector.from_pretrained(tmp_path / "vector"), tmp_path / "v.gguf", layer=1)


def test_without_the_package_gguf_the_command_to_install_it_is_given(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(VectorError, match=r"a GGUF file needs the gguf extra; run pip install '\.\[gguf\]'"):
        export_gguf(vector_for(tiny.model("llama")), tmp_path / "v.gguf", layer=1)
    assert not list(tmp_path.iterdir())


def test_the_command_writes_both(tmp_path):
    folder = tiny_world.save(tmp_path / "model")
    model, _ = load(folder)
    vector_for(model, metadata={"model": folder, "architecture": "LlamaForCausalLM"}).save_pretrained(tmp_path / "vector")
    for kind, name in (("gguf", "v.gguf"), ("lm-eval", "v.pt")):
        done = CliRunner().invoke(
            main, ["export", str(tmp_path / "vector"), "--to", kind, "--layer", "1", "--out", str(tmp_path / name)]
        )
        assert done.exit_code == 0, done.output
        assert "added after layer 1, times 1, at every token" in done.output
        assert (tmp_path / name).exists()
