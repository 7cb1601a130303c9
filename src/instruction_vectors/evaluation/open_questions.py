"""Questions answered in the model's own words: LAMBADA, NQ, BIG-bench Hard, instructions; in the field's templates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.errors import DataError
from instruction_vectors.evaluation.generation import generate
from instruction_vectors.evaluation.multiple_choice import check_text, placed_rows
from instruction_vectors.evaluation.scoring import score
from instruction_vectors.evaluation.text_metrics import score_texts


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    """A prompt that ends where the answer begins, and the answers that are right, each as it is written after the prompt."""

    prompt: str
    answers: tuple[str, ...]


Answers = Callable[[nn.Module, PreTrainedTokenizerBase, Sequence[OpenQuestion]], list[float]]
"""Asks a model; row by row from 0 to 1."""


@dataclass(frozen=True, slots=True)
class OpenKind:
    """How a set of open questions is read, asked and scored.

    Attributes:
        keys: what a row must hold.
        question: a row as a question.
        answers: how it is asked and scored.
        several: whether the last of the keys may hold a list of right answers.
    """

    keys: tuple[str, ...]
    question: Callable[[dict[str, Any]], OpenQuestion]
    answers: Answers
    several: bool = False


def read_open_questions(path: Path, kind: OpenKind) -> tuple[OpenQuestion, ...]:
    """Read a file of open questions; other keys of a row are passed over.

    Raises:
        DataError: missing, empty or malformed; the message names file and row.
    """
    rows = placed_rows(path, "objects with " + ", ".join(map(repr, kind.keys)))
    for where, row in rows:
        _check(where, row, kind)
    return tuple(kind.question(row) for _, row in rows)


def foretold(model: nn.Module, tokenizer: PreTrainedTokenizerBase, questions: Sequence[OpenQuestion]) -> list[float]:
    """1 where greedy decoding begins with a right answer (lm-eval's LAMBADA accuracy), by one forward, nothing written."""
    scored = score(model, tokenizer, [q.prompt for q in questions], [q.answers for q in questions])
    return [float(any(answer.greedy for answer in row)) for row in scored]


def written(metric: str, stop: Sequence[str], new_tokens: int) -> Answers:
    """Greedy decoding up to a stop string, scored by one of `text_metrics`."""

    def answers(model: nn.Module, tokenizer: PreTrainedTokenizerBase, questions: Sequence[OpenQuestion]) -> list[float]:
        texts = generate(model, tokenizer, [q.prompt for q in questions], max_new_tokens=new_tokens, stop=stop)
        return score_texts(metric, [text.strip() for text in texts], [[a.strip() for a in q.answers] for q in questions])

    return answers


def _continued(row: dict[str, Any]) -> OpenQuestion:
    return OpenQuestion(row["context"], (f" {row['continuation']}",))


def _asked(row: dict[str, Any]) -> OpenQuestion:
    return OpenQuestion(f"Q: {row['question']}?\nA:", tuple(f" {answer}" for answer in _texts(row["answer"])))


def _reasoned(row: dict[str, Any]) -> OpenQuestion:
    return OpenQuestion(f"Q: {row['input']}\nA:", tuple(f" {answer}" for answer in _texts(row["target"])))


def _instructed(row: dict[str, Any]) -> OpenQuestion:
    given = f"\n\n### Input:\n{row['input']}" if row.get("input") else ""
    return OpenQuestion(f"### Instruction:\n{row['instruction']}{given}\n\n### Response:\n", (row["output"],))


LAMBADA = OpenKind(("context", "continuation"), _continued, foretold)
"""The last word of a passage (Paperno et al. 2016), as lm-eval's `lambada_openai` scores it."""
NQ = OpenKind(("question", "answer"), _asked, written("normalised_match", ("\n",), 16), several=True)
"""Natural Questions, open (Kwiatkowski et al. 2019): each asked as lm-eval's `nq_open` asks it, but without its heading, and
the answer ends with the line (there also at a comma or full stop), so scores are not lm-eval's."""
BBH = OpenKind(("input", "target"), _reasoned, written("exact_match", ("\n",), 16), several=True)
"""BIG-bench Hard (Suzgun et al. 2022) without chains of thought."""
INSTRUCTIONS = OpenKind(("instruction", "output"), _instructed, written("rouge_l", ("\n### ",), 64))
"""Instructions in Alpaca's template (Taori et al. 2023), ROUGE-L of the first 64 tokens."""


def open_kind(name: str) -> OpenKind | None:
    """How the set of that name is asked, or None for one that is not open: `bbh/...` and `instructions_...` by their kind."""
    known = {"lambada": LAMBADA, "nq_open": NQ}
    by_kind = {"bbh/": BBH, "instructions_": INSTRUCTIONS}
    return known.get(name) or next((kind for start, kind in by_kind.items() if name.startswith(start)), None)


def _texts(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def _check(where: str, row: Any, kind: OpenKind) -> None:
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected an object with {', '.join(map(repr, kind.keys))}, got {type(row).__name__}")
    for key in kind.keys:
        if key not in row:
            raise DataError(f"{where}: no {key!r}")
        texts = _texts(row[key]) if kind.several and key == kind.keys[-1] else [row[key]]
        if not texts:
            raise DataError(f"{where}: {key!r} has no answer")
        for text in texts:
            check_text(where, key, text)
    if "input" in row and not isinstance(row["input"], str):
        raise DataError(f"{where}: 'input' must be text, got {type(row['input']).__name__}")
    if row.get("input"):
        check_text(where, "input", row["input"])
