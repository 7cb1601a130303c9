"""What validation found, as plain values and as lines of text."""

from dataclasses import asdict, dataclass
from typing import Any

from instruction_vectors.tasks.leaks import Leak


@dataclass(frozen=True)
class Lengths:
    """Of prompts with instruction and answer: the shortest, the middle one, the 95th percentile, the longest."""

    shortest: int
    median: int
    p95: int
    longest: int


@dataclass(frozen=True)
class Asked:
    """What M0 scores without examples: by which measure, the mean from 0 to 1, on how many rows."""

    measure: str
    mean: float
    rows: int


@dataclass(frozen=True)
class SideReport:
    """One side of a task.

    Attributes:
        rows: how many.
        inputs: how many different inputs.
        repeated: rows whose input an earlier row has.
        conflicting: inputs whose rows do not agree on the answer.
        several: rows with several right answers.
        labels: how often each option is the answer; None where there is no fixed label set.
        majority: share of the commonest answer, what always saying it would score.
        characters: lengths in characters.
        tokens: lengths in tokens, None without a tokenizer.
        over: rows longer than the limit in tokens, None without tokenizer or limit.
        notes: what the reader changed.
        base: what M0 scores, where it was asked.
    """

    rows: int
    inputs: int
    repeated: int
    conflicting: int
    several: int
    labels: dict[str, int] | None
    majority: float
    characters: Lengths
    tokens: Lengths | None
    over: int | None
    notes: tuple[str, ...]
    base: tuple[Asked, ...] = ()


@dataclass(frozen=True)
class Overlap:
    """Inputs that stand on two sides, and how many rows of the later side have one."""

    first: str
    second: str
    inputs: int
    rows: int


@dataclass(frozen=True)
class TaskReport:
    """One task: its sides by name (`rows` for a task that has none) and the overlaps between them that there are."""

    name: str
    sides: dict[str, SideReport]
    overlaps: tuple[Overlap, ...]


@dataclass(frozen=True)
class Report:
    """What `validate` found; `to_dict` is what `--json` prints."""

    name: str
    tasks: tuple[TaskReport, ...]
    sequences: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]
    leaks: tuple[Leak, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain types only."""
        return asdict(self)


def render(report: Report) -> str:
    """The report as lines of text: one a side, one an overlap, one a leak, one a note."""
    lines = [f"{report.name}: {len(report.tasks)} tasks, {sum(s.rows for t in report.tasks for s in t.sides.values()):,} rows"]
    for task in report.tasks:
        for side, counted in task.sides.items():
            line = (
                f"{task.name:24} {side:6}{counted.rows:7,} rows{counted.repeated:6,} repeated{counted.conflicting:5,} conflicting"
            )
            length, unit = (counted.tokens, "tokens") if counted.tokens else (counted.characters, "characters")
            line += f"  most common answer {counted.majority:4.0%}  {unit} {length.median:,} (median) to {length.longest:,}"
            lines.append(line + (f", {counted.over:,} over the limit" if counted.over is not None else ""))
            if counted.base:
                asked = ", ".join(f"{one.measure} {one.mean:.0%}" for one in counted.base)
                lines.append(f"{'':32}M0 without examples: {asked} on {counted.base[0].rows} rows")
            if counted.labels:
                lines.append(f"{'':32}" + ", ".join(f"{label} {count:,}" for label, count in counted.labels.items()))
            lines += [f"{'':32}note: {note}" for note in counted.notes]
        for over in task.overlaps:
            lines.append(
                f"{'':32}{over.inputs:,} inputs in both {over.first} and {over.second} ({over.rows:,} rows of {over.second})"
            )
    for leak in report.leaks:
        lines.append(
            f"{leak.measured}: {leak.rows:,} of {leak.of:,} rows to measure on also stand in {leak.trained}, to train on"
        )
    for name, order in report.sequences.items():
        lines.append(f"sequence {name}: {' '.join(order)}")
    return "\n".join([*lines, *(f"note: {note}" for note in report.notes)])
