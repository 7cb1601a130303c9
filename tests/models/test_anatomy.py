"""Heads are found in every family, and they are the right heads."""

import copy
import gc
import weakref

import naive
import pytest
import tiny
import torch
from accelerate import dispatch_model
from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BitsAndBytesConfig,
    Lfm2Config,
    Lfm2ForCausalLM,
    Qwen3NextConfig,
    Qwen3NextForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.pytorch_utils import Conv1D

from instruction_vectors import causal_effects
from instruction_vectors.errors import AnatomyError
from instruction_vectors.models.anatomy import anatomy_of, unwrap
from instruction_vectors.models.hooks import capture_heads

IDS = torch.tensor([[1, 9, 14, 7, 30, 11, 5]])
SEPARATE_VALUES = ("llama", "llama-mha", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "olmo2", "smollm3", "mixtral", "opt")


def head_writes(weight: torch.Tensor, heads: torch.Tensor) -> torch.Tensor:
    """`W_O^{lj} z_{lj}` by slices of the weight, `[..., head, hidden]`."""
    parts = weight.unflatten(1, (heads.shape[-2], heads.shape[-1]))
    return torch.einsum("ohd,...hd->...ho", parts, heads)


def weight_of(o_proj: torch.nn.Module) -> torch.Tensor:
    return o_proj.weight.T if isinstance(o_proj, Conv1D) else o_proj.weight


def every_head(anatomy, ids=IDS) -> torch.Tensor:
    with capture_heads(anatomy, torch.ones_like(ids, dtype=torch.bool)) as captured, torch.no_grad():
        anatomy.causal_lm(input_ids=ids, attention_mask=torch.ones_like(ids))
    return torch.stack(captured)


def outputs_of(modules, causal_lm, ids=IDS) -> list[torch.Tensor]:
    outputs = []
    handles = [m.register_forward_hook(lambda _, __, out: outputs.append(out.reshape(-1, out.shape[-1]))) for m in modules]
    with torch.no_grad():
        causal_lm(input_ids=ids, attention_mask=torch.ones_like(ids))
    for handle in handles:
        handle.remove()
    return outputs


@pytest.mark.parametrize(("family", "attention"), tiny.GRID)
def test_layers_heads_and_width_are_those_of_the_family(family, attention):
    causal_lm = tiny.shared(family, attention)
    anatomy = anatomy_of(causal_lm)
    assert (anatomy.n_layers, anatomy.n_heads, anatomy.head_dim) == (tiny.LAYERS, tiny.HEADS, tiny.head_dim(family))
    assert anatomy.hidden_size == tiny.HIDDEN
    assert anatomy.layer_numbers == (0, 1, 2)
    assert list(anatomy.o_projs) == tiny.o_projs(causal_lm, family)


@pytest.mark.parametrize("family", tiny.FAMILIES)
@torch.no_grad()
def test_what_heads_write_and_the_bias_sum_to_what_the_projection_puts_out(family):
    causal_lm = tiny.shared(family)
    anatomy = anatomy_of(causal_lm)
    heads = every_head(anatomy)
    outputs = outputs_of(tiny.o_projs(causal_lm, family), causal_lm)
    for layer, (o_proj, output) in enumerate(zip(anatomy.o_projs, outputs, strict=True)):
        written = head_writes(weight_of(o_proj), heads[layer])
        bias = 0 if getattr(o_proj, "bias", None) is None else o_proj.bias
        torch.testing.assert_close(written.sum(-2) + bias, output)
        for head in range(anatomy.n_heads):
            torch.testing.assert_close(anatomy.write(layer, head, heads[layer][:, head]), written[:, head])
        assert not torch.allclose(anatomy.write(layer, 0, heads[layer][:, 1]), written[:, 1])


