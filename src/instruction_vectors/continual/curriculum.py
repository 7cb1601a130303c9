"""What a cell trains on and is measured on: rows drawn by seed, prompts within their budget, answers scored as published."""

import hashlib
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from torch import nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.continual.cell import Cell
from instruction_vectors.continual.methods import method_named
from instruction_vectors.errors import DataError
from instruction_vectors.evaluation.abilities import Probe
from instruction_vectors.evaluation.answers import answer_scores
from instruction_vectors.evaluation.general import GeneralSet, read_general_set
from instruction_vectors.evaluation.open_questions import INSTRUCTIONS, OpenQuestion, read_open_questions
from instruction_vectors.tasks import load_benchmark, load_task
from instruction_vectors.tasks.benchmark import Sides
from instruction_vectors.tasks.layout import template_of
from instruction_vectors.tasks.prompts import Prompt
from instruction_vectors.tasks.task import Example, Task
from instruction_vectors.tasks.truncate import fit, fit_all
from instruction_vectors.training.collator import rows_of

INSTRUCTION_SET = "instructions_alpaca"
"""The set of `eval/` that general instructions are mixed in from."""
_ENOUGH = 8
"""Rows that vectors draw their prompts from, as a multiple of the prompts: shots and queries seldom repeat."""
_TEST_SEED = 0
"""Test rows and probes are the same for every seed of a cell, so that cells can be compared row by row."""


@dataclass(frozen=True)
class Lesson:
    """One task of the sequence.

    Attributes:
        train: the rows trained on.
        test: the rows of the score matrix, none of them seen in training.
    """

    train: Task
    test: Task

    @property
    def name(self) -> str:
        """The task's name."""
        return self.train.name


