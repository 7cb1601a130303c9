"""Second half of the demo: a task sequence with and without guidance, and what each forgets."""

from collections.abc import Iterator
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.analysis.steering import Intervention
from instruction_vectors.continual.course import Course
from instruction_vectors.continual.ledger import Ledger
from instruction_vectors.continual.methods.sequential import Sequential
from instruction_vectors.demo.config import DemoConfig
from instruction_vectors.demo.vectors import Splits
from instruction_vectors.evaluation.abilities import FORMS, Probe, measure
from instruction_vectors.evaluation.scoring import Edit, score_prompts
from instruction_vectors.evaluation.statistics import bootstrap_interval, mean_of_means
from instruction_vectors.progress import track
from instruction_vectors.tasks.prompts import bare, instructed
from instruction_vectors.training.collator import rows_of
from instruction_vectors.vectors.vector import InstructionVector

ARMS = ("sequential", "iv_guided")
Stage = dict[str, dict[str, Any]]
"""Row-by-row results of one stage: `untouched` and `trained`, by task."""


class ForgettingPhase:
    """Training and measuring, step by step through the ledger."""

    def __init__(
        self, config: DemoConfig, ledger: Ledger, model: nn.Module, tokenizer: PreTrainedTokenizerBase,
        splits: dict[str, Splits], vectors: dict[str, InstructionVector], intervention: Intervention,
    ) -> None:  # fmt: skip
        self.config, self.ledger, self.tokenizer = config, ledger, tokenizer
        self.base = model
        self.splits, self.vectors, self.intervention = splits, vectors, intervention
        self.probes = {name: self._probe(name) for name in (*config.untouched, *config.sequence)}

    def _probe(self, name: str) -> Probe:
        split = self.splits[name]
        return Probe(split.task, split.test.rows[: self.config.test_rows], split.train, self.config.shots)

    def run(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Both arms; returns the `forgetting` and `hypothesis` sections."""
        start = self.ledger.step("measure/M0", lambda: self._measure("M0", self.base))
        hypothesis = {"M0": self.ledger.step("grid/M0", lambda: self._grid("M0", self.base))}
        forgetting = {}
        for arm in ARMS:
            with Course(self.ledger, arm, self.base, Sequential(self.config.stage)) as course:
                stages = [start, *self._stages(course, guided=arm == "iv_guided")]
                hypothesis[arm] = course.measure("grid", lambda model, arm=arm: self._grid(arm, model))
            forgetting[arm] = self._summary(stages)
        return forgetting, hypothesis

    def _stages(self, course: Course, guided: bool) -> Iterator[Stage]:
        for name in self.config.sequence:
            task = self.splits[name].train
            prompts = [instructed(task, row) for row in task.rows[: self.config.train_rows]]
            vector = self.vectors[name] if guided else None
            course.train(name, rows_of(self.tokenizer, prompts), vector=vector, guidance=self.config.guidance)
            label = f"{course.label} after {name}"
            yield course.measure("measure", lambda model, label=label: self._measure(label, model))

    def _measure(self, label: str, model: nn.Module) -> Stage:
        results: Stage = {"untouched": {}, "trained": {}}
        with track(f"Measuring {label}", len(self.probes), "task") as advance:
            for done, (name, probe) in enumerate(self.probes.items(), start=1):
                if name in self.config.sequence:
                    results["trained"][name] = measure(model, self.tokenizer, probe, ("zero_shot",))["zero_shot"]
                else:
                    results["untouched"][name] = measure(model, self.tokenizer, probe, FORMS)
                advance(done)
        return results

    def _summary(self, stages: list[Stage]) -> dict[str, Any]:
        summary: dict[str, Any] = {"stages": ["M0", *self.config.sequence]}
        intervals: dict[str, list[list[float]]] = {}
        counts: dict[str, int] = {}
        for form in FORMS:
            groups = [[rows[form] for rows in stage["untouched"].values() if form in rows] for stage in stages]
            summary[form] = [mean_of_means(g) for g in groups]
            intervals[form] = [list(bootstrap_interval(g, seed=self.config.seed)) for g in groups]
            counts[form] = sum(len(rows) for rows in groups[0])
        trained = [list(stage["trained"].values()) for stage in stages]
        summary["trained"] = [mean_of_means(g) for g in trained]
        intervals["trained"] = [list(bootstrap_interval(g, seed=self.config.seed)) for g in trained]
        counts["trained"] = sum(len(rows) for rows in trained[0])
        summary["matrix"] = {name: [mean_of_means([stage["trained"][name]]) for stage in stages] for name in self.config.sequence}
        summary["per_task"] = {
            name: {
                form: [mean_of_means([stage["untouched"][name][form]]) for stage in stages]
                for form in stages[0]["untouched"][name]
            }
            for name in self.config.untouched
        }
        return summary | {"n": counts, "intervals": intervals}

    def _grid(self, label: str, model: nn.Module) -> dict[str, Any]:
        """Zero-shot accuracy of the untouched tasks for x, x + c, x + θ, x + c + θ (Jiang et al. 2406.12227, Figure 4)."""
        groups: dict[str, list[list[float]]] = {"x": [], "x+c": [], "x+iv": [], "x+c+iv": []}
        with track(f"Hypothesis grid {label}", len(self.config.untouched), "task") as advance:
            for done, name in enumerate(self.config.untouched, start=1):
                for condition, hits in self._four(model, name).items():
                    groups[condition].append(hits)
                advance(done)
        rows = sum(len(g) for g in groups["x"])
        intervals = {c: list(bootstrap_interval(g, seed=self.config.seed)) for c, g in groups.items()}
        return {c: mean_of_means(g) for c, g in groups.items()} | {"n": rows, "intervals": intervals}

    def _four(self, model: nn.Module, name: str) -> dict[str, list[float]]:
        probe = self.probes[name]
        edit: Edit = self.intervention.edit(model, self.vectors[name])
        rows = probe.queries
        prompts = [bare(row) for row in rows] * 2 + [instructed(probe.task, row) for row in rows] * 2
        count = len(rows)
        edits: list[Edit | None] = [None] * count + [edit] * count + [None] * count + [edit] * count
        scores = score_prompts(model, self.tokenizer, prompts, exact=True, edit=edits)
        hits = [float(bool(s.exact)) for s in scores]
        order = ("x", "x+iv", "x+c", "x+c+iv")
        return {condition: hits[i * count : (i + 1) * count] for i, condition in enumerate(order)}
