"""Writes docs/support.md: which model families can do what, found out on tiny models: `make support-table`.

Every cell is the outcome of a check against a slow and obvious way to the same numbers (those of tests/), not a claim.
"""

import logging
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, get_peft_model

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "vectors")]

import naive  # noqa: E402
import test_equalities as equalities  # noqa: E402
import tiny  # noqa: E402
import tiny_training  # noqa: E402

from instruction_vectors import InstructionVector, causal_effects  # noqa: E402
from instruction_vectors.errors import VectorError  # noqa: E402
from instruction_vectors.files import write_atomic  # noqa: E402
from instruction_vectors.models.anatomy import anatomy_of  # noqa: E402
from instruction_vectors.models.tree import packs  # noqa: E402

PAGE = ROOT / "docs" / "support.md"
HEADS = ((0, 1), (0, 3), (2, 2))
NO = "**no**"
HEAD = """# Support

Made by `make support-table` from checks on a tiny random model of each family, in float64, each against a slow and obvious way
to the same numbers; a test keeps this page in step. Any decoder-only family of `transformers` with softmax attention should work,
listed or not: `iv doctor --model NAME` tells. `load` is a convenience: a model opened by `AutoModelForCausalLM.from_pretrained`, quantised
or not, goes in its place everywhere.

## Devices

- **CPUs**: everything, by `make test`. `ACCELERATE_USE_CPU=1` keeps models there on a machine with an accelerator; tests set it.
- **CUDA**: on one H100, in float32, the default model's effects are the CPU's within 1e-6, logits under a vector within 3e-5, losses of
  guided steps within 2e-5; in bfloat16 seven of the ten strongest heads are the same (`python benchmarks/gpu_check.py`). Cells of `iv bench` run
  there as on a CPU. Not tested: several GPUs.
- **Apple GPUs**: nothing is asked of them that they lack (64-bit floats); not run.

## Quantised models

Heads are found where every projection stays a module of its own. Tested are tiny models under bitsandbytes: exact effects, what
heads write, and an adapter trained under guidance.

- **4 bits** (`load_in_4bit=True`): as without. On CPUs with bfloat16, bitsandbytes packs the weights anew at the first inference
  (finding the heads is one). They then compute in bfloat16, so open the model in it, and cannot be trained through: use a GPU.
- **8 bits** (`load_in_8bit=True`): as without, given `llm_int8_threshold=0`. Under its default of 6.0, columns of outliers are
  chosen for each batch, so a row's numbers depend on what stands beside it, and effects are only approximate.
- **Other methods**: not tested. Those that keep `nn.Linear` (torchao) should be read as usual; maps of a method's own class
  (AWQ, GPTQ, HQQ) are recognised by being linear, which is tested on a stand-in only. `iv doctor --model NAME` tells.
- **Refused**: attention whose projections are fused or hidden in kernels, and maps that compute in fewer bits than the model's type
  (quantised activations in float32). The error names the method: open the model in bfloat16, load it without fused modules,
  quantise with bitsandbytes instead, or call `model.dequantize()` where memory allows.

## Model families

| Column | What is checked |
| :-- | :-- |
| heads | the projections found by structure are those the family names; heads' parts and bias sum to what they put out |
| exact effects | equal to one forward a head; *sweep*: in one sweep over shared prefixes, *forwards*: the family does not fit the sweep, so the slow way runs |
| distributed | logits under the vector equal those of an edit written by hand, at the last token only |
| summed | equal to adding the sum to the stream by hand; *refused*: the family normalises what attention writes first |
| generation | with and without a key-value cache, the same tokens |
| packed | prompts that begin alike are run as one tree, equal to running them apart; *apart*: run one by one instead |
| guided training | an adapter trains under guidance: the loss is finite, the divergence above 0, only the adapter changes |
| adapters | under a random LoRA on every linear map of attention: effects, means, and logits and tokens under the vector, as on the merged model |
| padding | logits under the vector at a row's last token, in every mode, are those of the row alone, with padding left, right or on both sides; *float32*: as well, but checked in that type, as in float64 the family itself makes NaN of padding |
| beams | two beams under the vector: with and without a cache, alone and in a padded batch, the same tokens and logits; *float32*: as for padding |
| checkpointing | loss and gradients under the vector stay the same with activation checkpointing of either kind |
| bfloat16 | not in float64 but in bfloat16: effects, means and what the vector adds to logits lie within an eighth of the largest of those in float32 |

"""


