"""Which instruction vector each row of ordinary fine-tuning data belongs to: such data names no tasks, but instructs."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from instruction_vectors.errors import DataError

UNIVERSAL = ""
"""The name of rows that share no instruction with enough others: one vector serves them all."""
_CHATS = ("messages", "prompt", "conversations")
_ROLES, _TEXTS = ("role", "from"), ("content", "value")


def vector_names(rows: Iterable[Mapping[str, Any]], *, column: str | None = None, min_rows: int = 20) -> list[str]:
    """Name the vector of each row by what instructs it, for the `vector` column that `IVGuidance` reads.

    A row's instruction is its text in `column`; without one its `instruction` (Alpaca's layout), else the system prompt
    of its chat (`messages`, `prompt` or `conversations`). White space aside, rows with the same instruction form a group
    named by it; the rows of a group smaller than `min_rows`, and those without an instruction, are `""` (universal).

    Args:
        rows: a dataset as one has it before tokenisation.
        column: which column instructs, where that is known.
        min_rows: smallest group that gets a vector of its own; a mean over fewer rows says little about a task.

    Returns:
        For each row the group's instruction, or `""`.

    Raises:
        DataError: a row without the named column.
    """
    found = [_instruction(row, column, number) for number, row in enumerate(rows, start=1)]
    sizes = Counter(found)
    return [text if sizes[text] >= min_rows else UNIVERSAL for text in found]


def _instruction(row: Mapping[str, Any], column: str | None, number: int) -> str:
    if column is not None and column not in row:
        raise DataError(f"row {number} has no column {column!r}; it has {', '.join(map(repr, row))}")
    text = row.get(column or "instruction")
    if not isinstance(text, str) and column is None:
        text = _system_prompt(row)
    return " ".join(text.split()) if isinstance(text, str) else UNIVERSAL


def _system_prompt(row: Mapping[str, Any]) -> str | None:
    """The system message a chat begins with."""
    chat: list[Mapping[str, Any]] = next((row[name] for name in _CHATS if isinstance(row.get(name), list) and row[name]), [{}])
    role = next((chat[0][key] for key in _ROLES if key in chat[0]), None)
    return next((chat[0][key] for key in _TEXTS if key in chat[0]), None) if role == "system" else None
