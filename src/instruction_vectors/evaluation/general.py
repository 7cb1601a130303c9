"""General ability on sets of `eval/`: GP without shots, IP with five, by rank classification or in the model's own words."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from torch import nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.errors import DataError
from instruction_vectors.evaluation.multiple_choice import LAYOUTS, Layout, Question, read_questions, score_questions
from instruction_vectors.evaluation.open_questions import OpenKind, OpenQuestion, open_kind, read_open_questions
from instruction_vectors.evaluation.scoring import chance_corrected, rank

Q = TypeVar("Q", Question, OpenQuestion)


@dataclass(frozen=True)
class ChoiceSet:
    """Multiple choice; raw log-likelihood sums are ranked. The shots stand solved before each question in context."""

    name: str
    questions: tuple[Question, ...]
    shots: tuple[Question, ...]

    def measure(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> dict[str, list[float]]:
        """Row by row and chance-corrected: `zero_shot` (GP) and `in_context` (IP)."""
        layout = LAYOUTS[self.name]
        forms = {"zero_shot": layout, "in_context": after(self.shots, layout)}
        return {form: self._scores(model, tokenizer, asked, f"{self.name}, {form}") for form, asked in forms.items()}

    def _scores(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase, layout: Layout, name: str) -> list[float]:
        scored = score_questions(model, tokenizer, self.questions, layout, name)
        return [
            chance_corrected(float(rank(scores) == question.gold), 1 / len(question.choices))
            for question, scores in zip(self.questions, scored, strict=True)
        ]


@dataclass(frozen=True)
class OpenSet:
    """Answers in the model's own words. The shots stand solved before each question in context."""

    name: str
    kind: OpenKind
    questions: tuple[OpenQuestion, ...]
    shots: tuple[OpenQuestion, ...]

    def measure(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> dict[str, list[float]]:
        """Row by row: `zero_shot` (GP) and `in_context` (IP); nothing is earned by chance."""
        solved = "".join(f"{shot.prompt}{shot.answers[0]}\n\n" for shot in self.shots)
        in_context = [OpenQuestion(solved + question.prompt, question.answers) for question in self.questions]
        forms = {"zero_shot": self.questions, "in_context": in_context}
        return {form: self.kind.answers(model, tokenizer, asked) for form, asked in forms.items()}


GeneralSet = ChoiceSet | OpenSet


def read_general_set(name: str, data_dir: Path, rows: int, shots: int = 5) -> GeneralSet:
    """The first `rows` questions of `eval/<name>.json`, the next ones as shots.

    Args:
        name: a multiple-choice set of `LAYOUTS`, `lambada`, `nq_open`, `bbh/<task>` or `instructions_<source>`.
        data_dir: the folder that holds `eval/`.
        rows: questions asked.
        shots: solved questions before each in the in-context form.

    Raises:
        DataError: unknown set, a malformed file, or fewer questions than asked for.
    """
    path = data_dir / "eval" / f"{name}.json"
    if name in LAYOUTS:
        questions = _enough(read_questions(path), path, rows, shots)
        return ChoiceSet(name, questions[:rows], questions[rows : rows + shots])
    kind = open_kind(name)
    if kind is None:
        known = (*LAYOUTS, "lambada", "nq_open", "bbh/<task>", "instructions_<source>")
        raise DataError(f"unknown general set {name!r}; there are {', '.join(known)}")
    asked = _enough(read_open_questions(path, kind), path, rows, shots)
    return OpenSet(name, kind, asked[:rows], asked[rows : rows + shots])


def after(shots: Sequence[Question], layout: Layout) -> Layout:
    """The layout with solved questions before it, parted by empty lines."""
    solved = [(context, choices[shot.gold]) for shot in shots for context, choices in [layout(shot)]]
    before = "".join(f"{context} {choice}\n\n" for context, choice in solved)

    def asked(question: Question) -> tuple[str, Sequence[str]]:
        context, choices = layout(question)
        return before + context, choices

    return asked


def _enough(questions: tuple[Q, ...], path: Path, rows: int, shots: int) -> tuple[Q, ...]:
    if len(questions) < rows + shots:
        raise DataError(f"{path}: {len(questions)} questions, fewer than {rows} and {shots} shots")
    return questions
