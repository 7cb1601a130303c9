"""What a model itself answers when it is told the task: a target for effects that does not ask whether it is right."""

from torch import nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.errors import DataError
from instruction_vectors.evaluation.generation import generate
from instruction_vectors.tasks.prompts import PLAIN, Template, draw_shots, instructed
from instruction_vectors.tasks.task import Task

_LONGEST = 16
"""Tokens of an answer."""


def own_answers(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    *,
    prompts: int = 8,
    shots: int = 5,
    template: Template = PLAIN,
    seed: int = 0,
) -> list[str]:
    """The model's own line under the instruction and solved examples, for each query of `counterfactuals` of the same seed.

    Args:
        model: a decoder-only causal language model.
        tokenizer: its tokenizer.
        task: as `head_effects` takes it, and so the rest; what is returned goes to its `answers`.
        prompts: how many.
        shots: solved examples a prompt, rightly solved here.
        template: the layout of prompts.
        seed: what every draw depends on.

    Raises:
        DataError: an empty answer.
    """
    asked = []
    queries = draw_shots(task, prompts, seed=f"effects/{seed}")
    for number, query in enumerate(queries):
        context = draw_shots(task, shots, exclude=query, seed=f"effects/{seed}/{number}")
        asked.append(instructed(task, query, shots=context, template=template).text)
    written = generate(model, tokenizer, asked, max_new_tokens=_LONGEST, stop=["\n"])
    for query, answer in zip(queries, written, strict=True):
        if not answer.strip():
            raise DataError(f"the model answers nothing to {query.input!r}: take the task's own answers, or another seed")
    return written
