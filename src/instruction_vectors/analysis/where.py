"""Where it happened: the vectors' cosine, the heads' effects, and two controls, the weights' and the last layer's distance."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from peft.tuners.ln_tuning.layer import LNTuningLayer
from peft.tuners.lora import LoraLayer
from peft.tuners.lycoris_utils import LycorisLayer
from peft.tuners.osf.layer import OSFLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper, ModulesToSaveWrapper
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.analysis.extracted import Vectors
from instruction_vectors.analysis.pair import Pair
from instruction_vectors.analysis.plan import Subject
from instruction_vectors.models.adapters import has_magnitudes
from instruction_vectors.models.anatomy import anatomy_of, evaluating, unwrap
from instruction_vectors.models.tokens import encode
from instruction_vectors.models.tree import TokenTree, chunks
from instruction_vectors.tasks.prompts import instructed
from instruction_vectors.vectors.vector import Head

_PROMPTS = 6
"""Rows a task on which last-layer states are compared."""


@dataclass(frozen=True)
class Trace:
    """What changed inside for one task.

    Attributes:
        cosine: of the base's and the tuned model's vector.
        effect_before: mean causal effect of the base's heads in the base, in probability.
        effect_after: the same heads' in the tuned model.
        last_layer: mean cosine of the last hidden states at the last input token (a control).
    """

    cosine: float
    effect_before: float
    effect_after: float
    last_layer: float


def trace_of(
    name: str, base: Vectors, tuned: Vectors, effects: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
    states: tuple[Mapping[str, Tensor], Mapping[str, Tensor]], heads: Sequence[Head],
) -> Trace:  # fmt: skip
    """The trace of one task, from both models' vectors, effects `[layer, head]` and states `[prompt, hidden]`."""
    before, after = (sum(float(e[name][layer, head]) for layer, head in heads) / len(heads) for e in effects)
    likeness = torch.cosine_similarity(states[0][name].double(), states[1][name].double(), dim=-1).mean()
    return Trace(base.by_task[name].cosine(tuned.by_task[name]), before, after, float(likeness))


@torch.no_grad()
def states_of(model: nn.Module, tokenizer: PreTrainedTokenizerBase, subjects: Mapping[str, Subject]) -> dict[str, Tensor]:
    """Final hidden states at the last input token of instructed prompts, `[prompt, hidden]` by task."""
    anatomy = anatomy_of(model)
    found = {}
    for name, subject in subjects.items():
        rows = subject.probe.queries[:_PROMPTS]
        ids = [encode(tokenizer, instructed(subject.task, row).text) for row in rows]
        states = torch.empty(len(ids), anatomy.hidden_size, dtype=anatomy.dtype)
        with evaluating(anatomy.causal_lm):
            for group in chunks(anatomy, ids, 512):
                tree = TokenTree.of([ids[i] for i in group])
                hidden = anatomy.backbone(**tree.model_inputs(anatomy))[0][0]
                states[group] = hidden[[path[-1] for path in tree.paths]].to("cpu", anatomy.dtype)
        found[name] = states
    return found


@torch.no_grad()
def weight_distance(pair: Pair) -> float | None:
    """`‖W_tuned - W_base‖ / ‖W_base‖` over the weights that changed (Frobenius norms), 0 where none did.

    None for adapters but those known to add to weights (LoRA without DoRA's magnitudes, LoHa, LoKr, OSF) or to train copies of
    modules.
    """
    if isinstance(pair.tuned_model, PeftModel) and not all(map(_known, pair.tuned_model.modules())):
        return None
    squares = [(_square(change), _square(weight)) for change, weight in _changes(pair)]
    moved = [(change, weight) for change, weight in squares if change > 0]
    return float((sum(c for c, _ in moved) / sum(w for _, w in moved)) ** 0.5) if moved else 0.0


def _known(module: nn.Module) -> bool:
    """Whether `_changes` tells all that an adapter does at a module."""
    if isinstance(module, AuxiliaryTrainingWrapper):
        return isinstance(module, ModulesToSaveWrapper)
    if not isinstance(module, BaseTunerLayer) or isinstance(module, LNTuningLayer):
        return True
    return isinstance(module, (LoraLayer, LycorisLayer, OSFLayer)) and not has_magnitudes(module)


def _changes(pair: Pair) -> Any:
    if isinstance(pair.tuned_model, PeftModel):
        for layer in pair.tuned_model.modules():
            if isinstance(layer, BaseTunerLayer) and hasattr(layer, "get_delta_weight"):
                # Together: one may take off what another begins with.
                yield sum(layer.get_delta_weight(name) for name in layer.active_adapters), layer.get_base_layer().weight
            elif isinstance(layer, LNTuningLayer):  # whole copies of what they adapt, as the method `full` trains
                yield from _copied([layer.ln_tuning_layers[name] for name in layer.active_adapters], layer.get_base_layer())
            elif isinstance(layer, ModulesToSaveWrapper):
                yield from _copied([layer.modules_to_save[name] for name in layer.active_adapters], layer.original_module)
        return
    assert pair.base_model is not None
    start = dict(unwrap(pair.base_model).named_parameters())
    for name, weight in unwrap(pair.tuned_model).named_parameters():
        yield weight - start[name].to(weight.device, weight.dtype), start[name]


def _copied(copies: Sequence[nn.Module], original: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    for copy in copies:
        for after, before in zip(copy.parameters(), original.parameters(), strict=True):
            yield after - before, before


def _square(weight: Tensor) -> float:
    return float(weight.float().pow(2).sum())


def explained(traces: Mapping[str, Trace], drops: Mapping[str, float]) -> dict[str, float]:
    """R² of each measure against the drop over tasks; empty below four tasks or where nothing varies."""
    names = list(traces)
    if len(names) < 4 or np.std([drops[name] for name in names]) == 0:
        return {}
    measures = {
        "cosine of the vectors": [traces[name].cosine for name in names],
        "change of the heads' effect": [traces[name].effect_after - traces[name].effect_before for name in names],
        "last-layer similarity (control)": [traces[name].last_layer for name in names],
    }
    wanted = [drops[name] for name in names]
    return {name: float(np.corrcoef(v, wanted)[0, 1] ** 2) for name, v in measures.items() if np.std(v) > 0}
