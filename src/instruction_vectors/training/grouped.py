"""A vector for each group of rows of ordinary fine-tuning data, from its own prompts."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.errors import DataError
from instruction_vectors.training.naming import UNIVERSAL
from instruction_vectors.vectors.extraction import mean_head_outputs
from instruction_vectors.vectors.vector import Head, InstructionVector


def vectors_by_name(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    heads: Sequence[Head],
    *,
    max_rows: int = 64,
) -> dict[str, InstructionVector]:
    r"""The vector of every name, and under `""` one for all rows.

    $\bar h_{lj}^c$ is the mean over a group's prompts as they are: from the instruction alone, without shots. To be asked
    of the original model, before it trains.

    Args:
        model: a decoder-only causal language model.
        tokenizer: its tokenizer.
        rows: with a `prompt` (text, or the turns of a chat before the answer) or `messages` (which end with an answer).
        names: for each row its group, from `naming.vector_names`.
        heads: the causal heads, e.g. `extract(...).heads` of a shipped task.
        max_rows: rows of a group that are averaged over, taken at equal distances.

    Raises:
        DataError: no rows, or a row that holds no prompt.
    """
    groups: dict[str, list[int]] = {UNIVERSAL: list(range(len(rows)))}
    for number, name in enumerate(names):
        if name != UNIVERSAL:
            groups.setdefault(name, []).append(number)
    vectors = {}
    for name, mine in groups.items():
        taken = mine[:: -(-len(mine) // max_rows) or 1]
        means = mean_head_outputs(model, tokenizer, [_prompt(tokenizer, rows[number], number + 1) for number in taken])
        vectors[name] = InstructionVector.from_means(model, means, tuple(heads), metadata={"group": name, "prompts": len(taken)})
    return vectors


def _prompt(tokenizer: PreTrainedTokenizerBase, row: Mapping[str, Any], number: int) -> str:
    """What the model reads before the row's (last) answer."""
    prompt = row.get("prompt")
    if isinstance(prompt, str):
        return prompt
    turns = prompt or (row.get("messages") or [])[:-1]
    if not turns:
        raise DataError(f"row {number} has neither a `prompt` nor `messages` that end with an answer")
    return str(tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=True))
