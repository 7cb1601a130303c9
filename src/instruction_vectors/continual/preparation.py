"""What cells share, made once from the original model: the vectors of the sequence's tasks and how M0 does on everything."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.continual.anchoring import instructions_for, make_anchors
from instruction_vectors.continual.curriculum import Curriculum, Lesson
from instruction_vectors.continual.ledger import Ledger
from instruction_vectors.continual.method import Method
from instruction_vectors.evaluation.abilities import measure
from instruction_vectors.files import write_atomic
from instruction_vectors.models.loading import model_fingerprint
from instruction_vectors.progress import track
from instruction_vectors.tasks.layout import template_of
from instruction_vectors.tasks.prompts import Template
from instruction_vectors.tasks.task import Task
from instruction_vectors.training.anchors import Anchor
from instruction_vectors.vectors.choosing import top_heads
from instruction_vectors.vectors.extraction import head_effects, head_scores, provenance, told_means
from instruction_vectors.vectors.prompting import Source
from instruction_vectors.vectors.vector import Head, InstructionVector

Stage = dict[str, dict[str, Any]]
"""Row-by-row results at one stage: `matrix` by trained task, `probes` and `general` by set and form."""


def measure_stage(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, curriculum: Curriculum, lessons: tuple[Lesson, ...], label: str
) -> Stage:
    """The test rows of `lessons`, all probes, and the general sets."""
    count = len(lessons) + len(curriculum.probes)
    with track(f"Measuring {label}", count + len(curriculum.general), "task") as advance:
        matrix = {}
        for done, lesson in enumerate(lessons, start=1):
            matrix[lesson.name] = curriculum.measure(model, tokenizer, lesson)
            advance(done)
        probes = {}
        for done, probe in enumerate(curriculum.probes, start=len(lessons) + 1):
            probes[probe.task.name] = measure(model, tokenizer, probe)
            advance(done)
        general = {}
        for done, each in enumerate(curriculum.general, start=count + 1):
            general[each.name] = each.measure(model, tokenizer)
            advance(done)
    return {"matrix": matrix, "probes": probes, **({"general": general} if general else {})}


def kept_means(
    ledger: Ledger, name: str, model: nn.Module, tokenizer: PreTrainedTokenizerBase, task: Task, *,
    prompts: int, shots: int, template: Template, seed: int, source: Source = "demonstrations",
) -> Tensor:  # fmt: skip
    """Mean head outputs `[layer, head, head_dim]` (`told_means`): computed once, kept beside the ledger's steps."""
    path = ledger.folder / "means" / f"{name}.safetensors"

    def compute() -> str:
        contexts = -(-prompts // 5)
        told: dict[str, Any] = {"contexts": contexts, "source": source, "template": template, "seed": seed}
        means = told_means(model, tokenizer, task, prompts=prompts, shots=shots, **told)
        write_atomic(path, safetensors.torch.save({"means": means}))
        return path.name

    ledger.step(f"means/{name}", compute)
    return safetensors.torch.load_file(path)["means"]


class Preparation:
    """Steps shared by the cells of one sequence and seed, kept in a ledger of their own.

    Args:
        ledger: where they are kept; other processes wait for it.
        curriculum: the rows.
        model: the original model.
        tokenizer: its tokenizer.
    """

    def __init__(self, ledger: Ledger, curriculum: Curriculum, model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> None:
        self.ledger, self.curriculum, self.model, self.tokenizer = ledger, curriculum, model, tokenizer

    @staticmethod
    def config(curriculum: Curriculum) -> dict[str, Any]:
        """What the shared steps depend on: the cell without what only its training depends on."""
        plain = replace(curriculum.cell, method="sequential", guide="none", stage=type(curriculum.cell.stage)(), triangle=False)
        settings = replace(plain, guidance=type(plain.guidance)()).resolved()
        # Instructions that a method mixes in are only trained on.
        return {"shared by cells like": settings, "data": replace(curriculum, instructions=()).fingerprints()}

    def base_stage(self) -> Stage:
        """M0 on every test row and probe."""
        lessons = self.curriculum.lessons
        stage: Stage = self.ledger.step(
            "measure/M0", lambda: measure_stage(self.model, self.tokenizer, self.curriculum, lessons, "M0")
        )
        return stage

    def vectors(self) -> dict[str, InstructionVector]:
        """One vector a task of the sequence, over heads that are causal for all of them (universal heads).

        All tasks choose the heads before the first is trained, so guidance of an early task has seen rows of later ones.
        """
        lessons = self.curriculum.lessons
        tasks = {lesson.name: self.curriculum.short(lesson, self.tokenizer) for lesson in lessons}
        with track("Vectors of the sequence's tasks", 2 * len(lessons), "task") as advance:
            means = {}
            for done, (name, task) in enumerate(tasks.items(), start=1):
                means[name] = self._means(name, task)
                advance(done)
            effects = []
            for done, (name, task) in enumerate(tasks.items(), start=len(lessons) + 1):
                effects.append(self._effects(name, task, means[name]))
                advance(done)
        heads = top_heads(torch.stack(effects), self.curriculum.cell.heads)
        scores = head_scores(torch.stack(effects), heads)
        fingerprint = model_fingerprint(self.model)
        return {name: self._vector(task, means[name], heads, fingerprint, scores) for name, task in tasks.items()}

    def anchors(self, lesson: Lesson, method: Method, vectors: Mapping[str, InstructionVector]) -> list[Anchor]:
        """A method's anchors on a lesson's inputs, answered by M0, under each instruction's vector if the method asks for it."""
        cell, share = self.curriculum.cell, method.anchors_share
        tasks = instructions_for(cell, self.curriculum.lessons)
        shots = cell.shots if method.anchors_shots is None else method.anchors_shots

        def compute() -> list[dict[str, str]]:
            steering = vectors if method.anchors_steered else None
            made = make_anchors(
                self.model, self.tokenizer, lesson, tasks, share=share, shots=shots, seed=cell.seed, vectors=steering
            )
            return [asdict(each) for each in made]

        kind = method.name.rpartition("+")[2]  # the same over whatever method
        return [Anchor(**each) for each in self.ledger.step(f"{kind}/{share:g}/lines/{lesson.name}", compute)]

    def anchor_vectors(self, heads: Sequence[Head]) -> dict[str, InstructionVector]:
        """The vector of every instruction that anchors are under, on the heads of the sequence's vectors."""
        tasks = instructions_for(self.curriculum.cell, self.curriculum.lessons)
        fingerprint = model_fingerprint(self.model)
        with track("Vectors of the anchors' instructions", len(tasks), "task") as advance:
            found = {}
            for done, (name, task) in enumerate(tasks.items(), start=1):
                found[name] = self._vector(task, self._means(f"anchors/{name}", task), heads, fingerprint)
                advance(done)
        return found

    def _means(self, name: str, task: Task) -> Tensor:
        cell = self.curriculum.cell
        return kept_means(
            self.ledger, name, self.model, self.tokenizer, task, prompts=cell.mean_prompts, shots=cell.shots,
            template=template_of(task), seed=cell.seed, source=cell.source,
        )  # fmt: skip

    def _effects(self, name: str, task: Task, means: Tensor) -> Tensor:
        cell = self.curriculum.cell
        effects = self.ledger.step(
            f"effects/{name}",
            lambda: head_effects(
                self.model, self.tokenizer, task, means, prompts=cell.effect_prompts, shots=cell.shots,
                template=template_of(task), seed=cell.seed,
            ).mean(0).tolist(),
        )  # fmt: skip
        return torch.tensor(effects)

    def _vector(
        self, task: Task, means: Tensor, heads: Any, fingerprint: str, scores: list[float] | None = None
    ) -> InstructionVector:
        cell = self.curriculum.cell
        metadata = provenance(
            self.model, fingerprint, task, template=template_of(task), prompts=min(cell.mean_prompts, len(task.rows)),
            shots=cell.shots, seed=cell.seed, tokenizer=self.tokenizer,
        )  # fmt: skip
        vector = InstructionVector.from_means(
            self.model, means, heads, metadata=metadata | {"source": cell.source, "scores": scores}
        )
        vector.save_pretrained(self.ledger.folder / "vectors" / task.name)
        return vector
