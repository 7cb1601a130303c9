"""A sequence of fine-tunes stage by stage: the forms of every task, its vector's cosine (Jiang et al. 2406.12227, Figure 3)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from instruction_vectors.analysis.contrast import level
from instruction_vectors.analysis.extracted import Vectors, means_of
from instruction_vectors.analysis.pair import Pair, open_pair
from instruction_vectors.analysis.plan import Plan, Subject
from instruction_vectors.analysis.worse import forms_of, width_of
from instruction_vectors.evaluation.abilities import FORMS, Form, Rows
from instruction_vectors.evaluation.knowledge import Estimate
from instruction_vectors.progress import track
from instruction_vectors.vectors.vector import Head

START = "M0"
"""What the stage before any training is called."""


@dataclass(frozen=True)
class StageScore:
    """One task at one stage.

    Attributes:
        stage: `M0`, or what the stage was trained on, or its folder's name.
        task: its name.
        trained: whether it is among the tasks trained on, at this stage or another.
        forms: score by form, as in `Change`.
        cosine: of the base's vector and this stage's.
    """

    stage: str
    task: str
    trained: bool
    forms: Mapping[Form, Estimate]
    cosine: float


@dataclass
class Curves:
    """Collects the stages of one sequence.

    Attributes:
        subjects: the tasks measured at every stage.
        trained: names of the tasks trained on.
        heads: the base's, that all vectors stand on.
        base: the base's vectors.
        plan: how much is measured.
    """

    subjects: Mapping[str, Subject]
    trained: Sequence[str]
    heads: Sequence[Head]
    base: Vectors
    plan: Plan
    scores: list[StageScore] = field(default_factory=list)

    def add(self, stage: str, forms: Mapping[str, Rows], vectors: Vectors) -> None:
        """One stage's scores, already measured."""
        for name, subject in self.subjects.items():
            found: dict[Form, Estimate] = {}
            for form in (form for form in FORMS if form in forms[name]):
                lowest = 1 - width_of(subject, form)
                found[form] = level(forms[name][form], lowest, confidence=self.plan.rules.confidence)
            cosine = self.base.by_task[name].cosine(vectors.by_task[name])
            self.scores.append(StageScore(stage, name, name in self.trained, found, cosine))

    def measure(self, stages: Mapping[str, Path], pair: Pair) -> None:
        """The stages in these folders, one after the other over the base; `pair` is of no use afterwards."""
        base: Any = pair.released()
        with track("Stages", 2 * len(self.subjects) * len(stages), "step") as advance:
            for done, (stage, folder) in enumerate(stages.items()):
                pair = open_pair(base, folder, tokenizer=pair.tokenizer)
                with pair.tuned() as model:
                    self._measure(stage, model, pair)
                base = pair.released()
                advance(2 * len(self.subjects) * (done + 1))

    def _measure(self, stage: str, model: nn.Module, pair: Pair) -> None:
        forms = forms_of(model, pair.tokenizer, self.subjects, _nothing)
        means = means_of(model, pair.tokenizer, self.subjects, self.plan, _nothing)
        self.add(stage, forms, Vectors.of(model, means, self.heads))


def stages_in(tuned: Any, trained: Sequence[str] = ()) -> dict[str, Path]:
    """The stages of a sequence run in order, by name: numbered folders (`1`, `checkpoint-50`) of models or adapters.

    Named after the tasks trained on where there are as many. Empty where `tuned` is no such folder, or itself a model.
    """
    if not isinstance(tuned, str | Path) or not Path(tuned).is_dir() or _is_model(Path(tuned)):
        return {}
    numbered = {path: re.search(r"(\d+)$", path.name) for path in Path(tuned).iterdir() if _is_model(path)}
    found = sorted((int(match[1]), path) for path, match in numbered.items() if match)
    names = list(trained) if len(trained) == len(set(trained)) == len(found) else [path.name for _, path in found]
    return dict(zip(names, (path for _, path in found), strict=True))


def _is_model(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("adapter_config.json", "config.json"))


def _nothing() -> None:
    pass
