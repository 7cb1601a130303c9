"""One task asked under many conditions: prompts and interventions, judged by rank classification over the same options."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.analysis.plan import Subject
from instruction_vectors.analysis.steering import Intervention
from instruction_vectors.evaluation.abilities import ranked_right
from instruction_vectors.evaluation.scoring import Edit, score
from instruction_vectors.tasks.prompts import PLAIN, bare, instructed
from instruction_vectors.tasks.task import Example, Task
from instruction_vectors.vectors.vector import InstructionVector

Asked = Literal["x", "x+c", "few-shot", "validation"]


@dataclass(frozen=True)
class Condition:
    """How a row is asked: its prompt, a vector if any, and for few-shot prompts where the shots come from."""

    asked: Asked = "x+c"
    vector: InstructionVector | None = None
    scale: float = 1.0
    shots: Sequence[Sequence[Example]] = ()
    """Sets of shots that the rows share in turn."""


def ask(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, subject: Subject, conditions: Mapping[str, Condition]
) -> dict[str, list[float]]:
    """Chance-corrected rank classification of every row under every condition, in one pass.

    Returns:
        For each condition a value a row: 1 where the right option is likeliest, else `-chance/(1 - chance)`.
    """
    texts: list[str] = []
    answers: list[list[str]] = []
    edits: list[Edit | None] = []
    asked: list[tuple[str, Example]] = []
    for name, condition in conditions.items():
        edit = Intervention(condition.scale).edit(model, condition.vector) if condition.vector else None
        for number, row in enumerate(subject.validation if condition.asked == "validation" else subject.probe.queries):
            texts.append(_prompt(subject.task, row, number, condition))
            answers.append([PLAIN.answer(option) for option in subject.task.choices(row)])
            edits.append(edit)
            asked.append((name, row))
    results: dict[str, list[float]] = {name: [] for name in conditions}
    for (name, row), scores in zip(asked, score(model, tokenizer, texts, answers, edit=edits), strict=True):
        results[name].append(ranked_right(subject.task, row, scores))
    return results


def write_out(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, subject: Subject, conditions: Mapping[str, Condition]
) -> dict[str, list[float]]:
    """1 for each row where greedy decoding writes the whole answer, else 0, under every condition, in one pass."""
    rows = subject.probe.queries
    texts = [_prompt(subject.task, row, i, condition) for condition in conditions.values() for i, row in enumerate(rows)]
    answers = [[PLAIN.answer(answer) for answer in row.answers] for _ in conditions for row in rows]
    edits = [Intervention(c.scale).edit(model, c.vector) if c.vector else None for c in conditions.values()]
    each = [edit for edit in edits for _ in rows]
    scored = iter(score(model, tokenizer, texts, answers, exact=True, edit=each))
    return {name: [float(any(answer.exact for answer in next(scored))) for _ in rows] for name in conditions}


def _prompt(task: Task, row: Example, number: int, condition: Condition) -> str:
    if condition.asked == "x":
        return bare(row).text
    shots = condition.shots[number % len(condition.shots)] if condition.shots else ()
    return instructed(task, row, shots=shots).text


def shuffled(shots: Sequence[Example]) -> tuple[Example, ...]:
    """The same inputs, every answer that of the shot before."""
    outputs = [shot.output for shot in shots]
    return tuple(Example(shot.input, output) for shot, output in zip(shots, outputs[-1:] + outputs[:-1], strict=True))


def misled(subject: Subject) -> Subject:
    """The same subject, the answers of its demonstrations shuffled."""
    shown = subject.probe.demonstrations
    return replace(subject, probe=replace(subject.probe, demonstrations=replace(shown, rows=shuffled(shown.rows))))
