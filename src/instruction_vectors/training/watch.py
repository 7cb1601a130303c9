"""A short look at what a model in training can still do, on rows it does not train on."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from statistics import fmean

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.errors import TrainingError
from instruction_vectors.evaluation.abilities import Form, Probe, measure
from instruction_vectors.evaluation.scoring import score_prompts
from instruction_vectors.models.adapters import rewritten_by
from instruction_vectors.models.anatomy import anatomy_of, evaluating
from instruction_vectors.models.hooks import head_at
from instruction_vectors.models.tokens import encode, pad
from instruction_vectors.tasks.prompts import PLAIN, Prompt, Template, cloze, instructed
from instruction_vectors.training.objectives import kl_divergence
from instruction_vectors.training.views import original
from instruction_vectors.vectors.extraction import mean_head_outputs
from instruction_vectors.vectors.prompting import demonstrations
from instruction_vectors.vectors.vector import InstructionVector

_BATCH = 16
_MEAN_PROMPTS = 8
"""Prompts a task that head outputs are averaged over, for the cosine."""


class Watch:
    """What is looked at: a few rows of tasks in several forms, and the path of the instruction.

    Args:
        tokenizer: the model's.
        probes: tasks and their rows.
        forms: measured by rank classification or generation, see `evaluation.abilities`.
        vectors: by task name, vectors whose heads the cosine is taken over; the task must be among the probes.
        template: the layout of prompts.

    Raises:
        TrainingError: no probes, or a vector of a task that is not among them.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        probes: Sequence[Probe],
        forms: Sequence[Form],
        vectors: Mapping[str, InstructionVector],
        template: Template = PLAIN,
    ) -> None:
        self.tokenizer, self.probes, self.forms, self.vectors, self.template = tokenizer, tuple(probes), forms, vectors, template
        names = [probe.task.name for probe in self.probes]
        if not names:
            raise TrainingError("there is nothing to watch: give at least one probe")
        if strangers := [name for name in vectors if name not in names]:
            raise TrainingError(f"there are vectors of {', '.join(strangers)} but no probes of these; probes: {', '.join(names)}")
        for form in forms:
            if form in ("instruction", "knowledge") and not any(probe.task.knowledge for probe in self.probes):
                raise TrainingError(f"no probe can be measured in the form {form!r}: {', '.join(names)} have no cloze")
        self._base: Tensor | None = None
        self._thetas: dict[str, InstructionVector] = {}

    @torch.no_grad()
    def remember(self, model: nn.Module) -> None:
        """Keep what KL and cosine are taken against: a PEFT model without its adapters, another model as it is.

        As it is also one for whose adapters PEFT changed the weights beneath: before training the two together are the original.
        """
        from peft import PeftModel

        with original(model) if isinstance(model, PeftModel) and not rewritten_by(model) else nullcontext():
            self._base, self._thetas = self._next_logits(model), self._thetas_of(model)

    @torch.no_grad()
    def values(self, model: nn.Module) -> dict[str, float]:
        """One number a measure, each a mean over tasks of means over rows.

        The forms (chance-corrected accuracy, or the share of answers written right); `instruction_logprob` and
        `knowledge_logprob`, log P(answer | prompt) in nats; `kl`, KL(model ‖ original) in nats of the next token after
        the instructed prompts; `cosine`, of the vectors' heads' sum now and in the original.
        """
        measured = [measure(model, self.tokenizer, probe, self.forms, template=self.template) for probe in self.probes]
        kept = {form: [fmean(rows[form]) for rows in measured if rows.get(form)] for form in self.forms}
        values = {str(form): fmean(means) for form, means in kept.items() if means}
        for name, prompts in (("instruction", self._instructed()), ("knowledge", self._clozes())):
            if prompts:
                values[f"{name}_logprob"] = fmean(fmean(self._logprobs(model, some)) for some in prompts)
        if self._base is not None:
            now = self._next_logits(model)
            values["kl"] = kl_divergence(now, self._base).item()
        if self._thetas:
            values["cosine"] = fmean(now.cosine(self._thetas[name]) for name, now in self._thetas_of(model).items())
        return values

    def _instructed(self) -> list[list[Prompt]]:
        return [[instructed(p.task, row, template=self.template) for row in p.queries] for p in self.probes]

    def _clozes(self) -> list[list[Prompt]]:
        return [[cloze(probe.task, row) for row in probe.queries] for probe in self.probes if probe.task.knowledge]

    def _logprobs(self, model: nn.Module, prompts: Sequence[Prompt]) -> list[float]:
        return [score.logprob for score in score_prompts(model, self.tokenizer, prompts)]

    def _next_logits(self, model: nn.Module) -> Float[Tensor, "prompt vocabulary"]:
        """After every instructed prompt, on the CPU."""
        anatomy = anatomy_of(model)
        rows = [encode(self.tokenizer, prompt.text) for prompts in self._instructed() for prompt in prompts]
        found = []
        with evaluating(anatomy.causal_lm):
            for start in range(0, len(rows), _BATCH):
                ids, mask = (part.to(anatomy.device) for part in pad(rows[start : start + _BATCH]))
                ends = mask & ~torch.cat([mask[:, 1:], torch.zeros_like(mask[:, :1])], dim=1)
                with head_at(anatomy, ends):
                    found.append(anatomy.causal_lm(input_ids=ids, attention_mask=mask.long(), use_cache=False).logits[0].cpu())
        return torch.cat(found)

    def _thetas_of(self, model: nn.Module) -> dict[str, InstructionVector]:
        """What the given vectors' heads write now, over few-shot prompts."""
        probes = {probe.task.name: probe for probe in self.probes}
        thetas = {}
        for name, vector in self.vectors.items():
            probe = probes[name]
            task = probe.demonstrations if probe.demonstrations.rows else probe.task
            built = demonstrations(
                task, prompts=_MEAN_PROMPTS, shots=probe.shots, contexts=probe.contexts, template=self.template
            )
            means = mean_head_outputs(model, self.tokenizer, [text for text, _ in built])
            thetas[name] = InstructionVector.from_means(model, means, vector.heads)
        return thetas
