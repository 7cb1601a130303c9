"""General ability on multiple-choice sets: GP without shots, IP with five, both by rank classification."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.errors import DataError
from instruction_vectors.evaluation.multiple_choice import LAYOUTS, Layout, Question, read_questions, score_questions
from instruction_vectors.evaluation.scoring import chance_corrected, rank


@dataclass(frozen=True)
class GeneralSet:
    """A set of questions and, apart from them, the solved ones that stand before each in the in-context form."""

    name: str
    questions: tuple[Question, ...]
    shots: tuple[Question, ...]

    @classmethod
    def read(cls, name: str, data_dir: Path, rows: int, shots: int = 5) -> "GeneralSet":
        """The first `rows` questions of `eval/<name>.json`, the next ones as shots.

        Raises:
            DataError: unknown set, a malformed file, or fewer questions than asked for.
        """
        if name not in LAYOUTS:
            raise DataError(f"unknown general set {name!r}; there are {', '.join(LAYOUTS)}")
        path = data_dir / "eval" / f"{name}.json"
        questions = read_questions(path)
        if len(questions) < rows + shots:
            raise DataError(f"{path}: {len(questions)} questions, fewer than {rows} and {shots} shots")
        return cls(name, questions[:rows], questions[rows : rows + shots])

    def measure(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> dict[str, list[float]]:
        """Row by row and chance-corrected: `zero_shot` (GP) and `in_context` (IP); raw log-likelihood sums are ranked."""
        layout = LAYOUTS[self.name]
        forms = {"zero_shot": layout, "in_context": after(self.shots, layout)}
        return {form: self._scores(model, tokenizer, asked) for form, asked in forms.items()}

    def _scores(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase, layout: Layout) -> list[float]:
        scored = score_questions(model, tokenizer, self.questions, layout)
        return [
            chance_corrected(float(rank(scores) == question.gold), 1 / len(question.choices))
            for question, scores in zip(self.questions, scored, strict=True)
        ]


def after(shots: Sequence[Question], layout: Layout) -> Layout:
    """The layout with solved questions before it, parted by empty lines."""
    solved = [(context, choices[shot.gold]) for shot in shots for context, choices in [layout(shot)]]
    before = "".join(f"{context} {choice}\n\n" for context, choice in solved)

    def asked(question: Question) -> tuple[str, Sequence[str]]:
        context, choices = layout(question)
        return before + context, choices

    return asked
