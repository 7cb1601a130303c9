"""Multiple-choice questions from a file, answered by rank classification exactly as lm-evaluation-harness answers them.

A file holds `{"query", "choices", "gold"}` objects, as one JSON array or one a line.
"""

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.errors import DataError
from instruction_vectors.evaluation.generation import context_length
from instruction_vectors.evaluation.scoring import Normalisation, Score, TokenPair, rank, score_tokens
from instruction_vectors.files import read_json, read_json_lines
from instruction_vectors.models.anatomy import anatomy_of
from instruction_vectors.models.tokens import encode

logger = logging.getLogger(__name__)

LONGEST = 1_000_000
"""Most characters of a query or a choice; more is a broken file."""


@dataclass(frozen=True, slots=True)
class Question:
    """A query, its possible answers, and the index of the right one."""

    query: str
    choices: tuple[str, ...]
    gold: int


Layout = Callable[[Question], tuple[str, Sequence[str]]]
"""A question as text: the context, and the choice that follows it after one space."""


def plain(question: Question) -> tuple[str, Sequence[str]]:
    """The query as it is (lm-eval's openbookqa)."""
    return question.query, question.choices


def cleaned(question: Question) -> tuple[str, Sequence[str]]:
    """Without the brackets that WikiHow left in HellaSwag (lm-eval's hellaswag)."""
    return _without_brackets(question.query), [_without_brackets(choice) for choice in question.choices]


def asked(question: Question) -> tuple[str, Sequence[str]]:
    """`Question: ...` newline `Answer:` (lm-eval's arc_easy)."""
    return f"Question: {question.query}\nAnswer:", question.choices


def lettered(question: Question) -> tuple[str, Sequence[str]]:
    """The choices listed under letters, the letters being the options (lm-eval's commonsense_qa)."""
    letters = ascii_uppercase[: len(question.choices)]
    listed = "".join(f"\n{letter}. {choice}" for letter, choice in zip(letters, question.choices, strict=True))
    return f"Question: {question.query.strip()}{listed}\nAnswer:", list(letters)


def exam(question: Question) -> tuple[str, Sequence[str]]:
    """As `lettered` without the word `Question` (lm-eval's mmlu, less the description that names its subject)."""
    context, letters = lettered(question)
    return context.removeprefix("Question: "), letters


LAYOUTS: dict[str, Layout] = {
    "hellaswag": cleaned,
    "arc_easy": asked,
    "openbookqa": plain,
    "commonsense_qa": lettered,
    "mmlu": exam,
    "mmlu_dev": exam,
    "mmlu_test": exam,
}


def read_questions(path: Path) -> tuple[Question, ...]:
    """Read a file of questions; other keys of a row are passed over.

    Raises:
        DataError: missing, empty or malformed, a choice list of fewer than two, a gold index out of range; the message
            names file and row (line in a `.jsonl` file).
    """
    return tuple(_question(where, value) for where, value in placed_rows(path, "objects with 'query', 'choices' and 'gold'"))


def placed_rows(path: Path, expected: str) -> list[tuple[str, Any]]:
    """The rows of a JSON array, of its `examples` (BIG-bench), or of JSON lines, each with the words for where it stands.

    Raises:
        DataError: a missing, empty or malformed file; `expected` says what it should hold.
    """
    if path.suffix == ".jsonl":
        rows: list[tuple[str, Any]] = [(f"{path}, line {number}", value) for number, value in read_json_lines(path)]
    else:
        content = read_json(path)
        content = content.get("examples", content) if isinstance(content, dict) else content
        if not isinstance(content, list):
            raise DataError(f"{path}: expected a JSON array of questions, got {type(content).__name__}")
        rows = [(f"{path}, row {number}", value) for number, value in enumerate(content, start=1)]
    if not rows:
        raise DataError(f"{path}: no rows; expected {expected}")
    return rows


