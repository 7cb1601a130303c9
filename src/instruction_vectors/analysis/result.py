"""What a diagnosis found: of each task, and of the pair."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from instruction_vectors.analysis.plan import Plan
from instruction_vectors.analysis.stages import StageScore
from instruction_vectors.analysis.verdict import Rung, Verdict
from instruction_vectors.analysis.where import Trace
from instruction_vectors.analysis.worse import Change
from instruction_vectors.evaluation.abilities import Form
from instruction_vectors.evaluation.knowledge import Split
from instruction_vectors.vectors.vector import Head, InstructionVector

BAD = ("suppressed", "lost")
"""Verdicts on what got worse."""


@dataclass(frozen=True)
class TaskDiagnosis:
    """One task: how its forms changed, what changed inside, the repairs tried, the verdicts.

    Attributes:
        changes: by form.
        trace: inside.
        grid: scores by model and condition.
        rungs: repairs of the instruction form.
        verdict: on the instruction form, options ranked.
        written_rungs: repairs of few-shot answers.
        written: the verdict on few-shot answers, written out.
    """

    changes: Mapping[Form, Change]
    trace: Trace
    grid: Mapping[str, Mapping[str, float]]
    rungs: Sequence[Rung]
    verdict: Verdict
    written_rungs: Sequence[Rung]
    written: Verdict

    @property
    def bad(self) -> bool:
        """Whether it is suppressed or lost, in its instruction form or in few-shot answers."""
        return any(verdict.name in BAD for verdict in (self.verdict, self.written))


@dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` found.

    Attributes:
        tasks: by name.
        split: the drop over all tasks with both forms, in two parts; None without such tasks.
        heads: the base's heads that all vectors stand on.
        effects: mean causal effect of every head, before and after, `[layer, head]`.
        scale: how strongly vectors went in.
        weight_distance: relative, over the weights that changed; None for adapters of which it is not known.
        explained: R² against the drop over tasks.
        plan: the settings.
        lm_eval: by `task, metric`, how lm-eval tasks changed; empty where none was asked for.
        stages: every task at every stage of a sequence; empty where the tuned model is a single one.
        dtype: of the base's weights.
        vectors: the base's, by task.
    """

    tasks: Mapping[str, TaskDiagnosis]
    split: Split | None
    heads: Sequence[Head]
    effects: Mapping[str, list[list[float]]]
    scale: float
    weight_distance: float | None
    explained: Mapping[str, float]
    plan: Plan
    lm_eval: Mapping[str, Change] = field(default_factory=dict)
    stages: Sequence[StageScore] = ()
    dtype: str = "float32"
    vectors: Mapping[str, InstructionVector] = field(default_factory=dict, repr=False)

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """The verdict of every task, on its instruction form."""
        return {name: task.verdict for name, task in self.tasks.items()}

    @property
    def bad(self) -> bool:
        """Whether any task is suppressed or lost, in its instruction form or in few-shot answers."""
        return any(task.bad for task in self.tasks.values())

    def to_dict(self) -> dict[str, Any]:
        """Every number, ready for JSON; the vectors are artefacts of their own."""
        found = asdict(replace(self, vectors={})) | {"bad": self.bad}
        del found["vectors"]
        return found
