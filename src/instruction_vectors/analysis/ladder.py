"""Gone or only covered? A ladder of repairs, each beside its controls.

(Jiang et al. 2406.12227, Figure 4; 2502.11019.) Adding a vector also lifts the base, so every gain comes as a share of what
was lost, as a ratio to the base under the same repair, and as a difference in differences.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from torch import nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.analysis.conditions import Condition, ask, misled, write_out
from instruction_vectors.analysis.contrast import contrast, level, share
from instruction_vectors.analysis.dial import can_turn, turned_down
from instruction_vectors.analysis.pair import Pair
from instruction_vectors.analysis.plan import Plan, Subject
from instruction_vectors.analysis.relearn import relearned
from instruction_vectors.analysis.repairs import Repair
from instruction_vectors.analysis.verdict import Rules, Rung
from instruction_vectors.evaluation.statistics import ratio

Answers = dict[str, list[float]]
"""By condition, a chance-corrected value a row."""


def dialled(
    pair: Pair, tokenizer: PreTrainedTokenizerBase, subject: Subject, plan: Plan, *, other: Subject, written: bool = False
) -> Iterator[tuple[Repair, list[float], Answers]]:
    """The tuned model with less and less of its fine-tune, then after a little relearning; rows of each, and of its controls.

    Instructed zero-shot prompts, answers ranked; or few-shot prompts, answers `written` out. Relearning stands beside the
    same steps on another task's rows and on rows whose answers are shuffled. Turning down has no control: its two ends are
    the base and the tuned model.
    """
    lead = "few-shot, " if written else ""
    asked = {"it": Condition("few-shot", shots=subject.probe.shot_sets()) if written else Condition()}
    answer = write_out if written else ask

    def rows(model: nn.Module) -> list[float]:
        return answer(model, tokenizer, subject, asked)["it"]

    for keep in plan.dials if can_turn(pair) else ():
        with turned_down(pair, keep) as model:
            yield Repair(f"{lead}{keep:g} of the fine-tune", evidence=False), rows(model), {}
    if plan.relearn_steps:
        name = f"{lead}{plan.relearn_steps} steps of relearning"
        lessons = {name: subject, f"{name} another task": other, f"{name} shuffled answers": misled(subject)}
        found = {}
        for label, lesson in lessons.items():
            with pair.tuned() as tuned, relearned(tuned, tokenizer, lesson, plan) as model:
                found[label] = rows(model)
        yield Repair(name, tuple(lessons)[1:], evidence=False), found.pop(name), found


def rung_of(repair: Repair, after: Sequence[float], base: Answers, tuned: Answers, width: float, rules: Rules) -> Rung:
    """Judge one repair.

    Args:
        repair: what was done.
        after: rows of the tuned model under it.
        base: the base's rows by condition, those as it is under `x+c`, the repair's where it was run.
        tuned: the tuned model's, as it is under `x+c`, and the controls'.
        width: the largest difference of a row.
        rules: for their confidence.
    """
    before, start = np.asarray(tuned["x+c"]), np.asarray(base["x+c"])
    gain, drop = np.asarray(after) - before, start - before
    clear = contrast(drop.tolist(), width, confidence=rules.confidence).interval[0] > 0
    lifted = base.get(repair.name)
    reached = level(lifted, 1 - width, confidence=rules.confidence) if lifted else None
    return Rung(
        name=repair.name,
        evidence=repair.evidence,
        accuracy=level(after, 1 - width, confidence=rules.confidence),
        gain=contrast(gain.tolist(), width, confidence=rules.confidence),
        share=share(gain.tolist(), drop.tolist(), width, confidence=rules.confidence) if clear else None,
        of_base=ratio(float(np.mean(after)), reached.value, reached.interval).value if reached else None,
        beyond=contrast((gain - (np.asarray(lifted) - start)).tolist(), 2 * width, confidence=rules.confidence)
        if lifted
        else None,
        over={
            name: contrast((np.asarray(after) - np.asarray(tuned[name])).tolist(), width, confidence=rules.confidence)
            for name in repair.controls
            if name in tuned
        },
        required=tuple(name for name in repair.required if name in tuned),
    )
