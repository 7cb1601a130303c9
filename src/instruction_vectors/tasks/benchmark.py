"""A benchmark: tasks, each with its sides, and the orders in which they are learnt."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from instruction_vectors.errors import DataError
from instruction_vectors.tasks.task import Task


@dataclass(frozen=True)
class Sides:
    """One task's rows to train on, to test on and, where there are some, to choose settings on."""

    train: Task
    test: Task
    eval: Task | None = None

    def items(self) -> tuple[tuple[str, Task], ...]:
        """The sides there are, by name: `train`, `eval`, `test`."""
        sides = {"train": self.train, "eval": self.eval, "test": self.test}
        return tuple((name, task) for name, task in sides.items() if task is not None)

    @property
    def name(self) -> str:
        """The task's name."""
        return self.train.name

    def without_seen(self) -> "Sides":
        """The same, with test rows left out whose input also stands in train or eval.

        Raises:
            DataError: no test row is left.
        """
        seen = {row.input for side, task in self.items() if side != "test" for row in task.rows}
        kept = tuple(row for row in self.test.rows if row.input not in seen)
        if len(kept) == len(self.test.rows):
            return self
        if not kept:
            raise DataError(f"task {self.name!r}: every test row's input also stands in train or eval")
        note = f"{len(self.test.rows) - len(kept)} test rows left out: their input also stands in train or eval"
        return replace(self, test=replace(self.test, rows=kept, notes=(*self.test.notes, note)))


@dataclass(frozen=True)
class Benchmark:
    """Tasks and the published orders to learn them in.

    Attributes:
        name: short name, as `load_benchmark` takes it.
        tasks: every task by name.
        sequences: orders by name, each a tuple of task names.
        notes: what the reader left out or changed.
    """

    name: str
    tasks: Mapping[str, Sides]
    sequences: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not self.tasks:
            raise DataError(f"benchmark {self.name!r} has no tasks")
        for name, sequence in self.sequences.items():
            if missing := [task for task in sequence if task not in self.tasks]:
                raise DataError(f"benchmark {self.name!r}: sequence {name!r} names unknown tasks: {', '.join(missing)}")

    def sequence(self, name: str) -> tuple[Sides, ...]:
        """The tasks of a published order.

        Raises:
            DataError: no such order.
        """
        if name not in self.sequences:
            known = ", ".join(self.sequences) or "none with the tasks that were read"
            raise DataError(f"benchmark {self.name!r} has no sequence {name!r}; it has: {known}")
        return tuple(self.tasks[task] for task in self.sequences[name])


def complete(sequences: Mapping[str, tuple[str, ...]], tasks: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The orders all of whose tasks are there."""
    there = set(tasks)
    return {name: order for name, order in sequences.items() if there.issuperset(order)}
