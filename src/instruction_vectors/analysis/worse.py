"""What got worse: the forms of every task in base and tuned model, paired row by row."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.analysis.conditions import Condition, ask
from instruction_vectors.analysis.contrast import contrast, level, standard_error, upper_bound
from instruction_vectors.analysis.plan import Subject
from instruction_vectors.analysis.verdict import Rules
from instruction_vectors.errors import DataError
from instruction_vectors.evaluation.abilities import FORMS, RANKED, Form, Rows, measure
from instruction_vectors.evaluation.knowledge import Estimate, Split, split_drop
from instruction_vectors.evaluation.statistics import minimum_detectable_effect


@dataclass(frozen=True)
class Change:
    """One form of one task, before and after.

    Attributes:
        base: the base's score.
        tuned: the tuned model's.
        drop: base minus tuned, paired.
        bound: one-sided upper bound of the drop.
        smallest: the smallest drop that these rows would show, four times in five.
    """

    base: Estimate
    tuned: Estimate
    drop: Estimate
    bound: float
    smallest: float


def forms_of(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, subjects: Mapping[str, Subject], step: Callable[[], None]
) -> dict[str, Rows]:
    """Row-by-row results of every form of every task; the instruction form also where a task has no knowledge form."""
    results = {}
    for name, subject in subjects.items():
        rows = measure(model, tokenizer, subject.probe)
        if "instruction" not in rows:
            rows["instruction"] = ask(model, tokenizer, subject, {"x+c": Condition()})["x+c"]
        results[name] = rows
        step()
    return results


def changes_of(subject: Subject, base: Rows, tuned: Rows, rules: Rules) -> dict[Form, Change]:
    """How each form of a task changed."""
    return {form: _change(base[form], tuned[form], _width(subject, form), rules) for form in FORMS if form in base}


def split_of(base: Mapping[str, Rows], tuned: Mapping[str, Rows], seed: int) -> Split | None:
    """The drop over all tasks with both forms, split into knowledge and instruction following; None without such tasks."""
    try:
        return split_drop(base, tuned, seed=seed)
    except DataError:
        return None


def _width(subject: Subject, form: Form) -> float:
    return subject.width if form in RANKED else 1.0


def _change(base: list[float], tuned: list[float], width: float, rules: Rules) -> Change:
    differences = [b - t for b, t in zip(base, tuned, strict=True)]
    return Change(
        base=level(base, 1 - width, confidence=rules.confidence),
        tuned=level(tuned, 1 - width, confidence=rules.confidence),
        drop=contrast(differences, width, confidence=rules.confidence),
        bound=upper_bound(differences, width, confidence=rules.confidence),
        smallest=minimum_detectable_effect(standard_error(differences, width)),
    )
