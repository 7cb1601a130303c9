"""A diagnosis in plain words, and as Markdown fit for a CI gate."""

from collections.abc import Sequence

from instruction_vectors.analysis.result import Diagnosis, TaskDiagnosis
from instruction_vectors.analysis.verdict import Rung
from instruction_vectors.evaluation.knowledge import Estimate

_REMEDY = {
    "intact": "nothing to do",
    "lost": "train again on it, with guidance so that it stays (`IVTrainer`), or go back to the base",
    "inconclusive": "measure more rows before deciding",
}
_BY_REPAIR = {
    "x+c+iv(base)": "add the base's vector at inference (`vector.applied(model)`)",
    "few-shot+iv(base)": "add the base's vector at inference, few-shot prompts included (`vector.applied(model)`)",
    "few-shot": "show a few examples in the prompt",
    "x+c-iv(last)": "subtract the last task's vector at inference",
    "few-shot-iv(last)": "subtract the last task's vector at inference, few-shot prompts included",
}


def remedy(task: TaskDiagnosis) -> str:
    """What to do about one task, by the worse of its two verdicts."""
    judged = ((task.verdict, task.rungs), (task.written, task.written_rungs))
    verdict, rungs = min(judged, key=lambda pair: _ORDER.index(pair[0].name))
    if verdict.name != "suppressed":
        return _REMEDY[verdict.name]
    ways = [words for repair, words in _BY_REPAIR.items() if repair in verdict.by]
    # The least that must be given up of the fine-tune, if giving up some helps at all.
    turned = [r for r in rungs if r.name.endswith("of the fine-tune") and r.share and r.share.interval[0] > 0.5]
    ways += (
        [f"keep {turned[0].name.removeprefix('few-shot, ')} (adapter scaled, or weights mixed with the base's)"] if turned else []
    )
    return ", or ".join(ways) or "it is known but not done on request: train again with guidance (`IVTrainer`)"


def sentences(diagnosis: Diagnosis) -> list[str]:
    """The findings, one a line."""
    names = {kind: [n for n, v in diagnosis.verdicts.items() if v.name == kind] for kind in _ORDER}
    said = [f"{kind}: {', '.join(found)}." for kind, found in names.items() if found]
    if split := diagnosis.split:
        said.append(f"Over all tasks the instruction form fell by {shown(split.instruction_drop)}, the knowledge form by "
                    f"{shown(split.knowledge_drop)}.")  # fmt: skip
        if split.knowledge_part and split.instruction_part and split.instruction_drop.interval[0] > 0:
            said.append(f"Of that drop {shown(split.knowledge_part)} is knowledge lost, {shown(split.instruction_part)} is "
                        "instruction following lost.")  # fmt: skip
        elif split.reason:
            said.append(f"The drop is not split: {split.reason}.")
    worse = [f"{n} ({t.written.name})" for n, t in diagnosis.tasks.items() if t.written.name in ("suppressed", "lost")]
    if worse:
        said.append(f"Few-shot answers, written out, fell in: {', '.join(worse)}.")
    smallest = [task.changes["instruction"].smallest for task in diagnosis.tasks.values()]
    said.append("The smallest drop of the instruction form that the rows would show four times in five is "
                f"{min(smallest):.2f} to {max(smallest):.2f}, depending on the task.")  # fmt: skip
    said.append(f"The weights that changed moved by {diagnosis.weight_distance:.2%} of their norm.")
    return said


_ORDER = ("lost", "suppressed", "inconclusive", "intact")


def markdown(diagnosis: Diagnosis) -> str:
    """The whole diagnosis as GitHub-flavoured Markdown."""
    parts = ["# Diagnosis", "\n".join(f"- {sentence}" for sentence in sentences(diagnosis)), "## Verdicts", _verdicts(diagnosis)]
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
    "Scores: rank classification, 0 at chance, 1 at best. A share is given only where the drop is clear. Repairs that bring the "
    "base's weights back or teach do not count towards the verdict."
)


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


def shown(estimate: Estimate) -> str:
    """A value with its interval."""
    return f"{estimate.value:.2f} [{estimate.interval[0]:.2f}, {estimate.interval[1]:.2f}]"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
