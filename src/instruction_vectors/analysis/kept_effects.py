"""Effects of all heads on a task, a few prompts at a time in a ledger: stopped at any instant, they go on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.analysis.heads import strongest
from instruction_vectors.analysis.own_answers import own_answers
from instruction_vectors.continual.ledger import Ledger
from instruction_vectors.continual.runner import made_with
from instruction_vectors.tasks.prompts import PLAIN, Corruption, Template
from instruction_vectors.tasks.task import Task
from instruction_vectors.vectors.choosing import top_heads
from instruction_vectors.vectors.extraction import told_means
from instruction_vectors.vectors.joint import joint_check
from instruction_vectors.vectors.mediation import Measure, causal_effects
from instruction_vectors.vectors.mediation_slow import Patch
from instruction_vectors.vectors.prompting import Source, counterfactuals
from instruction_vectors.vectors.screening import estimated_effects

Target = Literal["task", "own"]
"""Whose answers effects are measured on: the task's, or the model's own."""

DRAWS = 20
"""Random sets of heads that the listed ones are tried beside."""

_MEASURED = {
    "probability": "the probability of the {}'s first token",
    "log_probability": "the log-probability of the {}'s first token",
    "answer": "the log-probability of the {}",
}

Rows = list[list[float | None]]
"""Effects by layer and head as JSON has them: None for a head that was not measured (NaN)."""


@dataclass(frozen=True)
class FoundHeads:
    """What was found of a task's heads.

    Attributes:
        effects: `[prompt, layer, head]`, NaN where a head was not measured.
        listed: those with the largest effect (`strongest`).
        together: how these did as one set, by side (`kept_check`); empty if that was not tried.
    """

    effects: Float[Tensor, "prompt layer head"]
    listed: list[dict[str, Any]]
    together: dict[str, Any]

    def mean(self) -> Rows:
        """Mean effects over the prompts."""
        return _rows(self.effects.mean(0))

    def record(self, *, seed: int = 0) -> dict[str, Any]:
        """All effects as JSON has them, and all measured heads with intervals (`seed` is their bootstrap's)."""
        measured = int(self.effects[0].isfinite().sum())
        found = {"effects": [_rows(one) for one in self.effects], "heads": strongest([self.effects], measured, seed=seed)}
        return found | ({"together": self.together} if self.together else {})

    def figure(self, task: Task, measure: Measure = "probability", *, own: bool = False) -> dict[str, Any]:
        """What the figure of effects shows: as measured on the task's answers, or the model's own."""
        measured = _MEASURED[measure].format("model's own answer" if own else "right answer")
        shown = {"map": self.mean(), "top": self.listed, "prompts": len(self.effects), "tasks": [task.name]}
        return {"effects": {**shown, "measured": measured}}


@contextmanager
def effects_ledger(folder: Path | None, settings: dict[str, Any], model: nn.Module) -> Iterator[Ledger]:
    """A ledger of one model in `folder`, or in one that is gone afterwards.

    Raises:
        DataError: the folder cannot be written, or was begun with other settings, another model or other versions.
    """
    with TemporaryDirectory() as nowhere, Ledger(folder or Path(nowhere), settings) as ledger:
        made_with(ledger, model)
        yield ledger


def kept_effects(
    ledger: Ledger,
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    *,
    prompts: int,
    mean_prompts: int,
    shots: int,
    source: Source = "demonstrations",
    only_right: bool = False,
    corruption: Corruption = "shuffle_and_drop",
    measure: Measure = "probability",
    patch: Patch = "replace",
    target: Target = "task",
    screen: int | None = None,
    template: Template = PLAIN,
    seed: int = 0,
    block: int = 4,
    progress: Callable[[int], None] | None = None,
) -> Float[Tensor, "prompt layer head"]:
    """What `head_effects` measures with means made for it, every few prompts a step of the ledger.

    Args:
        ledger: where steps are kept; its configuration must tell apart whatever is given here.
        model: a decoder-only causal language model.
        tokenizer: its tokenizer.
        task: rows to draw prompts from.
        prompts: counterfactual prompts.
        mean_prompts: prompts to average head outputs over.
        shots: shots a prompt.
        source: what those prompts show (`extract`).
        only_right: average only over those that the model answers right.
        corruption: what a counterfactual prompt lacks.
        measure: as in `causal_effects`.
        patch: as in `causal_effects`.
        target: on whose answers.
        screen: measure so many heads only; the others are NaN.
        template: the layout of prompts.
        seed: what every draw depends on.
        block: prompts a step.
        progress: called with the number of prompts finished.
    """

    def means() -> Any:
        told: dict[str, Any] = {"source": source, "only_right": only_right, "template": template, "seed": seed}
        return told_means(model, tokenizer, task, prompts=mean_prompts, shots=shots, **told).tolist()

    mean_heads = torch.tensor(ledger.step("means", means))
    built = counterfactuals(task, prompts=prompts, shots=shots, corruption=corruption, template=template, seed=seed)
    texts, answers = [text for text, _ in built], [answer for _, answer in built]
    if target == "own":
        asked: dict[str, Any] = {"prompts": prompts, "shots": shots, "template": template, "seed": seed}
        answers = ledger.step("own answers", lambda: own_answers(model, tokenizer, task, **asked))
    how: dict[str, Any] = {"measure": measure, "patch": patch}
    heads = None
    if screen is not None:
        estimated = lambda: top_heads(estimated_effects(model, tokenizer, texts, answers, mean_heads, **how), screen)  # noqa: E731
        heads = [(layer, head) for layer, head in ledger.step("shortlist", estimated)]
    found: list[list[list[float]]] = []
    for start in range(0, len(texts), block):
        some = slice(start, start + block)

        def effects(some: slice = some) -> list[Rows]:
            each = causal_effects(model, tokenizer, texts[some], answers[some], mean_heads, heads=heads, **how)
            return [_rows(one) for one in each]

        for one in ledger.step(f"effects of prompts {start + 1} to {min(start + block, len(texts))}", effects):
            found.append([[float("nan") if effect is None else effect for effect in row] for row in one])
        if progress:
            progress(len(found))
    return torch.tensor(found)


def kept_check(
    ledger: Ledger,
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    *,
    heads: Sequence[Mapping[str, Any]],
    progress: Callable[[int], None] | None = None,
    **asked: Any,
) -> dict[str, dict[str, float]]:
    """`joint_check` beside `DRAWS` random sets as a step of the ledger: the summary of `sufficiency` and of `necessity`.

    Args:
        ledger: where the step is kept.
        model: a decoder-only causal language model.
        tokenizer: its tokenizer.
        task: rows to draw prompts from.
        heads: the chosen ones, by `layer` and `head` (`strongest`).
        progress: called with the number of sides done.
        asked: as `joint_check` takes it.
    """

    chosen = [(head["layer"], head["head"]) for head in heads]

    def tried() -> Any:
        found = joint_check(model, tokenizer, task, chosen, draws=DRAWS, progress=progress, **asked)
        return {"sufficiency": found.sufficiency.summary(), "necessity": found.necessity.summary()}

    return ledger.step(f"together: {chosen}", tried)


def _rows(effects: Float[Tensor, "layer head"]) -> Rows:
    return [[None if effect != effect else effect for effect in row] for row in effects.tolist()]
