"""Pairs: what is refused and why, and that the views are the models they claim to be."""

import copy
import json

import pytest
import tiny
import tiny_training
import torch
from peft import IA3Config, LoraConfig, OFTConfig, get_peft_model

from instruction_vectors.analysis.belonging import check_tokenizers
from instruction_vectors.analysis.dial import can_turn, turned_down
from instruction_vectors.analysis.pair import Pair, open_pair
from instruction_vectors.analysis.where import weight_distance
from instruction_vectors.continual.methods import method_named
from instruction_vectors.continual.stage import StageConfig
from instruction_vectors.errors import ModelError

IDS = torch.tensor([[1, 5, 9, 7, 30, 12]])


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


@pytest.fixture
def whole(tok):
    base = tiny.model("llama")
    tuned = copy.deepcopy(base)
    with torch.no_grad():
        for weight in tuned.parameters():
            weight.mul_(1.5)
    return Pair(tok, tuned, base)


def test_an_adapter_s_pair_holds_the_base_once(tok):
    adapted = tiny_training.adapted()
    pair = open_pair(None, adapted, tokenizer=tok)
    with pair.base() as base:
        assert base is adapted
        before = logits(base)
    with pair.tuned() as tuned:
        after = logits(tuned)
    assert torch.allclose(before, logits(tiny.model("llama")), atol=1e-12)
    assert (before - after).abs().max() > 0.01


def test_an_adapter_folder_goes_over_the_base_in_memory(tok, tmp_path):
    adapted = tiny_training.adapted()
    adapted.save_pretrained(tmp_path / "adapter")
    base = tiny.model("llama")
    pair = open_pair(base, tmp_path / "adapter", tokenizer=tok)
    assert pair.base_model is None
    with pair.tuned() as tuned:
        assert torch.allclose(logits(tuned), logits(adapted), atol=1e-6)  # adapters load in float32
    with pair.base() as view:
        assert torch.allclose(logits(view), logits(tiny.model("llama")), atol=1e-12)


def test_an_adapter_for_whose_start_peft_changed_the_base_is_refused(tok, tmp_path):
    base, start = tiny.model("llama", dtype=torch.float32), LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights="olora")
    adapted = get_peft_model(tiny.model("llama", dtype=torch.float32), start)
    adapted.save_pretrained(tmp_path / "adapter")
    for below, tuned in ((None, adapted), (base, tmp_path / "adapter")):
        with pytest.raises(ModelError, match="begun with init_lora_weights='olora', for which PEFT changes the weights"):
            open_pair(below, tuned, tokenizer=tok)
    assert all(
        torch.equal(*pair) for pair in zip(base.parameters(), tiny.model("llama", dtype=torch.float32).parameters(), strict=True)
    )


def test_whole_weights_are_opened_from_a_folder_without_a_tokenizer(whole, tok, tmp_path):
    whole.tuned_model.save_pretrained(tmp_path)
    pair = open_pair(whole.base_model, tmp_path, tokenizer=tok)  # in the base's type, float64
    with pair.base() as base, pair.tuned() as tuned:
        assert base is whole.base_model
        weights = dict(tuned.named_parameters())
        assert all(torch.equal(weights[name], weight) for name, weight in whole.tuned_model.named_parameters())


def test_a_folder_of_nothing_is_told(tok, tmp_path):
    with pytest.raises(ModelError, match="cannot be opened as a model"):
        open_pair(tiny.model("llama"), tmp_path, tokenizer=tok)


def test_an_adapter_of_another_model_is_refused_with_the_reason(tok, tmp_path):
    tiny_training.adapted().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"does not fit the base.*size mismatch"):
        open_pair(tiny.model("llama", hidden_size=64), tmp_path, tokenizer=tok)


def test_an_adapter_with_more_or_fewer_layers_is_refused(tok, tmp_path):
    # PEFT itself would load what fits and leave out the rest.
    tiny_training.adapted().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"made for another model \(the base has no place for .*layers\.2\."):
        open_pair(tiny.model("llama", num_hidden_layers=2), tmp_path, tokenizer=tok)
    with pytest.raises(ModelError, match=r"made for another model \(it has no weights for .*layers\.3\."):
        open_pair(tiny.model("llama", num_hidden_layers=4), tmp_path, tokenizer=tok)


