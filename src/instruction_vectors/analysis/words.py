"""A diagnosis in plain words: what was found, and what to do about each task."""

from instruction_vectors.analysis.result import Diagnosis, TaskDiagnosis
from instruction_vectors.evaluation.knowledge import Estimate

_REMEDY = {
    "intact": "nothing to do",
    "lost": "train again on it, with guidance so that it stays (`IVTrainer`), or go back to the base",
    "inconclusive": "measure more rows before deciding",
}
_ORDER = ("lost", "suppressed", "inconclusive", "intact")
_BY_REPAIR = {
    "x+c+iv(base)": "add the base's vector at inference (`vector.applied(model)`)",
    "few-shot+iv(base)": "add the base's vector at inference, few-shot prompts included (`vector.applied(model)`)",
    "few-shot": "show a few examples in the prompt",
    "x+c-iv(last)": "subtract the last task's vector at inference",
    "few-shot-iv(last)": "subtract the last task's vector at inference, few-shot prompts included",
}


def remedy(task: TaskDiagnosis) -> str:
    """What to do about one task, by the worse of its two verdicts, a form aside that the base itself does not do."""
    judged = [pair for pair in ((task.verdict, task.rungs), (task.written, task.written_rungs)) if not pair[0].nothing_to_lose]
    if not judged:
        return "nothing to do: the base itself does not do it"
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
        said.append(f"Over the tasks with a knowledge form the instruction form {moved(split.instruction_drop)}, the knowledge "
                    f"form {moved(split.knowledge_drop)}.")  # fmt: skip
        if split.knowledge_part and split.instruction_part and split.instruction_drop.interval[0] > 0:
            said.append(f"Of that drop {shown(split.knowledge_part)} is knowledge lost, {shown(split.instruction_part)} is "
                        "instruction following lost.")  # fmt: skip
        elif split.reason:
            said.append(f"The drop is not split: {split.reason}.")
    fell = {name: task.changes["in_context"].drop for name, task in diagnosis.tasks.items() if task.changes["in_context"].worse}
    if worse := [f"{name} by {shown(drop)} ({diagnosis.tasks[name].written.name})" for name, drop in fell.items()]:
        said.append(f"Few-shot answers, written out, fell in: {', '.join(worse)}.")
    noisy = max((change.floor for task in diagnosis.tasks.values() for change in task.changes.values()), default=0.0)
    if noisy:
        said.append(f"Asked again with other shots and wordings, the base differs from itself by up to {noisy:.2f} in a form; a "
                    "drop counts as worse only above that of its form. Verdicts stand on the rows alone.")  # fmt: skip
    if fallen := [f"{name} by {shown(change.drop)}" for name, change in diagnosis.lm_eval.items() if change.worse]:
        said.append(f"Of the lm-eval tasks fell: {', '.join(fallen)}.")
    smallest = [task.changes["instruction"].smallest for task in diagnosis.tasks.values()]
    said.append("The smallest drop of the instruction form that the rows would show four times in five is "
                f"{min(smallest):.2f} to {max(smallest):.2f}, depending on the task.")  # fmt: skip
    if diagnosis.weight_distance is not None:
        said.append(f"The weights that changed moved by {diagnosis.weight_distance:.2%} of their norm.")
    return said


def moved(drop: Estimate) -> str:
    """`fell by` so much, or `rose by`, with the interval of that."""
    if drop.value >= 0:
        return f"fell by {shown(drop)}"
    low, high = drop.interval
    return f"rose by {shown(Estimate(-drop.value, (-high, -low)))}"


def shown(estimate: Estimate) -> str:
    """A value with its interval."""
    value, low, high = (number + 0.0 for number in (estimate.value, *estimate.interval))  # no minus zero
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"