def score_questions(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    layout: Layout = plain,
    name: str = "multiple choice",
    **options: Any,
) -> list[list[Score]]:
    """For each question a `Score` for each choice, computed from the tokens that lm-eval would use.

    A question longer than the model's context loses tokens on its left, as in lm-eval; how many did is logged, once for a set
    of that `name`. `options` go to `score_tokens` (`edit`, `rounding`, `max_nodes`, `progress`).
    """
    limit = context_length(anatomy_of(model))
    pairs: list[list[TokenPair]] = []
    characters: list[list[int]] = []
    cut = 0
    for question in questions:
        context, choices = layout(question)
        row = [harness_pair(tokenizer, context, f" {choice}") for choice in choices]
        pairs.append([fit_left(pair, limit) for pair in row])
        characters.append([len(choice) for choice in choices])
        cut += pairs[-1] != row
    if cut:
        _tell(f"{name}: {cut} of {len(questions)} questions are longer than the model's context of {limit} tokens")
    return score_tokens(model, pairs, characters=characters, **options)


@cache  # a set is asked at every stage of a sequence
def _tell(what: str) -> None:
    logger.warning("%s and lost some on their left", what)


def accuracy(questions: Sequence[Question], scored: Sequence[Sequence[Score]], by: Normalisation = "sum") -> list[float]:
    """Row by row, 1 where the right choice ranks first, by raw sum (`acc`), per token, or per character (`acc_norm`)."""
    return [float(rank(scores, by) == question.gold) for question, scores in zip(questions, scored, strict=True)]


def harness_pair(tokenizer: PreTrainedTokenizerBase, context: str, continuation: str) -> TokenPair:
    """Ids of context and continuation as lm-evaluation-harness splits them.

    Blanks at the end of the context go to the continuation, and the whole text's ids are cut at the context's length even
    where a token spans the border.

    Raises:
        DataError: the continuation adds no token.
    """
    kept = context.rstrip()
    context, continuation = kept, context[len(kept) :] + continuation
    prompt = encode(tokenizer, context)
    target = encode(tokenizer, context + continuation)[len(prompt) :]
    if not target:
        raise DataError(f"the choice {continuation!r} tokenises to nothing after the query ending {context[-30:]!r}")
    return prompt, target


def fit_left(pair: TokenPair, limit: int | None) -> TokenPair:
    """The pair without the first tokens of its context if the model cannot read them all."""
    prompt, target = pair
    # The last token of the continuation is predicted, not read.
    over = len(prompt) + len(target) - 1 - limit if limit else 0
    if over >= len(prompt):
        raise DataError(f"a choice of {len(target)} tokens leaves no room for its query in a context of {limit}")
    return prompt[max(over, 0) :], target


def _without_brackets(text: str) -> str:
    return re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")


def _question(where: str, value: Any) -> Question:
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected an object with 'query', 'choices' and 'gold', got {type(value).__name__}")
    for key in ("query", "choices", "gold"):
        if key not in value:
            raise DataError(f"{where}: no {key!r}")
    choices, gold = value["choices"], value["gold"]
    check_text(where, "query", value["query"])
    if not isinstance(choices, list) or len(choices) < 2:
        raise DataError(f"{where}: 'choices' must be a list of two or more texts")
    for number, choice in enumerate(choices, start=1):
        check_text(where, f"choice {number}", choice)
    if isinstance(gold, bool) or not isinstance(gold, int):
        raise DataError(f"{where}: 'gold' must be the index of the right choice, got {gold!r}")
    if not 0 <= gold < len(choices):
        raise DataError(f"{where}: 'gold' is {gold}, but there are {len(choices)} choices (counted from 0)")
    return Question(value["query"], tuple(choices), gold)


def check_text(where: str, name: str, value: Any) -> None:
    """Refuse what is no text, says nothing, is longer than any question, or is not all characters.

    Raises:
        DataError: the message begins with `where`.
    """
    if not isinstance(value, str):
        raise DataError(f"{where}: {name!r} must be text, got {type(value).__name__}")
    if not value.strip():
        raise DataError(f"{where}: {name!r} is empty")
    if len(value) > LONGEST:
        raise DataError(f"{where}: {name!r} has {len(value)} characters, more than {LONGEST}")
    # JSON can escape half of a character; such text cannot be tokenised.
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise DataError(f"{where}: {name!r} holds half of a surrogate pair, which is no character")