def test_an_adapter_that_names_another_base_is_refused(tok, tmp_path):
    tiny_training.adapted().save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    base = tiny.model("llama")
    base.config._name_or_path = "smollm2-135m-instruct"
    for named, fits in (("HuggingFaceTB/SmolLM2-135M-Instruct", False), ("/cache/smollm2-135m-instruct", True), (None, True)):
        (tmp_path / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": named}))
        if fits:
            open_pair(base, tmp_path, tokenizer=tok).released()
        else:
            with pytest.raises(ModelError, match=r"trained over 'HuggingFaceTB/SmolLM2-135M-Instruct', the base is 'smollm2"):
                open_pair(base, tmp_path, tokenizer=tok)


def test_an_adapter_beside_another_tokenizer_is_refused(tok, tmp_path):
    tiny_training.adapted().save_pretrained(tmp_path)
    tok.save_pretrained(tmp_path)
    open_pair(tiny.model("llama"), tmp_path, tokenizer=tok)
    tiny.tokenizer(bos=False).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="their tokenizers differ"):
        open_pair(tiny.model("llama"), tmp_path, tokenizer=tok)


def test_adapters_of_several_tasks_are_all_active(tok, tmp_path):
    adapted = tiny_training.adapted()
    adapted.add_adapter("task2", LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM"))
    adapted.base_model.set_adapter(["default", "task2"])
    adapted.save_pretrained(tmp_path, selected_adapters=["default", "task2"])
    with open_pair(tiny.model("llama"), tmp_path, tokenizer=tok).tuned() as tuned:
        assert torch.allclose(logits(tuned), logits(adapted), atol=1e-5)
        tuned.base_model.set_adapter(["default"])
        assert (logits(tuned) - logits(adapted)).abs().max() > 0.01


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (("qwen2", {}), "the base is a LlamaForCausalLM, the tuned model a Qwen2ForCausalLM"),
        (("llama", {"num_hidden_layers": 2}), "num_hidden_layers is 3 in the base and 2"),
        (("llama", {"vocab_size": 44}), "vocab_size is 40 in the base and 44"),
        (("llama", {"intermediate_size": 52}), r"weight model.layers.0.mlp.down_proj.weight has shape \(32, 48\)"),
    ],
)
def test_models_that_do_not_belong_together_are_refused(tok, other, reason):
    family, changes = other
    with pytest.raises(ModelError, match=reason):
        open_pair(tiny.model("llama"), tiny.model(family, **changes), tokenizer=tok)


def test_a_folder_of_another_shape_is_refused_before_its_weights_are_read(tok, tmp_path):
    tiny.model("llama", hidden_size=64).config.save_pretrained(tmp_path)  # no weights at all
    with pytest.raises(ModelError, match="hidden_size is 32 in the base and 64 in the tuned model"):
        open_pair(tiny.model("llama"), tmp_path, tokenizer=tok)


def test_other_token_numbers_are_refused(tok):
    moved = copy.deepcopy(tok)
    moved.add_tokens(["new"])
    check_tokenizers(tok, moved)  # an added token moves nothing
    with pytest.raises(ModelError, match="tokenizers differ"):
        check_tokenizers(tok, tiny.tokenizer(bos=False))


def test_bad_use_is_told(tok):
    model = tiny.model("llama")
    with pytest.raises(ModelError, match="the same model in memory"):
        open_pair(model, model, tokenizer=tok)
    with pytest.raises(ModelError, match="pass `tokenizer`"):
        open_pair(model, copy.deepcopy(model))
    with pytest.raises(ModelError, match="no base model"):
        open_pair(None, model, tokenizer=tok)


@pytest.mark.parametrize("keep", [0.0, 0.25, 1.0])
def test_mixed_weights_lie_between_and_are_put_back_exactly(whole, keep):
    before = {name: weight.clone() for name, weight in whole.tuned_model.named_parameters()}
    with turned_down(whole, keep) as model:
        for name, weight in whole.base_model.named_parameters():
            expected = weight + keep * (before[name] - weight)
            assert torch.allclose(dict(model.named_parameters())[name], expected, atol=1e-12)
    for name, weight in whole.tuned_model.named_parameters():
        assert torch.equal(weight, before[name])