@dataclass(frozen=True)
class Curriculum:
    """The sequence's lessons in their order, and the probes."""

    cell: Cell
    lessons: tuple[Lesson, ...]
    probes: tuple[Probe, ...]
    general: tuple[GeneralSet, ...] = ()
    instructions: tuple[OpenQuestion, ...] = ()

    @classmethod
    def of(cls, cell: Cell, data_dir: Path | None) -> Self:
        """Read the cell's tasks; `shipped` is the benchmark made of the package's own tasks and needs no folder.

        Raises:
            DataError: no folder given, unknown sequence, malformed data, or a probe that is trained on.
        """
        sides = _sides(cell, data_dir)
        names = [s.name for s in sides]
        if len(set(names)) < len(names):
            raise DataError(f"sequence {cell.sequence!r} has a task twice")
        if trained := {plain_name(name) for name in names} & {plain_name(name) for name in cell.probes}:
            raise DataError(f"{', '.join(sorted(trained))}: trained on, so no probe; choose other probes")
        lessons = tuple(
            Lesson(_drawn(s.train, cell.train_rows, cell.seed), _drawn(s.test, cell.test_rows, _TEST_SEED)) for s in sides
        )
        probes = tuple(Probe.of(load_task(name), cell.probe_rows, seed=_TEST_SEED) for name in cell.probes)
        general = tuple(read_general_set(name, _folder(cell, data_dir), cell.general_rows, cell.shots) for name in cell.general)
        instructions = _instructions(cell, data_dir) if method_named(cell.method).needs_instructions else ()
        return cls(cell, lessons, tuple(replace(probe, shots=cell.shots) for probe in probes), general, instructions)

    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of everything that is trained on or measured, by task and side."""
        tasks = {f"{x.name}/{side}": task for x in self.lessons for side, task in (("train", x.train), ("test", x.test))}
        tasks |= {f"{probe.task.name}/probe": probe.task for probe in self.probes}
        general = {f"{each.name}/general": _digest(repr((each.questions, each.shots))) for each in self.general}
        mixed = {f"{INSTRUCTION_SET}/instructions": _digest(repr(self.instructions))} if self.instructions else {}
        return {name: task.fingerprint for name, task in tasks.items()} | general | mixed

    def training_rows(self, lesson: Lesson, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
        """The lesson's rows as the trainer takes them, under the vector of its name."""
        end = "\n" if lesson.train.metric == "accuracy" else tokenizer.eos_token or "\n"
        prompts = [self._prompt(lesson.train, row, tokenizer) for row in lesson.train.rows]
        return self._rows(prompts, tokenizer, end, vector=lesson.name)

    def instruction_rows(self, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
        """General instructions as the trainer takes them, for a method that asks for them; none longer than a cell's inputs."""
        prompts = [Prompt(each.prompt, each.answers[0]) for each in self.instructions]
        rows = self._rows(prompts, tokenizer, tokenizer.eos_token or "\n")
        return [row for row in rows if len(row["input_ids"]) <= self.cell.max_tokens]

    def _rows(
        self, prompts: Sequence[Prompt], tokenizer: PreTrainedTokenizerBase, end: str, vector: str = ""
    ) -> list[dict[str, Any]]:
        """An answer longer than a cell lets a model write is cut, and not taught to end there."""
        rows = []
        for prompt in prompts:
            answer = _cut(prompt.target, tokenizer, self.cell.max_new_tokens)
            told = end if answer == prompt.target else ""
            rows += rows_of(tokenizer, [Prompt(prompt.text, answer)], end=told, vector=vector)
        return rows

    def measure(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase, lesson: Lesson) -> list[float]:
        """Score of every test row, from 0 to 1, as `answer_scores` gives it."""
        task = lesson.test
        prompts = [self._prompt(task, row, tokenizer).text for row in task.rows]
        return answer_scores(model, tokenizer, task, prompts, max_new_tokens=self.cell.max_new_tokens)

    def cut(self, tokenizer: PreTrainedTokenizerBase) -> dict[str, dict[str, int]]:
        """Of each task, how many rows lost the middle of their input, and how many training rows the end of their answer."""

        def inputs(task: Task) -> int:
            return fit_all(task, task.rows, tokenizer, self.cell.max_tokens, template=template_of(task))[1].cut_prompts

        def answers(task: Task) -> int:
            targets = [template_of(task).answer(row.output) for row in task.rows]
            return sum(_cut(target, tokenizer, self.cell.max_new_tokens) != target for target in targets)

        return {
            lesson.name: {
                "train_inputs": inputs(lesson.train),
                "train_answers": answers(lesson.train),
                "test_inputs": inputs(lesson.test),
            }
            for lesson in self.lessons
        }

    def short(self, lesson: Lesson, tokenizer: PreTrainedTokenizerBase) -> Task:
        """The training rows for in-context prompts, long inputs cut in their middle so that a prompt stays within `max_tokens`.

        Raises:
            DataError: too little room for the instruction and the shots.
        """
        task, shots = lesson.train, self.cell.shots
        template = template_of(task)
        head = len(tokenizer(template(task.instruction, (), ""))["input_ids"])
        room = (self.cell.max_tokens - head) // (shots + 1)
        rows = []
        for row in task.rows[: _ENOUGH * self.cell.mean_prompts]:
            answer = row.output if task.options else _cut(row.output, tokenizer, max(1, room // 2))
            taken = len(tokenizer(answer)["input_ids"])
            rows.append(
                fit(task, replace(row, output=answer, references=()), tokenizer, head + room - taken, template=template).row
            )
        return replace(task, rows=tuple(rows), repeats=True)

    def _prompt(self, task: Task, row: Example, tokenizer: PreTrainedTokenizerBase) -> Prompt:
        return fit(task, row, tokenizer, self.cell.max_tokens, template=template_of(task)).prompt


def _sides(cell: Cell, data_dir: Path | None) -> Sequence[Sides]:
    if cell.benchmark == "shipped":
        return [_halves(load_task(name), cell) for name in cell.sequence.split(",")]
    benchmark = load_benchmark(cell.benchmark, _folder(cell, data_dir))
    return [sides.without_seen() for sides in benchmark.sequence(cell.sequence)]


def _instructions(cell: Cell, data_dir: Path | None) -> tuple[OpenQuestion, ...]:
    """All rows of the set but those that a general set of that name would measure or show."""
    if data_dir is None:
        raise DataError(f"method {cell.method!r} mixes in eval/{INSTRUCTION_SET}.json: give --data-dir, or set IV_DATA_DIR")
    path = data_dir / "eval" / f"{INSTRUCTION_SET}.json"
    return read_open_questions(path, INSTRUCTIONS)[cell.general_rows + cell.shots :]


def _folder(cell: Cell, data_dir: Path | None) -> Path:
    if data_dir is None:
        what = f"benchmark {cell.benchmark!r}" if cell.benchmark != "shipped" else f"general set {cell.general[0]!r}"
        raise DataError(f"{what} is read from a folder: give --data-dir, or set IV_DATA_DIR")
    return data_dir


def _halves(task: Task, cell: Cell) -> Sides:
    """A shipped task's rows, those to test on drawn first.

    Raises:
        DataError: there are too few for two sides.
    """
    if len(task.rows) < 2:
        raise DataError(f"task {task.name!r} has one row; at least two are needed, one to train on and one to test on")
    test, train = task.split(min(cell.test_rows, len(task.rows) // 2), -1, seed=_TEST_SEED)
    return Sides(train, test)


def _drawn(task: Task, count: int, seed: int) -> Task:
    rows = random.Random(f"{task.name}/{seed}/drawn").sample(task.rows, min(count, len(task.rows)))
    return replace(task, rows=tuple(rows))


def plain_name(name: str) -> str:
    """The name without the number of words to choose among: choosing of five is the same skill as of three."""
    return re.sub(r"-\d+$", "", name.replace("_", "-").lower())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _cut(answer: str, tokenizer: PreTrainedTokenizerBase, tokens: int) -> str:
    """The answer's first `tokens` tokens, cut where a character ends."""
    encoded = tokenizer(answer, add_special_tokens=False, return_offsets_mapping=True)
    return answer if len(encoded["input_ids"]) <= tokens else answer[: encoded["offset_mapping"][tokens - 1][1]]
