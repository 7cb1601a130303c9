"""What a vector does: accuracy for x, x + c, x + θ, x + c + θ, against another task's vector and a random one.

(Todd et al. 2310.15213, Table 2; Jiang et al. 2406.12227, Figure 4.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.evaluation.scoring import Edit, Score, copies_input, score
from instruction_vectors.evaluation.statistics import proportion_interval
from instruction_vectors.tasks.prompts import PLAIN, Prompt, Template, bare, instructed
from instruction_vectors.tasks.task import Example, Task
from instruction_vectors.vectors.injection import Mode
from instruction_vectors.vectors.vector import InstructionVector

CONDITIONS = ("x", "x+c", "x+iv", "x+c+iv", "x+c+other_iv", "x+c+random")


@dataclass(frozen=True)
class Intervention:
    """How vectors are put in."""

    scale: float = 1.0
    mode: Mode = "distributed"

    def edit(self, model: nn.Module, vector: InstructionVector) -> Edit:
        """The edit of `vector` for `score`."""
        return lambda where: vector.applied(model, mode=self.mode, scale=self.scale, positions=where)


def steering(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    rows: Sequence[Example],
    *,
    own: InstructionVector,
    other: InstructionVector,
    random: InstructionVector,
    intervention: Intervention,
    template: Template = PLAIN,
) -> dict[str, Any]:
    """First-token and exact accuracy of the six conditions, with Wilson intervals.

    Rows whose answer begins with the input's first token are set apart under `copying`: there a model that copies would
    score.
    """
    edits = {name: intervention.edit(model, v) for name, v in (("own", own), ("other", other), ("random", random))}
    plan = {
        "x": (bare, None),
        "x+c": (instructed, None),
        "x+iv": (bare, edits["own"]),
        "x+c+iv": (instructed, edits["own"]),
        "x+c+other_iv": (instructed, edits["other"]),
        "x+c+random": (instructed, edits["random"]),
    }
    prompts: list[Prompt] = []
    edit: list[Edit | None] = []
    for make, change in plan.values():
        prompts += [bare(row, template=template) if make is bare else instructed(task, row, template=template) for row in rows]
        edit += [change] * len(rows)
    scored = score(model, tokenizer, [p.text for p in prompts], [[p.target] for p in prompts], exact=True, edit=edit)
    flat = [row[0] for row in scored]
    by_condition = {name: flat[i * len(rows) : (i + 1) * len(rows)] for i, name in enumerate(plan)}
    copying = [copies_input(tokenizer, instructed(task, row, template=template), row.input) for row in rows]
    return summarise(by_condition, copying, template.name)


def summarise(by_condition: dict[str, list[Score]], copying: Sequence[bool], template: str) -> dict[str, Any]:
    """Accuracies of the rows that copying would not answer, the others apart.

    Of a task in which copying always gives the first token all rows are taken, and a `note` says so: only its whole answers tell
    anything.
    """
    free = [i for i, copies in enumerate(copying) if not copies]
    tied = [i for i, copies in enumerate(copying) if copies]
    kept = free or tied
    hits = {name: [scores[i].first_token for i in kept] for name, scores in by_condition.items()}
    exact = {name: [bool(scores[i].exact) for i in kept] for name, scores in by_condition.items()}
    result: dict[str, Any] = {"template": template, **{name: _mean(h) for name, h in hits.items()}, "n": len(kept)}
    result["intervals"] = {name: list(proportion_interval(sum(h), len(h))) for name, h in hits.items()}
    result["exact"] = {name: _mean(e) for name, e in exact.items()}
    result["exact_intervals"] = {name: list(proportion_interval(sum(e), len(e))) for name, e in exact.items()}
    apart = {name: _mean([scores[i].first_token for i in tied]) for name, scores in by_condition.items()}
    result["copying"] = {"n": len(tied), **apart}
    if not free:
        result["note"] = "every answer begins with its input's first token"
    return result


def _mean(values: Sequence[bool]) -> float | None:
    return sum(values) / len(values) if values else None