def heads(family: str) -> str:
    """Whether structure leads to the projections that the family names."""
    causal_lm = tiny.shared(family)
    return "yes" if list(anatomy_of(causal_lm).o_projs) == tiny.o_projs(causal_lm, family) else NO


def effects(family: str) -> str:
    """Effects against one forward a head, and which way they were computed."""
    causal_lm, tokenizer = tiny.model(family), tiny.tokenizer()  # a fresh one: nothing about it is known yet
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("instruction_vectors.vectors.mediation")
    logger.addHandler(handler)
    try:
        found = causal_effects(causal_lm, tokenizer, tiny.PROMPTS, tiny.TARGETS, tiny.means(family))
    finally:
        logger.removeHandler(handler)
    o_projs = tiny.o_projs(causal_lm, family)
    expected = naive.effects(causal_lm, tokenizer, o_projs, tiny.PROMPTS, tiny.TARGETS, tiny.means(family))
    if (found - expected).abs().max() > 1e-5 * expected.abs().max():
        return NO
    return "forwards" if any("slower" in message for message in said) else "sweep"


@torch.no_grad()
def distributed(family: str) -> str:
    """An edit at three heads against one by hand."""
    causal_lm, ids = tiny.shared(family), torch.tensor([[1, 9, 14, 7, 30, 11]])
    vector, clean = _vector(family), causal_lm(ids).logits
    with vector.applied(causal_lm):
        edited = causal_lm(ids).logits
    by_hand = _edited_by_hand(causal_lm, family, vector, ids)
    elsewhere = (edited[:, :-1] - clean[:, :-1]).abs().max()
    close = (edited - by_hand).abs().max() < 1e-5 < (edited - clean)[:, -1].abs().max()
    return "yes" if close and elsewhere < 1e-9 else NO


@torch.no_grad()
def summed(family: str) -> str:
    """A sum in the stream against one added by hand, or its refusal."""
    causal_lm, ids = tiny.shared(family), torch.tensor([[1, 9, 14, 7, 30, 11]])
    vector = _vector(family)

    def add(module: Any, args: Any, output: Any) -> Any:
        stream = (output[0] if isinstance(output, tuple) else output).clone()
        stream[0, -1] += vector.summed
        return (stream, *output[1:]) if isinstance(output, tuple) else stream

    handle = anatomy_of(causal_lm).layers[1].register_forward_hook(add)
    expected = causal_lm(ids).logits
    handle.remove()
    try:
        with vector.applied(causal_lm, "summed"):
            return "yes" if torch.allclose(causal_lm(ids).logits, expected, atol=1e-6) else NO
    except VectorError:
        return "refused"


@torch.no_grad()
def generation(family: str) -> str:
    """Tokens written under the vector, with a cache and without."""
    causal_lm, ids = tiny.shared(family), torch.tensor([[1, 9, 14, 7, 30, 11]])
    settings = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}

    def written(cache: bool) -> list[list[int]]:
        with _vector(family).applied(causal_lm, scale=2.0):
            return causal_lm.generate(ids, attention_mask=torch.ones_like(ids), use_cache=cache, **settings).tolist()

    return "yes" if written(True) == written(False) else NO


def packed(family: str) -> str:
    """Whether a branching tree reads as its sequences apart (tried out by the library itself)."""
    return "yes" if packs(anatomy_of(tiny.shared(family))) else "apart"


def guided(family: str) -> str:
    """Two steps of guided training of an adapter on the attention output projections."""
    base = tiny.model(family)
    frozen = {name: p.detach().clone() for name, p in base.named_parameters()}
    target = anatomy_of(base).o_proj_path.rsplit(".", 1)[-1]
    vector = _vector(family, base)
    model = get_peft_model(base, LoraConfig(r=2, target_modules=[target], task_type="CAUSAL_LM")).double()
    before = tiny_training.adapter_weights(model)
    with tempfile.TemporaryDirectory() as folder:
        trainer = tiny_training.trainer(model, Path(folder), tiny_training.distinct_rows(), vector=vector)
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    learnt = any(not torch.equal(before[name], p) for name, p in tiny_training.adapter_weights(model).items())
    kept = all(torch.equal(frozen[_bare(name)], p) for name, p in model.named_parameters() if "lora_" not in name)
    return "yes" if learnt and kept and trainer.last_parts["kl"] > 0 else NO


