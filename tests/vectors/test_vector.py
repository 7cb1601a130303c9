"""Arithmetic, fitting a model, and the folder a vector is kept in."""

import json

import pytest
import tiny
import torch
from peft import LoraConfig, get_peft_model

from instruction_vectors import InstructionVector
from instruction_vectors.errors import VectorError


def vector(heads=((0, 1), (2, 3)), seed=0, layer=1, family="llama", **metadata) -> InstructionVector:
    causal_lm = tiny.shared(family)
    facts = {"architecture": type(causal_lm).__name__, **metadata}
    return InstructionVector.from_means(causal_lm, tiny.means(family, seed), heads, layer=layer, metadata=facts)


def at(found: InstructionVector, head) -> torch.Tensor:
    return found.values[found.heads.index(head)]


def test_a_sum_unites_the_heads_and_adds_where_they_meet():
    one, other = vector(((0, 1), (2, 3)), 0), vector(((2, 3), (1, 0)), 1)
    total = one + other
    assert set(total.heads) == {(0, 1), (2, 3), (1, 0)}
    assert torch.equal(at(total, (0, 1)), at(one, (0, 1)))
    assert torch.equal(at(total, (1, 0)), at(other, (1, 0)))
    assert torch.equal(at(total, (2, 3)), at(one, (2, 3)) + at(other, (2, 3)))
    assert torch.equal(total.summed, one.summed + other.summed)
    assert total.layer == 1


def test_the_sum_in_the_stream_stays_the_sum_of_what_heads_write():
    total = vector(((0, 1), (2, 3)), 0) * 0.5 - vector(((2, 3), (1, 0)), 1)
    means = torch.zeros(3, 4, 8, dtype=torch.float64)
    for head, value in zip(total.heads, total.values, strict=True):
        means[head] = value
    torch.testing.assert_close(total.summed, InstructionVector.from_means(tiny.shared("llama"), means, total.heads).summed)


def test_factors_and_differences():
    one = vector()
    assert torch.equal((one * 3).values, one.values * 3)
    assert torch.equal((2.0 * one).summed, one.summed * 2)
    assert torch.equal((-one).values, -one.values)
    assert (one - one).values.abs().max() == 0
    assert (one - one).summed.abs().max() == 0
    torch.testing.assert_close(one.values, vector().values)  # operands are left as they were


def test_vectors_of_different_layers_or_architectures_do_not_add_up():
    with pytest.raises(VectorError, match=r"layers \(1 and 2\)"):
        vector() + vector(layer=2)
    with pytest.raises(VectorError, match="architectures"):
        vector() + vector(family="qwen3")
    with pytest.raises(VectorError, match="LlamaForCausalLM and Qwen2ForCausalLM"):
        vector() - vector(family="qwen2")


def test_a_sum_remembers_what_both_parts_agree_on():
    total = vector(task="a", seed=1) + vector(task="b", seed=1)
    assert total.metadata == {"architecture": "LlamaForCausalLM"}
    with pytest.raises(VectorError, match="made from a LlamaForCausalLM"):
        total.check_fits(tiny.shared("qwen2"))


def test_a_vector_cannot_be_changed():
    one = vector()
    with pytest.raises(AttributeError):
        one.layer = 2
    with pytest.raises(TypeError):
        one.metadata["task"] = "other"


def test_cosine_is_that_of_the_summed_vectors():
    one, other = vector(seed=0), vector(seed=1)
    expected = one.summed @ other.summed / one.summed.norm() / other.summed.norm()
    assert one.cosine(other) == pytest.approx(float(expected), abs=1e-6)
    assert one.cosine(one * 2) == pytest.approx(1, abs=1e-6)
    assert one.cosine(-one) == pytest.approx(-1, abs=1e-6)


def test_a_random_control_has_the_same_heads_and_norms_and_another_direction():
    one = vector(seed=0)
    control = one.random_like(seed=4)
    assert control.heads == one.heads
    assert control.layer == one.layer
    torch.testing.assert_close(control.values.norm(dim=1), one.values.norm(dim=1))
    torch.testing.assert_close(control.summed.norm(), one.summed.norm())
    assert abs(one.cosine(control)) < 0.8
    assert torch.equal(control.values, one.random_like(seed=4).values)
    assert not torch.equal(control.values, one.random_like(seed=5).values)
    # A text counts by the first four bytes of its SHA-256: 0x2c26b46b of "foo".
    assert torch.equal(one.random_like("foo").values, one.random_like(0x2C26B46B).values)
    assert control.metadata["control"] == "random"
    assert control.metadata["architecture"] == "LlamaForCausalLM"