@pytest.mark.parametrize("family", SEPARATE_VALUES)
def test_silencing_one_value_projection_changes_the_heads_that_read_it_and_no_other(family):
    causal_lm = tiny.model(family)
    anatomy = anatomy_of(causal_lm)
    before = every_head(anatomy)
    value = next(module for name, module in causal_lm.named_modules() if name.endswith("0.self_attn.v_proj"))
    groups = value.out_features // anatomy.head_dim
    with torch.no_grad():
        value.weight.unflatten(0, (groups, -1))[1] = 0
        if value.bias is not None:
            value.bias.unflatten(0, (groups, -1))[1] = 0
    after = every_head(anatomy)
    size = anatomy.n_heads // groups
    for head in range(anatomy.n_heads):
        moved = not torch.allclose(before[0, :, head], after[0, :, head])
        assert moved == (head // size == 1)
        assert moved == (after[0, :, head].abs().max() == 0)


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["o_proj"]])
@pytest.mark.parametrize("merged", [False, True])
@torch.no_grad()
def test_adapters_are_part_of_what_heads_write(targets, merged):
    causal_lm = tiny.model("llama")
    bare = anatomy_of(causal_lm)
    plain = bare.write(1, 2, torch.ones(8, dtype=torch.float64))
    wrapped = get_peft_model(causal_lm, LoraConfig(r=4, target_modules=targets, init_lora_weights=False)).eval()
    if merged:
        wrapped.merge_adapter()
    assert unwrap(wrapped) is causal_lm
    anatomy = anatomy_of(wrapped)
    heads = every_head(anatomy)
    outputs = outputs_of(anatomy.o_projs, causal_lm)
    for layer, o_proj in enumerate(anatomy.o_projs):
        weight = o_proj.weight
        if targets == ["o_proj"] and not merged:
            weight = weight + o_proj.get_delta_weight("default")
        torch.testing.assert_close(head_writes(weight, heads[layer]).sum(-2), outputs[layer])
    written = anatomy.write(1, 2, torch.ones(8, dtype=torch.float64))
    assert torch.allclose(written, plain) == (targets != ["o_proj"])
    assert written.shape == (tiny.HIDDEN,)


def test_after_merging_an_adapter_for_good_the_model_is_bare_again():
    wrapped = get_peft_model(tiny.model("llama"), LoraConfig(r=4, target_modules=["o_proj"], init_lora_weights=False)).eval()
    tuned = every_head(anatomy_of(wrapped))
    merged = wrapped.merge_and_unload()
    torch.testing.assert_close(every_head(anatomy_of(merged)), tuned)
    assert all(type(o_proj) is torch.nn.Linear for o_proj in anatomy_of(merged).o_projs)


def test_adapter_dropout_in_training_mode_disturbs_neither_the_check_nor_the_writes():
    config = LoraConfig(r=4, target_modules=["o_proj"], init_lora_weights=False, lora_dropout=0.5)
    wrapped = get_peft_model(tiny.model("llama"), config)
    wrapped.train()
    frozen = wrapped.base_model.model.model.layers[0].mlp
    frozen.eval()
    anatomy = anatomy_of(wrapped)
    value = torch.ones(8, dtype=torch.float64)
    assert torch.equal(anatomy.write(0, 1, value), anatomy.write(0, 1, value))
    assert wrapped.training
    assert anatomy.o_projs[0].training
    assert not frozen.training


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_families_that_normalise_attention_outputs_are_told_apart(family):
    assert anatomy_of(tiny.shared(family)).adds_writes == (family not in tiny.NORMALISING)


@pytest.mark.parametrize(("family", "attention"), tiny.GRID)
@torch.no_grad()
def test_logits_of_final_states_are_the_models_own(family, attention):
    causal_lm = tiny.shared(family, attention)
    anatomy = anatomy_of(causal_lm)
    hidden = anatomy.backbone(input_ids=IDS, attention_mask=torch.ones_like(IDS))[0]
    torch.testing.assert_close(anatomy.logits(hidden), causal_lm(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits)


def test_layers_without_attention_are_not_counted():
    sizes = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 3, "max_position_embeddings": 64}
    kinds = ["full_attention", "conv", "full_attention"]
    config = Lfm2Config(vocab_size=tiny.VOCABULARY, hidden_size=32, intermediate_size=48, layer_types=kinds, **sizes)
    anatomy = anatomy_of(Lfm2ForCausalLM(config))
    assert anatomy.n_layers == 2
    assert anatomy.layer_numbers == (0, 2)


def test_a_hybrid_that_starts_with_linear_attention_is_refused():
    sizes = {"num_hidden_layers": 2, "num_experts": 2, "moe_intermediate_size": 8, "intermediate_size": 8, "hidden_size": 16}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "linear_num_value_heads": 2}
    kinds = {"layer_types": ["linear_attention", "full_attention"]}
    causal_lm = Qwen3NextForCausalLM(Qwen3NextConfig(vocab_size=tiny.VOCABULARY, **sizes, **heads, **kinds))
    with pytest.raises(AnatomyError, match="first layer of Qwen3NextForCausalLM is 'linear_attention', not softmax attention"):
        anatomy_of(causal_lm)


def test_an_encoder_decoder_is_refused():
    model = T5ForConditionalGeneration(T5Config(vocab_size=40, d_model=16, d_kv=4, d_ff=16, num_layers=2, num_heads=4))
    with pytest.raises(AnatomyError, match="encoder-decoder"):
        anatomy_of(model)


