"""`vector="auto"`: vectors for rows that name none, made from the rows themselves before training."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from torch import nn
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from instruction_vectors.errors import TrainingError
from instruction_vectors.models.anatomy import anatomy_of
from instruction_vectors.tasks import load_task
from instruction_vectors.training.grouped import vectors_by_name
from instruction_vectors.training.naming import UNIVERSAL, vector_names
from instruction_vectors.training.sharding import refuse_parts
from instruction_vectors.training.views import original
from instruction_vectors.vectors.universal import extract_all
from instruction_vectors.vectors.vector import Head, InstructionVector

TASKS = ("antonym", "country-capital", "present-past", "object-v-concept-3")
"""Shipped tasks of four kinds: over their mean effect the causal heads are found."""
HEADS = 10
"""As in the papers."""
_EFFECT_PROMPTS, _MEAN_PROMPTS, _SHOTS = 2, 8, 4


def automatic_vectors(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase | None, rows: Any
) -> tuple[Any, dict[str, InstructionVector]]:
    """Rows with a `vector` column, and the vector of every name in it; under `""` one for every other row.

    Rows that have the column keep it. Else those with the same instruction (`instruction` column, or the system prompt of
    their chat) share a vector if there are enough of them, see `naming.vector_names`; rows that name no instruction, such
    as packed ones, all get the universal vector. A vector is the mean over its rows' prompts as they are trained on, of
    the original model's heads; of a chat of several turns, over what comes before the last answer.

    Args:
        model: what is about to train; of a PEFT model the original is asked.
        tokenizer: its tokenizer.
        rows: a list, a `datasets.Dataset` or another map-style dataset.

    Raises:
        TrainingError: no rows, rows that come as a stream, no tokenizer, or weights that are sharded already.
        DataError: a row without a prompt.
    """
    _check(model, tokenizer, rows)
    assert tokenizer is not None
    from peft import PeftModel

    names = names_of(rows)
    with original(model) if isinstance(model, PeftModel) else nullcontext():
        vectors = vectors_by_name(model, tokenizer, rows, names, universal_heads(model, tokenizer))
    return named(rows, names), vectors


def universal_heads(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, tasks: Sequence[str] = TASKS, k: int = HEADS
) -> tuple[Head, ...]:
    """Heads with the largest causal effect in the mean over shipped tasks (Todd et al. 2310.15213, §2.3)."""
    anatomy = anatomy_of(model)
    found = extract_all(
        model,
        tokenizer,
        [load_task(name) for name in tasks],
        k=min(k, anatomy.n_layers * anatomy.n_heads),
        prompts=_MEAN_PROMPTS,
        shots=_SHOTS,
        contexts=2,
        effect_prompts=_EFFECT_PROMPTS,
    )
    return next(iter(found.values())).heads


def names_of(rows: Any, known: Mapping[str, Any] | None = None) -> list[str]:
    """For each row its vector's name: the one it has, else its group's; with `known`, only names among them."""
    each = _words(rows)
    if any("vector" in row for row in each):
        names = [row.get("vector") or UNIVERSAL for row in each]
    else:
        names = vector_names(each) if known is None else vector_names(each, min_rows=1)
    return names if known is None else [name if name in known else UNIVERSAL for name in names]


def _words(rows: Any) -> list[Mapping[str, Any]]:
    """What rows say beside their tokens."""
    columns = getattr(rows, "column_names", None)
    if columns is None:
        return [rows[number] for number in range(len(rows))]
    kept = [column for column in columns if column not in ("input_ids", "labels", "attention_mask")]
    return list(rows.select_columns(kept)) if kept else [{}] * len(rows)


def named(rows: Any, names: Sequence[str]) -> Any:
    """The rows with a `vector` column."""
    columns = getattr(rows, "column_names", None)
    if columns is None:
        return NamedRows(rows, names)
    return (rows.remove_columns("vector") if "vector" in columns else rows).add_column("vector", list(names))


class NamedRows(Dataset):
    """Rows of any map-style dataset with a `vector` column."""

    def __init__(self, rows: Any, names: Sequence[str]) -> None:
        self.rows, self.names = rows, names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return {**self.rows[number], "vector": self.names[number]}


def _check(model: nn.Module, tokenizer: Any, rows: Any) -> None:
    if rows is None or not hasattr(rows, "__len__") or not len(rows):
        raise TrainingError(
            "vector='auto' reads the training rows beforehand: pass a train_dataset that is no stream and not empty"
        )
    if tokenizer is None:
        raise TrainingError("vector='auto' needs the tokenizer to find the heads with: pass `processing_class` to the trainer")
    refuse_parts(model, "vector='auto'")
