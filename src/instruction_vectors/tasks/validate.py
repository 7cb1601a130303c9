"""What a task or benchmark really holds: rows, repeats, overlaps, label balance, lengths, what M0 scores on it."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from instruction_vectors.errors import DataError, ModelError
from instruction_vectors.tasks.benchmark import Benchmark, Sides
from instruction_vectors.tasks.layout import template_of
from instruction_vectors.tasks.leaks import leaks_in
from instruction_vectors.tasks.prompts import instructed
from instruction_vectors.tasks.task import Task
from instruction_vectors.tasks.validation_report import Asked, Lengths, Overlap, Report, SideReport, TaskReport

Scores = Callable[[Task], Mapping[str, Sequence[float]]]
"""What a model scores on some rows of a task, each from 0 to 1, by measure; e.g. `evaluation.answers.Floor`."""


def validate(
    subject: Task | Benchmark,
    tokenizer: PreTrainedTokenizerBase | None = None,
    max_tokens: int | None = None,
    *,
    base: Scores | None = None,
    data_dir: Path | None = None,
) -> Report:
    """Count what a reader let through; what is malformed it has already refused.

    Args:
        subject: a task or a benchmark.
        tokenizer: measures lengths in its tokens, prompt and answer together.
        max_tokens: rows longer than this are counted (they would be cut; see `truncate.py`).
        base: asks the original model, M0, on test rows (all rows of a task that has no sides).
        data_dir: folder in whose other sets a benchmark's test rows are looked for (see `leaks.py`).

    Raises:
        DataError: a limit without a tokenizer.
    """
    if max_tokens is not None and tokenizer is None:
        raise DataError("a limit in tokens needs a tokenizer to count them")
    if isinstance(subject, Task):
        report = TaskReport(subject.name, {"rows": _side(subject, tokenizer, max_tokens, base)}, ())
        return Report(subject.name, (report,), {}, ())
    reports = []
    for name, sides in subject.tasks.items():
        counted = {side: _side(task, tokenizer, max_tokens, base if side == "test" else None) for side, task in sides.items()}
        reports.append(TaskReport(name, counted, overlaps(sides)))
    leaks, notes = leaks_in(data_dir, subject) if data_dir is not None else ((), ())
    return Report(subject.name, tuple(reports), dict(subject.sequences), (*subject.notes, *notes), leaks)


def tokenizer_of(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model, by short name, folder or hub id.

    Raises:
        ModelError: there is none.
    """
    from transformers import AutoTokenizer

    from instruction_vectors.models.loading import SHORT_NAMES, load

    if name in SHORT_NAMES:
        return load(name)[1]
    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(f"{name!r}: no tokenizer there ({' '.join(str(error).split())})") from error


def overlaps(sides: Sides) -> tuple[Overlap, ...]:
    """The pairs of sides that share inputs, and how many."""
    found = []
    for (first, earlier), (second, later) in combinations(sides.items(), 2):
        shared = {row.input for row in earlier.rows} & {row.input for row in later.rows}
        if shared:
            found.append(Overlap(first, second, len(shared), sum(row.input in shared for row in later.rows)))
    return tuple(found)


def _side(task: Task, tokenizer: PreTrainedTokenizerBase | None, max_tokens: int | None, base: Scores | None) -> SideReport:
    outputs: dict[str, set[str]] = {}
    for row in task.rows:
        outputs.setdefault(row.input, set()).add(row.output)
    answers = Counter(row.output for row in task.rows)
    template = template_of(task)
    prompts = [instructed(task, row, template=template) for row in task.rows]
    texts = [prompt.text + prompt.target for prompt in prompts]
    scores = base(task) if base is not None else {}
    counts = [len(ids) for ids in tokenizer(texts)["input_ids"]] if tokenizer is not None else None
    return SideReport(
        rows=len(task.rows),
        inputs=len(outputs),
        repeated=len(task.rows) - len(outputs),
        conflicting=sum(len(different) > 1 for different in outputs.values()),
        several=sum(len(row.answers) > 1 for row in task.rows),
        labels={option: answers[option] for option in task.options} if task.options else None,
        majority=max(answers.values()) / len(task.rows),
        characters=_lengths([len(text) for text in texts]),
        tokens=_lengths(counts) if counts is not None else None,
        over=sum(count > max_tokens for count in counts) if counts is not None and max_tokens is not None else None,
        notes=task.notes,
        base=tuple(Asked(measure, sum(rows) / len(rows), len(rows)) for measure, rows in scores.items()),
    )


def _lengths(values: Sequence[int]) -> Lengths:
    ordered = sorted(values)
    last = len(ordered) - 1
    return Lengths(ordered[0], ordered[round(last * 0.5)], ordered[round(last * 0.95)], ordered[last])
