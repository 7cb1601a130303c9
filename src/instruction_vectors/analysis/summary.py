"""A diagnosis as Markdown fit for a CI gate."""

from collections.abc import Sequence

from instruction_vectors.analysis.result import Diagnosis
from instruction_vectors.analysis.verdict import Rung
from instruction_vectors.analysis.words import remedy, sentences, shown


def markdown(diagnosis: Diagnosis) -> str:
    """The whole diagnosis as GitHub-flavoured Markdown."""
    parts = ["# Diagnosis", "\n".join(f"- {sentence}" for sentence in sentences(diagnosis)), "## Verdicts", _verdicts(diagnosis)]
    parts += ["## What got worse", _table(_CHANGED, _changes(diagnosis)), _COUNTS]
    if diagnosis.stages:
        parts += ["## Stage by stage", _stages(diagnosis)]
    ladder = [[name, *_rung(rung)] for name, task in diagnosis.tasks.items() for rung in (*task.rungs, *task.written_rungs)]
    if ladder:
        parts += ["## Repairs", _table(_LADDER, ladder), _NOTE]
    grid = [
        [name, model, *(f"{value:.2f}" for value in row.values())]
        for name, task in diagnosis.tasks.items()
        for model, row in task.grid.items()
    ]
    conditions = next(iter(next(iter(diagnosis.tasks.values())).grid.values()))
    parts += ["## Instruction, vector, or both", _table(["task", "model", *conditions], grid)]
    where = [
        [n, f"{t.trace.cosine:.2f}", f"{t.trace.effect_before:+.4f}", f"{t.trace.effect_after:+.4f}", f"{t.trace.last_layer:.2f}"]
        for n, t in diagnosis.tasks.items()
    ]
    parts += ["## Where", _table(["task", "cosine of vectors", "heads' effect before", "after", "last layer (control)"], where)]
    if diagnosis.explained:
        parts.append("R² against the drop, over tasks: " + ", ".join(f"{n} {v:.2f}" for n, v in diagnosis.explained.items()))
    return "\n\n".join(parts) + "\n"


_LADDER = [
    "task",
    "repair",
    "accuracy",
    "share of the drop",
    "of the base's",
    "beyond the base's gain",
    "controls beaten",
    "counts",
]
_NOTE = (
    "Scores: rank classification, 0 at chance, 1 at best; of few-shot answers with a vector, whole answers as they are "
    "written. A share is given only where the drop is clear. Repairs that bring the base's weights back or teach do not count "
    "towards the verdict."
)


_CHANGED = ["task", "measure", "base", "tuned", "drop", "noise of the base", "smallest visible", "worse"]
_COUNTS = (
    "Worse: the drop is surely above 0 over these rows, and larger than two runs of the base differ that are asked with other "
    "shots and wordings. This noise is not measured for lm-eval tasks."
)
FORM_NAMES = {
    "in_context": "few-shot, written",
    "zero_shot": "zero-shot, written",
    "knowledge": "knowledge form",
    "instruction": "instruction form",
}


def _changes(diagnosis: Diagnosis) -> list[list[str]]:
    found = [(n, FORM_NAMES[form], c) for n, task in diagnosis.tasks.items() for form, c in task.changes.items()]
    found += [(name, "lm-eval", c) for name, c in diagnosis.lm_eval.items()]
    return [
        [name, measure, f"{c.base.value:.2f}", f"{c.tuned.value:.2f}", shown(c.drop), f"{c.floor:.2f}" if c.floor else "–",
         f"{c.smallest:.2f}", "**yes**" if c.worse else "no"]
        for name, measure, c in found
    ]  # fmt: skip


def _stages(diagnosis: Diagnosis) -> str:
    """A row a task and measure, a column a stage; trained tasks first."""
    stages = list(dict.fromkeys(score.stage for score in diagnosis.stages))
    rows = []
    for untouched, name in sorted({(not score.trained, score.task) for score in diagnosis.stages}):
        scores = [score for score in diagnosis.stages if score.task == name]
        kind = "untouched" if untouched else "trained"
        for form in scores[0].forms:
            rows.append([name, kind, FORM_NAMES[form], *(f"{score.forms[form].value:.2f}" for score in scores)])
        rows.append([name, kind, "cosine of vectors", *(f"{score.cosine:.2f}" for score in scores)])
    return _table(["task", "", "measure", *stages], rows)


def _verdicts(diagnosis: Diagnosis) -> str:
    rows = []
    for name, task in diagnosis.tasks.items():
        told, known = task.changes["instruction"], task.changes.get("knowledge")
        rows.append([
            name, f"**{task.verdict.name}**", f"{told.base.value:.2f} → {told.tuned.value:.2f}", shown(told.drop),
            shown(known.drop) if known else "–", task.written.name, shown(task.changes["in_context"].drop),
            f"{told.smallest:.2f}",
            task.verdict.reason, remedy(task),
        ])  # fmt: skip
    heads = [
        "task",
        "verdict",
        "instruction form",
        "drop",
        "drop of knowledge",
        "few-shot, written",
        "drop of few-shot",
        "smallest visible",
        "why",
        "what to do",
    ]
    return _table(heads, rows)


def _rung(rung: Rung) -> list[str]:

    beaten = f"{sum(e.interval[0] > 0 for e in rung.over.values())} of {len(rung.over)}" if rung.over else "–"
    return [
        rung.name, shown(rung.accuracy), shown(rung.share) if rung.share else "–",
        f"{rung.of_base:.2f}" if rung.of_base is not None else "–", shown(rung.beyond) if rung.beyond else "–", beaten,
        "yes" if rung.evidence else "no",
    ]  # fmt: skip


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
