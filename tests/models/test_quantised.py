"""Models whose maps hold 4- or 8-bit weights (bitsandbytes): heads are found, effects exact, adapters train under guidance."""

import naive
import pytest
import tiny
import tiny_training as kit
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from instruction_vectors import causal_effects
from instruction_vectors.models.anatomy import _rounding, anatomy_of, tolerance
from instruction_vectors.training.collator import TreeCollator
from instruction_vectors.vectors.vector import InstructionVector

pytest.importorskip("bitsandbytes", reason="comes with the dev extra on Linux only")

WIDTH = 16
"""Of a head; a block of 4-bit weights needs rows of 64."""
KINDS = {
    "4-bit": BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4"),
    # Without outlier columns, which are chosen anew for every batch: then a row's numbers depend on that row alone.
    "8-bit": BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=0.0),
}


@pytest.fixture(scope="module", params=KINDS)
def quantised(request, tmp_path_factory):
    causal_lm = opened(tmp_path_factory.mktemp("model"), KINDS[request.param])
    assert not tiny.o_projs(causal_lm, "llama")[0].weight.is_floating_point()
    for module in causal_lm.modules():
        # Where a CPU has bfloat16, bitsandbytes packs 4-bit weights anew at the first inference, and they know no gradient after.
        module.support_avx512bf16_for_cpu = False
    return causal_lm


def opened(folder, config, **options):
    changes = {"hidden_size": tiny.HEADS * WIDTH, "head_dim": WIDTH, "intermediate_size": 128}
    tiny.model("llama", dtype=torch.float32, **changes).save_pretrained(folder)
    return AutoModelForCausalLM.from_pretrained(folder, quantization_config=config, device_map="cpu", **options)


@pytest.fixture(scope="module")
def means():
    generator = torch.Generator().manual_seed(5)
    return 2 * torch.randn(tiny.LAYERS, tiny.HEADS, WIDTH, generator=generator)


def test_effects_are_those_of_one_forward_a_head(quantised, means, tok):
    o_projs = tiny.o_projs(quantised, "llama")
    expected = naive.effects(quantised, tok, o_projs, tiny.PROMPTS, tiny.TARGETS, means)
    found = causal_effects(quantised, tok, tiny.PROMPTS, tiny.TARGETS, means)
    assert expected.abs().max() > 0.01
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_the_self_check_allows_for_8_bits_alone_that_maps_round_what_they_read(quantised):
    eight = tiny.o_projs(quantised, "llama")[0].weight.dtype == torch.int8
    assert _rounding(anatomy_of(quantised), 0) == tolerance(torch.bfloat16 if eight else torch.float32, torch.device("cpu"))


def test_heads_are_found_though_columns_of_outliers_let_a_row_depend_on_its_batch(tmp_path):
    causal_lm = opened(tmp_path, BitsAndBytesConfig(load_in_8bit=True))
    ids = torch.tensor([[1, 9, 14, 7], [1, 9, 14, 30]])
    with torch.no_grad():
        apart, together = causal_lm(ids[:1]).logits[0], causal_lm(ids).logits[0]
    assert (apart - together).abs().max() > tolerance(torch.float32, torch.device("cpu")) * apart.abs().max()
    assert list(anatomy_of(causal_lm).o_projs) == tiny.o_projs(causal_lm, "llama")


def test_what_a_head_writes_is_what_its_map_makes_of_it(quantised, means):
    anatomy = anatomy_of(quantised)
    assert (anatomy.n_layers, anatomy.n_heads, anatomy.head_dim) == (tiny.LAYERS, tiny.HEADS, WIDTH)
    alone = torch.zeros(1, tiny.HEADS * WIDTH)
    alone[0, WIDTH : 2 * WIDTH] = means[1, 1]
    with torch.no_grad():
        torch.testing.assert_close(anatomy.write(1, 1, means[1, 1]), anatomy.o_projs[1](alone)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_in_half_precision_under_an_adapter_a_vector_goes_in_and_effects_are_measured(kind, means, tok, tmp_path):
    causal_lm = opened(tmp_path, KINDS[kind], dtype=torch.bfloat16)
    model = get_peft_model(causal_lm, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    assert next(model.parameters()).dtype != torch.float32
    assert anatomy_of(model).dtype == torch.bfloat16  # not the adapter's, which PEFT keeps in float32
    ids = torch.tensor([[1, 4, 5, 6]])
    with torch.no_grad():
        clean = model(input_ids=ids).logits
        with InstructionVector.from_means(model, means, kit.HEADS).applied(model):
            assert (model(input_ids=ids).logits - clean).abs().max() > 0.01
    assert causal_effects(model, tok, tiny.PROMPTS[:1], tiny.TARGETS[:1], means).abs().max() > 0


def test_an_adapter_trains_under_guidance_and_the_weights_below_stay(quantised, means, tmp_path):
    vector = InstructionVector.from_means(quantised, means, kit.HEADS)
    before = {name: weight.clone() for name, weight in quantised.named_parameters()}
    model = get_peft_model(quantised, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    rows = kit.distinct_rows(8)
    trainer = kit.trainer(model, tmp_path, rows, vector=vector, data_collator=TreeCollator(model), num_train_epochs=6)
    trainer.train()
    losses = kit.losses(trainer)
    assert losses[-1] < losses[0]
    assert trainer.last_parts["kl"] > 0
    model.unload()
    after = dict(quantised.named_parameters())
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
