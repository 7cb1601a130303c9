"""How well a model answers a task's prompts, row by row, by the score that the task's benchmark gives."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.evaluation.generation import context_length, generate
from instruction_vectors.evaluation.scoring import rank, score
from instruction_vectors.evaluation.text_metrics import code_literals, score_texts
from instruction_vectors.models.anatomy import anatomy_of
from instruction_vectors.tasks.layout import template_of
from instruction_vectors.tasks.task import Task
from instruction_vectors.tasks.truncate import fit_all


def answer_scores(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, task: Task, prompts: Sequence[str], *, max_new_tokens: int
) -> list[float]:
    """Score of every row, from 0 to 1: whole answers of greedy decoding, or the benchmark's own text metric.

    An answer of several lines (an option and its explanation) counts by its first.

    Args:
        model: a decoder-only causal language model.
        tokenizer: its tokenizer.
        task: the rows, and the metric they are scored by.
        prompts: one for each row of the task, in its order.
        max_new_tokens: of an answer scored by a text metric.

    Raises:
        DataError: a prompt that does not fit into the model's context with its answer.
    """
    if task.metric == "accuracy":
        template = template_of(task)
        answers = [[template.answer(answer.strip().split("\n")[0].strip()) for answer in row.answers] for row in task.rows]
        scored = score(model, tokenizer, prompts, answers, exact=True, ends="line")
        return [float(any(answer.exact for answer in row)) for row in scored]
    written = generate(model, tokenizer, prompts, max_new_tokens=max_new_tokens)
    # TRACE scores code with its placeholders for literals written out.
    clean = code_literals if task.metric == "edit_similarity" else str
    sources = [row.input for row in task.rows] if task.metric == "sari" else None
    references = [[clean(answer).strip() for answer in row.answers] for row in task.rows]
    return score_texts(task.metric, [clean(text).strip() for text in written], references, sources)


@dataclass(frozen=True)
class Floor:
    """What a model that was never trained on a task scores on it without examples: nothing below that can be forgotten.

    Attributes:
        model: the model asked.
        tokenizer: its tokenizer.
        rows: at most so many rows of a task, drawn by its name.
        max_tokens: longest prompt; a longer one is cut in its middle (see `tasks.truncate`).
        max_new_tokens: longest answer.
    """

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    rows: int = 50
    max_tokens: int = 512
    max_new_tokens: int = 64

    def __call__(self, task: Task) -> dict[str, list[float]]:
        """Score of each row asked, from 0 to 1, under the task's metric; where labels are fixed also by `ranked options`.

        (A model that never writes a label may well rank it first: only that can be held against the commonest label.)

        Raises:
            DataError: the instruction alone does not fit.
        """
        drawn = random.Random(f"{task.name}/floor").sample(task.rows, min(self.rows, len(task.rows)))
        asked = replace(task, rows=tuple(drawn))
        context = context_length(anatomy_of(self.model))
        budget = min(self.max_tokens, context - self.max_new_tokens) if context else self.max_tokens
        fitted, _ = fit_all(asked, asked.rows, self.tokenizer, budget, template=template_of(asked))
        prompts = [prompt.text for prompt in fitted]
        scores = {task.metric: answer_scores(self.model, self.tokenizer, asked, prompts, max_new_tokens=self.max_new_tokens)}
        return scores | ({"ranked options": self._ranked(asked, prompts)} if task.options else {})

    def _ranked(self, task: Task, prompts: Sequence[str]) -> list[float]:
        options = task.options or ()
        written = [template_of(task).answer(option) for option in options]
        scored = score(self.model, self.tokenizer, prompts, [written] * len(prompts))
        return [float(options[rank(found)] in row.answers) for row, found in zip(task.rows, scored, strict=True)]