def adapters(family: str) -> str:
    """Reading and steering under an adapter against the merged model."""
    reads = holds(equalities.test_means_and_effects_under_an_adapter_are_those_of_the_merged_model, family, tiny.tokenizer())
    steers = holds(equalities.test_a_vector_acts_under_an_adapter_as_on_the_merged_model, family)
    return "yes" if reads and steers else NO


def padding(family: str) -> str:
    """Padding on either side, or on both, against none."""
    test = equalities.test_logits_are_those_of_the_row_alone_wherever_padding_stands_and_however_the_place_is_told
    return _padded(family) if holds(test, family) else NO


def beams(family: str) -> str:
    """Beam search under the vector, with a cache and without."""
    test = equalities.test_generation_is_the_same_with_a_cache_and_without_alone_and_in_a_batch
    return _padded(family) if holds(test, family, 2) else NO


def checkpointing(family: str) -> str:
    """Gradients under the vector, with activations kept and recomputed."""
    return "yes" if holds(equalities.test_activation_checkpointing_changes_neither_loss_nor_gradient, family) else NO


def bfloat16(family: str) -> str:
    """Reading and steering in bfloat16 against float32."""
    test = equalities.test_means_and_effects_in_bfloat16_lie_near_those_in_float32_and_far_from_another_heads
    return "yes" if holds(test, family, tiny.tokenizer()) else NO


def holds(test: Callable[..., None], *args: Any) -> bool:
    """Whether a test of tests/vectors/test_equalities.py passes."""
    if not __debug__:
        raise RuntimeError("python -O leaves out what tests assert: run without it")
    try:
        test(*args)
    except AssertionError:
        return False
    return True


ABILITIES: dict[str, Callable[[str], str]] = {
    "heads": heads,
    "exact effects": effects,
    "distributed": distributed,
    "summed": summed,
    "generation": generation,
    "packed": packed,
    "guided training": guided,
    "adapters": adapters,
    "padding": padding,
    "beams": beams,
    "checkpointing": checkpointing,
    "bfloat16": bfloat16,
}


def page(families: list[str]) -> str:
    """The whole page."""
    lines = [
        f"| family | model class | attention | {' | '.join(ABILITIES)} |",
        f"|{' :-- |' * (3 + len(ABILITIES))}",
    ]
    for family in families:
        cells = [check(family) for check in ABILITIES.values()]
        ways = ", ".join(way for name, way in tiny.GRID if name == family)
        lines.append(f"| {family} | `{type(tiny.shared(family)).__name__}` | {ways} | {' | '.join(cells)} |")
    return HEAD + "\n".join(lines) + "\n"


def main() -> None:
    """Write the page; with --check, fail if it would change."""
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    logging.getLogger("instruction_vectors").propagate = False
    logging.getLogger("instruction_vectors").addHandler(logging.NullHandler())  # one there is keeps Python from its own
    wanted = page(list(tiny.FAMILIES))
    if "--check" not in sys.argv:
        write_atomic(PAGE, wanted)
    elif PAGE.read_text(encoding="utf-8") != wanted:
        sys.exit("docs/support.md is out of date, run `make support-table`")


def _vector(family: str, causal_lm: Any = None) -> InstructionVector:
    return InstructionVector.from_means(causal_lm or tiny.shared(family), tiny.means(family), HEADS, layer=1)


def _padded(family: str) -> str:
    """What a check of a padded batch says when all is well."""
    return "float32" if anatomy_of(equalities.for_padding(family)).dtype == torch.float32 else "yes"


def _edited_by_hand(causal_lm: Any, family: str, vector: InstructionVector, ids: torch.Tensor) -> torch.Tensor:
    width, handles = vector.values.shape[1], []
    for (layer, head), value in zip(vector.heads, vector.values.double(), strict=True):

        def edit(module: Any, args: Any, columns: slice = slice(head * width, head * width + width), value: Any = value) -> Any:
            changed = args[0].clone()
            changed[..., -1, columns] += value
            return (changed,)

        handles.append(tiny.o_projs(causal_lm, family)[layer].register_forward_pre_hook(edit))
    logits: torch.Tensor = causal_lm(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    for handle in handles:
        handle.remove()
    return logits


def _bare(name: str) -> str:
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")


if __name__ == "__main__":
    main()
