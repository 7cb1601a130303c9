"""First half of the demo: causal heads, instruction vectors, and what they do."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.analysis.heads import strongest
from instruction_vectors.analysis.steering import Intervention, steering
from instruction_vectors.continual.ledger import Ledger
from instruction_vectors.continual.preparation import kept_means
from instruction_vectors.demo.config import DemoConfig
from instruction_vectors.evaluation.scoring import score_prompts
from instruction_vectors.models.loading import model_fingerprint
from instruction_vectors.progress import track
from instruction_vectors.tasks import Task, load_task
from instruction_vectors.tasks.prompts import PLAIN, Template, instructed
from instruction_vectors.vectors.extraction import head_effects, provenance
from instruction_vectors.vectors.vector import InstructionVector


class Splits:
    """Disjoint rows of a task: test, validation, and the rest for prompts and training."""

    def __init__(self, config: DemoConfig, name: str) -> None:
        self.task = load_task(name)
        test = max(config.steering_rows, config.test_rows)
        parts = self.task.split(test, config.validation_rows, -1, seed=config.seed)
        self.test, self.validation, self.train = parts


class VectorPhase:
    """Extraction and steering, step by step through the ledger."""

    def __init__(self, config: DemoConfig, ledger: Ledger, model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> None:
        self.config, self.ledger, self.model, self.tokenizer = config, ledger, model, tokenizer
        names = dict.fromkeys((*config.steered, *config.untouched, *config.sequence))
        self.splits = {name: Splits(config, name) for name in names}
        self.means: dict[str, Tensor] = {}

    def extract(self) -> dict[str, Any]:
        """Mean head outputs of all tasks, exact effects on the steered ones; returns the `effects` section."""
        with track("Mean head outputs", len(self.splits), "task") as advance:
            for done, (name, split) in enumerate(self.splits.items(), start=1):
                self.means[name] = self._mean_heads(name, split.train)
                advance(done)
        config = self.config
        per_task = []
        prompts = config.effect_prompts
        with track("Exact effects of every head", prompts * len(config.steered), "prompt") as advance:
            for number, name in enumerate(config.steered):
                effects = self.ledger.step(
                    f"effects/{name}",
                    lambda name=name, number=number: head_effects(
                        self.model, self.tokenizer, self.splits[name].train, self.means[name], prompts=prompts,
                        shots=config.shots, seed=config.seed, progress=lambda k: advance(number * prompts + k),
                    ).tolist(),
                )  # fmt: skip
                per_task.append(torch.tensor(effects))
                advance((number + 1) * prompts)
        # Every task counts alike, however many prompts it had.
        mean = torch.stack([effects.mean(0) for effects in per_task]).mean(0)
        top = strongest(per_task, config.heads, seed=config.seed)
        self.heads = tuple((each["layer"], each["head"]) for each in top)
        self.scores = [each["effect"] for each in top]
        return {
            "map": mean.tolist(),
            "layers": list(range(mean.shape[0])),
            "top": top,
            "prompts": prompts * len(config.steered),
            "tasks": list(config.steered),
        }

    def make_vectors(self) -> dict[str, InstructionVector]:
        """One vector a task over the universal heads, saved as artefacts."""
        self.vectors = {}
        fingerprint = model_fingerprint(self.model)
        for name, split in self.splits.items():
            metadata = provenance(
                self.model, fingerprint, split.task, template=PLAIN, prompts=min(self.config.mean_prompts, len(split.train.rows)),
                shots=self.config.shots, seed=self.config.seed, tokenizer=self.tokenizer,
            )  # fmt: skip
            metadata["scores"] = self.scores
            vector = InstructionVector.from_means(self.model, self.means[name], self.heads, metadata=metadata)
            vector.save_pretrained(self.ledger.folder / "vectors" / name)
            self.vectors[name] = vector
        return self.vectors

    def choose_scale(self) -> float:
        """The scale with the best mean x + c + θ accuracy on validation rows, never on the test rows."""

        def accuracies() -> dict[str, float]:
            table = {}
            with track("Choosing the scale on validation rows", len(self.config.scales), "scale") as advance:
                for done, scale in enumerate(self.config.scales, start=1):
                    table[str(scale)] = self._validation_accuracy(Intervention(scale))
                    advance(done)
            return table

        table = self.ledger.step("scale", accuracies)
        self.intervention = Intervention(max(self.config.scales, key=lambda scale: table[str(scale)]))
        return self.intervention.scale

    def steer(self, template: Template = PLAIN) -> dict[str, Any]:
        """The steering table under one template."""
        table = {}
        names = self.config.steered
        with track(f"Steering, {template.name} template", len(names), "task") as advance:
            for done, name in enumerate(names, start=1):
                table[name] = self.ledger.step(f"steering/{template.name}/{name}", lambda name=name: self._steer(name, template))
                advance(done)
        return table

    def _steer(self, name: str, template: Template) -> dict[str, Any]:
        names = self.config.steered
        # The control vector comes from the task half the list away, fixed before anything is measured.
        other = names[(names.index(name) + len(names) // 2) % len(names)]
        count = self.config.steering_rows if template.name == "plain" else self.config.chat_rows
        rows = self.splits[name].test.rows[:count]
        own = self.vectors[name]
        table = steering(
            self.model, self.tokenizer, self.splits[name].task, rows, own=own, other=self.vectors[other],
            random=own.random_like(f"{self.config.seed}/{name}"), intervention=self.intervention, template=template,
        )  # fmt: skip
        return table | {"other_task": other, "scale": self.intervention.scale}

    def _validation_accuracy(self, intervention: Intervention) -> float:
        accuracy = []
        for name in self.config.steered:
            split: Splits = self.splits[name]
            prompts = [instructed(split.task, row) for row in split.validation.rows]
            scores = score_prompts(self.model, self.tokenizer, prompts, edit=intervention.edit(self.model, self.vectors[name]))
            accuracy.append(sum(s.first_token for s in scores) / len(scores))
        return sum(accuracy) / len(accuracy)

    def _mean_heads(self, name: str, train: Task) -> Tensor:
        config = self.config
        return kept_means(
            self.ledger, name, self.model, self.tokenizer, train, prompts=config.mean_prompts, shots=config.shots,
            template=PLAIN, seed=config.seed,
        )  # fmt: skip
