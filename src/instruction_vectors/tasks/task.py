"""A task: inputs, an instruction in several wordings, answers, and where there is one the same facts as a bare cloze."""

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from instruction_vectors.errors import DataError

Kind = Literal["generate", "choose", "classify"]
Metric = Literal["accuracy", "rouge_l", "rouge_l_stemmed", "edit_similarity", "sari"]


@dataclass(frozen=True, slots=True)
class Example:
    """One row: an input `x` and its answer `y`; `references` holds every right answer, `output` among them, where there
    are several."""

    input: str
    output: str
    references: tuple[str, ...] = ()

    @property
    def answers(self) -> tuple[str, ...]:
        """All right answers, at least one."""
        return self.references or (self.output,)


@dataclass(frozen=True)
class Task:
    """Rows under one instruction `c` (Figure 2 of Jiang et al. 2406.12227).

    Attributes:
        name: short name, unique in its benchmark.
        instructions: wordings of `c`; the first is the canonical one.
        rows: the examples, inputs unique unless `repeats`.
        knowledge: cloze wordings with `{input}` whose next words are the answer (the knowledge form); empty where the
            task has none, as for copying or choosing by position.
        options: the fixed label set of a classification, else None.
        kind: what the answer is: written freely, chosen among words of the input, or one of the options.
        sources: where the rows come from.
        layout: how a benchmark lays out `{instruction}` and `{input}` up to where the answer begins, None where it does
            not say; `template_of` in `layout.py` makes prompts of it.
        metric: how the benchmark scores answers.
        repeats: rows may share an input, as in published training sets that oversample.
        demonstrations: solved examples that come with the instruction and are not among the rows.
        notes: what the reader changed, and how often.
    """

    name: str
    instructions: tuple[str, ...]
    rows: tuple[Example, ...]
    knowledge: tuple[str, ...] = ()
    options: tuple[str, ...] | None = None
    kind: Kind = "generate"
    sources: tuple[str, ...] = field(default=(), repr=False)
    layout: str | None = None
    metric: Metric = "accuracy"
    repeats: bool = False
    demonstrations: tuple[Example, ...] = field(default=(), repr=False)
    notes: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not self.rows:
            raise DataError(f"task {self.name!r} has no rows")
        if not self.instructions or not all(c.strip() for c in self.instructions):
            raise DataError(f"task {self.name!r} needs at least one instruction, none of them empty")
        for cloze in self.knowledge:
            if "{input}" not in cloze:
                raise DataError(f"task {self.name!r}: the knowledge form {cloze!r} lacks {{input}}")
        if self.options is not None and len(set(self.options)) != len(self.options):
            raise DataError(f"task {self.name!r} lists an option twice")
        if self.options is not None and len(self.options) < 2:
            raise DataError(f"task {self.name!r} lists fewer than two options, which leaves nothing to choose")
        if self.layout is not None and (self.layout.count("{input}") != 1 or self.layout.count("{instruction}") > 1):
            raise DataError(f"task {self.name!r}: the layout {self.layout!r} needs {{input}} once, {{instruction}} at most once")
        if self.layout is not None and "{instruction}" in self.layout.partition("{input}")[2]:
            raise DataError(f"task {self.name!r}: the layout {self.layout!r} needs {{instruction}} before {{input}}")
        seen: dict[str, int] = {}
        for number, row in enumerate(self.rows, start=1):
            if not row.input.strip() or not row.output.strip():
                raise DataError(f"task {self.name!r}, row {number}: empty {'input' if row.output.strip() else 'output'}")
            if row.references and row.output not in row.references:
                raise DataError(f"task {self.name!r}, row {number}: the output {row.output!r} is not among its references")
            if row.input in seen and not self.repeats:
                raise DataError(f"task {self.name!r}, row {number}: the input {row.input!r} is already in row {seen[row.input]}")
            if self.options is not None and row.output not in self.options:
                raise DataError(f"task {self.name!r}, row {number}: the output {row.output!r} is not among the options")
            if self.kind == "choose" and self.options is None:
                if row.output not in (words := _words(row)):
                    raise DataError(f"task {self.name!r}, row {number}: the output {row.output!r} is no word of its input")
                if len(words) < 2:
                    raise DataError(f"task {self.name!r}, row {number}: one word leaves nothing to choose")
            seen[row.input] = number

    @property
    def instruction(self) -> str:
        """The canonical wording of the instruction."""
        return self.instructions[0]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides what the task asks."""
        rows = [(r.input, r.output, *r.references) for r in self.rows]
        content = [self.name, self.instructions, self.knowledge, self.options, rows]
        content += [self.layout] if self.layout is not None else []
        return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()

    def split(self, *sizes: int, seed: int = 0) -> tuple["Task", ...]:
        """Disjoint parts of the given sizes, drawn by seed; a size of -1 takes all that is left.

        Rows that share an input stay together, so no input stands in two parts.

        Raises:
            DataError: fewer rows than asked for, or too few inputs to fill a part exactly.
        """
        groups: dict[str, list[Example]] = {}
        for row in self.rows:
            groups.setdefault(row.input, []).append(row)
        order = list(groups.values())
        random.Random(f"{self.name}/{seed}").shuffle(order)
        fixed, total = sum(size for size in sizes if size >= 0), len(self.rows)
        if fixed > total:
            raise DataError(f"task {self.name!r} has {total} rows; a split of {sizes} needs {fixed}")
        parts: list[tuple[Example, ...]] = []
        for size in sizes:
            room = total - fixed if size < 0 else size
            taken: list[list[Example]] = []
            left: list[list[Example]] = []
            for group in order:
                (taken if len(group) <= room else left).append(group)
                room -= len(group) if len(group) <= room else 0
            if room:
                raise DataError(f"task {self.name!r}: rows that share an input cannot be split into {sizes}")
            parts.append(tuple(row for group in taken for row in group))
            order = left
        return tuple(replace(self, rows=part) if part else _empty(self) for part in parts)

    def choices(self, row: Example, count: int = 4, seed: int = 0) -> tuple[str, ...]:
        """Answer options for rank classification: the label set, or the answer among other rows' answers.

        For a task that chooses among words of its input, these words. Of several right answers the others are left out, where
        that leaves a choice. The order is drawn by seed and row, so the right option has no preferred place.
        """
        generator = random.Random(f"{self.name}/{row.input}/{seed}")
        if self.options is not None:
            options = list(self.options)
        elif self.kind == "choose":
            options = _words(row)
        else:
            others = sorted({r.output for r in self.rows} - {row.output})
            others = [other for other in others if other not in row.answers] or others
            options = [row.output, *generator.sample(others, min(count - 1, len(others)))]
        single = [option for option in options if option == row.output or option not in row.answers]
        options = single if len(single) > 1 else options
        generator.shuffle(options)
        return tuple(options)


def _words(row: Example) -> list[str]:
    """The words of a list, each once."""
    return list(dict.fromkeys(word.strip() for word in row.input.split(",")))


def _empty(task: Task) -> Task:
    """A part of size 0; only a split may make one."""
    part = object.__new__(Task)
    for name in Task.__dataclass_fields__:
        object.__setattr__(part, name, getattr(task, name))
    object.__setattr__(part, "rows", ())
    return part


def check_disjoint(name: str, sides: dict[str, Sequence[Example]]) -> None:
    """Raise DataError if an input stands on two sides of a split."""
    seen: dict[str, str] = {}
    for side, rows in sides.items():
        for number, row in enumerate(rows, start=1):
            other = seen.setdefault(row.input, side)
            if other != side:
                raise DataError(f"task {name!r}, {side} row {number}: the input {row.input!r} is also in {other}")