def test_a_model_whose_heads_are_split_over_devices_is_refused():
    causal_lm = tiny.model("llama")
    causal_lm._tp_size = 2  # as transformers marks a model that it loaded with a `tp_plan`
    with pytest.raises(AnatomyError, match="split over 2 devices by tensor parallelism"):
        anatomy_of(causal_lm)


def test_a_model_that_looks_ahead_is_refused():
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 16}
    with pytest.raises(AnatomyError, match="causal"):
        anatomy_of(BertForMaskedLM(BertConfig(vocab_size=40, hidden_size=16, **sizes)))


def test_what_is_no_language_model_is_refused():
    with pytest.raises(AnatomyError, match="AutoModelForCausalLM"):
        anatomy_of(torch.nn.Linear(2, 2))


def test_weights_that_are_not_finite_are_noticed():
    causal_lm = tiny.model("llama")
    with torch.no_grad():
        causal_lm.model.layers[1].self_attn.o_proj.weight[0, 0] = float("nan")
    with pytest.raises(AnatomyError, match="layer 1"):
        anatomy_of(causal_lm)


def test_a_head_count_that_does_not_divide_the_width_is_refused():
    causal_lm = tiny.model("llama")
    causal_lm.config.num_attention_heads = 5
    with pytest.raises(AnatomyError, match="5 heads"):
        anatomy_of(causal_lm)


def test_a_head_count_for_each_layer_is_refused():
    causal_lm = tiny.model("llama")
    # As configs that come with a model's own code have it; those of transformers itself take one number only.
    object.__setattr__(causal_lm.config, "num_attention_heads", [4, 4, 2])
    with pytest.raises(AnatomyError, match=r"\[4, 4, 2\] heads .*per-layer head counts are not supported"):
        anatomy_of(causal_lm)


@torch.no_grad()
def test_heads_of_offloaded_layers_write_as_those_in_memory(tmp_path):
    homes = {
        "model.embed_tokens": "cpu",
        "model.layers.0": "cpu",
        "model.norm": "cpu",
        "model.rotary_emb": "cpu",
        "lm_head": "cpu",
    }
    homes |= {"model.layers.1": "disk", "model.layers.2": "disk"}
    anatomy = anatomy_of(dispatch_model(tiny.model("llama"), homes, main_device="cpu", offload_dir=tmp_path))
    assert next(anatomy.layers[1].parameters()).device.type == "meta"
    value = torch.arange(8, dtype=torch.float64)
    for layer in range(tiny.LAYERS):
        assert torch.equal(anatomy.write(layer, 2, value), anatomy_of(tiny.shared("llama")).write(layer, 2, value))


@pytest.mark.parametrize("config", [PromptTuningConfig, PrefixTuningConfig])
def test_an_adapter_outside_of_the_layers_is_refused(config):
    model = get_peft_model(tiny.model("llama"), config(task_type="CAUSAL_LM", num_virtual_tokens=2))
    with pytest.raises(AnatomyError, match="learns a prompt or prefix, which lies outside the layers"):
        anatomy_of(model)


def test_a_model_whose_adapter_was_deleted_is_bare_again():
    model = get_peft_model(tiny.model("llama"), LoraConfig(r=2, target_modules=["q_proj"]))
    model.delete_adapter("default")
    assert anatomy_of(model).n_layers == tiny.LAYERS


