"""What a diagnosis measures: rows, prompts, scales; and the disjoint parts of each task it draws them from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from instruction_vectors.analysis.verdict import Rules
from instruction_vectors.errors import DataError
from instruction_vectors.evaluation.abilities import Probe
from instruction_vectors.tasks import load_task, task_names
from instruction_vectors.tasks.task import Example, Task


@dataclass(frozen=True, slots=True)
class Plan:
    """Settings of a diagnosis; the defaults suit a model of 10^8 parameters on two cores.

    Attributes:
        rows: rows a task every score stands on.
        validation_rows: rows a task on which the vectors' scale is chosen, in the base.
        shots: shots of few-shot prompts.
        heads: how many heads a vector has.
        mean_prompts: prompts a task that head outputs are averaged over.
        effect_prompts: counterfactual prompts in all that find the heads; spread over the tasks.
        scales: how strongly vectors may go in.
        dials: how much of the fine-tune is kept where it is turned down.
        relearn_steps: gradient steps of the relearning rung; 0 leaves it out.
        relearn_rate: their learning rate.
        repeats: how often the base is measured again, asked otherwise, to tell its own noise; 0 leaves it out.
        rules: of the verdict.
        seed: what every draw depends on.
    """

    rows: int = 24
    validation_rows: int = 4
    shots: int = 5
    heads: int = 10
    mean_prompts: int = 10
    effect_prompts: int = 12
    scales: tuple[float, ...] = (1.0, 1.5, 2.0)
    dials: tuple[float, ...] = (0.75, 0.5, 0.25)
    relearn_steps: int = 0
    relearn_rate: float = 1e-3
    repeats: int = 1
    rules: Rules = field(default_factory=Rules)
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.rows, self.validation_rows, self.shots, self.heads, self.mean_prompts, self.effect_prompts) < 1:
            raise DataError("rows, prompts, shots and heads of a diagnosis are 1 or more")


LAST = "\0last"
"""What the task trained on last is called among the tasks measured: no task has that name."""


@dataclass(frozen=True)
class Subject:
    """One task of a diagnosis, its parts disjoint.

    Attributes:
        probe: the rows measured, and the rows that shots come from.
        validation: rows on which the scale is chosen.
    """

    probe: Probe
    validation: tuple[Example, ...]

    @classmethod
    def of(cls, task: Task, plan: Plan) -> "Subject":
        """Split a task.

        Raises:
            DataError: too few rows, or a task that cannot be ranked (one answer only).
        """
        need = cls.rows_needed(plan)
        if len(task.rows) < need:
            raise DataError(
                f"task {task.name!r} has {len(task.rows)} rows; with these settings a diagnosis needs {need}: "
                "measure fewer rows (--rows), or other tasks (--task)"
            )
        queries, validation, rest = task.split(plan.rows, plan.validation_rows, -1, seed=plan.seed)
        if len(task.choices(queries.rows[0])) < 2:
            raise DataError(f"task {task.name!r}: every answer is the same, so there is nothing to choose from")
        return cls(Probe(task, queries.rows, rest, plan.shots), validation.rows)

    @staticmethod
    def rows_needed(plan: Plan) -> int:
        """The fewest a task may have."""
        return plan.rows + plan.validation_rows + plan.shots + 1

    def again(self, turn: int) -> Probe:
        """The same rows and options asked for anew: other shots, and the next wordings of instruction and cloze."""
        task = self.task
        wordings = (_turned(task.instructions, turn), _turned(task.knowledge, turn))
        other = replace(self.probe.demonstrations, name=f"{task.name}/again {turn}")  # shots are drawn by name
        return replace(self.probe, task=replace(task, instructions=wordings[0], knowledge=wordings[1]), demonstrations=other)

    @property
    def task(self) -> Task:
        """The whole task."""
        return self.probe.task

    @property
    def width(self) -> float:
        """The largest difference of a row's chance-corrected score."""
        return self.probe.width


def _turned(wordings: tuple[str, ...], turn: int) -> tuple[str, ...]:
    start = turn % len(wordings) if wordings else 0
    return wordings[start:] + wordings[:start]


def subjects_of(tasks: Sequence[str | Path | Task] | None, plan: Plan, trained: Sequence[Task] = ()) -> dict[str, Subject]:
    """The tasks of a diagnosis by name, each once; by default the shipped ones with a knowledge form and rows enough.

    Those of `trained` that are not among them come last.

    Raises:
        DataError: an unknown or malformed task, or fewer than two (other tasks are controls).
    """
    loaded = [task if isinstance(task, Task) else load_task(task) for task in (task_names() if tasks is None else tasks)]
    if tasks is None:
        loaded = [task for task in loaded if task.knowledge]
        enough = [task for task in loaded if len(task.rows) >= Subject.rows_needed(plan)]
        loaded = enough if len(enough) > 1 else loaded  # of which the first is then refused for want of rows
    everything = [*loaded, *trained]
    loaded = [task for number, task in enumerate(everything) if task not in everything[:number]]
    names = [task.name for task in loaded]
    if len(set(names)) != len(names):
        loaded = [replace(task, name=f"{task.name} ({k})") for k, task in enumerate(loaded)]
    if len(loaded) < 2:
        raise DataError("a diagnosis needs two tasks or more: another task's vector and shots are its controls")
    return {task.name: Subject.of(task, plan) for task in loaded}


def name_among(task: Task, subjects: Mapping[str, Subject]) -> str | None:
    """What a task is called among the subjects (of two with one name each has got another), None where it is not one."""
    return next((name for name, subject in subjects.items() if replace(subject.task, name=task.name) == task), None)


def other_of(name: str, names: Sequence[str], *, but: str | None = None) -> str:
    """The task whose vector and shots are a task's control: the one half the list away, fixed before anything is measured.

    If that is `but`, the next one that is neither; of two tasks there is none, and it stays.
    """
    start = names.index(name) + max(1, len(names) // 2)
    turned = [names[(start + k) % len(names)] for k in range(len(names))]
    return next((other for other in turned if other not in (name, but)), turned[0])
