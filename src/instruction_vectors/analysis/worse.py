"""What got worse: the forms of every task in base and tuned model, paired row by row."""

from collections.abc import Callable, Mapping, Sequence
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
from instruction_vectors.evaluation.statistics import minimum_detectable_effect, noise_floor


@dataclass(frozen=True)
class Change:
    """One form of one task, before and after.

    Attributes:
        base: the base's score.
        tuned: the tuned model's.
        drop: base minus tuned, paired.
        bound: one-sided upper bound of the drop.
        smallest: the smallest drop that counts and that these rows would show, four times in five.
        floor: how far two runs of the base itself may differ, asked otherwise; 0 where it was asked once.
        worse: whether the drop counts: surely above 0 over these rows, and above the floor.
    """

    base: Estimate
    tuned: Estimate
    drop: Estimate
    bound: float
    smallest: float
    floor: float = 0.0
    worse: bool = False


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


def floors_of(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, subjects: Mapping[str, Subject], forms: Mapping[str, Rows], repeats: int
) -> dict[Form, float]:
    """By form, how far two runs of the same model on the same rows may differ, asked with other shots and wordings.

    Pooled over tasks. Tasks that can be asked in one way only say nothing about it; a form in which no task can be asked
    otherwise has no floor.
    """
    runs: dict[Form, dict[str, list[float]]] = {}
    for name, subject in subjects.items():
        for turn in range(1, repeats + 1):
            for form, rows in measure(model, tokenizer, subject.again(turn), _asked_otherwise(subject)).items():
                runs.setdefault(form, {}).setdefault(name, [_mean(forms[name][form])]).append(_mean(rows))
    return {form: noise_floor(*by_task.values()) for form, by_task in runs.items()}


def changes_of(subject: Subject, base: Rows, tuned: Rows, rules: Rules, floors: Mapping[Form, float]) -> dict[Form, Change]:
    """How each form of a task changed."""
    return {
        form: change_of(base[form], tuned[form], width_of(subject, form), rules, floors.get(form, 0.0))
        for form in FORMS
        if form in base
    }


def split_of(base: Mapping[str, Rows], tuned: Mapping[str, Rows], seed: int) -> Split | None:
    """The drop over all tasks with both forms, split into knowledge and instruction following; None without such tasks."""
    try:
        return split_drop(base, tuned, seed=seed)
    except DataError:
        return None


def width_of(subject: Subject, form: Form) -> float:
    """The largest difference of a row's score in one form."""
    return subject.width if form in RANKED else 1.0


def _asked_otherwise(subject: Subject) -> list[Form]:
    """The forms in which a task can be asked otherwise, and are measured in the same way."""
    task = subject.task
    told, known = len(task.instructions) > 1, len(task.knowledge) > 1
    ranked = told and bool(task.knowledge)
    varied: dict[Form, bool] = {"in_context": True, "zero_shot": told, "knowledge": known, "instruction": ranked}
    return [form for form in FORMS if varied[form]]


def change_of(base: Sequence[float], tuned: Sequence[float], width: float, rules: Rules, floor: float = 0.0) -> Change:
    """One score before and after, from the same rows; `width` is the largest difference that a row can show."""
    differences = [b - t for b, t in zip(base, tuned, strict=True)]
    drop = contrast(differences, width, confidence=rules.confidence)
    return Change(
        base=level(base, 1 - width, confidence=rules.confidence),
        tuned=level(tuned, 1 - width, confidence=rules.confidence),
        drop=drop,
        bound=upper_bound(differences, width, confidence=rules.confidence),
        smallest=max(floor, minimum_detectable_effect(standard_error(differences, width))),
        floor=floor,
        worse=drop.interval[0] > 0 and drop.value > floor,
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
