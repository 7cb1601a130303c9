"""What a model can still do: few-shot, zero-shot, and the same facts as knowledge and under an instruction.

Every measure is kept row by row, so that intervals and paired comparisons can be made later.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.errors import DataError
from instruction_vectors.evaluation.scoring import Edit, Score, chance_corrected, rank, score
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

    @property
    def width(self) -> float:
        """The largest difference of a row's chance-corrected score: `1 / (1 - chance)`; the least score is 1 minus that."""
        return max(1 / (1 - 1 / len(self.task.choices(row))) for row in self.queries)

    def shot_sets(self) -> list[tuple[Example, ...]]:
        """The sets of shots that the queries share in turn."""
        return [draw_shots(self.demonstrations, self.shots, seed=f"probe/{k}") for k in range(self.contexts)]

    @classmethod
    def of(cls, task: Task, rows: int, *, seed: int = 0, reserve: int = 30) -> "Probe":
        """The first `rows` rows of a seeded split, and the next `reserve` as demonstrations.

        Raises:
            DataError: the task has too few rows for both.
        """
        if len(task.rows) < (need := rows + reserve):
            raise DataError(
                f"task {task.name!r} has {len(task.rows)} rows, and {need} are needed: {rows} to measure, and {reserve} "
                "others that solved examples of few-shot prompts are drawn from; measure fewer (--rows) or add rows"
            )
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
    parts = [_Part.of(probe, form, template) for form in forms if probe.task.knowledge or form not in RANKED]
    # One call for all forms: a prompt that two of them ask about is computed once.
    scored = score(
        model,
        tokenizer,
        [text for part in parts for text in part.texts],
        [row for part in parts for row in part.answers],
        exact=[part.form not in RANKED for part in parts for _ in part.texts],
        edit=edit,
    )
    remaining = iter(scored)
    return {part.form: [part.judge(row, next(remaining)) for row in probe.queries] for part in parts}


RANKED: tuple[Form, ...] = ("knowledge", "instruction")
"""Forms measured by rank classification over options; the others by what greedy decoding writes."""


@dataclass(frozen=True)
class _Part:
    """What one form asks: a prompt and its answers for each query, and how the scores of a query's answers are judged."""

    form: Form
    texts: list[str]
    answers: list[list[str]]
    judge: Callable[[Example, Sequence[Score]], float]

    @classmethod
    def of(cls, probe: Probe, form: Form, template: Template) -> "_Part":
        prompts = _prompts(probe, form, template)
        if form not in RANKED:
            answers = [[template.answer(answer) for answer in row.answers] for row in probe.queries]
            return cls(form, [p.text for p in prompts], answers, _written)
        # The cloze continues after a space whatever the template of the instructed form is.
        lead = " " if form == "knowledge" else template.answer("")

        def judge(row: Example, scores: Sequence[Score]) -> float:
            return ranked_right(probe.task, row, scores)

        options = [[f"{lead}{option}" for option in probe.task.choices(row)] for row in probe.queries]
        return cls(form, [p.text for p in prompts], options, judge)


def ranked_right(task: Task, row: Example, scores: Sequence[Score]) -> float:
    """Chance-corrected: 1 where the likeliest of the row's choices is its output, else `-chance/(1 - chance)`."""
    choices = task.choices(row)
    return chance_corrected(float(choices[rank(scores)] == row.output), 1 / len(choices))


def _written(_: Example, scores: Sequence[Score]) -> float:
    return float(any(score.exact for score in scores))


def _prompts(probe: Probe, form: Form, template: Template) -> list[Prompt]:
    if form == "knowledge":
        return [cloze(probe.task, row) for row in probe.queries]
    if form != "in_context":
        return [instructed(probe.task, row, template=template) for row in probe.queries]
    contexts = probe.shot_sets()
    return [
        instructed(probe.task, row, shots=contexts[i % probe.contexts], template=template) for i, row in enumerate(probe.queries)
    ]
