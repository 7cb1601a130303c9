"""Gone or only covered? The hypothesis grid, and a ladder of repairs, each beside its controls.

(Jiang et al. 2406.12227, Figure 4; 2502.11019.) Adding a vector also lifts the base, so every gain comes as a share of what
was lost, as a ratio to the base under the same repair, and as a difference in differences.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.analysis.conditions import Condition, ask, shuffled, write_out
from instruction_vectors.analysis.contrast import contrast, level, share
from instruction_vectors.analysis.dial import can_turn, turned_down
from instruction_vectors.analysis.extracted import Vectors
from instruction_vectors.analysis.pair import Pair
from instruction_vectors.analysis.plan import Plan, Subject, other_of
from instruction_vectors.analysis.relearn import relearned
from instruction_vectors.analysis.verdict import Rules, Rung
from instruction_vectors.evaluation.statistics import ratio
from instruction_vectors.vectors.vector import InstructionVector

Answers = dict[str, list[float]]
"""By condition, a chance-corrected value a row."""
GRID = ("x", "x+c", "x+iv(base)", "x+c+iv(base)", "x+iv(tuned)", "x+c+iv(tuned)")


@dataclass(frozen=True)
class Repair:
    """A rung before it is judged: the condition that repairs, its controls, and which of them must be beaten."""

    name: str
    controls: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    evidence: bool = True


PROMPTED = Repair("few-shot", ("few-shot, other task's shots", "few-shot, shuffled answers"), ("few-shot, other task's shots",))
ADDED = Repair("x+c+iv(base)", *2 * (("x+c+iv(other task)", "x+c+iv(random)", "x+c+iv(mean of all tasks)"),))
WRITTEN = tuple(f"few-shot+iv({which})" for which in ("base", "other task", "random", "mean of all tasks"))
WRITTEN_ADDED = Repair(WRITTEN[0], WRITTEN[1:], WRITTEN[1:])
WRITTEN_SUBTRACTED = Repair("few-shot-iv(last)", *2 * (("few-shot-iv(random)", "few-shot-iv(other task)"),))
SUBTRACTED = Repair("x+c-iv(last)", *2 * (("x+c-iv(random)", "x+c-iv(other task)"),))


@dataclass(frozen=True)
class Tools:
    """What repairs are made of: both models' vectors, their scale, the last task's vector if known."""

    base: Vectors
    tuned: Vectors
    scale: float
    last: InstructionVector | None = None
    subjects: Mapping[str, Subject] = field(default_factory=dict)

    def shared(self, name: str) -> dict[str, Condition]:
        """Conditions under which both models are asked."""
        first, second = self.base.by_task[name], self.tuned.by_task[name]
        asked = {"x": Condition("x")}
        for label, vector in (("base", first), ("tuned", second)):
            asked[f"x+iv({label})"] = Condition("x", vector, self.scale)
            asked[f"x+c+iv({label})"] = Condition("x+c", vector, self.scale)
        asked["few-shot"] = Condition("few-shot", shots=self.subjects[name].probe.shot_sets())
        if self.last is not None:
            asked["x+c-iv(last)"] = Condition("x+c", self.last, -self.scale)
        return asked

    def controls(self, name: str, seed: int) -> dict[str, Condition]:
        """Conditions that only tell what a repair's form would do."""
        other = other_of(name, list(self.subjects))
        own, theirs = (self.subjects[which].probe.shot_sets() for which in (name, other))
        added = (self.base.by_task[other], self.base.random(name, seed), self.base.mean)
        asked = {label: Condition("x+c", v, self.scale) for label, v in zip(ADDED.controls, added, strict=True)}
        for label, shots in zip(PROMPTED.controls, (theirs, [shuffled(s) for s in own]), strict=True):
            asked[label] = Condition("few-shot", shots=shots)
        if self.last is not None:
            taken = (self.last.random_like(seed), self.tuned.by_task[other])
            asked |= {label: Condition("x+c", v, -self.scale) for label, v in zip(SUBTRACTED.controls, taken, strict=True)}
        return asked

    def written(self, name: str, seed: int, *, controls: bool) -> dict[str, Condition]:
        """Vectors in few-shot prompts, whose answers are written out; the controls only where asked for."""
        shots, other = self.subjects[name].probe.shot_sets(), other_of(name, list(self.subjects))
        added = (self.base.by_task[name], self.base.by_task[other], self.base.random(name, seed), self.base.mean)
        asked = {label: Condition("few-shot", v, self.scale, shots) for label, v in zip(WRITTEN, added, strict=True)}
        if self.last is not None:
            labels = (WRITTEN_SUBTRACTED.name, *WRITTEN_SUBTRACTED.controls)
            taken = (self.last, self.last.random_like(seed), self.tuned.by_task[other])
            asked |= {label: Condition("few-shot", v, -self.scale, shots) for label, v in zip(labels, taken, strict=True)}
        return asked if controls else {k: v for k, v in asked.items() if k in (WRITTEN_ADDED.name, WRITTEN_SUBTRACTED.name)}


def dialled(
    pair: Pair, tokenizer: PreTrainedTokenizerBase, subject: Subject, plan: Plan, *, written: bool = False
) -> Iterator[tuple[Repair, list[float]]]:
    """The tuned model with less and less of its fine-tune, then after a little relearning; rows of each.

    Instructed zero-shot prompts, answers ranked; or few-shot prompts, answers `written` out.
    """
    lead = "few-shot, " if written else ""
    asked = {"it": Condition("few-shot", shots=subject.probe.shot_sets()) if written else Condition()}
    answer = write_out if written else ask

    def rows(model: nn.Module) -> list[float]:
        return answer(model, tokenizer, subject, asked)["it"]

    for keep in plan.dials if can_turn(pair) else ():
        with turned_down(pair, keep) as model:
            yield Repair(f"{lead}{keep:g} of the fine-tune", evidence=False), rows(model)
    if plan.relearn_steps:
        with pair.tuned() as tuned, relearned(tuned, tokenizer, subject, plan) as model:
            yield Repair(f"{lead}{plan.relearn_steps} steps of relearning", evidence=False), rows(model)


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
