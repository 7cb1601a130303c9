"""What a model can still do: few-shot, zero-shot, and the same facts as knowledge and under an instruction.

Every measure is kept row by row, so that intervals and paired comparisons can be made later.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.evaluation.scoring import Edit, chance_corrected, rank, score, score_prompts
from instruction_vectors.tasks.prompts import PLAIN, Prompt, Template, cloze, draw_shots, instructed
from instruction_vectors.tasks.task import Example, Task

Form = Literal["in_context", "zero_shot", "knowledge", "instruction"]
FORMS: tuple[Form, ...] = ("in_context", "zero_shot", "knowledge", "instruction")
Rows = dict[Form, list[float]]


@dataclass(frozen=True)
class Probe:
    """What a task is measured on.

    Attributes:
        task: the whole task (answer options are drawn from all its rows).
        queries: the rows measured.
        demonstrations: rows that shots are drawn from, none of them a query.
        shots: shots of the in-context form.
        contexts: how many different sets of shots the queries share in turn.
    """

    task: Task
    queries: tuple[Example, ...]
    demonstrations: Task
    shots: int = 5
    contexts: int = 2

    @classmethod
    def of(cls, task: Task, rows: int, *, seed: int = 0, reserve: int = 30) -> "Probe":
        """The first `rows` rows of a seeded split, and the next `reserve` as demonstrations."""
        queries, demonstrations = task.split(rows, reserve, -1, seed=seed)[:2]
        return cls(task, queries.rows, demonstrations)


def measure(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    probe: Probe,
    forms: Sequence[Form] = FORMS,
    *,
    template: Template = PLAIN,
    edit: Edit | None = None,
) -> Rows:
    """Row-by-row results of one task.

    `in_context` and `zero_shot`: 1 where greedy decoding writes the whole answer, else 0. `knowledge` and `instruction`:
    rank classification over the same options (raw log-likelihood sums), chance-corrected, `(hit - chance)/(1 - chance)`,
    for the bare cloze and the instructed prompt of the same rows; left out where a task has no cloze.
    """
    measured: Rows = {}
    for form in forms:
        if form in ("in_context", "zero_shot"):
            prompts = _prompts(probe, probe.shots if form == "in_context" else 0, template)
            scores = score_prompts(model, tokenizer, prompts, exact=True, edit=edit)
            measured[form] = [float(bool(s.exact)) for s in scores]
        elif probe.task.knowledge:
            measured[form] = _rank_classification(model, tokenizer, probe, form, template, edit)
    return measured


def _prompts(probe: Probe, shots: int, template: Template) -> list[Prompt]:
    contexts = [draw_shots(probe.demonstrations, shots, seed=f"probe/{k}") for k in range(probe.contexts)]
    return [
        instructed(probe.task, row, shots=contexts[i % probe.contexts] if shots else (), template=template)
        for i, row in enumerate(probe.queries)
    ]


def _rank_classification(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, probe: Probe, form: Form, template: Template, edit: Edit | None
) -> list[float]:
    make: Callable[[Example], Prompt] = (
        (lambda row: cloze(probe.task, row))
        if form == "knowledge"
        else (lambda row: instructed(probe.task, row, template=template))
    )
    options = [probe.task.choices(row) for row in probe.queries]
    texts = [make(row).text for row in probe.queries]
    # The cloze continues after a space whatever the template of the instructed form is.
    lead = " " if form == "knowledge" else template.answer("")
    scored = score(model, tokenizer, texts, [[f"{lead}{o}" for o in row] for row in options], edit=edit)
    return [
        chance_corrected(float(choices[rank(scores)] == row.output), 1 / len(choices))
        for row, choices, scores in zip(probe.queries, options, scored, strict=True)
    ]
