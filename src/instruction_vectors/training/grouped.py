"""A vector for each group of rows of ordinary fine-tuning data, from its own prompts."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.errors import DataError
from instruction_vectors.training.naming import UNIVERSAL
from instruction_vectors.training.rows import without_padding
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
        rows: with `input_ids` and `labels`, or a `prompt` (text, or the turns of a chat before the answer), or `messages`
            (which end with an answer).
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


def _prompt(tokenizer: PreTrainedTokenizerBase, row: Mapping[str, Any], number: int) -> str | list[int]:
    """What the model reads before the row's (last) answer."""
    if "labels" in row and "input_ids" in row:
        return _before_labels(row, number)
    prompt = row.get("prompt")
    if isinstance(prompt, str):
        return prompt
    turns = prompt or (row.get("messages") or [])[:-1]
    if not turns:
        raise DataError(f"row {number} has neither a `prompt` nor `messages` that end with an answer")
    return str(tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=True))


def _before_labels(row: Mapping[str, Any], number: int) -> list[int]:
    """Tokens before the last run of labels, of a packed row those of that sample alone."""
    row = without_padding(row)
    labels = [int(label) for label in row["labels"]]
    start = next((i for i in range(len(labels) - 1, 0, -1) if labels[i] != -100 and labels[i - 1] == -100), 0)
    if not start:
        raise DataError(f"row {number} has no prompt before its labels; mask the labels of the prompts (-100)")
    begins = (0, *accumulate(row.get("seq_lengths") or ()))
    return [int(token) for token in row["input_ids"][max(begin for begin in begins if begin < start) : start]]
