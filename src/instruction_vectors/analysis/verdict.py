"""Intact, suppressed, lost, or inconclusive: rules over numbers with intervals, nothing else.

- *Intact*: the behaviour is not worse by the margin (one-sided non-inferiority).
- *Suppressed*: it is worse by more than the margin, and it is still in the tuned weights: a repair that leaves these
  weights as they are and teaches nothing brings a share of it back and beats its controls, or the bare facts are as well
  known as before while following the instruction fell.
- *Lost*: it is worse by more than the margin, no such repair can have brought back half, and the bare facts fell as well.
- *Inconclusive*: everything else, the base not clearly doing the task included.

Turning an adapter down or mixing the base in brings the base's own weights back, and relearning teaches: both repair, but
neither tells whether the tuned weights still hold the ability, so neither counts here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from instruction_vectors.evaluation.knowledge import Estimate

Name = Literal["intact", "suppressed", "lost", "inconclusive"]
NAMES: tuple[Name, ...] = ("intact", "suppressed", "lost", "inconclusive")


@dataclass(frozen=True, slots=True)
class Rules:
    """What the verdict hangs on; fixed on development seeds, before the planted cases were run.

    Attributes:
        margin: how much worse, on a scale from chance (0) to perfect (1), still counts as the same.
        recovered: a repair shows suppression where its share of the drop surely exceeds this.
        unrecovered: a repair is ruled out where its share of the drop is surely below this.
        confidence: of two-sided intervals, and of the one-sided bounds of non-inferiority.
    """

    margin: float = 0.2
    recovered: float = 0.25
    unrecovered: float = 0.5
    confidence: float = 0.95


@dataclass(frozen=True)
class Rung:
    """One repair.

    Attributes:
        name: what was done.
        evidence: the tuned weights stay as they are and nothing is taught, so that what comes back was there.
        accuracy: of the tuned model under the repair.
        gain: over the tuned model as it is.
        share: gain over drop, None where the drop is not clear.
        of_base: accuracy over the base's under the same repair, None where that is not clear or was not run.
        beyond: the tuned model's gain minus the base's (difference in differences), None where not run.
        over: gain minus each control's gain.
        required: the controls that must be beaten.
    """

    name: str
    evidence: bool
    accuracy: Estimate
    gain: Estimate
    share: Estimate | None = None
    of_base: float | None = None
    beyond: Estimate | None = None
    over: Mapping[str, Estimate] = field(default_factory=dict)
    required: tuple[str, ...] = ()

    @property
    def beats_controls(self) -> bool:
        """Whether the gain is surely larger than that of every control that must be beaten."""
        return all(self.over[name].interval[0] > 0 for name in self.required)


@dataclass(frozen=True)
class Evidence:
    """What is known of one task.

    Attributes:
        base: the base's accuracy, 0 at chance.
        drop: base minus tuned.
        drop_bound: one-sided upper bound of the drop.
        knowledge: the base's accuracy in the knowledge form; None where the task has none, or it is measured another way than
            the behaviour, so that its staying shows nothing.
        knowledge_drop: base minus tuned in that form; where known, a loss needs it to have fallen.
        knowledge_bound: one-sided upper bound of it.
        rungs: the repairs tried.
    """

    base: Estimate
    drop: Estimate
    drop_bound: float
    knowledge: Estimate | None = None
    knowledge_drop: Estimate | None = None
    knowledge_bound: float | None = None
    rungs: Sequence[Rung] = ()


_NOTHING_TO_LOSE = "the base itself does not do it, so there is nothing to lose"


@dataclass(frozen=True)
class Verdict:
    """What happened to one task, and why it is thought so."""

    name: Name
    reason: str
    by: tuple[str, ...] = ()
    """What showed it: repairs by name, or `knowledge`."""

    @property
    def nothing_to_lose(self) -> bool:
        """Whether it is open because the base itself clearly does not do it: more rows would not help."""
        return self.reason == _NOTHING_TO_LOSE


def judge(evidence: Evidence, rules: Rules | None = None) -> Verdict:
    """The verdict of one task."""
    rules = rules or Rules()
    if evidence.base.interval[1] <= rules.margin:
        return Verdict("inconclusive", _NOTHING_TO_LOSE)
    if evidence.base.interval[0] <= rules.margin:
        return Verdict("inconclusive", "the base itself is not clearly above chance, so there may be nothing to lose")
    if evidence.drop_bound < rules.margin:
        return Verdict("intact", f"the drop is surely below the margin of {rules.margin:g}")
    if evidence.drop.interval[0] <= rules.margin:
        return Verdict("inconclusive", f"the drop may be above or below the margin of {rules.margin:g}: measure more rows")
    shown = tuple(rung.name for rung in evidence.rungs if _shows(rung, rules))
    known = _known(evidence, rules)
    if shown or known:
        said = [f"{' and '.join(shown)} brought it back"] if shown else []
        said += ["the bare facts are as well known as before"] if known else []
        return Verdict("suppressed", ", and ".join(said), shown + (("knowledge",) if known else ()))
    if _ruled_out(evidence, rules):
        return Verdict("lost", "no repair that leaves the weights alone brought back half, and no knowledge form stayed")
    return Verdict("inconclusive", "it is worse, but whether it is gone or only covered cannot be told: measure more rows")


def _shows(rung: Rung, rules: Rules) -> bool:
    return rung.evidence and rung.share is not None and rung.share.interval[0] > rules.recovered and rung.beats_controls


def _known(evidence: Evidence, rules: Rules) -> bool:
    if evidence.knowledge is None or evidence.knowledge_bound is None:
        return False
    return evidence.knowledge.interval[0] > rules.margin and evidence.knowledge_bound < rules.margin


def _ruled_out(evidence: Evidence, rules: Rules) -> bool:
    tried = [rung for rung in evidence.rungs if rung.evidence]
    fell = evidence.knowledge_drop is None or evidence.knowledge_drop.interval[0] > 0
    return bool(tried) and fell and all(r.share is not None and r.share.interval[1] < rules.unrecovered for r in tried)