def test_a_scaled_adapter_adds_that_much_less_and_is_put_back(tok):
    adapted = tiny_training.adapted()
    pair = Pair(tok, adapted)
    layer = next(m for m in adapted.modules() if hasattr(m, "get_delta_weight"))
    full, after = layer.get_delta_weight("default"), logits(adapted)
    assert can_turn(pair)
    with turned_down(pair, 0.25):
        assert torch.allclose(layer.get_delta_weight("default"), full / 4)
    with turned_down(pair, 0.0) as none, pair.base() as base:
        assert torch.equal(logits(none), logits(base))
    assert torch.equal(logits(adapted), after)


def test_the_weight_distance_of_a_model_of_which_every_weight_was_trained(tok):
    method = method_named("full")(StageConfig())
    method.attach(tiny.model("llama"))
    assert weight_distance(Pair(tok, method.model)) == 0
    with torch.no_grad():
        for weight in (w for w in method.model.parameters() if w.requires_grad):
            weight.mul_(1.25)
    assert weight_distance(Pair(tok, method.model)) == pytest.approx(0.25)


def test_the_weight_distance_of_both_kinds_of_pair(whole, tok):
    assert weight_distance(whole) == pytest.approx(0.5)
    adapted = tiny_training.adapted()
    changed = [m for m in adapted.modules() if hasattr(m, "get_delta_weight")]
    moved = sum(float(m.get_delta_weight("default").detach().pow(2).sum()) for m in changed)
    stood = sum(float(m.get_base_layer().weight.detach().pow(2).sum()) for m in changed)
    assert weight_distance(Pair(tok, adapted)) == pytest.approx((moved / stood) ** 0.5, rel=1e-5)
    assert weight_distance(Pair(tok, copy.deepcopy(whole.base_model), whole.base_model)) == 0


HEAD = {"modules_to_save": ["lm_head"]}
TOKENS = {"trainable_token_indices": [1, 2]}


def trained(tok, config):
    """A pair of a tiny model and an adapter of some kind, all of whose weights have moved."""
    torch.manual_seed(0)
    model = get_peft_model(tiny.model("llama"), config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                weight.add_(0.3 * torch.randn_like(weight) if "magnitude" not in name else 0.5)
    return Pair(tok, model.to(torch.float64))


def lora(**more):
    return LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", **more)


@pytest.mark.parametrize(
    ("config", "turns", "distance"),
    [
        (lora(), True, True),
        (lora(**HEAD), False, True),
        (lora(**TOKENS), False, False),
        (lora(use_dora=True), False, False),
        (lora(bias="all"), False, True),
        (OFTConfig(target_modules=["q_proj"], oft_block_size=8, task_type="CAUSAL_LM"), False, False),
        (IA3Config(target_modules=["q_proj"], feedforward_modules=[], task_type="CAUSAL_LM"), False, False),
    ],
    ids=["lora", "head", "tokens", "dora", "bias", "oft", "ia3"],
)
def test_only_adapters_that_add_are_turned_down_and_a_distance_that_is_not_known_is_not_told(tok, config, turns, distance):
    pair = trained(tok, config)
    assert can_turn(pair) == turns
    found = weight_distance(pair)
    assert (found is not None) == distance
    with pair.base() as model:
        before = logits(model)
    with pair.tuned() as model:
        assert (logits(model) - before).abs().max() > 0.01
    if turns:
        with turned_down(pair, 0.0) as model:
            assert torch.allclose(logits(model), before, atol=1e-12)
    if distance:
        start = dict(tiny.model("llama").named_parameters())
        after = pair.tuned_model.merge_and_unload().named_parameters()
        changed = [(new - start[name], start[name]) for name, new in after if not torch.allclose(new, start[name], atol=1e-9)]
        squares = [sum(float(part.detach().pow(2).sum()) for part in parts) for parts in zip(*changed, strict=True)]
        assert found == pytest.approx((squares[0] / squares[1]) ** 0.5, rel=1e-5)
