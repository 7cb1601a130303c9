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
sys.path.insert(0, str(ROOT / "tests"))

import naive  # noqa: E402
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
listed or not: `iv doctor --model NAME` tells.

## Quantised models

Heads are found where every projection stays a module of its own. Tested are tiny models under bitsandbytes: exact effects, what
heads write, and an adapter trained under guidance.

- **4 bits** (`load_in_4bit=True`): as without. On CPUs with bfloat16, bitsandbytes packs the weights anew at the first inference
  (finding the heads is one). They then compute in bfloat16, so open the model in it, and cannot be trained through: use a GPU.
- **8 bits** (`load_in_8bit=True`): as without, given `llm_int8_threshold=0`. Under its default of 6.0, columns of outliers are
  chosen for each batch, so a row's numbers depend on what stands beside it, and effects are only approximate.
- **Other methods**: those that keep `nn.Linear` (torchao) are read as usual; maps of a method's own class (AWQ, GPTQ, HQQ) are
  recognised by being linear, which is tested on a stand-in only. `iv doctor --model NAME` tells.
- **Refused**: attention whose projections are fused or hidden in kernels, and maps that compute in fewer bits than the model's type
  (torchao with quantised activations in float32). The error names the method: open the model in bfloat16, load it without fused
  modules, quantise with bitsandbytes or torchao instead, or call `model.dequantize()` where memory allows.

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


ABILITIES: dict[str, Callable[[str], str]] = {
    "heads": heads,
    "exact effects": effects,
    "distributed": distributed,
    "summed": summed,
    "generation": generation,
    "packed": packed,
    "guided training": guided,
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
    wanted = page(list(tiny.FAMILIES))
    if "--check" not in sys.argv:
        write_atomic(PAGE, wanted)
    elif PAGE.read_text(encoding="utf-8") != wanted:
        sys.exit("docs/support.md is out of date, run `make support-table`")


def _vector(family: str, causal_lm: Any = None) -> InstructionVector:
    return InstructionVector.from_means(causal_lm or tiny.shared(family), tiny.means(family), HEADS, layer=1)


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
