"""A user's rows, JSON lines of `prompt` and `completion` or of `messages`, as tokens with labels."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from instruction_vectors.errors import DataError, TrainingError
from instruction_vectors.files import read_json_lines
from instruction_vectors.models.tokens import encode_pair

ROLES = ("system", "user", "assistant")
Row = dict[str, Any]


def read_rows(path: Path) -> list[tuple[str, Row]]:
    """Rows with their places (file and line).

    A row has `prompt` and `completion`, both texts, or `messages`, a chat with a `role` (system, user, assistant) and a
    `content` a turn. It may also have an `instruction`, by which `vector="auto"` groups it, or the name of its `vector`.

    Raises:
        DataError: no file, no rows, or a malformed one, with its line.
    """
    rows = [(f"{path}, line {number}", value) for number, value in read_json_lines(path)]
    if not rows:
        raise DataError(f"{path}: no rows; expected one object with 'prompt' and 'completion', or 'messages', a line")
    for place, row in rows:
        _check(place, row)
    return rows


def _check(place: str, row: Row) -> None:
    for key in ("instruction", "vector"):
        if not isinstance(row.get(key, ""), str):
            raise DataError(f"{place}: {key!r} must be text, got {type(row[key]).__name__}")
    if "messages" in row:
        _check_chat(place, row["messages"])
        return
    for key in ("prompt", "completion"):
        if key not in row:
            raise DataError(f"{place}: no {key!r}; a row has 'prompt' and 'completion', or 'messages'")
        if not isinstance(row[key], str) or not row[key].strip():
            raise DataError(f"{place}: {key!r} must be text that is not empty, got {row[key]!r:.60}")


def _check_chat(place: str, messages: Any) -> None:
    if not isinstance(messages, list):
        raise DataError(f"{place}: 'messages' must be a list of turns, got {type(messages).__name__}")
    for number, turn in enumerate(messages, start=1):
        if not isinstance(turn, Mapping) or turn.get("role") not in ROLES or not isinstance(turn.get("content"), str):
            raise DataError(
                f"{place}, turn {number}: expected a 'role' ({', '.join(ROLES)}) and a text 'content', got {turn!r:.80}"
            )
    roles = [turn["role"] for turn in messages]
    if "assistant" not in roles[1:]:
        raise DataError(f"{place}: no turn of the assistant answers anything, so there is nothing to learn")


def encode_rows(tokenizer: PreTrainedTokenizerBase, rows: Sequence[tuple[str, Row]], max_length: int) -> tuple[list[Row], int]:
    """Training rows, and how many were left out because their prompt alone fills `max_length` tokens.

    Of a prompt and completion, the completion and the end token are labelled. Of a chat, every turn of the assistant is:
    one row with several answers where the template writes earlier turns the same whatever follows, else a row for each
    answer, as the model would read it. Longer rows are cut at their end. Columns other than the text are kept.

    Raises:
        DataError: a row that cannot be tokenised, with its place.
        TrainingError: no row is left.
    """
    made = []
    for place, row in rows:
        try:
            answers = _chat(tokenizer, row["messages"]) if "messages" in row else [_pair(tokenizer, row)]
        except DataError as error:
            raise DataError(f"{place}: {error}") from error
        except Exception as error:  # a chat template says in its own way what it does not take
            if type(error).__module__.partition(".")[0] != "jinja2":
                raise
            raise DataError(f"{place}: the model's chat template refuses the chat ({error})") from error
        kept = {key: value for key, value in row.items() if key in ("instruction", "messages", "vector")}
        made += [{**kept, **_labelled(spans, max_length)} for spans in answers]
    whole = [row for row in made if any(label != -100 for label in row["labels"][1:])]
    if not whole:
        raise TrainingError(f"no row has an answer within its first {max_length} tokens; raise max_length")
    return whole, len(made) - len(whole)


Answers = list[tuple[list[int], list[int]]]
"""For each answer of a row the tokens before it and those through its end."""


def _pair(tokenizer: PreTrainedTokenizerBase, row: Row) -> Answers:
    context, answer = encode_pair(tokenizer, row["prompt"], row["completion"] + (tokenizer.eos_token or ""))
    return [(context, context + answer)]


def _chat(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]) -> list[Answers]:
    if not tokenizer.chat_template:
        raise DataError("the model's tokenizer has no chat template for 'messages'; give 'prompt' and 'completion'")
    answers = []
    for number, turn in enumerate(messages):
        if turn["role"] == "assistant" and number:
            before = _written(tokenizer, messages[:number], add_generation_prompt=True)
            through = _written(tokenizer, messages[: number + 1], add_generation_prompt=False)
            if through[: len(before)] != before or len(through) == len(before):
                raise DataError("the model's chat template writes a prompt otherwise once its answer follows")
            answers.append((before, through))
    nested = all(later[: len(through)] == through for (_, through), (later, _) in pairwise(answers))
    return [answers] if nested else [[answer] for answer in answers]


def _written(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], **options: Any) -> list[int]:
    text = tokenizer.apply_chat_template(messages, tokenize=False, **options)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _labelled(answers: Answers, max_length: int) -> Row:
    ids = answers[-1][1]
    labels = [-100] * len(ids)
    for before, through in answers:
        labels[len(before) : len(through)] = through[len(before) :]
    return {"input_ids": ids[:max_length], "labels": labels[:max_length]}


def without_padding(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row of tokens whose `attention_mask` names padding, without it."""
    mask = row.get("attention_mask")
    if mask is None or all(mask):
        return row
    real = {name: [each for each, kept in zip(row[name], mask, strict=True) if kept] for name in ("input_ids", "labels")}
    return {**row, **real}
