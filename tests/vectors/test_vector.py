"""Arithmetic, fitting a model, and the folder a vector is kept in."""

import copy
import errno
import json
import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import safetensors.torch
import tiny
import torch
import yaml
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalEntryNotFoundError
from peft import IA3Config, LoraConfig, OSFConfig, get_peft_model

from instruction_vectors import InstructionVector
from instruction_vectors.errors import VectorError
from instruction_vectors.files import write_atomic
from instruction_vectors.models import loading
from instruction_vectors.models.anatomy import anatomy_of
from instruction_vectors.models.loading import model_fingerprint, tokenizer_fingerprint
from instruction_vectors.vectors.vector import shape_of


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
    assert total.metadata == {"architecture": "LlamaForCausalLM", "adds_writes": True}
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


def config_without(folder, name):
    config = json.loads((folder / "config.json").read_text())
    del config[name]
    (folder / "config.json").write_text(json.dumps(config))


def broken_tensors(folder, **changes):
    tensors = safetensors.torch.load_file(folder / "vector.safetensors") | changes
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    safetensors.torch.save_file(kept, folder / "vector.safetensors")


def cut(path, by):
    path.write_bytes(path.read_bytes()[:-by])


CONFIG, WEIGHTS = "config.json", "vector.safetensors"
DAMAGES = {
    "no config": (lambda f: (f / CONFIG).unlink(), "it has no config.json"),
    "no tensors": (lambda f: (f / WEIGHTS).unlink(), "it has no vector.safetensors"),
    "a config cut off": (lambda f: cut(f / CONFIG, 20), r"config.json is damaged \(.*line \d+ column"),
    "an empty config": (lambda f: (f / CONFIG).write_text(""), r"config.json is damaged \(Expecting value"),
    "a number": (lambda f: (f / CONFIG).write_text("3"), r"config.json is damaged \(expected names and values, got int"),
    "a list": (lambda f: (f / CONFIG).write_text("[]"), r"config.json is damaged \(expected names and values, got list"),
    "nested deep": (lambda f: (f / CONFIG).write_text("[" * 100_000), r"config.json is damaged \(.*recursion"),
    "no text": (lambda f: (f / CONFIG).write_bytes(b"\xff\xfe\x00"), r"config.json is damaged \('utf-8' codec"),
    "no heads named": (lambda f: config_without(f, "heads"), r"config.json is damaged \(KeyError: 'heads'\)"),
    "no format": (lambda f: config_without(f, "format"), r"config.json is damaged \(KeyError: 'format'\)"),
    "heads in words": (lambda f: broken_config(f, heads="all"), r"config.json is damaged \(not enough values"),
    "half heads": (lambda f: broken_config(f, heads=[[0], [1]]), r"config.json is damaged \(not enough values"),
    "heads between": (lambda f: broken_config(f, heads=[[0, 1.5], [2, 3]]), r"config.json is damaged \('float' object"),
    "no head": (lambda f: broken_config(f, heads=[]), r"config.json and vector.safetensors make none \(.*at least one head"),
    "a head less": (lambda f: broken_config(f, heads=[[0, 1]]), r"config.json and vector.* make none \(1 heads but 2 values"),
    "a head twice": (lambda f: broken_config(f, heads=[[0, 1], [0, 1]]), r"config.json and vector.* make none \(.*listed twice"),
    "a head below 0": (lambda f: broken_config(f, heads=[[-1, 0], [2, 3]]), r"head \(-1, 0\) does not exist.*counted from 0"),
    "a layer in words": (lambda f: broken_config(f, layer="one"), r"config.json is damaged \('str' object"),
    "a layer below 0": (lambda f: broken_config(f, layer=-1), r"config.json is damaged \(layer -1 is below 0"),
    "a shape in words": (lambda f: broken_config(f, shape="large"), r"config.json is damaged \(shape must hold"),
    "a format in words": (lambda f: broken_config(f, format="new"), r"config.json is damaged \('str' object"),
    "no safetensors": (lambda f: (f / WEIGHTS).write_bytes(b"not tensors"), r"vector.safetensors is damaged \(SafetensorError"),
    "empty tensors": (lambda f: (f / WEIGHTS).write_bytes(b""), r"vector.safetensors is damaged \(SafetensorError"),
    "tensors cut off": (lambda f: cut(f / WEIGHTS, 8), r"vector.safetensors is damaged \(SafetensorError"),
    "no sum": (lambda f: broken_tensors(f, summed=None), r"vector.safetensors is damaged \(KeyError: 'summed'\)"),
    "nan": (
        lambda f: broken_tensors(f, values=torch.full((2, 8), torch.nan)),
        r"vector.safetensors .*values holds .* not finite",
    ),
    "inf": (lambda f: broken_tensors(f, summed=torch.full((32,), torch.inf)), r"vector.safetensors .*summed holds .* not finite"),
    "whole numbers": (lambda f: broken_tensors(f, summed=torch.ones(32, dtype=torch.long)), "vector.safetensors .*summed holds"),
    "flat values": (lambda f: broken_tensors(f, values=torch.ones(16)), r"vector.safetensors .*shapes \[16\] and \[32\]"),
    "a square sum": (lambda f: broken_tensors(f, summed=torch.ones(4, 8)), r"vector.safetensors .*shapes \[2, 8\] and \[4, 8\]"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_refused_with_the_file_and_what_is_wrong_in_it(damage, tmp_path):
    vector().save_pretrained(tmp_path)
    inflict, reason = DAMAGES[damage]
    inflict(tmp_path)
    with pytest.raises(VectorError, match=rf"(?s){tmp_path} is not an instruction vector: .*{reason}"):
        InstructionVector.from_pretrained(tmp_path)


def test_a_file_for_a_folder_and_files_that_cannot_be_read_are_not_called_damaged(tmp_path, monkeypatch):
    vector().save_pretrained(tmp_path)
    with pytest.raises(VectorError, match=rf"^{tmp_path}/{WEIGHTS}/{CONFIG} cannot be read \(Not a directory\)$"):
        InstructionVector.from_pretrained(tmp_path / WEIGHTS)
    read_bytes = Path.read_bytes

    def forbidden(path):
        if path.name == WEIGHTS:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return read_bytes(path)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", forbidden)
        with pytest.raises(VectorError, match=rf"^{tmp_path}/{WEIGHTS} cannot be read \(Permission denied\)$"):
            InstructionVector.from_pretrained(tmp_path)
    (tmp_path / CONFIG).unlink()
    (tmp_path / CONFIG).mkdir()
    with pytest.raises(VectorError, match=rf"^{tmp_path}/{CONFIG} cannot be read \(Is a directory\)$"):
        InstructionVector.from_pretrained(tmp_path)


def test_a_folder_of_a_later_version_is_not_called_damaged(tmp_path):
    vector().save_pretrained(tmp_path)
    broken_config(tmp_path, format=2)
    with pytest.raises(VectorError, match=f"^{tmp_path}/config.json was written by a newer version; upgrade"):
        InstructionVector.from_pretrained(tmp_path)


def front_matter(folder):
    _, front, body = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), body


@pytest.mark.parametrize("model", ["HuggingFaceTB/SmolLM2-135M", "some.body/A_b-1.0"])
def test_the_card_names_a_base_model_of_the_hub(model, tmp_path):
    vector(model=model, task="next: a # word", instruction="Say: {it}\n---\n").save_pretrained(tmp_path)
    front, body = front_matter(tmp_path)
    assert front == {"library_name": "instruction-vectors", "tags": ["instruction-vector"], "base_model": model}
    assert "# Instruction vector: next: a # word" in body
    assert f'load("{model}")' in body
    assert 'from_pretrained("path/to/this/folder")' in body


@pytest.mark.parametrize(
    "model", ["smollm2-135m-instruct", "/models/llama", "./models/llama", "a/b/c", "a: b/c", "", "here/model"]
)
def test_the_card_names_no_base_model_that_is_not_of_the_hub(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here" / "model").mkdir(parents=True)
    vector(model=model).save_pretrained("vector")
    assert set(front_matter(tmp_path / "vector")[0]) == {"library_name", "tags"}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The hub as a folder: what was asked of it, and the files that it holds."""
    asked, store = [], tmp_path / "hub"

    def create_repo(self, repo_id, **how):
        asked.append(("create_repo", repo_id, how))

    def upload_folder(self, *, repo_id, folder_path, **how):
        asked.append(("upload_folder", repo_id, how))
        shutil.copytree(folder_path, store / repo_id)
        return f"https://huggingface.co/{repo_id}/tree/main/"

    def snapshot_download(repo_id, **how):
        if not (store / repo_id).exists():
            raise LocalEntryNotFoundError("nothing of that name\nand more")
        return str(store / repo_id)

    monkeypatch.setattr(HfApi, "create_repo", create_repo)
    monkeypatch.setattr(HfApi, "upload_folder", upload_folder)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return SimpleNamespace(asked=asked, store=store)


def test_a_vector_goes_to_the_hub_with_the_token_at_every_call_and_comes_back(hub):
    one = vector(model="owner/base", task="next")
    url = one.push_to_hub("somebody/next", token="hf_secret", private=True)
    assert url == "https://huggingface.co/somebody/next/tree/main/"
    assert hub.asked == [
        ("create_repo", "somebody/next", {"token": "hf_secret", "exist_ok": True, "private": True}),
        ("upload_folder", "somebody/next", {"token": "hf_secret"}),
    ]
    assert sorted(path.name for path in (hub.store / "somebody" / "next").iterdir()) == ["README.md", CONFIG, WEIGHTS]
    assert "hf_secret" not in "".join(path.read_text("latin-1") for path in (hub.store / "somebody" / "next").iterdir())
    front, body = front_matter(hub.store / "somebody" / "next")
    assert front["base_model"] == "owner/base"
    assert 'from_pretrained("somebody/next")' in body
    again = InstructionVector.from_pretrained("somebody/next")
    assert (again.heads, again.layer) == (one.heads, one.layer)
    assert torch.equal(again.values, one.values)


def test_what_the_hub_lacks_or_holds_half_is_refused(hub):
    with pytest.raises(VectorError, match=r"'somebody/next' is no folder.*\(nothing of that name\); check the name"):
        InstructionVector.from_pretrained("somebody/next")
    (hub.store / "somebody" / "next").mkdir(parents=True)
    with pytest.raises(VectorError, match=r"it has no config.json"):
        InstructionVector.from_pretrained("somebody/next")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (HfHubHTTPError("403 Forbidden: no\nmore", response=SimpleNamespace(headers={}, request=None)), "403 Forbidden: no"),
        (ConnectionError("no network"), "no network"),
        (HTTPError("name not resolved"), "name not resolved"),
    ],
)
@pytest.mark.parametrize("call", ["create_repo", "upload_folder"])
def test_a_hub_that_refuses_is_named_with_what_to_do(call, error, reason, hub, monkeypatch):
    def refuse(*args, **kwargs):
        raise error

    monkeypatch.setattr(HfApi, call, refuse)
    with pytest.raises(VectorError, match=rf"'somebody/next' \({reason}\); check the name .*`hf auth login`"):
        vector().push_to_hub("somebody/next")


def test_a_name_that_cannot_be_one_of_the_hub_is_refused_before_any_call():
    with pytest.raises(VectorError, match="check the name"):
        vector().push_to_hub("no such/name/at all")


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
    with pytest.raises(VectorError, match="at least one head"):
        InstructionVector((), torch.zeros(0, 8), torch.zeros(32))
    with pytest.raises(VectorError, match=r"head \(0, -1\) does not exist: layers and heads are counted from 0"):
        InstructionVector(((0, -1),), torch.zeros(1, 8), torch.zeros(32))
    with pytest.raises(VectorError, match=r"got shapes \[8\] and \[32\]"):
        InstructionVector(((0, 0),), torch.zeros(8), torch.zeros(32))


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


def test_a_layer_the_model_does_not_have_is_refused():
    with pytest.raises(VectorError, match="after layer 3; the model has 3 layers"):
        vector(layer=3).applied(tiny.shared("llama"))
    with pytest.raises(VectorError, match="layer -1 does not exist"):
        vector(layer=-1)


@pytest.mark.parametrize("heads", [[[0, 1], [2, 3]], [(0, 1.5)], [5], [(1, 2, 3)]])
def test_heads_are_pairs_whatever_holds_them(heads):
    causal_lm, means = tiny.shared("llama"), tiny.means("llama")
    if heads == [[0, 1], [2, 3]]:  # as JSON has them
        assert InstructionVector.from_means(causal_lm, means, heads).heads == ((0, 1), (2, 3))
    else:
        with pytest.raises(VectorError, match="pairs"):
            InstructionVector.from_means(causal_lm, means, heads)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_numbers_of_any_type_become_float32(dtype):
    values, summed = torch.ones(1, 8, dtype=dtype, requires_grad=True), torch.full((32,), 0.5, dtype=dtype)
    made = InstructionVector([[0, 1]], values, summed)
    assert (made.values.dtype, made.summed.dtype, made.values.requires_grad) == (torch.float32, torch.float32, False)
    assert made.fingerprint == InstructionVector(((0, 1),), torch.ones(1, 8), torch.full((32,), 0.5)).fingerprint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": torch.ones(1, 8, dtype=torch.long)}, "values must be a tensor"),
        ({"summed": [0.5] * 32}, "summed must be a tensor"),
        ({"values": torch.full((1, 8), 1e300, dtype=torch.float64)}, "values holds numbers that are not finite in float32"),
        ({"layer": 1.5}, "layer must be a whole number"),
    ],
)
def test_what_is_no_vector_is_refused(changes, message):
    with pytest.raises(VectorError, match=message):
        InstructionVector(**{"heads": ((0, 1),), "values": torch.ones(1, 8), "summed": torch.ones(32), **changes})


def test_a_vector_does_not_change_with_the_tensor_it_was_made_of():
    values = torch.ones(1, 8)
    made = InstructionVector(((0, 1),), values, torch.ones(32), layer=torch.tensor(2))
    before = made.fingerprint
    values.mul_(3)
    assert made.fingerprint == before
    assert type(made.layer) is int


def test_a_vector_of_all_its_heads_is_itself():
    control = vector().random_like(3)
    assert control.first(tiny.shared("llama"), len(control.heads)) is control


def test_what_cannot_be_written_leaves_the_vector_that_was_there(tmp_path):
    old = vector()
    old.save_pretrained(tmp_path)
    for model in (tmp_path, "caf\udce9"):  # the second as of a file name that is no text
        with pytest.raises(VectorError, match="cannot be written as JSON"):
            replace(vector() * 2, metadata={"model": model}).save_pretrained(tmp_path)
    assert InstructionVector.from_pretrained(tmp_path).fingerprint == old.fingerprint


def test_a_vector_that_is_half_written_over_another_is_none(tmp_path, monkeypatch):
    vector().save_pretrained(tmp_path)

    def killed(path, content):
        if path.name == "config.json":
            raise KeyboardInterrupt
        write_atomic(path, content)

    monkeypatch.setattr("instruction_vectors.vectors.artefact.write_atomic", killed)
    with pytest.raises(KeyboardInterrupt):
        (vector() * 2).save_pretrained(tmp_path)
    with pytest.raises(VectorError, match=r"it has no config\.json"):
        InstructionVector.from_pretrained(tmp_path)


def recorded(causal_lm, **changes) -> InstructionVector:
    """A vector that knows which weights and sizes it was made of."""
    facts = {"shape": shape_of(anatomy_of(causal_lm)), "model": "owner/base", "model_fingerprint": model_fingerprint(causal_lm)}
    return replace(vector(), metadata={"architecture": type(causal_lm).__name__, **facts, **changes})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_hidden_layers": 5}, "had n_layers 3, this one has 5"),
        ({"num_attention_heads": 8, "head_dim": 8}, "had n_heads 4, this one has 8"),
        ({"vocab_size": 48}, "had vocab_size 40, this one has 48"),
    ],
)
def test_a_larger_model_of_the_same_family_is_refused_with_what_differs(changes, reason):
    with pytest.raises(VectorError, match=f"this vector's model {reason}: it is another model"):
        recorded(tiny.shared("llama")).applied(tiny.model("llama", **changes))
    vector().check_fits(tiny.model("llama", **changes))  # where nothing is recorded, its heads are enough


def test_another_vocabulary_is_refused_if_the_tokenizer_is_shown(tok):
    one = recorded(tiny.shared("llama"), tokenizer_fingerprint=tokenizer_fingerprint(tok))
    one.check_fits(tiny.shared("llama"), tok)
    one.check_fits(tiny.shared("llama"), tiny.tokenizer(bos=False))  # the same numbers for the same words
    other = tiny.tokenizer()
    other.add_tokens(["new"])
    with pytest.raises(VectorError, match="another vocabulary"):
        one.check_fits(tiny.shared("llama"), other)
    vector().check_fits(tiny.shared("llama"), other)


def fine_tuned(**changes):
    causal_lm = tiny.model("llama", **changes)
    with torch.no_grad():
        causal_lm.lm_head.weight[0, 0] += 1
    return causal_lm


def test_of_a_full_fine_tune_it_is_said_once_that_it_is_one(caplog):
    one, tuned, another = recorded(tiny.model("llama")), fine_tuned(), fine_tuned()
    for model in (tuned, tuned, another, tuned):
        one.check_fits(model)
        (2 * one).check_fits(model)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "are not those the vector was made from (owner/base): a full fine-tune" in caplog.text


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(target_modules=["o_proj"], init_lora_weights=False),
        LoraConfig(target_modules=["q_proj"], use_dora=True, modules_to_save=["lm_head"]),
        LoraConfig(target_modules=["q_proj"], trainable_token_indices=[3, 4]),
        IA3Config(target_modules=["k_proj"], feedforward_modules=[]),
        OSFConfig(target_modules=["q_proj"]),
    ],
    ids=["lora", "dora and a whole head", "tokens", "ia3", "osf"],
)
def test_nothing_is_said_of_the_model_itself_or_of_adapters_over_it(config, caplog):
    base = tiny.model("llama", dtype=torch.float32)
    one = recorded(base)
    one.check_fits(base)
    one.check_fits(get_peft_model(copy.deepcopy(base), config))
    assert not caplog.records


def test_weights_are_hashed_once_a_model_and_not_again_while_it_trains(caplog, monkeypatch):
    base, taken = tiny.model("llama"), []
    one = recorded(base)
    monkeypatch.setattr(loading, "model_fingerprint", lambda model: taken.append(model) or model_fingerprint(model))
    other = tiny.model("llama")
    for _ in range(3):
        one.check_fits(other)
        with torch.no_grad():
            other.lm_head.weight += 1
    assert taken == [other]
    assert not caplog.records
    recorded(other).check_fits(other)  # made of the trained weights: these are the ones it finds
    assert taken == [other]
    assert not caplog.records


def test_of_weights_that_are_elsewhere_nothing_is_said(caplog):
    one, other = recorded(tiny.model("llama")), fine_tuned()
    anatomy_of(other)
    other.lm_head.weight = torch.nn.Parameter(other.lm_head.weight.to("meta"))
    one.check_fits(other)
    assert not caplog.records