def test_a_vector_survives_its_folder_bit_for_bit_and_without_pickle(tmp_path):
    one = vector(task="next", instruction="Say the next word.", seed=3)
    one.save_pretrained(tmp_path / "deep" / "folder")
    again = InstructionVector.from_pretrained(tmp_path / "deep" / "folder")
    assert again.heads == one.heads
    assert again.layer == one.layer
    assert torch.equal(again.values, one.values)
    assert torch.equal(again.summed, one.summed)
    assert dict(one.metadata).items() <= dict(again.metadata).items()
    files = sorted(path.name for path in (tmp_path / "deep" / "folder").iterdir())
    assert files == ["README.md", "config.json", "vector.safetensors"]
    assert "Say the next word." in (tmp_path / "deep" / "folder" / "README.md").read_text()


def test_metadata_cannot_overwrite_the_heads(tmp_path):
    one = vector(heads_note="x")
    sly = InstructionVector(one.heads, one.values, one.summed, one.layer, {"heads": [[9, 9]], "layer": 7, "format": 99})
    sly.save_pretrained(tmp_path)
    again = InstructionVector.from_pretrained(tmp_path)
    assert (again.heads, again.layer) == (one.heads, one.layer)


def broken_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "config.json").unlink(),
        lambda folder: (folder / "vector.safetensors").unlink(),
        lambda folder: (folder / "config.json").write_text("{"),
        lambda folder: (folder / "config.json").write_text("3"),
        lambda folder: (folder / "config.json").write_text("[]"),
        lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe\x00"),
        lambda folder: (folder / "vector.safetensors").write_bytes(b"not tensors"),
        lambda folder: (folder / "vector.safetensors").write_bytes((folder / "vector.safetensors").read_bytes()[:-8]),
        lambda folder: broken_config(folder, heads=[[0, 1]]),
        lambda folder: broken_config(folder, heads=[[0, 1], [0, 1]]),
        lambda folder: broken_config(folder, heads="all"),
        lambda folder: broken_config(folder, heads=[[0], [1]]),
        lambda folder: broken_config(folder, layer="one"),
        lambda folder: broken_config(folder, format=2),
        lambda folder: broken_config(folder, format="new"),
    ],
)
def test_a_broken_folder_is_refused(damage, tmp_path):
    vector().save_pretrained(tmp_path)
    damage(tmp_path)
    with pytest.raises(VectorError):
        InstructionVector.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["/no/such/folder", "no such name", "nobody/no-such-vector"])
def test_a_name_that_is_nothing_is_refused(name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(VectorError, match="no folder"):
        InstructionVector.from_pretrained(name)


@pytest.mark.parametrize("head", [(3, 0), (0, 4), (-1, 0), (0, -1)])
def test_heads_that_do_not_exist_are_refused(head):
    with pytest.raises(VectorError, match="does not exist"):
        vector(heads=(head,))


def test_a_vector_needs_heads_each_once_and_a_value_for_each():
    with pytest.raises(VectorError, match="at least one head"):
        vector(heads=())
    with pytest.raises(VectorError, match="twice"):
        vector(heads=((0, 1), (0, 1)))
    with pytest.raises(VectorError, match="2 heads but 3 values"):
        InstructionVector(((0, 0), (0, 1)), torch.zeros(3, 8), torch.zeros(32))


def test_a_vector_fits_the_model_it_was_made_from_its_adapters_and_its_fine_tunes():
    one = vector()
    one.check_fits(tiny.shared("llama"))
    one.check_fits(tiny.model("llama", seed=1))
    one.check_fits(get_peft_model(tiny.model("llama"), LoraConfig(target_modules=["o_proj"])))


@pytest.mark.parametrize(
    ("family", "changes", "reason"),
    [
        ("qwen2", {}, "made from a LlamaForCausalLM, the model is a Qwen2ForCausalLM"),
        ("qwen3", {}, "head width 8 and hidden size 32; the model has 12 and 32"),
        ("llama", {"hidden_size": 48, "head_dim": 8}, "the model has 8 and 48"),
        ("llama", {"num_hidden_layers": 2}, r"needs head \(2, 3\); the model has 2×4"),
        ("llama", {"num_attention_heads": 2, "head_dim": 8}, r"the model has 3×2"),
    ],
)
def test_a_model_it_does_not_fit_is_refused_with_the_reason(family, changes, reason):
    with pytest.raises(VectorError, match=reason):
        vector().applied(tiny.model(family, **changes))


@pytest.mark.parametrize("layer", [3, -1])
def test_a_layer_the_model_does_not_have_is_refused(layer):
    with pytest.raises(VectorError, match=f"after layer {layer}; the model has 3 layers"):
        vector(layer=layer).applied(tiny.shared("llama"))