def test_memory_that_runs_out_is_no_matter_of_types(monkeypatch):
    model = tiny.model("llama", dtype=torch.bfloat16)
    model.model.norm.float()

    def full(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory, of whatever type")

    monkeypatch.setattr(model, "forward", full)
    with pytest.raises(torch.OutOfMemoryError):
        anatomy_of(model)


@torch.no_grad()
def test_what_stood_in_the_place_of_the_backbone_s_forward_is_there_again_after_the_head_ran_alone():
    anatomy = anatomy_of(tiny.model("llama"))
    calls = []

    def counted(*args, **kwargs):
        calls.append(1)
        return type(anatomy.backbone).forward(anatomy.backbone, *args, **kwargs)

    anatomy.backbone.forward = counted
    anatomy.logits(torch.zeros(1, 1, tiny.HIDDEN, dtype=torch.float64))
    assert not calls
    anatomy.causal_lm(input_ids=torch.ones(1, 1, dtype=torch.long))
    assert calls


def test_weights_of_two_types_that_do_not_run_together_are_told_by_both():
    model = tiny.model("llama", dtype=torch.bfloat16)
    model.model.layers[0].input_layernorm.float()
    with pytest.raises(AnatomyError, match=r"weights of torch\.bfloat16 and torch\.float32 but under autocast"):
        anatomy_of(model)


class PackedMap(torch.nn.Module):
    """A linear map as quantisation methods have them: no `nn.Linear`, no floating-point parameter, `weight` a method."""

    def __init__(self, linear: torch.nn.Linear):
        super().__init__()
        scale = linear.weight.detach().abs().amax(1, keepdim=True) / 127
        self.register_buffer("packed", (linear.weight.detach() / scale).round().to(torch.int8))
        self.register_buffer("scale", scale)

    def weight(self) -> torch.Tensor:
        return self.packed * self.scale

    def forward(self, rows):
        return rows @ self.weight().T


class Averages(torch.nn.Module):
    """Attention with nothing inside to be found."""

    def forward(self, hidden_states, **more):
        return hidden_states.cumsum(1), None


def packed(family="llama"):
    causal_lm = tiny.model(family)
    for layer in causal_lm.model.layers:
        for name, module in list(layer.named_modules()):
            if isinstance(module, torch.nn.Linear):
                layer.set_submodule(name, PackedMap(module))
    causal_lm.config.quantization_config = {"quant_method": "packed"}
    return causal_lm


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3"])
def test_maps_of_a_quantisation_methods_own_class_are_found_and_measured_exactly(family, tok):
    causal_lm, means = packed(family), tiny.means(family)
    anatomy, o_projs = anatomy_of(causal_lm), tiny.o_projs(causal_lm, family)
    assert list(anatomy.o_projs) == o_projs
    assert all(type(o_proj) is PackedMap for o_proj in o_projs)
    assert anatomy.dtype == torch.float64
    width = slice(anatomy.head_dim, 2 * anatomy.head_dim)
    torch.testing.assert_close(anatomy.write(1, 1, means[1, 1]), o_projs[1].weight()[:, width] @ means[1, 1])
    expected = naive.effects(causal_lm, tok, o_projs, tiny.PROMPTS, tiny.TARGETS, means)
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(causal_effects(causal_lm, tok, tiny.PROMPTS, tiny.TARGETS, means), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "between", [torch.nn.Dropout, torch.nn.ReLU, lambda: torch.nn.RMSNorm(32), lambda: torch.nn.LayerNorm(32)]
)
def test_what_stands_between_heads_and_their_map_is_not_taken_for_it(between):
    causal_lm = packed()
    for layer in causal_lm.model.layers:
        layer.self_attn.o_proj = torch.nn.Sequential(between().double(), layer.self_attn.o_proj).eval()
    assert anatomy_of(causal_lm).o_proj_path == "self_attn.o_proj.1"


def test_such_maps_are_no_maps_in_a_model_that_is_not_quantised():
    causal_lm = packed()
    del causal_lm.config.quantization_config
    with pytest.raises(AnatomyError, match=r"found no attention output projection in LlamaDecoderLayer$"):
        anatomy_of(causal_lm)


@pytest.mark.parametrize("config", [{"quant_method": "fusing"}, BitsAndBytesConfig(load_in_4bit=True)])
def test_a_quantised_model_whose_maps_cannot_be_found_is_refused_by_the_methods_name(config):
    causal_lm = packed()
    causal_lm.config.quantization_config = config
    for layer in causal_lm.model.layers:
        layer.self_attn = Averages()
    method = "fusing" if isinstance(config, dict) else "bitsandbytes"
    with pytest.raises(AnatomyError, match=f"weights quantised by {method}: "):
        anatomy_of(causal_lm)


def test_weights_of_one_byte_are_not_what_activations_run_in():
    anatomy = anatomy_of(tiny.model("llama", dtype=torch.float32))
    for layer in anatomy.layers:
        layer.self_attn.q_proj.to(torch.float8_e4m3fn)
    assert next(anatomy.layers[0].parameters()).dtype == torch.float8_e4m3fn
    assert anatomy.dtype == torch.float32


def test_the_anatomy_is_remembered_copied_with_the_model_and_gone_with_it():
    causal_lm = tiny.model("llama")
    anatomy = anatomy_of(causal_lm)
    assert anatomy_of(causal_lm) is anatomy
    twin = copy.deepcopy(causal_lm)
    assert anatomy_of(twin).causal_lm is twin
    assert anatomy_of(twin).o_projs[0] is twin.model.layers[0].self_attn.o_proj
    gone = weakref.ref(causal_lm)
    del causal_lm, anatomy
    gc.collect()
    assert gone() is None


def test_a_model_that_calls_its_head_the_decoder_has_its_layers_found():
    from transformers import ModernBertDecoderConfig, ModernBertDecoderForCausalLM

    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    sizes = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    torch.manual_seed(0)
    anatomy = anatomy_of(ModernBertDecoderForCausalLM(ModernBertDecoderConfig(**sizes, **special)).eval())
    assert (anatomy.n_layers, anatomy.n_heads) == (3, 4)
